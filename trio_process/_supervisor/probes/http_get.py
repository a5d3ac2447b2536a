"""One GET request of a probe: returns the status of the response, without following redirects."""

from __future__ import annotations

import re
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import trio

from ..._core import bad_option

_LONGEST_ANSWER: Final = 64 * 1024
_CREDENTIALS: Final = re.compile(r"[^/?#]*//[^/?#]*@")


class Target(NamedTuple):
    """The address and the path of a request."""

    secure: bool
    host: str
    port: int
    authority: str
    path: str


def parse_url(url: object) -> Target:
    """Parse an ``http://`` or ``https://`` URL; the `OptionError` for an invalid one says what is wrong."""
    if isinstance(url, str) and _CREDENTIALS.match(url):
        raise bad_option("url", "must not contain a user or a password: it is shown in errors")
    if not isinstance(url, str) or not url.isascii() or any(char.isspace() or not char.isprintable() for char in url):
        raise bad_option("url", f"must be a str of printable ASCII characters without blanks, got {url!r}")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise bad_option("url", f"{url!r} is not valid: {error}") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise bad_option("url", f"must be like 'http://127.0.0.1:8080/health', got {url!r}")
    if port == 0:
        raise bad_option("url", f"{url!r} is not valid: no server can be reached at port 0")
    secure = parts.scheme == "https"
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(secure, parts.hostname, port or (443 if secure else 80), parts.netloc, path)


async def get_status(target: Target) -> tuple[int, str]:
    """Return the status code of the response and its reason phrase.

    Raises:
        OSError: The connection failed.
        ValueError: The response is not HTTP.
    """
    connection = await trio.open_tcp_stream(target.host, target.port)
    async with connection:
        stream: trio.abc.Stream = connection
        if target.secure:
            import ssl  # noqa: PLC0415 - only where it is asked for

            stream = trio.SSLStream(connection, ssl.create_default_context(), server_hostname=target.host)
        request = (
            f"GET {target.path} HTTP/1.1\r\nHost: {target.authority}\r\nUser-Agent: trio-process\r\n"
            "Accept: */*\r\nConnection: close\r\n\r\n"
        )
        await stream.send_all(request.encode())
        head = await _head(stream)
        # no graceful close: it costs nothing to cut the connection, and a hung server can't hold us up
        connection.socket.close()
    return _status(head)


async def _head(stream: trio.abc.Stream) -> bytes:
    """Return the status line and the headers; the body is not read."""
    answer = b""
    while b"\r\n\r\n" not in answer:
        if len(answer) >= _LONGEST_ANSWER:
            raise ValueError("the headers of the answer are longer than 64 KiB")
        chunk = await stream.receive_some(min(16 * 1024, _LONGEST_ANSWER - len(answer)))
        if not chunk:
            break
        answer += chunk
    return answer


def _status(head: bytes) -> tuple[int, str]:
    if not head:
        raise ValueError("the server closed the connection without an answer")
    line = head.split(b"\r\n", 1)[0].decode("latin-1")
    protocol, _, rest = line.partition(" ")
    code, _, phrase = rest.partition(" ")
    if not protocol.startswith("HTTP/1.") or len(code) != 3 or not (code.isascii() and code.isdigit()):
        raise ValueError("the server does not speak HTTP/1")
    return int(code), phrase.strip()
