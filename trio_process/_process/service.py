"""`Service`: the nursery, the table of its processes, and the actions it registers."""

from __future__ import annotations

import builtins
import math
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from datetime import datetime
from itertools import count
from typing import Final, Unpack

import trio

from .._core import (
    AdoptKeywords,
    Argument,
    Block,
    Bus,
    CommandResult,
    Core,
    EndReason,
    EventSource,
    OptionError,
    ProcessError,
    ProcessNotFoundError,
    ProcessStartError,
    RunKeywords,
    RunOptions,
    ServiceClosedError,
    StopFailedError,
    bus_of,
    current_deadline,
    make_options,
    note_failure,
    open_scope,
)
from .actions import ProcessHandlers
from .backend import Handle
from .lifecycle import Life
from .local import Containment, LocalContainment, adopted_options, follow_log
from .managed_process import ManagedProcess, process_of, task_name
from .options import ServiceOptions, ServiceStatistics
from .output import Echo, open_log
from .reactor import Reactor
from .reap import heed_children, reap_the_abandoned
from .table import Table

_IDS: Final = count(1)  # one for all services, so that an id means one process on a core's bus too


class Service(Block, EventSource):
    """Spawns, watches, streams and stops processes; when its block is left, what still runs is stopped.

    Args:
        core: The core it belongs to: its actions are registered there, and its events go there too.
        options: How it keeps its processes.

    Leaving the block stops every process that is not detached, side by side under one deadline: the stop signal, the
    grace, SIGKILL to the group. `await service.wait_all()` before, where they shall end by themselves.

    >>> async def main() -> str:
    ...     async with Service() as service:
    ...         return (await service.run("echo", "hello")).output
    """

    def __init__(self, core: Core | None = None, options: ServiceOptions | None = None) -> None:
        super().__init__()
        if core is not None and not isinstance(core, Core):
            raise OptionError(f"core must be a Core or None, got {core!r}; options go into Service(options=...)")
        if options is not None and not isinstance(options, ServiceOptions):
            raise OptionError(f"options must be a ServiceOptions, got {options!r}")
        self._core = core
        self._handlers = ProcessHandlers(self, core) if core is not None else None
        self.settings = options if options is not None else ServiceOptions()
        self._table = Table(self.settings.retain, self.settings.retain_bytes)
        self.bus = Bus(bus_of(core) if core is not None else None, self._table.has_ended)
        self.deadline = current_deadline()
        self._started = 0
        self._failed = 0
        self._launching = 0
        self._ended = 0
        self._idle = trio.Event()
        self._idle.set()
        self._was_entered = False
        self._closing = False
        self._closed_by: str | None = None
        self._stuck: list[Life] = []
        self._echoes: set[Echo] = set()

    @property
    def core(self) -> Core | None:
        """The core it belongs to."""
        return self._core

    @property
    def options(self) -> ServiceOptions:
        """How it keeps its processes."""
        return self.settings

    @property
    def slots(self) -> int | None:
        """How many processes it can run at once: as many as one likes."""
        return None

    def statistics(self) -> ServiceStatistics:
        """Return counts, and the mechanism by which descendants are found."""
        return ServiceStatistics(
            running=len(self._table.running),
            started=self._started,
            failed=self._failed,
            finished=self._ended,
            remembered=self._table.remembered,
            remembered_bytes=self._table.held,
            containment=self._containment.mechanism if self._was_entered else "none",
            guardian_pid=self._containment.guardian_pid if self._was_entered else None,
        )

    # the block

    def _refuse_entry(self) -> None:
        if self._was_entered:
            raise ProcessError("a Service is entered once; make another one")

    @asynccontextmanager
    async def _block(self) -> AsyncIterator[None]:
        heed_children()
        reap_the_abandoned()
        self.deadline = current_deadline()
        with ExitStack() as stack:
            try:
                self.reactor = Reactor()
                stack.callback(self.reactor.close)
                self._containment = self._make_containment()
                stack.callback(self._containment.close)
            except OSError as error:
                raise ProcessError(f"a Service can't be entered: {error.strerror}") from error
            self._was_entered = True  # not before: one that could not be may be tried again
            self.deadline.watch(self._shorten_grace)
            stack.callback(self.deadline.unwatch, self._shorten_grace)
            stack.callback(self.bus.close)
            async with open_scope() as nursery:
                self._nursery = nursery
                nursery.start_soon(self._supervise, name="trio_process supervision")
                if self._handlers is not None:
                    self._handlers.register()
                    stack.callback(self._handlers.unregister)
                try:
                    yield
                finally:
                    self._close()

    def _make_containment(self) -> Containment:
        """Return what spawns children and finds their descendants; a scripted service has another one."""
        in_cgroups = self.settings.containment == "cgroup"
        return LocalContainment(self.reactor, guarded=self.settings.guardian, in_cgroups=in_cgroups)

    @trio.lowlevel.enable_ki_protection
    async def _supervise(self) -> None:
        """Serve the children until the block is left and they have ended; nothing cancels it."""
        await self.reactor.run()
        for echo in self._echoes:
            echo.give_up_at(trio.current_time() + self.settings.drain_limit)
        if self._stuck:
            raise StopFailedError([left for life in self._stuck for left in life.left])

    def _close(self) -> None:
        """Start no more, and stop what runs; the supervision goes on until that has happened."""
        self._closing = True
        self._closed_by = task_name()
        for life in list(self._table.running.values()):
            if not life.options.detach:
                life.stop(EndReason.STOPPED, None, self._closed_by)
        self._look_finished()

    def _look_finished(self) -> None:
        if not self._closing or self._launching:
            return
        # asked again at each of thousands of ends: the first that still runs is the answer
        if all(life.left or life.options.detach for life in self._table.running.values()):
            self._stuck += [life for life in self._table.running.values() if life.left]
            for life in self._table.running.values():
                life.abandon()
            self._idle.set()
            self.reactor.stop()

    def _shorten_grace(self) -> None:
        for life in list(self._table.running.values()):
            life.shorten_grace()

    def ended(self, key: str) -> None:
        """Take note that a life is over, or that its process can't be killed."""
        life = self._table.lives[key]
        if life.over:
            self._ended += 1
            if life.left:
                self._stuck.append(life)
            self._table.ended(life)
            if not self._table.running:
                self._idle.set()
        self._look_finished()

    async def _echo(self, echo: Echo) -> None:
        """Write what is echoed; when the service is left, a reader that is stuck is not waited for long."""
        self._echoes.add(echo)
        try:
            await echo.run()
        finally:
            self._echoes.discard(echo)

    # the table

    def get(self, id: str) -> ManagedProcess:  # noqa: A002 - the contract's name
        """Return the process of that id.

        Raises:
            ProcessNotFoundError: There is none, or it was forgotten.
        """
        return process_of(self._table.find(id))

    def list(self) -> list[ManagedProcess]:
        """Return the processes that run or are remembered, in start order."""
        return [process_of(life) for life in self._table.lives.values()]

    def running(self) -> builtins.list[ManagedProcess]:
        """Return the processes that run, in start order."""
        return [process_of(life) for life in self._table.running.values()]

    async def wait_all(self) -> None:
        """Wait until nothing runs."""
        await trio.lowlevel.checkpoint()
        while any(not life.abandoned for life in self._table.running.values()):
            await self._idle.wait()

    def kill(self, id: str) -> None:  # noqa: A002 - the contract's name
        """Send SIGKILL to the group of a process."""
        self.get(id).kill()

    def signal(self, id: str, sig: int | str) -> None:  # noqa: A002 - the contract's name
        """Send a signal to the group of a process."""
        self.get(id).signal(sig)

    async def stop(self, id: str, grace_period: float | None = None) -> CommandResult:  # noqa: A002 - the contract's name
        """Stop a process: the stop signal, the grace, SIGKILL."""
        return await self.get(id).stop(grace_period)

    def output(self, id: str) -> str:  # noqa: A002 - the contract's name
        """Return what is captured of a process."""
        return self.get(id).output()

    def remove(self, id: str) -> None:  # noqa: A002 - the contract's name
        """Forget a process that has ended.

        Raises:
            ProcessError: It is still running.
        """
        life = self._table.find(id)
        if not life.over:
            raise ProcessError(f"{id} ({life.options.shown_command}) is still running; stop it before it is removed")
        self._table.forget(id)

    def clear(self) -> None:
        """Forget all that have ended."""
        self._table.clear()

    def _events_of(self, id: str | None) -> Bus:  # noqa: A002 - the contract's name
        if id is not None:
            self._table.find(id)
        return self.bus

    # starting

    async def start(self, command: Argument, *args: Argument, **options: Unpack[RunKeywords]) -> ManagedProcess:
        """Start a process and return it once it runs; the keywords are those of `RunOptions`.

        Raises:
            ProcessStartError: It can't be started; `ProgramNotFoundError` if there is no such program.
            ServiceClosedError: The service is being left, or was.
            OptionError: An option was refused.
        """
        return await self.start_with_options(make_options(command, args, options))

    async def start_with_options(self, options: RunOptions) -> ManagedProcess:
        """Start a process from a `RunOptions`; raises as `start` does."""
        if not isinstance(options, RunOptions):
            raise OptionError(f"start_with_options takes a RunOptions, got {options!r}")
        process = process_of(await self._start(piped_stdin(options)))
        await trio.lowlevel.cancel_shielded_checkpoint()
        return process

    @trio.lowlevel.enable_ki_protection
    async def _start(self, options: RunOptions) -> Life:
        """Start a process. Nothing foreign runs between the spawn and the entry in the table."""
        await trio.lowlevel.checkpoint_if_cancelled()
        self._check_open()
        number = next(_IDS)
        life = Life(self, f"proc-{number}", options, self._buffer_size(options))
        self._table.lives[life.id] = life
        life.begins()
        try:
            handle = await self._spawn(life, number)
        except ProcessStartError as error:
            self._failed += 1
            life.failed(error)
            self._look_finished()
            raise
        except BaseException:
            # refused by a test's rules or a bug: nothing began, so there is nothing to show
            del self._table.lives[life.id]
            self._look_finished()
            raise
        self._enter(life)
        life.began(handle)
        if self._closing:  # the service was left while a launcher was at work
            if not options.detach:
                life.stop(EndReason.STOPPED, None, self._closed_by)
            self._look_finished()
        return life

    async def _spawn(self, life: Life, number: int) -> Handle:
        options = life.options
        if options.log_file is not None and not options.detach:
            life.output.sinks = (open_log(options),)
        try:
            handle = self._containment.spawn(life, number)
            if handle.launching:
                await self._launch(handle, options)
        except BaseException:
            life.output.close_sinks()
            raise
        return handle

    async def _launch(self, handle: Handle, options: RunOptions) -> None:
        self._launching += 1
        try:
            failure = await handle.launched(options)
        finally:
            self._launching -= 1
        if failure is not None:
            raise failure

    def _check_open(self) -> None:
        if not self._was_entered:
            raise ServiceClosedError("this Service is not entered; use it as `async with Service() as service:`")
        if self._closing:
            raise ServiceClosedError("this Service is being left, or was: nothing more is started")

    def _buffer_size(self, options: RunOptions) -> int | float:
        return self.settings.buffer_size if options.buffer_size is None else options.buffer_size

    def _enter(self, life: Life) -> None:
        """Count a life among those that run, and echo it if that is wanted."""
        self._started += 1
        self._table.lives[life.id] = self._table.running[life.id] = life
        if self._idle.is_set():
            self._idle = trio.Event()
        if life.options.echo:
            life.output.echo = Echo()
            self._nursery.start_soon(self._echo, life.output.echo, name=f"echo of {life.id}")

    def adopt(self, pid: int, started_at: datetime, **options: Unpack[AdoptKeywords]) -> ManagedProcess:
        """Watch a detached process of an earlier life again, as if it had been started here.

        Its exit code is known only where the kernel tells it to others than the parent (Linux 6.15), else it is 255.

        Args:
            pid: Its PID, as `ManagedProcess.pid` gave it.
            started_at: When it was started, as `ManagedProcess.started_at` gave it.
            **options: The fields of `RunOptions` that matter while it is watched: `name`, `log_file` (followed from its
                present end), `timeout`, `stop_signal` and so on; `command` is read from `/proc` if it is not given.

        Raises:
            ProcessNotFoundError: There is no such process any more, or its PID is another one's now.
        """
        self._check_open()
        chosen = adopted_options(pid, started_at, options)
        try:
            handle = self._containment.adopt(pid, follow_log(chosen))
        except OSError as error:
            raise ProcessNotFoundError(f"PID {pid} can't be watched: {error.strerror}") from error
        life = Life(self, f"proc-{next(_IDS)}", chosen, self._buffer_size(chosen))
        self._enter(life)
        try:
            life.began(handle, started_at)
        except OSError as error:
            life.abandon()
            del self._table.running[life.id], self._table.lives[life.id]
            raise ProcessNotFoundError(f"PID {pid} can't be watched: {error.strerror}") from error
        return process_of(life)

    @asynccontextmanager
    async def open(
        self, command: Argument, *args: Argument, **options: Unpack[RunKeywords]
    ) -> AsyncIterator[ManagedProcess]:
        """Start a process and stop it when the block is left; the keywords are those of `RunOptions`.

        Left while cancelled, the process gets no grace: SIGKILL, reaped, then `trio.Cancelled` goes on.
        """
        process = await self.start(command, *args, **options)
        try:
            yield process
        except BaseException as error:
            # not by the error: that of a body in a nursery of its own is a group, and a clean-up may raise another one
            cancelled = trio.current_effective_deadline() == -math.inf
            with trio.CancelScope(shield=True):
                try:
                    await (process.stop(0, reason=EndReason.CANCELLED) if cancelled else process.stop())
                except ProcessError as failure:
                    note_failure(error, failure)
            raise
        await process.stop()

    async def run(
        self, command: Argument, *args: Argument, check: bool = True, **options: Unpack[RunKeywords]
    ) -> CommandResult:
        """Run a command to its end and return its result; its stdin is null unless given.

        Cancelling it stops the command: the stop signal, the grace, SIGKILL; then `trio.Cancelled` goes on.

        Args:
            command: The program.
            *args: Its arguments.
            check: Raise unless it is `ok`.
            **options: The fields of `RunOptions`.

        Raises:
            CommandFailedError: With `check`, unless it is `ok`; `CommandTimeoutError` for a timeout.
            ProcessStartError: It can't be started.
        """
        return await self.run_process(make_options(command, args, options), check=check)

    async def run_with_options(self, options: RunOptions, *, check: bool = True) -> CommandResult:
        """Run a command from a `RunOptions`; as `run`."""
        return await self.run_process(options, check=check)

    async def run_process(
        self,
        options: RunOptions,
        *,
        check: bool = True,
        task_status: trio.TaskStatus[ManagedProcess] = trio.TASK_STATUS_IGNORED,
    ) -> CommandResult:
        """Run a command in the caller's nursery: `await nursery.start(service.run_process, RunOptions(...))`.

        `task_status` hands over the `ManagedProcess` once it runs. Cancelling the nursery stops the process. If the
        service is left meanwhile, the result is that of a process that was stopped.
        """
        if not isinstance(options, RunOptions):
            raise OptionError(f"run_process takes a RunOptions, got {options!r}")
        life = await self._start(options)
        life.claims += 1
        try:
            if task_status is not trio.TASK_STATUS_IGNORED:
                task_status.started(process_of(life))
            await life.settled.wait()
            if life.output.echo is not None:
                if life.asked_to_end:  # by somebody who does not mean to wait for a reader that is stuck
                    life.output.echo.give_up_at(trio.current_time() + self.settings.drain_limit)
                await life.output.echo.flushed.wait()
            result = life.result()
        except BaseException:
            if options.detach:  # it survives a cancellation
                raise
            life.stop(EndReason.CANCELLED, None, task_name())
            with trio.CancelScope(shield=True):
                await life.settled.wait()
            raise
        finally:
            life.claims -= 1
            self._table.trim()
        life.raise_trouble()
        if life.abandoned:
            process_of(life).check_watched()
        if check and not (self._closing and result.reason is EndReason.STOPPED):
            result.check()
        return result


def piped_stdin(options: RunOptions) -> RunOptions:
    """Return the options of a process that one talks to: its stdin is a pipe unless told otherwise."""
    if options.stdin is not None or options.detach:
        return options
    return options.with_stdin_pipe()
