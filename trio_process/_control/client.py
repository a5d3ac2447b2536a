"""A small client of the control plane for the command line: over its unix socket, or over TCP with the token."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, NoReturn, final

import trio

from .._core import ProcessError, Secret, dumps, loads, open_scope, open_unix_stream
from .._daemon import parse_destination

_BASE: Final = "/api/process"
_LONGEST_HEAD: Final = 64 * 1024
_OK: Final = 200


class ControlError(ProcessError, shown_as=ProcessError):
    """A control server refused a request.

    Attributes:
        status: The HTTP status.
        code: The error code, such as `not_found`.
        details: Further details from the server.
    """

    def __init__(self, status: int, code: str, message: str, details: Any = None) -> None:
        super().__init__(status, code, message, details)
        self.status = status
        self.code = code
        self.message = message
        self.details = details

    def __str__(self) -> str:
        return self.message


@final
class ControlClient:
    """Client of a control server; each request uses its own connection.

    Args:
        addr: ``unix:/path``, or ``host:port``.
        token: The server's token; not needed on a unix socket.

    >>> client = ControlClient("unix:/run/app.sock")
    >>> client.addr
    'unix:/run/app.sock'
    """

    __slots__ = ("_address", "_token", "addr")

    def __init__(self, addr: str, *, token: Secret | None = None) -> None:
        self._address = parse_destination(addr)
        self.addr = addr
        self._token = token

    async def get(self, path: str, **query: Any) -> Any:
        """Send a GET request and return the `data` of the response; see `request`."""
        return await self.request("GET", path, query=query)

    async def post(self, path: str, body: Any = None, **query: Any) -> Any:
        """Send a POST request and return the `data` of the response; see `request`."""
        return await self.request("POST", path, body=body, query=query)

    async def put(self, path: str, body: Any, **query: Any) -> Any:
        """Send a PUT request and return the `data` of the response; see `request`."""
        return await self.request("PUT", path, body=body, query=query)

    async def request(self, method: str, path: str, *, body: Any = None, query: dict[str, Any] | None = None) -> Any:
        """Send a request and return the `data` of the response.

        Args:
            method: The HTTP method.
            path: The path after ``/api/process``, each segment percent-encoded (``urllib.parse.quote(name, safe="")``).
            body: The value to send as JSON; None for no body.
            query: The parameters; None values are left out.

        Raises:
            ControlError: The server has refused the request.
            OSError: The connection failed.
        """
        async with self._response(method, path, body, query or {}) as (status, reader):
            data = b"".join([chunk async for chunk in reader])
        try:
            envelope = loads(data)
        except ValueError:
            raise ControlError(
                status, "internal", f"the server answered {status} with something other than JSON"
            ) from None
        if not envelope.get("success"):
            error = envelope.get("error") or {}
            raise ControlError(status, error.get("code", ""), error.get("message", ""), error.get("details"))
        return envelope["data"]

    @asynccontextmanager
    async def events(self, **query: Any) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        """Follow the events inside the block, starting with the snapshot.

        Args:
            **query: `channels`, `service`, `batch`.

        Raises:
            ControlError: The server has refused the request.
            OSError: The connection failed.
        """
        async with self._response("GET", "/events", None, query) as (status, reader):
            if status != 200:
                error = loads(b"".join([chunk async for chunk in reader]))["error"]
                raise ControlError(status, error["code"], error["message"], error.get("details"))
            yield _events(reader)

    @asynccontextmanager
    async def held(self, path: str) -> AsyncIterator[None]:
        """Hold a resource by a POST request (``/services/NAME/hold``) inside the block, which starts when it is ready.

        The block is cancelled when the server ends the hold.

        Args:
            path: As for `request`.

        Raises:
            ControlError: The server has refused the request, or has ended the hold.
            OSError: The connection failed or was lost.
        """
        ended: list[bytes] = []

        async def watch(reader: AsyncIterator[bytes], scope: trio.CancelScope) -> None:
            with suppress(OSError):  # the same as an end of the connection without a message
                ended.extend([chunk async for chunk in reader if chunk.strip()])
            scope.cancel()

        async with self._response("POST", path, None, {}) as (status, reader):
            if status != _OK:
                _refuse(status, b"".join([chunk async for chunk in reader]))
            async with open_scope() as nursery:
                nursery.start_soon(watch, reader, nursery.cancel_scope)
                yield
                nursery.cancel_scope.cancel()
                return
            _refuse(status, ended[-1] if ended else b"")

    @asynccontextmanager
    async def _response(
        self, method: str, path: str, body: Any, query: dict[str, Any]
    ) -> AsyncIterator[tuple[int, AsyncIterator[bytes]]]:
        stream: trio.abc.Stream
        if self._address.path:
            stream = await open_unix_stream(self._address.path)
        else:
            stream = await trio.open_tcp_stream(self._address.reachable_host, self._address.port)
        async with stream:
            with suppress(trio.BrokenResourceError):  # then reading shows the reason, or an earlier answer
                await stream.send_all(self._head(method, path, body, query))
            reader = _Reader(stream)
            status = await reader.head()
            yield status, reader.chunks()

    def _head(self, method: str, path: str, body: Any, query: dict[str, Any]) -> bytes:
        from urllib.parse import urlencode  # noqa: PLC0415 - kept out of the import time

        given = {name: str(value).lower() if isinstance(value, bool) else value for name, value in query.items()}
        parameters = urlencode({name: value for name, value in given.items() if value is not None})
        host = "localhost" if self._address.path else str(self._address._replace(host=self._address.reachable_host))
        lines = [f"{method} {_BASE}{path}{'?' + parameters if parameters else ''} HTTP/1.1", f"Host: {host}"]
        if self._token is not None:
            lines.append(f"Authorization: Bearer {self._token.reveal()}")
        data = b"" if body is None else dumps(body).encode()
        if data:
            lines += ["Content-Type: application/json", f"Content-Length: {len(data)}"]
        elif method != "GET":
            lines.append("Content-Length: 0")
        return "\r\n".join([*lines, "Connection: close", "", ""]).encode() + data


class _Reader:
    """Reader of one HTTP/1.1 response."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._data = bytearray()
        self._chunked = False
        self._length = -1

    async def _more(self) -> bool:
        try:
            chunk = await self._stream.receive_some(64 * 1024)
        except trio.BrokenResourceError as error:
            raise ConnectionError(f"the connection was lost: {error.__cause__ or error}") from error
        self._data += chunk
        return bool(chunk)

    async def head(self) -> int:
        while (end := self._data.find(b"\r\n\r\n")) < 0:
            if len(self._data) > _LONGEST_HEAD or not await self._more():
                raise ConnectionError("the server closed the connection without an answer")
        lines = bytes(self._data[:end]).decode("latin-1").split("\r\n")
        del self._data[: end + 4]
        for line in lines[1:]:
            name, _, value = line.partition(":")
            if name.lower() == "transfer-encoding":
                self._chunked = value.strip().lower() == "chunked"
            elif name.lower() == "content-length":
                self._length = int(value)
        return int(lines[0].split(" ")[1])

    async def chunks(self) -> AsyncIterator[bytes]:
        if not self._chunked:
            while self._length < 0 or len(self._data) < self._length:
                if not await self._more():
                    break
            yield bytes(self._data)
            return
        while True:
            while (end := self._data.find(b"\r\n")) < 0:
                if not await self._more():
                    return
            size = int(bytes(self._data[:end]).split(b";")[0], 16)
            while len(self._data) < end + 2 + size + 2:
                if not await self._more():
                    return
            if not size:
                return
            chunk = bytes(self._data[end + 2 : end + 2 + size])
            del self._data[: end + 2 + size + 2]
            yield chunk


def _refuse(status: int, data: bytes) -> NoReturn:
    """Raise the reason for the end of a held request: the error in `data`, or the end of the connection."""
    with suppress(ValueError):
        error = loads(data).get("error")
        if error:
            raise ControlError(status, error["code"], error["message"], error.get("details"))
    raise ConnectionError("the server closed the connection")


async def _events(chunks: AsyncIterator[bytes]) -> AsyncIterator[dict[str, Any]]:
    rest = b""
    async for chunk in chunks:
        rest += chunk
        *events, rest = rest.split(b"\n\n")
        for event in events:
            if event.startswith(b"data: "):
                yield loads(event[6:])
