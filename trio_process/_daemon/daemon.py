"""`Daemon`: single instance, health, registry, signals and restarts around a program, as one block."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Self, TypeVar, TypeVarTuple, Unpack, final

import attrs
import trio

from .._core import (
    Block,
    DaemonError,
    OptionError,
    checks,
    open_scope,
    raise_first,
)
from .health import HealthCheck, HealthServer, HealthState
from .in_thread import entered_in_thread
from .options import DaemonOptions
from .pidfile import PIDFile
from .registry import DaemonEntry, default_registry
from .session import Session
from .supervise import run_until_stopped
from .systemd import Notifier

if TYPE_CHECKING:
    from .keywords import DaemonKeywords

PosArgsT = TypeVarTuple("PosArgsT")
_Reload = TypeVar("_Reload", bound=Callable[[], object])


@final
class Daemon(Block):
    """A single-instance program with health checks, a registry entry and graceful shutdown.

    Args:
        **options: The fields of `DaemonOptions`.

    Raises:
        OptionError: An option is invalid.

    Entering takes the PID file, starts the health server and registers the daemon. Leaving sets readiness to false, then
    undoes these steps in reverse. If entering fails, the completed steps are undone and the error is raised unchanged:
    `AlreadyRunningError`, `DaemonError` for an address that is in use, `RegistryError`. A daemon can be entered again
    after it was left.

    With ``signals=True``, SIGTERM and SIGINT stop the daemon gracefully. A second signal ends all waits and grace periods
    of this package at once, a third one ends the process with status 128+N. Before `run`, the first signal cancels the
    body of the block, and the block ends without an exception. SIGHUP calls the function given to `on_reload`.

    >>> async with Daemon(health_addr="127.0.0.1:0", ready=False) as daemon:
    ...     daemon.set_ready(True)
    ...     await daemon.run(serve)
    """

    __slots__ = ("_on_reload", "_options", "_server", "_session", "_state", "_stopping")

    def __init__(self, **options: Unpack[DaemonKeywords]) -> None:
        super().__init__()
        self._set_up(DaemonOptions(**options))

    @classmethod
    def from_options(cls, options: DaemonOptions) -> Self:
        """Return a daemon with these options.

        Raises:
            OptionError: The value is not a `DaemonOptions`.
        """
        if not isinstance(options, DaemonOptions):
            raise OptionError(
                f"from_options takes DaemonOptions, got {checks.brief(options)}; keywords go into Daemon(...)"
            )
        daemon = cls()
        daemon._set_up(options)
        return daemon

    def _set_up(self, options: DaemonOptions) -> None:
        self._options = options
        self._on_reload: Callable[[], object] | None = None
        self._server: HealthServer | None = None
        self._session: Session | None = None
        self._stopping = trio.Event()
        if options.health_addr is None:
            self._state = HealthState(ready=options.ready, check_timeout=5.0)
            for check in options.health_checks:
                self._state.checkup.add(check)
        else:
            self._server = HealthServer(options.health_addr, checks=options.health_checks, ready=options.ready)
            self._state = self._server._state

    @property
    def options(self) -> DaemonOptions:
        """The options it was created with."""
        return self._options

    @property
    def health(self) -> HealthServer | None:
        """The health server, or None."""
        return self._server

    @property
    def health_addr(self) -> str:
        """The address of the health server, with its true port; "" without one."""
        return "" if self._server is None else self._server.addr

    @property
    def stopping(self) -> trio.Event:
        """Set when the daemon is asked to stop, or is being left."""
        return self._stopping

    @property
    def ready(self) -> bool:
        """Whether the daemon accepts work: the answer of ``/ready``."""
        return self._state.ready and not self._stopping.is_set()

    def set_ready(self, ready: bool) -> None:  # noqa: FBT001 - set_ready(True) is the contract
        """Set whether the daemon accepts work; the first True is also reported to systemd."""
        self._state.set_ready(ready)

    def add_check(self, check: HealthCheck, name: str | None = None) -> None:
        """Add a health check, with or without a health server: systemd's watchdog runs the checks, too.

        Args:
            check: A sync or async callable without arguments; see `HealthCheck`.
            name: Its name in responses; an existing check with this name is replaced. None for the name of the function,
                with a number appended if that is taken.

        Raises:
            OptionError: `check` is not callable, or is a generator function.

        Checks that `main` adds are removed when `main` is called again.
        """
        self._state.checkup.add(check, None if name is None else checks.text("name", name, empty=False))

    def remove_check(self, name: str) -> None:
        """Remove the check called `name`.

        Raises:
            OptionError: No check has this name; the message names the nearest one.
        """
        self._state.checkup.remove(name)

    def on_reload(self, function: _Reload) -> _Reload:
        """Call `function`, sync or async, on every SIGHUP; it replaces a function given earlier.

        Its errors are logged. Returns the function, so that this can be used as a decorator.
        """
        if not callable(function):
            raise OptionError(
                f"on_reload takes a function without arguments, sync or async, got {checks.brief(function)}"
            )
        self._on_reload = function
        return function

    def stop(self) -> None:
        """Ask `run` to end, or to return at once if it is called later. Can be repeated."""
        self._check_run()
        if self._session is not None:
            self._session.stop()

    async def run(self, main: Callable[[Unpack[PosArgsT]], Awaitable[object]] | None = None, *args: *PosArgsT) -> None:
        """Run ``main(*args)`` until it ends, or SIGTERM, SIGINT, `stop()` or a cancellation comes.

        Args:
            main: An async function, restarted according to `options.restart`; None only waits for the stop.
            *args: Its arguments.

        Raises:
            DaemonError: The daemon has not been entered, or `run` is already in progress.
            OptionError: `main` is not callable.
            RestartLimitError: `main` ended too often; its last failure is the cause.

        On a stop, readiness becomes false and `stopping` is set. `main` has `drain` seconds to end by itself, then it is
        cancelled. An exception of `main` is raised unchanged. A `main` that shields itself can't be abandoned: tasks
        still running after `shutdown_timeout` are named in a log record, every 5 s.
        """
        session = self._session
        if session is None:
            raise DaemonError("this Daemon is not entered: write `async with daemon:` around `daemon.run`")
        self._check_run()
        if session.running:
            raise DaemonError("`run` of this Daemon is already in progress; call it once at a time")
        if main is not None and not callable(main):
            raise OptionError(
                f"run takes the function itself, as in `daemon.run(main, argument)`, got {checks.brief(main)}"
            )
        session.running = True
        try:
            await trio.lowlevel.checkpoint()
            if self._stopping.is_set():
                return
            await run_until_stopped(
                self._stopping.wait if main is None else partial(self._call, main, *args),
                self.options.restart,
                stopping=self._stopping,
                stop=session.stop,
                drain=self.options.drain,
                deadline=session.deadline,
            )
        finally:
            session.running = False

    async def _call(self, main: Callable[..., Awaitable[object]], *args: Any) -> None:
        with self._state.checks_of_main():
            await main(*args)

    def _refuse_entry(self) -> None:
        if self._entered is not None:
            raise DaemonError("this Daemon has already been entered; leave it first, or create another one")

    @asynccontextmanager
    async def _block(self) -> AsyncIterator[None]:
        """Enter and leave all parts around the block; failures of the exit are raised together at its end."""
        failures: list[BaseException] = []
        self._state.set_stopping(False)
        before = self._state.remember()
        try:
            with Notifier.from_environment() as notifier:
                session = self._session = Session(self.options, self._state, notifier, lambda: self._on_reload)
                self._stopping = session.stopping
                with session.signals(), session.entered():
                    with session.entry:
                        # in this order: a reader of the entry finds a server, and the next holder of the PID file finds
                        # a free port
                        async with (
                            self._single_instance(failures),
                            self._served(),
                            self._registered(failures),
                            open_scope() as nursery,
                        ):
                            session.begin(nursery)
                            try:
                                with session.body:
                                    yield
                            finally:
                                session.leave()
                    if not session.was_entered:  # a signal came on the way in, and all of it has been undone
                        with session.body:
                            yield
        except BaseException as error:  # noqa: BLE001 - raised again at once
            raise_first(error, failures)
        finally:
            self._session = None
            self._state.restore(before)
        raise_first(None, failures)

    def _single_instance(self, failures: list[BaseException]) -> AbstractAsyncContextManager[object]:
        path = self.options.pid_file
        if path is None:
            return nullcontext()
        return entered_in_thread(f"the PID file {path}", PIDFile(path), failures)

    @asynccontextmanager
    async def _served(self) -> AsyncIterator[None]:
        """Run the health server; without one, only end the checks that the watchdog has started."""
        if self._server is not None:
            async with self._server:
                yield
            return
        try:
            yield
        finally:
            with trio.CancelScope(shield=True):
                await self._state.checkup.aclose()

    def _registered(self, failures: list[BaseException]) -> AbstractAsyncContextManager[object]:
        entry = self.options.registry_entry
        if entry is None:
            return nullcontext()
        registry = self.options.registry or default_registry()
        return entered_in_thread(
            f"the registry {registry.directory}", registry.registered(self._filled(entry)), failures
        )

    def _filled(self, entry: DaemonEntry) -> DaemonEntry:
        return attrs.evolve(
            entry,
            pid=os.getpid(),
            health=self.health_addr or entry.health,
            started=entry.started or datetime.now(UTC),
            project=entry.project or _working_directory(),
            binary=entry.binary or sys.executable,
        )


def _working_directory() -> str:
    try:
        return os.getcwd()
    except OSError:  # removed under us: no reason not to start
        return ""
