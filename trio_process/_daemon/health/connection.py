"""One client of a health server: hypercorn's HTTP/1 on a socket that can be cut at any time.

It mends what was observed with hypercorn 0.18: a client that never reads hangs its shutdown; a connection whose client
has left keeps its descriptor; a refused WebSocket stays open; one that breaks the protocol isn't told so; Ctrl-C in its
tasks is lost.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Awaitable, Callable, Sequence
from importlib.metadata import version
from typing import Any, Final, final

import h11
import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.events import Response as StreamResponse
from hypercorn.protocol.events import StreamClosed
from hypercorn.protocol.h11 import H11Protocol, H11WSConnection
from hypercorn.protocol.ws_stream import FrameTooLargeError, WSStream
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.task_group import _handle as hypercorn_handle
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from hypercorn.utils import parse_socket_addr
from wsproto.events import CloseConnection, Message, Ping
from wsproto.frame_protocol import CloseReason

from ..._core import logger
from .cork import current_stream
from .streams import MAX_STREAMS, Seat, StreamPlaces, current_seat

if not version("hypercorn").startswith("0.18."):
    # its internals are used below, and a changed one would fail in every connection, or do nothing at all
    raise ImportError(f"hypercorn {version('hypercorn')} is installed, and the health server is made for 0.18")

Application = Callable[..., Awaitable[None]]
"""What hypercorn calls for each request: an `AppWrapper`."""

Refusal = Callable[[int], tuple[Sequence[tuple[bytes, bytes]], bytes]]
"""Returns the headers and the body of an answer that the server gives by itself, without the application."""

_PING_EVERY: Final = 15.0  # seconds; proxies cut connections that are silent for longer
_MAX_MESSAGE: Final = 2**20  # bytes, or characters, of a WebSocket message
_FRAMES: Final = 50  # that are read before other tasks get a turn: 64 KiB of empty ones take 80 ms
_SEND_TIMEOUT: Final = 5.0  # seconds within which a client must read some of the sent data
_BARE: Final = [(b"content-length", b"0"), (b"connection", b"close")]  # the headers of hypercorn's own answers
_BOTH_LENGTHS: Final = {b"content-length", b"transfer-encoding"}
_FAREWELLS: Final = frozenset({"http.disconnect", "websocket.disconnect"})
_ABNORMAL: Final = 1006  # RFC 6455, 7.1.5
_ABSOLUTE: Final = re.compile(rb"http://([^/?]*)(.*)\Z", re.IGNORECASE)


@final
class Surroundings:
    """State shared by all connections of a server.

    Args:
        frontend: Answers the requests.
        on_change: Called when a connection becomes idle, or its client stops reading.
        refusal: Makes the answers to requests that don't reach the application, as they aren't valid HTTP.
    """

    def __init__(self, frontend: Application, on_change: Callable[[], object], refusal: Refusal) -> None:
        self.frontend = frontend
        self.refusal = refusal
        self.on_change = on_change
        self.streams = StreamPlaces(MAX_STREAMS, on_change)
        self.config = Config()
        self.config.accesslog = None
        self.config.errorlog = logger
        self.config.include_server_header = False
        self.config.websocket_ping_interval = _PING_EVERY
        self.config.websocket_max_message_size = _MAX_MESSAGE
        self.context = WorkerContext(None)
        self.no_state: Any = {}


class Stream:
    """A socket as hypercorn uses it."""

    __slots__ = ("_on_stall", "_raw", "_stream", "held", "lock", "reading", "socket", "stalled")

    def __init__(self, raw: socket.socket, on_stall: Callable[[], object]) -> None:
        self.socket = trio.socket.from_stdlib_socket(raw)
        self.reading = trio.CancelScope()
        self.stalled = False
        self.held: bytearray | None = None  # data to be sent later, in one piece; see `corked`
        self.lock = trio.Lock()  # of the task that sends: a ping must not come within a message
        self._on_stall = on_stall
        self._raw = raw
        self._stream = trio.SocketStream(self.socket)

    async def receive_some(self, max_bytes: int) -> bytes | bytearray:
        return await self._stream.receive_some(max_bytes)

    async def send_all(self, data: bytes) -> None:
        """Send as much as the kernel takes at once, without a checkpoint: the next read is one."""
        if self.held is not None:
            self.held += data
            return
        with memoryview(data) as view:
            sent = 0
            while sent < len(view):
                try:
                    sent += self._raw.send(view[sent:])
                except BlockingIOError:
                    await self._wait_for_reader()
                except OSError as error:  # reset, or cut by us
                    raise trio.BrokenResourceError from error

    async def _wait_for_reader(self) -> None:
        self.stalled = True
        self._on_stall()
        with trio.move_on_after(_SEND_TIMEOUT) as limit:
            await trio.lowlevel.wait_writable(self._raw)
        if limit.cancelled_caught:
            self.cut()
            raise trio.BrokenResourceError("the client does not read")
        self.stalled = False

    async def flush(self) -> None:
        """Send the data that was held back, and hold none back from now on."""
        try:
            async with self.lock:
                held, self.held = self.held, None
                if held:
                    await self.send_all(bytes(held))
        finally:
            self.held = None

    async def send_eof(self) -> None:
        await self.flush()
        await self._stream.send_eof()

    async def aclose(self) -> None:
        await self._stream.aclose()

    def has_unread(self) -> bool:
        """Whether data of the client has arrived that was not read yet."""
        try:
            return bool(self._raw.recv(1, socket.MSG_PEEK))
        except OSError:  # BlockingIOError: nothing; or it was reset, or cut
            return False

    def cut(self) -> None:
        """Close the socket at once: a sender gets a `ClosedResourceError`, a present or later reader gets end of file."""
        self.socket.close()
        self.reading.cancel()


class _WebSocket(WSStream):
    """hypercorn's, but one that breaks the protocol is ended, with the reason (RFC 6455, 7.1.7 and 7.4)."""

    async def _handle_events(self) -> None:
        for count, event in enumerate(self.connection.events(), 1):
            if count % _FRAMES == 0:
                await trio.lowlevel.checkpoint()
            if isinstance(event, Message):
                try:
                    self.buffer.extend(event)
                except FrameTooLargeError:
                    await self._end(CloseConnection(CloseReason.MESSAGE_TOO_BIG, f"over {_MAX_MESSAGE} bytes"))
                    return
                if event.message_finished:
                    assert self.app_put is not None, "accepted by the application"
                    await self.app_put(self.buffer.to_message())
                    self.buffer.clear()
            elif isinstance(event, Ping):
                await self._send_wsproto_event(event.response())
            elif isinstance(event, CloseConnection):  # the client's, or made by wsproto for a bad frame
                await self._end(event)

    async def _end(self, event: CloseConnection) -> None:
        await self._send_wsproto_event(event)  # nothing, if we have sent one already
        await self.send(StreamClosed(stream_id=self.stream_id))


class _Protocol(H11Protocol):
    """Only HTTP/1: a health server gains nothing from HTTP/2, whose flow control can block a response for ever."""

    _head = b""
    _method = b""
    refusal: Refusal

    async def handle(self, event: Event) -> None:
        """Skip empty lines in front of a request, however many (RFC 9112, 2.2); h11 takes one."""
        if type(event) is RawData and self.connection.their_state is h11.IDLE and not self.connection.trailing_data[0]:
            data = event.data.lstrip(b"\r\n")
            if event.data and not data:
                return
            event = RawData(data=data)
        await super().handle(event)

    async def _check_protocol(self, event: h11.Request) -> None:
        """Ignore an offer to upgrade, which a server may (RFC 9110, 7.8)."""

    async def _create_stream(self, request: h11.Request) -> None:
        """Pass a request to the application, in origin form, and without an offer to compress a WebSocket.

        Each connection would be compressed separately, and messages here are small.
        """
        target, headers = request.target, list(request.headers)
        if (found := _ABSOLUTE.match(target)) is not None:  # RFC 9112, 3.2.2: it replaces the Host header
            target = found[2] if found[2].startswith(b"/") else b"/" + found[2]
            headers = [(b"host", found[1]), *((name, value) for name, value in headers if name != b"host")]
        headers = [(name, value) for name, value in headers if name != b"sec-websocket-extensions"]
        if target != request.target or len(headers) < len(request.headers):
            version = request.http_version
            request = h11.Request(method=request.method, target=target, headers=headers, http_version=version)
        self._method = request.method
        if {name for name, _ in headers} >= _BOTH_LENGTHS:  # RFC 9112, 6.3: to a proxy in between, it may end elsewhere
            await self._send_error_response(400)
            await self.send(Closed())
            return
        await super()._create_stream(request)
        if isinstance(self.stream, WSStream):
            self.stream.__class__ = _WebSocket  # hypercorn lets nobody choose it; no frame has been handled yet

    async def stream_send(self, event: StreamEvent) -> None:
        """Send a part of an answer; hypercorn's own refusals, which are empty, get headers and a body."""
        if isinstance(event, StreamResponse) and event.headers == _BARE:
            await self._refuse(event.status_code)
            return
        await super().stream_send(event)

    async def _send_error_response(self, status_code: int) -> None:
        """Refuse a request that is not valid HTTP."""
        await self._refuse(status_code)
        await self._send_h11_event(h11.EndOfMessage())

    async def _refuse(self, status: int) -> None:
        more, body = self.refusal(status)
        headers = [(b"content-length", b"%d" % len(body)), (b"connection", b"close"), *more]
        if isinstance(self.connection, H11WSConnection):
            headers.append((b"sec-websocket-version", b"13"))  # RFC 6455, 4.4, if the version was wrong
            await self._end_websocket()
        if self._method == b"HEAD" and self.connection.our_state is h11.SEND_RESPONSE:
            body = b""
        await self._send_h11_event(h11.Response(status_code=status, headers=headers))
        if body:
            await self._send_h11_event(h11.Data(data=body))

    async def _end_websocket(self) -> None:
        """Notify the application that its client is gone; hypercorn would let it continue, and write into the refusal."""
        stream = self.stream
        if isinstance(stream, WSStream) and not stream.closed:
            stream.closed = True
            if stream.app_put is not None:
                await stream.app_put({"type": "websocket.disconnect", "code": _ABNORMAL})

    async def _send_h11_event(self, event: Any) -> None:
        """Send a response's head with the first part of its body: one packet, one system call."""
        try:
            data = self.connection.send(event)
        except h11.LocalProtocolError:
            # it is closing already: refused as a WebSocket, with an answer of the app's still to come, or broken off
            if self.connection.their_state is h11.ERROR or isinstance(self.connection, H11WSConnection):
                return
            raise
        if type(event) is h11.Response:
            self._head += data
        elif data or self._head:
            data, self._head = self._head + data, b""
            await self.send(RawData(data=data))
        if type(event) is h11.EndOfMessage and isinstance(self.connection, H11WSConnection):
            await self.send(Closed())  # hypercorn leaves a refused WebSocket open, and waits for the client


@trio.lowlevel.enable_ki_protection
async def _handle_ki_protected(*args: Any) -> None:
    await hypercorn_handle(*args)


class _Tasks(TaskGroup):
    """hypercorn's tasks, protected from Ctrl-C, which would be lost there."""

    _nursery: trio.Nursery  # hypercorn's own, set on entry

    def __init__(self) -> None:
        super().__init__()
        self._pinging = trio.CancelScope()

    def spawn(self, func: Any, *args: Any) -> None:
        """Start the pings of a WebSocket: the only task that hypercorn starts for HTTP/1."""
        self._nursery.start_soon(self._ping, func, args)

    async def _ping(self, func: Any, args: tuple[Any, ...]) -> None:
        with self._pinging:
            await func(*args)

    def stop_pings(self) -> None:
        """End the pings, which would otherwise keep the connection open until their next pause ends."""
        self._pinging.cancel()

    async def spawn_app(self, app: Any, config: Any, scope: Any, send: Any) -> Any:
        messages = _Messages(config.max_app_queue_size)
        threads = trio.to_thread.run_sync, trio.from_thread.run
        self._nursery.start_soon(_handle_ki_protected, app, config, scope, messages.receive, send, *threads)
        return messages.put


class _Messages:
    """The messages to an application; the last one, that its client has left, waits for no place and is never lost.

    hypercorn queues it like all others: a task that is being cancelled, as the reader of a connection that is cut, can't do
    that, and the application of a client that doesn't read never learned that it was cut.
    """

    def __init__(self, most: int) -> None:
        self._to_app, self._from_reader = trio.open_memory_channel[Any](most)
        self._farewell: Any = None

    async def put(self, message: Any) -> None:
        if message["type"] in _FAREWELLS:
            self._farewell = message
            self._to_app.close()
            return
        try:
            await self._to_app.send(message)
        except trio.ClosedResourceError:
            pass  # the client has left while this waited for its place

    async def receive(self) -> Any:
        try:
            return await self._from_reader.receive()
        except trio.EndOfChannel:
            await trio.lowlevel.checkpoint()
            return self._farewell


@final
class Connection(TCPServer):
    """One client."""

    # no TLS: hypercorn only needs these methods of its stream; and no choice of protocols
    stream: Stream  # type: ignore[assignment]
    protocol: _Protocol  # type: ignore[assignment]

    def __init__(self, shared: Surroundings, stream: Stream) -> None:
        super().__init__(shared.frontend, shared.config, shared.context, shared.no_state, stream)  # type: ignore[arg-type] # as above
        self._on_change = shared.on_change
        self._refusal = shared.refusal
        self.send_lock = stream.lock
        self.busy = False
        self.seat = Seat(shared.streams)
        self.active_at = trio.current_time()

    @property
    def answering(self) -> bool:
        """Whether a complete request is being answered; otherwise the server is waiting for the client."""
        if not self.busy or self.stream.stalled:
            return False
        return getattr(self.protocol.connection, "their_state", None) is not h11.SEND_BODY

    @property
    def may_make_room(self) -> bool:
        """Whether the connection is idle on the client's side, with no request unread."""
        return not self.seat.streaming and not self.answering and (self.busy or not self.stream.has_unread())

    async def run(self) -> None:
        """Serve the connection: hypercorn's `run` without TLS, HTTP/2 and a timer task per request."""
        current_stream.set(self.stream)
        current_seat.set(self.seat)
        sock = self.stream.socket
        try:
            client = parse_socket_addr(sock.family, sock.getpeername())
            server = parse_socket_addr(sock.family, sock.getsockname())
            tasks = _Tasks()
            async with tasks as task_group:
                self.protocol = _Protocol(
                    self.app,
                    self.config,
                    self.context,
                    task_group,
                    ConnectionState(self.state),
                    False,
                    client,
                    server,
                    self.protocol_send,
                )
                self.protocol.refusal = self._refusal
                with self.stream.reading as reading:
                    await self._read_data()
                tasks.stop_pings()
                if reading.cancelled_caught:
                    await self.protocol.handle(Closed())
        except OSError:
            pass  # reset by the client: there is no receiver

    async def protocol_send(self, event: Event) -> None:
        """Send data, close, or update the state of the connection."""
        if isinstance(event, RawData):
            try:
                async with self.send_lock:
                    await self.stream.send_all(event.data)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                await self.protocol.handle(Closed())
        elif isinstance(event, Updated):
            self.busy = not event.idle
            self.active_at = trio.current_time()
            if event.idle:
                self._on_change()
        else:
            await super().protocol_send(event)
            # hypercorn's reader may wait, for ever, for a next cycle that a closed connection will not have
            self.stream.cut()
