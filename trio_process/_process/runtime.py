"""`ServiceRuntime`: the private half of a service. It hosts the lifecycles, and supervises them until the block is left."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import ExitStack, asynccontextmanager
from datetime import datetime
from itertools import count
from typing import Any, Final, final

import trio

from .._core import (
    ActionProcessStarted,
    Bus,
    Core,
    EndReason,
    ProcessError,
    ProcessNotFoundError,
    ProcessStartError,
    RunOptions,
    ServiceClosedError,
    StopFailedError,
    block_deadline,
    bus_of,
    current_deadline,
    open_scope,
)
from .backend import Backend, BackendFactory, Handle, backend_in_use
from .end_reason import Request
from .lifecycle import Lifecycle, Phase
from .local import LocalBackend, adopted_options, follow_log
from .managed_process import task_name
from .options import ServiceOptions
from .output import Echo, open_log
from .reactor import Reactor
from .reap import reap_deferred, restore_sigchld_default
from .table import Table

_numbers: Final = count(1)  # one for all services, so that an id means one process on a core's bus too
_program: tuple[int, str] = (0, "")  # our PID, and the random part of the ids; a fork needs another one


def make_backend(reactor: Reactor, options: ServiceOptions) -> Backend:
    """Return the backend that `use_backend` has set, else one that spawns on this machine."""
    factory = backend_in_use() or make_local_backend
    return factory(reactor, options)


def make_local_backend(reactor: Reactor, options: ServiceOptions) -> LocalBackend:
    """Return a backend that spawns on this machine."""
    return LocalBackend(
        reactor, guarded=options.guardian, in_cgroups=options.containment == "cgroup", strays=options.strays
    )


@final
class ServiceRuntime:
    """The private half of a service: what its lifecycles need, and the task that supervises them.

    Args:
        core: The core that events go to as well.
        options: How the service keeps its processes.
        make_backend: Makes what spawns, when the block is entered.

    Attributes:
        table: The records.
        bus: Where events are published.
        reactor: Watches descriptors and timers; made when the block is entered, as the backend is.
        deadline: The deadline of its own graces; it follows that of the enclosing shutdown.
        is_closing: Whether the block is being left.
        on_end: Called with each process that has ended, or could not be started.
    """

    def __init__(self, core: Core | None, options: ServiceOptions, make_backend: BackendFactory) -> None:
        self.options = options
        self.table = Table(options.retain, options.retain_bytes)
        self.bus = Bus(bus_of(core) if core is not None else None, self.table.has_ended)
        self.deadline = current_deadline()
        self.counts = {"started": 0, "failed": 0, "finished": 0}
        self.is_closing = False
        self.was_entered = False
        self.on_end: Callable[[Lifecycle], object] | None = None
        self._make_backend = make_backend
        self._launching = 0
        self._idle = trio.lowlevel.ParkingLot()  # of tasks that wait until nothing runs
        self._closed_by: str | None = None
        self._stuck: list[Lifecycle] = []
        self._echoes: set[Echo] = set()

    @asynccontextmanager
    async def running(self, stack: ExitStack) -> AsyncIterator[None]:
        """Host lifecycles inside this block; when it is left, all are stopped. `stack` is left after that."""
        if not hasattr(select, "epoll"):
            raise ProcessError(f"Service needs Linux (epoll(7), pidfd_open(2)); this is {sys.platform}")
        restore_sigchld_default(silently=True)
        reap_deferred()
        self.deadline = stack.enter_context(block_deadline())
        try:
            self.reactor = Reactor()
            stack.callback(self.reactor.close)
            self.backend = self._make_backend(self.reactor, self.options)
            stack.callback(self.backend.close)
        except OSError as error:
            raise ProcessError(f"a Service can't be entered: {error.strerror}") from error
        self.was_entered = True  # not before: a failed entry may be tried again
        self.deadline.watch(self._shorten_grace)
        stack.callback(self.deadline.unwatch, self._shorten_grace)
        stack.callback(self.bus.close)
        async with open_scope() as nursery:
            self._nursery = nursery
            nursery.start_soon(self._supervise, name="trio_process supervision")
            try:
                yield
            finally:
                self._close()

    @trio.lowlevel.enable_ki_protection
    async def _supervise(self) -> None:
        """Serve the children until the block is left and they have ended; nothing cancels it."""
        await self.reactor.run()
        for echo in self._echoes:
            self.limit_echo(echo)
        if self._stuck:
            raise StopFailedError([survivor for child in self._stuck for survivor in child.record.survivors])

    def _close(self) -> None:
        """Start no more processes and stop those that run; the supervision continues until they have ended."""
        self.is_closing = True
        self._closed_by = task_name()
        for child in list(self.table.running.values()):
            if not child.record.options.detach:
                child.ask(Request(EndReason.STOPPED, by=self._closed_by))
        self._check_finished()

    def _check_finished(self) -> None:
        if not self.is_closing or self._launching:
            return
        running = self.table.running.values()
        # `all` ends at the first child that is waited for: of thousands, each one asks this at its end
        if all(child.record.survivors or child.record.options.detach for child in running):
            self._stuck += [child for child in running if child.record.survivors]
            for child in running:
                child.abandon()
            self._idle.unpark_all()
            self.reactor.stop()

    def _shorten_grace(self) -> None:
        for child in list(self.table.running.values()):
            child.shorten_grace()

    def ended(self, id: str) -> None:  # noqa: A002 - as in the protocol
        """Called when a child has ended, or can't be killed."""
        child = self.table.get(id)
        if child.phase is Phase.ENDED:
            self.counts["finished"] += 1
            if child.record.survivors:
                self._stuck.append(child)
            self.table.ended(child)
            if self._idle and not self.table.running:
                self._idle.unpark_all()
            if self.on_end is not None:
                self.on_end(child)
        self._check_finished()

    async def wait_idle(self) -> None:
        """Wait until nothing that is watched runs."""
        while any(child.phase is not Phase.ABANDONED for child in self.table.running.values()):
            self.reactor.check_run()
            await self._idle.park()

    # starting

    def check_open(self) -> None:
        """Raise unless the block is entered and not being left."""
        if not self.was_entered:
            raise ServiceClosedError("this Service is not entered; use it as `async with Service() as service:`")
        if self.is_closing:
            raise ServiceClosedError("this Service is closing or closed; it starts no more processes")
        self.reactor.check_run()

    def _new(self, options: RunOptions) -> tuple[int, Lifecycle]:
        number = next(_numbers)
        size = self.options.buffer_size if options.buffer_size is None else options.buffer_size
        return number, Lifecycle(self, process_id(number), options, size)

    @trio.lowlevel.enable_ki_protection
    async def start(self, options: RunOptions, *, to_end: bool = False, prompt: bool = True) -> Lifecycle:
        """Start a process. No other task runs between the spawn and the entry in the table.

        Args:
            options: What to run.
            to_end: Claim its output: the caller waits for its end.
            prompt: Return as soon as it runs; otherwise it may be a few moments later, or after its end.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        child, handle = self.spawn(options)
        child.claims += to_end
        if handle.launching:
            await self.launch(child, handle, prompt=prompt or self._has_deadline_or_listener(child))
        self.watch(child, handle)
        return child

    def _has_deadline_or_listener(self, child: Lifecycle) -> bool:
        """Return whether a late report of the start would be noticed."""
        options = child.record.options
        if options.timeout is not None or options.idle_timeout is not None:
            return True
        return bool(self.bus.targets(ActionProcessStarted, child.record.id, options.name))

    def spawn(self, options: RunOptions) -> tuple[Lifecycle, Handle]:
        """Spawn a process; `watch` must follow, after `launch` if the handle says that it is still launching."""
        self.check_open()
        number, child = self._new(options)
        self.table.add(child)
        child.record.started = trio.current_time()  # it may run for long before we have the processor again
        try:
            if options.log_file is not None and not options.detach:
                child.output.sinks = (open_log(options),)
            return child, self.backend.spawn(child.record.id, options, number)
        except BaseException as error:
            self._drop(child, error)
            raise

    def _drop(self, child: Lifecycle, error: BaseException) -> None:
        """Note that a process could not be started."""
        child.output.close_sinks()
        if isinstance(error, ProcessStartError):
            self.counts["failed"] += 1
            child.start_failed(error)
        else:
            # refused by a test's rules, or a bug: nothing was started, so the lifecycle is dropped in STARTING
            self.table.discard(child)
        self._check_finished()

    async def launch(self, child: Lifecycle, handle: Handle, *, prompt: bool) -> None:
        """Wait until the command of a spawned process runs."""
        self._launching += 1
        try:
            failure = await handle.launched(child.record.options, prompt=prompt)
            if failure is not None:
                raise failure  # noqa: TRY301 - to be handled as every other error of the launch
        except BaseException as error:
            failure = None  # its traceback refers to this frame: the collector would have to free both
            self._launching -= 1
            self._drop(child, error)
            raise
        self._launching -= 1

    def watch(self, child: Lifecycle, handle: Handle) -> None:
        """Watch a process that runs."""
        self._enter(child)
        child.started(handle)
        if self.is_closing:  # the service was left while a launcher still ran
            if not child.record.options.detach:
                child.ask(Request(EndReason.STOPPED, by=self._closed_by))
            self._check_finished()

    def _enter(self, child: Lifecycle) -> None:
        """Count a child among those that run, and echo it on request."""
        self.counts["started"] += 1
        self.table.started(child)
        if child.record.options.echo:
            child.output.echo = Echo()
            self._nursery.start_soon(self._echo, child.output.echo, name=f"echo of {child.record.id}")

    def adopt(self, pid: int, started_at: datetime, options: Mapping[str, Any]) -> Lifecycle:
        """Watch a detached process of an earlier service."""
        self.check_open()
        chosen = adopted_options(pid, started_at, options)
        child = self._new(chosen)[1]
        try:
            handle = self.backend.adopt(pid, follow_log(chosen))
            self._enter(child)
            child.started(handle, started_at)
        except OSError as error:
            if child.phase is Phase.RUNNING:
                child.abandon()
            self.table.discard(child)
            raise ProcessNotFoundError(f"PID {pid} can't be watched: {error.strerror}") from error
        return child

    # echo

    async def _echo(self, echo: Echo) -> None:
        """Write echoed output; when the service is left, don't wait long for a stuck reader."""
        self._echoes.add(echo)
        try:
            await echo.run()
        finally:
            self._echoes.discard(echo)

    def limit_echo(self, echo: Echo) -> None:
        """Limit the wait for a reader of echoed output, as the wait for the pipes of an exited child is limited."""
        echo.give_up_at(trio.current_time() + self.options.drain_limit)

    async def flush_echo(self, child: Lifecycle) -> None:
        """Wait until all echoed output of a child is written; the caller of a stop doesn't wait for a stuck reader."""
        echo = child.output.echo
        if echo is not None:
            if child.stopping is not None:
                self.limit_echo(echo)
            await echo.flushed.wait()


def process_id(number: int) -> str:
    """Return the id of the process with this number in this program, such as ``proc-1-9f86d08188``.

    Ids sort as text in the order of the starts: from the ninth on, the number is padded, and the nines in front of it give its
    length (8, 909, 910, 989, 990090). The random part is of this program.
    """
    global _program  # noqa: PLW0603 - one program, one random part
    if _program[0] != os.getpid():
        _program = (os.getpid(), os.urandom(5).hex())
    width = 1
    while number > 9 * 10 ** (width - 1) - 1:
        width *= 2
    return f"proc-{'9' * (width.bit_length() - 1)}{number:0{width}}-{_program[1]}"
