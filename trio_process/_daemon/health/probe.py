"""Asking a health server from outside: `wait_for_health`, `wait_for_ready`, `probe_health`, `probe_ready`."""

from __future__ import annotations

from typing import Final

import trio

from ..._core import checks, escape_controls, in_seconds
from .address import Address, parse_address

_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 0.2
_ONE_ATTEMPT: Final = 6.0  # above the 5 s of a server's own check limit, so that its reason gets through
_LONGEST_ANSWER: Final = 64 * 1024
_LONGEST_REASON: Final = 500


async def wait_for_health(addr: str, timeout: float) -> bool:  # noqa: ASYNC109 - the contract; go-process has it, too
    """Return whether the daemon at `addr` gets healthy within `timeout`.

    Args:
        addr: Where its health server listens; `:port` is on this machine.
        timeout: The longest wait, in seconds.

    Returns:
        True as soon as `GET /health` answers 200; False when the time is up.

    Raises:
        OptionError: `addr` or `timeout` is not valid.

    >>> async with HealthServer("127.0.0.1:0") as server:
    ...     assert await wait_for_health(server.addr, timeout=1)
    """
    return (await _probe(addr, "/health", timeout))[0]


async def wait_for_ready(addr: str, timeout: float) -> bool:  # noqa: ASYNC109 - as above
    """Return whether the daemon at `addr` gets ready within `timeout` seconds; as `wait_for_health`, of `/ready`."""
    return (await _probe(addr, "/ready", timeout))[0]


async def probe_health(addr: str, timeout: float) -> tuple[bool, str]:  # noqa: ASYNC109 - as above
    """Return what `wait_for_health` does, and the last reason if it is False (else an empty str).

    >>> await probe_health("127.0.0.1:1", timeout=0.1)
    (False, 'connection refused')
    """
    return await _probe(addr, "/health", timeout)


async def probe_ready(addr: str, timeout: float) -> tuple[bool, str]:  # noqa: ASYNC109 - as above
    """Return what `wait_for_ready` does, and the last reason if it is False (else an empty str)."""
    return await _probe(addr, "/ready", timeout)


async def _probe(addr: str, path: str, timeout: float) -> tuple[bool, str]:  # noqa: ASYNC109 - as above
    """Ask until the answer is 200 or the time is up; the pause between doubles from 50 to 200 ms."""
    address = parse_address(addr)
    limit = checks.seconds("timeout", timeout)
    reason = f"no answer within {in_seconds(limit)}"
    pause = _FIRST_PAUSE
    with trio.move_on_after(limit):
        while True:
            found = await _ask_once(address, path)
            if not found:
                return True, ""
            reason = found
            await trio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
    return False, reason


async def _ask_once(address: Address, path: str) -> str:
    """Return why it is not so, or an empty str."""
    try:
        with trio.fail_after(_ONE_ATTEMPT):
            return _verdict(await _get(address, path))
    except trio.TooSlowError:
        return f"no answer within {in_seconds(_ONE_ATTEMPT)}"
    except ConnectionRefusedError:
        return "connection refused"
    except UnicodeError as error:  # IDNA 2008 refuses more than `parse_address`
        return f"no host name: {error}"
    except OSError as error:  # not there yet: no such socket or host, or a reset
        cause = error.__cause__ if error.errno is None and error.__cause__ is not None else error
        return "connection refused" if _all_refused(cause) else str(cause)
    except trio.BrokenResourceError:
        return "the connection broke"


async def _get(address: Address, path: str) -> bytes:
    stream: trio.SocketStream
    if address.path:
        stream = await trio.open_unix_socket(address.path)
    else:
        stream = await trio.open_tcp_stream(address.reachable_host, address.port)
    async with stream:
        # HTTP/1.0: the answer ends with the connection, and needs no framing to be understood
        host = "localhost" if address.path else str(address._replace(host=address.host or "localhost"))
        request = f"GET {path} HTTP/1.0\r\nHost: {host}\r\nUser-Agent: trio-process\r\nConnection: close\r\n\r\n"
        await stream.send_all(request.encode())
        answer = b""
        while len(answer) < _LONGEST_ANSWER:
            chunk = await stream.receive_some()
            if not chunk:
                break
            answer += chunk
        # no graceful close: cutting costs nothing, and a hung server can't hold us up
        stream.socket.close()
        return answer


def _verdict(answer: bytes) -> str:
    head, _, body = answer.partition(b"\r\n\r\n")
    status_line = head.split(b"\r\n", 1)[0].decode("latin-1")
    protocol, _, rest = status_line.partition(" ")
    if not protocol.startswith("HTTP/1."):
        return "the server does not speak HTTP" if answer else "the server closed the connection without an answer"
    if rest[:3] == "200":
        return ""
    text = escape_controls("; ".join(body.decode("utf-8", "replace").split("\n")).strip("; \r"))
    return text[:_LONGEST_REASON] or f"HTTP status {rest.strip()}"


def _all_refused(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return all(_all_refused(one) for one in error.exceptions)
    return isinstance(error, ConnectionRefusedError)
