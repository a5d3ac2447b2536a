"""Probes a health server from outside: `wait_for_health`, `wait_for_ready`, `probe_health`, `probe_ready`."""

from __future__ import annotations

import socket
from typing import Final, NamedTuple

import trio

from ..._core import checks, escape_controls, in_seconds, open_unix_stream
from .address import Address, parse_destination

_OK: Final = 200
_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 0.2
_ONE_ATTEMPT: Final = 6.0  # above the 5 s of a server's own check limit, so that its reason gets through
_LONGEST_ANSWER: Final = 64 * 1024
_LONGEST_REASON: Final = 500


async def wait_for_health(addr: str, timeout: float) -> bool:  # noqa: ASYNC109 - the contract; go-process has it, too
    """Wait until the daemon at `addr` is healthy, for at most `timeout` seconds.

    Args:
        addr: The address of its health server; ``:port`` is on this machine.
        timeout: The longest wait, in seconds.

    Returns:
        True as soon as ``GET /health`` returns 200; False when the time is up.

    Raises:
        OptionError: `addr` or `timeout` is not valid.

    >>> async with HealthServer("127.0.0.1:0") as server:
    ...     assert await wait_for_health(server.addr, timeout=1)
    """
    return (await _probe(addr, "/health", timeout))[0]


async def wait_for_ready(addr: str, timeout: float) -> bool:  # noqa: ASYNC109 - as above
    """Wait until the daemon at `addr` is ready, for at most `timeout` seconds; like `wait_for_health`, for ``/ready``."""
    return (await _probe(addr, "/ready", timeout))[0]


async def probe_health(addr: str, timeout: float) -> tuple[bool, str]:  # noqa: ASYNC109 - as above
    """Return the result of `wait_for_health` and the last reason for a failure (an empty str if healthy).

    Args:
        addr: The address, as in `HealthServer`.
        timeout: Seconds to wait at most.

    Raises:
        OptionError: `addr` is not a valid address, or `timeout` not a valid number of seconds.

    >>> await probe_health("127.0.0.1:1", timeout=0.1)
    (False, 'connection refused')
    """
    return await _probe(addr, "/health", timeout)


async def probe_ready(addr: str, timeout: float) -> tuple[bool, str]:  # noqa: ASYNC109 - as above
    """Return the result of `wait_for_ready` and the last reason for a failure (an empty str if ready).

    Args:
        addr: The address, as in `HealthServer`.
        timeout: Seconds to wait at most.

    Raises:
        OptionError: `addr` is not a valid address, or `timeout` not a valid number of seconds.

    >>> await probe_ready("127.0.0.1:1", timeout=0.1)
    (False, 'connection refused')
    """
    return await _probe(addr, "/ready", timeout)


async def _probe(addr: str, path: str, timeout: float) -> tuple[bool, str]:  # noqa: ASYNC109 - as above
    """Send requests until the response is 200 or the time is up, with pauses that double from 50 to 200 ms."""
    address = parse_destination(addr)
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
    """Return the reason of a failure, or an empty str."""
    answer = await ask(address, path)
    return "" if answer.status == _OK else answer.text or answer.reason


class Answer(NamedTuple):
    """The response of a server to one request.

    Attributes:
        status: The HTTP status, 0 if there was no answer in HTTP.
        reason: The outcome, for people: ``"HTTP status 503 Service Unavailable"``, ``"connection refused"``.
        text: The body in one line, shortened and safe to print.
    """

    status: int
    reason: str
    text: str = ""


async def ask(address: Address, path: str, *, authorization: str = "") -> Answer:
    """Send one GET request over plain HTTP; any failure is returned as a response with status 0.

    Args:
        address: The server.
        path: The path, with the query.
        authorization: The value of the Authorization header (RFC 9110, 11.6.2); empty for none.
    """
    try:
        with trio.fail_after(_ONE_ATTEMPT):
            return _parse(await _get(address, path, authorization))
    except trio.TooSlowError:
        return Answer(0, f"no answer within {in_seconds(_ONE_ATTEMPT)}")
    except trio.BrokenResourceError:
        return Answer(0, "the connection broke")
    except (OSError, UnicodeError) as error:
        return Answer(0, why_not_connected(error, address.host))


def why_not_connected(error: OSError | UnicodeError, host: str) -> str:
    """Return the reason why a connection could not be opened, for people.

    Args:
        error: The exception of `trio.open_tcp_stream` or a socket.
        host: The host that was looked up.
    """
    if isinstance(error, UnicodeError):  # IDNA 2008 refuses more than `parse_address`
        return f"not a valid host name: {error}"
    if isinstance(error, socket.gaierror):
        return f"the host {host!r} was not found: {error.strerror}"
    # not there yet: no such socket, or a reset
    cause = error.__cause__ if error.errno is None and error.__cause__ is not None else error
    return "connection refused" if is_refused(cause) else str(cause)


async def _get(address: Address, path: str, authorization: str) -> bytes:
    stream: trio.SocketStream
    if address.path:
        stream = await open_unix_stream(address.path)
    else:
        stream = await trio.open_tcp_stream(address.reachable_host, address.port)
    async with stream:
        # HTTP/1.0: the answer ends with the connection, and needs no framing to be understood
        host = "localhost" if address.path else str(address._replace(host=address.host or "localhost"))
        headers = f"Host: {host}\r\nUser-Agent: trio-process\r\nConnection: close\r\n"
        if authorization:
            headers += f"Authorization: {authorization}\r\n"
        await stream.send_all(f"GET {path} HTTP/1.0\r\n{headers}\r\n".encode())
        answer = b""
        while len(answer) < _LONGEST_ANSWER:
            chunk = await stream.receive_some()
            if not chunk:
                break
            answer += chunk
        # no graceful close: cutting costs nothing, and a hung server can't hold us up
        stream.socket.close()
        return answer


def _parse(answer: bytes) -> Answer:
    head, _, body = answer.partition(b"\r\n\r\n")
    status_line = escape_controls(head.split(b"\r\n", 1)[0].decode("latin-1"))
    protocol, _, rest = status_line.partition(" ")
    if not protocol.startswith("HTTP/1."):
        return Answer(
            0, "the server does not speak HTTP" if answer else "the server closed the connection without an answer"
        )
    text = escape_controls("; ".join(body.decode("utf-8", "replace").split("\n")).strip("; \r"))
    status = int(rest[:3]) if rest[:3].isascii() and rest[:3].isdigit() else 0
    return Answer(status, f"HTTP status {rest.strip()}"[:_LONGEST_REASON], text[:_LONGEST_REASON])


def is_refused(error: BaseException | None) -> bool:
    """Return whether an error says that a connection was refused, at every address that was tried."""
    if isinstance(error, BaseExceptionGroup):
        return all(map(is_refused, error.exceptions))
    return isinstance(error, ConnectionRefusedError)
