"""Run the services of a file: a daemon around a control server around a supervisor, in this order.

The daemon comes first, so that signals are handled before the first service starts. The control server encloses the
supervisor, so that it can show the shutdown. When the block is left, the services are stopped in order, then the socket
is removed, then the lock is released: when the lock is free, no service of this file is alive.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from types import FrameType
from typing import Any, Final, final

import attrs
import trio

from ..._control import Access, ControlServer, add_route, serve_beside
from ..._core import ActionProcessOutput, EventBatch, ProcessError, Subscription, in_one_line, logger, open_scope
from ..._daemon import Daemon, DaemonEntry
from ..._supervisor import Supervisor, UnitChanged, UnitState, reread, supervisor_of
from ..instance import Instance, announce, server_of
from ..output import OutputLost, is_hung_up, without_output
from .show import Show

FAILED: Final = 1
_STOPPED_BY: Final = 128
_LOOPBACK: Final = "127.0.0.1:0"


@final
@attrs.frozen(kw_only=True)
class ServeSettings:
    """The settings for running the services of a file.

    Args:
        names: The services to start, with their dependencies; empty for all enabled services.
        listen: A further address of the control server, "" for none.
        token: Its token, None to generate one.
        until_done: Whether to end once no service runs or will run.
    """

    names: tuple[str, ...] = ()
    listen: str = ""
    token: str | None = None
    until_done: bool = True


async def serve(
    instance: Instance,
    settings: ServeSettings,
    make_show: Callable[[Supervisor], Show],
    supervisor: Supervisor | None = None,
) -> int:
    """Run the services of a file until a signal arrives or an essential service ends; return the exit status.

    Args:
        instance: The instance of the file.
        settings: The services and addresses.
        make_show: Returns the object that shows the services of a supervisor.
        supervisor: The supervisor of the file, None to read the file.

    Raises:
        AlreadyRunningError: Another instance is running.
        PipelineError: The file has faults.
        OptionError: A service has faults, or the address is not valid.
    """
    if supervisor is None:
        supervisor = await trio.to_thread.run_sync(supervisor_of, instance.file, settings.names)
    stops = _stop_signals(settings)  # the daemon replaces the dispositions
    status, show = _Status(), make_show(supervisor)
    # a name in bytes that are no text can't be a key of the registry
    entry = DaemonEntry("up", in_one_line(str(instance.file)), project=in_one_line(str(instance.file.parent)))
    try:
        async with Daemon(pid_file=instance.pid_file, registry_entry=entry, ready=False) as daemon:
            _react_to_hangup(daemon, supervisor, settings, stops)
            with status.noting(stops, daemon):
                async with (
                    _findable(instance),
                    show.showing(),
                    _shown(supervisor, show, status),
                    server_of(instance, supervisor) as control,
                    _page(control, settings, show),
                    supervisor,
                ):
                    try:
                        await daemon.run(_until_done, daemon, supervisor, settings)
                    finally:
                        show.end()
    except OutputLost as error:
        if not status.signal and not is_hung_up(error):
            raise
        without_output(error, silent=True)
        status.signal = status.signal or signal.SIGHUP
    except ProcessError as error:
        if not hasattr(error, "unit"):
            raise
        logger.error("%s", error)
        status.has_failed = True
    return status.code


@asynccontextmanager
async def _findable(instance: Instance) -> AsyncIterator[None]:
    with instance.findable():
        yield


async def _until_done(daemon: Daemon, supervisor: Supervisor, settings: ServeSettings) -> None:
    async with open_scope() as nursery:
        nursery.start_soon(_report_ready, daemon, supervisor)
        if not settings.until_done:
            await trio.sleep_forever()
        await supervisor.wait(check=False)


async def _report_ready(daemon: Daemon, supervisor: Supervisor) -> None:
    """Report readiness to systemd once each service is ready, unless it can't become ready or nobody wants it."""
    for name in {unit.spec.name for unit in supervisor.units}:
        with suppress(ProcessError):
            await supervisor.wait_ready(name)
    daemon.set_ready(True)


def _stop_signals(settings: ServeSettings) -> tuple[signal.Signals, ...]:
    """Return the signals that end the services: in the foreground SIGHUP too, unless it is ignored (nohup(1))."""
    stops = (signal.SIGINT, signal.SIGTERM)
    if not settings.until_done or signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        return stops
    return (*stops, signal.SIGHUP)


def _react_to_hangup(
    daemon: Daemon, supervisor: Supervisor, settings: ServeSettings, stops: tuple[signal.Signals, ...]
) -> None:
    """Reload on SIGHUP in the background; in the foreground, SIGHUP means that the terminal is gone."""
    if signal.SIGHUP in stops:
        daemon.on_reload(daemon.stop)
    elif not settings.until_done:

        async def reload() -> None:
            plan = await supervisor.reload(await trio.to_thread.run_sync(reread, supervisor))
            logger.info("reloaded: %s", plan.to_dict())

        daemon.on_reload(reload)


@final
class _Status:
    """The facts that determine the exit status.

    Attributes:
        has_failed: Whether a service has failed.
        signal: The first signal that requested the end, 0 if none has.
    """

    def __init__(self) -> None:
        self.has_failed = False
        self.signal = 0

    @property
    def code(self) -> int:
        if self.signal:
            return _STOPPED_BY + self.signal
        return FAILED if self.has_failed else 0

    @contextmanager
    def noting(self, stops: tuple[signal.Signals, ...], daemon: Daemon) -> Iterator[None]:
        """Record the signal that stops us; it is handled as before. One may have stopped the entry of the daemon."""
        session = daemon._session
        assert session is not None
        handled = {number: signal.getsignal(number) for number in stops}

        def note(number: int, frame: FrameType | None) -> None:
            self.signal = self.signal or number
            handler = handled[signal.Signals(number)]
            if callable(handler):
                handler(number, frame)

        for number in handled:
            signal.signal(number, note)
        try:
            yield
        finally:
            for number, handler in handled.items():
                signal.signal(number, handler)
            self.signal = self.signal or session.stopped_by


@asynccontextmanager
async def _shown(supervisor: Supervisor, show: Show, status: _Status) -> AsyncIterator[None]:
    """Show every event of the services, from before the first one starts until after the last one has ended."""
    with supervisor.service.subscribe(ActionProcessOutput, UnitChanged) as events:
        async with open_scope(wait=True) as nursery:  # the events end with the supervisor's service, inside this block
            nursery.start_soon(_show, events, show, status)
            yield


async def _show(events: Subscription[Any], show: Show, status: _Status) -> None:
    while True:
        try:
            batch: EventBatch = await events.receive_batch()
        except trio.EndOfChannel:
            return
        for event in batch if not batch.lines else [batch]:
            if isinstance(event, UnitChanged) and event.new is UnitState.FAILED:
                status.has_failed = True
            await show.emit(event)


@asynccontextmanager
async def _page(control: ControlServer, settings: ServeSettings, show: Show) -> AsyncIterator[None]:
    """Show what `control` shows on TCP, too: on the given address at once, on loopback when ``trio-process ui`` requests it."""
    lock = trio.Lock()
    leaving = trio.Event()
    listening: list[ControlServer] = []
    async with open_scope(wait=True) as nursery:

        async def serve(addr: str, token: str | None, task_status: trio.TaskStatus[None]) -> None:
            async with serve_beside(ControlServer(addr, access=Access.CONTROL, token=token), control) as server:
                listening.append(server)
                show.announce(f"trio-process: the page is at {_address_of(server)}")
                task_status.started()
                await leaving.wait()

        async def ui() -> dict[str, Any]:
            async with lock:
                if not listening:  # in a task of its own: this one ends with the request
                    await nursery.start(serve, _LOOPBACK, None)
            return {"success": True, "data": {"url": listening[0].login_url.reveal()}}

        if settings.listen:
            await nursery.start(serve, settings.listen, settings.token)
        add_route(control, "/api/process/ui", ui, "POST")
        announce(control, "up")
        try:
            yield
        finally:
            leaving.set()


def _address_of(server: ControlServer) -> str:
    """Return the URL of the page; with the token only if it is shown on a terminal."""
    return server.login_url.reveal() if sys.stderr.isatty() else server.url
