"""The hardened accept loop: hypercorn's HTTP per connection, with nothing that one connection could do to others.

Imported when a health server is entered, not before. What hypercorn 0.18 does not do by itself, measured: one bad request
ends its `serve`; a client that never reads hangs its shutdown; a connection whose client has left keeps its descriptor.
"""

from __future__ import annotations

import errno
import logging
import math
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import h11
import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.h11 import H11Protocol, H11WSConnection
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.task_group import _handle as hypercorn_handle
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from hypercorn.utils import parse_socket_addr
from quart_trio import QuartTrio

from .._core import grace, logger, open_scope, raise_first
from .app import Frontend, raise_interrupt
from .state import HealthState

_SEND_PATIENCE: Final = 5.0  # seconds in which a client must read something of what we send
_IDLE_LIMIT: Final = 5.0  # seconds between requests, or for the head of one
_FAIR_CHANCE: Final = 0.1  # seconds that a connection may be idle before it has to make room
_FAREWELL: Final = 1.0  # seconds that requests at work get to finish when the server is left
_FULL: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_CLIENT_GONE: Final = frozenset(
    # accept(2): errors of the new connection, to be treated like EAGAIN
    {errno.ECONNABORTED, errno.EPROTO, errno.EPERM, errno.ENETDOWN, errno.ENOPROTOOPT, errno.EHOSTDOWN}
    | {errno.EHOSTUNREACH, errno.EOPNOTSUPP, errno.ENETUNREACH}
)


class _Stream:
    """A socket as hypercorn uses it."""

    __slots__ = ("_on_stall", "_raw", "_stream", "reading", "socket", "stalled")

    def __init__(self, raw: socket.socket, on_stall: Callable[[], object]) -> None:
        self.socket = trio.socket.from_stdlib_socket(raw)
        self.reading = trio.CancelScope()
        self.stalled = False
        self._on_stall = on_stall
        self._raw = raw
        self._stream = trio.SocketStream(self.socket)

    async def receive_some(self, max_bytes: int) -> bytes | bytearray:
        return await self._stream.receive_some(max_bytes)

    async def send_all(self, data: bytes) -> None:
        """Send at once what the kernel takes, without a checkpoint: the next read is one."""
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
        with trio.move_on_after(_SEND_PATIENCE) as limit:
            await trio.lowlevel.wait_writable(self._raw)
        if limit.cancelled_caught:
            self.cut()
            raise trio.BrokenResourceError("the client does not read")
        self.stalled = False

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def aclose(self) -> None:
        await self._stream.aclose()

    def cut(self) -> None:
        """Close the socket at once: who is sending gets a `ClosedResourceError`; who reads, or is to read, ends."""
        self.socket.close()
        self.reading.cancel()


class _Protocol(H11Protocol):
    """HTTP/1 alone: a health server gains nothing by HTTP/2, whose flow control can make a response wait for ever."""

    _head = b""

    async def _check_protocol(self, event: h11.Request) -> None:
        """Ignore an offer to upgrade, which a server may (RFC 9110, 7.8)."""

    async def _send_h11_event(self, event: Any) -> None:
        """Send a response's head with the first of its body: one packet, one system call."""
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
async def _handle_unmolested(*args: Any) -> None:
    await hypercorn_handle(*args)


class _Tasks(TaskGroup):
    """hypercorn's tasks, in which Ctrl-C does not strike: it would be lost there, as sending the rest fails, too."""

    _nursery: trio.Nursery  # hypercorn's own, set on entry

    async def spawn_app(self, app: Any, config: Any, scope: Any, send: Any) -> Any:
        to_app, receive = trio.open_memory_channel[Any](config.max_app_queue_size)
        threads = trio.to_thread.run_sync, trio.from_thread.run
        self._nursery.start_soon(_handle_unmolested, app, config, scope, receive.receive, send, *threads)
        return to_app.send


class _Connection(TCPServer):
    """One client."""

    # no TLS: hypercorn only needs these methods of its stream; and no choice of protocols
    stream: _Stream  # type: ignore[assignment]
    protocol: _Protocol  # type: ignore[assignment]

    def __init__(self, server: _Server, stream: _Stream) -> None:
        super().__init__(server.frontend, server.config, server.context, server.no_state, stream)  # type: ignore[arg-type] # as above
        self._server = server
        self.busy = False
        self.active_at = trio.current_time()

    @property
    def at_work(self) -> bool:
        """Whether a whole request is being answered; else the client is the one who makes us wait."""
        if not self.busy or self.stream.stalled:
            return False
        return getattr(self.protocol.connection, "their_state", None) is not h11.SEND_BODY

    async def run(self) -> None:
        """Serve the connection: hypercorn's `run` without TLS, HTTP/2 and a timer task per request."""
        sock = self.stream.socket
        try:
            client = parse_socket_addr(sock.family, sock.getpeername())
            server = parse_socket_addr(sock.family, sock.getsockname())
            async with _Tasks() as task_group:
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
                with self.stream.reading as reading:
                    await self._read_data()
                if reading.cancelled_caught:
                    await self.protocol.handle(Closed())
        except OSError:
            pass  # reset by the client: nobody is left to be told

    async def protocol_send(self, event: Event) -> None:
        """Send, close, or note what the connection is doing."""
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
                self._server.something_changed()
        else:
            await super().protocol_send(event)
            # hypercorn's reader may wait, for ever, for a next cycle that a closed connection will not have
            self.stream.cut()


class _Server:
    """The connections of one server, and who may stay when there are too many."""

    def __init__(self, frontend: Frontend, max_connections: int) -> None:
        self.frontend = frontend
        self.config = Config()
        self.config.accesslog = None
        self.config.errorlog = logger
        self.config.include_server_header = False
        self.context = WorkerContext(None)
        self.no_state: Any = {}
        self._live: set[_Connection] = set()
        self._max = max_connections
        self._changed = trio.Event()
        self._complained_at = -1e9

    async def accept_from(self, listener: socket.socket, nursery: trio.Nursery) -> None:
        """Accept until the listener is closed."""
        while listener.fileno() >= 0:
            try:
                await trio.lowlevel.wait_readable(listener)
                raw, _ = listener.accept()
            except trio.ClosedResourceError:
                return
            except BlockingIOError:
                continue  # the client left before we came
            except OSError as error:
                if error.errno in _FULL:
                    await self._out_of_descriptors(error)
                elif error.errno not in _CLIENT_GONE:
                    raise
                continue
            raw.setblocking(False)
            stream = _Stream(raw, self.something_changed)
            try:
                await self._make_room()
            except BaseException:  # Cancelled, or Ctrl-C: nobody else knows of this socket yet
                stream.cut()
                raise
            nursery.start_soon(self._serve, stream)

    @trio.lowlevel.enable_ki_protection
    async def _serve(self, stream: _Stream) -> None:
        connection = _Connection(self, stream)
        self._live.add(connection)
        try:
            await connection.run()
        except Exception as error:  # noqa: BLE001 - whatever one connection provokes must not reach the others
            _log_drop(error)
        except BaseExceptionGroup as group:
            raise_interrupt(group)
            cancelled, rest = group.split(trio.Cancelled)
            if rest is not None:
                _log_drop(rest)
            if cancelled is not None:
                raise cancelled from None
        finally:
            stream.cut()
            self._live.discard(connection)
            self.something_changed()

    def something_changed(self) -> None:
        """Wake who waits for a connection to end or to fall idle."""
        self._changed.set()
        self._changed = trio.Event()

    async def _make_room(self) -> None:
        while len(self._live) >= self._max and not self._evict():
            # until one ends, or falls idle, or has been idle for long enough, which no event tells
            with trio.move_on_after(_FAIR_CHANCE):
                await self._changed.wait()

    def _evict(self) -> bool:
        """Cut the connection that has made us wait for longest, so that silent ones can't keep probes out."""
        idle = [connection for connection in self._live if not connection.at_work]
        oldest = min(idle, key=lambda connection: connection.active_at, default=None)
        # a probe that has just connected has hardly had the time to ask
        if oldest is None or oldest.active_at > trio.current_time() - _FAIR_CHANCE:
            return False
        self._live.discard(oldest)
        oldest.stream.cut()
        return True

    async def _out_of_descriptors(self, error: OSError) -> None:
        if trio.current_time() >= self._complained_at + 60:
            self._complained_at = trio.current_time()
            logger.error("health server: cannot accept a connection (%s); raise the limit (ulimit -n)", error.strerror)
        self._evict()
        await trio.sleep(0.1)

    async def reap_idle(self) -> None:
        """Cut, for ever, the connections whose client has been silent, or at a request's head, for too long."""
        while True:
            await trio.sleep(_IDLE_LIMIT / 10)
            latest = trio.current_time() - _IDLE_LIMIT
            self._cut_idle(latest)

    def _cut_idle(self, latest: float) -> None:
        for connection in tuple(self._live):
            if not connection.busy and connection.active_at <= latest:
                connection.stream.cut()

    async def finish(self) -> None:
        """Let requests at work finish, for a moment; idle connections close at once, and in the end all do."""
        await self.context.terminated.set()  # what is answered from now on is the last on its connection
        self._cut_idle(math.inf)
        with grace(_FAREWELL, shield=True):
            while any(connection.at_work for connection in self._live):
                await self._changed.wait()
        for connection in self._live:
            connection.stream.cut()


@asynccontextmanager
async def open_server(
    app: QuartTrio, state: HealthState, listeners: list[socket.socket], *, max_connections: int
) -> AsyncIterator[None]:
    """Serve `app` at the listeners for the length of the block."""
    server = _Server(Frontend(app, state), max_connections)
    async with open_scope() as nursery:
        app.nursery = nursery  # for Quart's background tasks
        await app.startup()
        nursery.start_soon(server.reap_idle)
        for listener in listeners:
            nursery.start_soon(server.accept_from, listener, nursery)
        body_error: BaseException | None = None
        try:
            yield
        except BaseException as error:  # noqa: BLE001 - raised again below
            body_error = error
        for listener in listeners:
            trio.lowlevel.notify_closing(listener)
            listener.close()
        failures: list[BaseException] = []
        with trio.CancelScope(shield=True):
            await server.finish()
            with grace(_FAREWELL):
                try:
                    await app.shutdown()
                except Exception as error:  # noqa: BLE001 - a function of the user's (`after_serving`)
                    failures.append(error)
        raise_first(body_error, failures)


def _log_drop(error: BaseException) -> None:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    logger.warning(
        "health server: a connection was dropped, its request led to %s: %s",
        type(error).__name__,
        error,
        exc_info=error if logger.isEnabledFor(logging.DEBUG) else None,
    )
