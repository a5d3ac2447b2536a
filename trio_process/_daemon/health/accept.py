"""The hardened accept loop: hypercorn's HTTP per connection, with nothing that one connection could do to others.

Imported when a health server is entered, not before. hypercorn's own `serve` is ended by one bad request (a WebSocket
upgrade with a byte too many), has no limit of connections, and doesn't distinguish busy from idle connections.
"""

from __future__ import annotations

import errno
import logging
import math
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import trio
from quart_trio import QuartTrio

from ..._core import grace, interruptible, logger, open_scope, open_shielded_scope, raise_first
from .app import Frontend, HealthApp, raise_interrupt
from .connection import Application, Connection, Refusal, Stream, Surroundings
from .judge import reason_of
from .state import HealthState

_IDLE_LIMIT: Final = 5.0  # seconds between requests, or for the head of one
_MIN_IDLE: Final = 0.1  # seconds that a connection may be idle before it must make room
_DRAIN: Final = 1.0  # seconds that requests in progress have to finish when the server is left
_DRAIN_CANCELLED: Final = 0.2  # the same, when it is left by a cancellation, which must not be held up
_FULL: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_CLIENT_GONE: Final = frozenset(
    # accept(2): errors of the new connection, to be treated like EAGAIN
    {errno.ECONNABORTED, errno.EPROTO, errno.EPERM, errno.ENETDOWN, errno.ENOPROTOOPT, errno.EHOSTDOWN}
    | {errno.EHOSTUNREACH, errno.EOPNOTSUPP, errno.ENETUNREACH}
)


class _Server:
    """The connections of one server, and which of them is closed when there are too many."""

    def __init__(self, frontend: Application, max_connections: int, refusal: Refusal) -> None:
        self._shared = Surroundings(frontend, self.something_changed, refusal)
        self._live: set[Connection] = set()
        self._max = max_connections
        self._changed = trio.Event()
        self._came = trio.Event()
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
                if listener.fileno() < 0:
                    return  # closed by us when a client had made it readable, and this task had not run yet
                if error.errno in _FULL:
                    await self._out_of_descriptors(error)
                elif error.errno not in _CLIENT_GONE:
                    raise
                continue
            raw.setblocking(False)
            stream = Stream(raw, self.something_changed)
            try:
                await self._make_room()
            except BaseException:  # Cancelled, or Ctrl-C: nothing else refers to this socket yet
                stream.cut()
                raise
            nursery.start_soon(self._serve, stream)

    @trio.lowlevel.enable_ki_protection
    async def _serve(self, stream: Stream) -> None:
        connection = Connection(self._shared, stream)
        self._live.add(connection)
        self._came.set()
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
        """Wake tasks that wait for a connection to end or to become idle."""
        self._changed.set()
        self._changed = trio.Event()

    async def _make_room(self) -> None:
        while len(self._live) - self._shared.streams.taken >= self._max and not self._evict():
            # until one ends, or becomes idle, or has been idle for long enough, which sets no event
            with trio.move_on_after(_MIN_IDLE):
                await self._changed.wait()

    def _evict(self) -> bool:
        """Close the connection whose client has been silent for longest, so that silent clients can't keep probes out."""
        # a probe that has just connected may not have sent its request yet, nor we have read it if the loop was held up
        latest = trio.current_time() - _MIN_IDLE
        idle = [one for one in self._live if one.active_at <= latest and one.may_make_room]
        oldest = min(idle, key=lambda connection: connection.active_at, default=None)
        if oldest is None:
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
        """Repeatedly close connections whose client has been silent, or has been sending a request's head, for too long."""
        while True:
            if not self._live:  # an idle program is not woken
                self._came = trio.Event()
                await self._came.wait()
            await trio.sleep(_IDLE_LIMIT / 10)
            latest = trio.current_time() - _IDLE_LIMIT
            self._cut_idle(latest)

    def _cut_idle(self, latest: float) -> None:
        for connection in tuple(self._live):
            if not connection.busy and connection.active_at <= latest:
                connection.stream.cut()

    async def finish(self) -> None:
        """Close idle connections at once, and the others after their request has finished or their time is up."""
        await self._shared.context.terminated.set()  # from now on each response is the last on its connection
        self._cut_idle(math.inf)
        async with _bounded():
            while any(connection.answering for connection in self._live):
                await self._changed.wait()
        for connection in self._live:
            connection.stream.cut()


@asynccontextmanager
async def open_server(
    app: HealthApp, state: HealthState, listeners: list[socket.socket], *, max_connections: int
) -> AsyncIterator[None]:
    """Serve `app` on the listeners inside the block."""
    async with serve_application(Frontend(app, state), app, listeners, max_connections=max_connections):
        yield


def no_words(_status: int) -> tuple[Sequence[tuple[bytes, bytes]], bytes]:
    """Return nothing: the status says it all."""
    return (), b""


@asynccontextmanager
async def serve_application(
    frontend: Application,
    app: QuartTrio,
    listeners: list[socket.socket],
    *,
    max_connections: int,
    refusal: Refusal = no_words,
) -> AsyncIterator[None]:
    """Serve any ASGI application on the listeners inside the block.

    A cancellation from outside reaches only the body. The connections are served until the body has been left, so that
    probes and streams see how it stops, and the streams say goodbye.

    Args:
        frontend: Answers the requests.
        app: The Quart app that `frontend` passes some of them to; it is started before, and shut down after.
        listeners: The listeners that clients connect to.
        max_connections: How many connections are served at once.
        refusal: Makes the answers to requests that don't reach `frontend`, as they aren't valid HTTP.
    """
    server = _Server(frontend, max_connections, refusal)
    async with open_shielded_scope() as nursery:
        app.nursery = nursery  # for Quart's background tasks
        await interruptible(app.startup)
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
        await server.finish()
        async with _bounded():
            try:
                await interruptible(app.shutdown)
            except Exception as error:  # noqa: BLE001 - a function of the user's (`after_serving`)
                failures.append(error)
        raise_first(body_error, failures)


@asynccontextmanager
async def _bounded() -> AsyncIterator[None]:
    """Shield the block from cancellations, but end it after `_DRAIN` seconds, or `_DRAIN_CANCELLED` after a cancellation.

    How the server's block ended doesn't say whether it was cancelled: its clean-up may have raised an error of its own,
    and the cancellation may come only now.
    """
    async with open_scope() as nursery:
        with grace(_DRAIN, shield=True) as scope:
            nursery.start_soon(_shorten_if_cancelled, scope)
            yield


async def _shorten_if_cancelled(scope: trio.CancelScope) -> None:
    try:
        await trio.sleep_forever()
    except trio.Cancelled:  # not raised: the end of the block must not replace the exception of the server's block
        scope.deadline = min(scope.deadline, trio.current_time() + _DRAIN_CANCELLED)


def _log_drop(error: BaseException) -> None:
    logger.warning(
        "health server: a connection was dropped, its request led to %s",
        reason_of(error),
        exc_info=error if logger.isEnabledFor(logging.DEBUG) else None,
    )
