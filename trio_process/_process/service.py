"""`Service`: spawns, watches, streams and stops processes."""

from __future__ import annotations

import builtins
import math
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from datetime import datetime
from typing import Unpack

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
    RunKeywords,
    RunOptions,
    bad_option,
    make_options,
    note_failure,
    uninterrupted,
    with_stdin_pipe,
)
from .actions import ProcessHandlers
from .backend import Backend
from .end_reason import Request
from .lifecycle import check_watched
from .managed_process import ManagedProcess, process_of, task_name
from .options import ServiceOptions, ServiceStatistics
from .reactor import Reactor
from .runtime import ServiceRuntime, make_backend


class Service(Block, EventSource):
    """Spawns, watches, streams and stops processes; leaving its block stops the processes still running.

    Args:
        core: The core that its actions are registered with, and that its events are published to, as well.
        options: The options of the service.

    Leaving the block stops all processes that are not detached, concurrently and under one deadline: the stop signal,
    the grace period, SIGKILL to the group. Call ``await service.wait_all()`` first to let them finish.

    >>> async def main() -> str:
    ...     async with Service() as service:
    ...         return (await service.run("echo", "hello")).output
    """

    def __init__(self, core: Core | None = None, options: ServiceOptions | None = None) -> None:
        super().__init__()
        if core is not None and not isinstance(core, Core):
            raise bad_option("core", f"must be a Core or None, got {core!r}; options go into Service(options=...)")
        if options is not None and not isinstance(options, ServiceOptions):
            raise bad_option("options", f"must be a ServiceOptions, got {options!r}")
        self._core = core
        self._handlers = ProcessHandlers(self, core) if core is not None else None
        self._options = options if options is not None else ServiceOptions()
        self._runtime = ServiceRuntime(core, self._options, self._make_backend)

    def _make_backend(self, reactor: Reactor, options: ServiceOptions) -> Backend:
        """Return the backend that spawns the processes; subclasses override it to spawn them elsewhere."""
        return make_backend(reactor, options)

    @property
    def core(self) -> Core | None:
        """The core it belongs to."""
        return self._core

    @property
    def options(self) -> ServiceOptions:
        """The options of the service."""
        return self._options

    @property
    def slots(self) -> int | None:
        """How many processes can run at once; None: no limit."""
        return None

    def statistics(self) -> ServiceStatistics:
        """Return the counts of processes, and how descendants are found."""
        runtime = self._runtime
        runtime.table.trim()
        return ServiceStatistics(
            running=len(runtime.table.running),
            remembered=runtime.table.remembered,
            remembered_bytes=runtime.table.held,
            containment=runtime.backend.mechanism if runtime.was_entered else "none",
            guardian_pid=runtime.backend.guardian_pid if runtime.was_entered else None,
            **runtime.counts,
        )

    def _refuse_entry(self) -> None:
        if self._runtime.was_entered:
            raise ProcessError("a Service is entered once; create another one")

    @asynccontextmanager
    async def _block(self) -> AsyncIterator[None]:
        with ExitStack() as stack:
            async with self._runtime.running(stack):
                if self._handlers is not None:
                    self._handlers.register()
                    stack.callback(self._handlers.unregister)
                yield

    # the table

    def get(self, id: str) -> ManagedProcess:  # noqa: A002 - the contract's name
        """Return the process with this id.

        Raises:
            ProcessNotFoundError: No process has this id, or it was forgotten.
        """
        return process_of(self._runtime.table.get(id))

    def list(self) -> list[ManagedProcess]:
        """Return the processes that are running or remembered, in start order."""
        return [process_of(child) for child in self._runtime.table]

    def running(self) -> builtins.list[ManagedProcess]:
        """Return the running processes, in start order."""
        return [process_of(child) for child in self._runtime.table.running.values()]

    async def wait_all(self) -> None:
        """Wait until no process is running."""
        await trio.lowlevel.checkpoint()
        await self._runtime.wait_idle()

    def kill(self, id: str) -> None:  # noqa: A002 - the contract's name
        """Send SIGKILL to the group of a process."""
        self.get(id).kill()

    def signal(self, id: str, sig: int | str) -> None:  # noqa: A002 - the contract's name
        """Send a signal to the group of a process."""
        self.get(id).signal(sig)

    async def stop(self, id: str, grace_period: float | None = None) -> CommandResult:  # noqa: A002 - the contract's name
        """Stop a process: the stop signal, the grace period, SIGKILL."""
        return await self.get(id).stop(grace_period)

    def output(self, id: str) -> str:  # noqa: A002 - the contract's name
        """Return the captured output of a process."""
        return self.get(id).output()

    def remove(self, id: str) -> None:  # noqa: A002 - the contract's name
        """Forget a process that has ended.

        Raises:
            ProcessError: It is still running.
        """
        self._runtime.table.remove(id)

    def clear(self) -> None:
        """Forget all processes that have ended."""
        self._runtime.table.clear()

    def _events_of(self, id: str | None) -> Bus:  # noqa: A002 - the contract's name
        self._check_run()
        if id is not None:
            self._runtime.table.get(id)
        return self._runtime.bus

    # starting

    async def start(self, command: Argument, *args: Argument, **options: Unpack[RunKeywords]) -> ManagedProcess:
        """Start a process and return it once it is running; the keywords are the fields of `RunOptions`.

        Raises:
            ProcessStartError: It can't be started; `ProgramNotFoundError` if there is no such program.
            ServiceClosedError: The service has not been entered, or is closing.
            OptionError: An option is invalid.
        """
        return await self.start_with_options(make_options(command, args, options))

    async def start_with_options(self, options: RunOptions) -> ManagedProcess:
        """Start a process from a `RunOptions`; raises as `start` does."""
        if not isinstance(options, RunOptions):
            raise OptionError(f"start_with_options takes a RunOptions, got {options!r}")
        return await start_noted(self, options, _ignore)

    def adopt(self, pid: int, started_at: datetime, **options: Unpack[AdoptKeywords]) -> ManagedProcess:
        """Watch a detached process of an earlier service again, as if it had been started here.

        Its exit code is known only if the kernel reports it to processes other than the parent (Linux 6.15); else it is 255.

        Args:
            pid: Its PID, from `ManagedProcess.pid`.
            started_at: When it was started, from `ManagedProcess.started_at`.
            **options: The fields of `RunOptions` that matter while it is watched: `name`, `log_file` (followed from its
                present end), `timeout`, `stop_signal` and so on; `command` is read from ``/proc`` if it is not given.

        Raises:
            ProcessNotFoundError: The process has ended, or its PID belongs to another one now.
        """
        return process_of(self._runtime.adopt(pid, started_at, options))

    @uninterrupted
    async def open(
        self, command: Argument, *args: Argument, **options: Unpack[RunKeywords]
    ) -> AsyncIterator[ManagedProcess]:
        """Start a process and stop it when the block is left; the keywords are the fields of `RunOptions`.

        If a cancellation ends the block, the process is killed without a grace period; then `trio.Cancelled` is raised.
        """
        process = await self.start(command, *args, **options)
        try:
            yield process
        except BaseException as error:
            # the error doesn't show it: a nursery in the body raises a group, and a clean-up may raise another error
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
        """Run a command to its end and return its result; without `stdin`, its input is empty.

        Cancelling the call stops the command: stop signal, grace period, SIGKILL. Then `trio.Cancelled` is raised.

        Args:
            command: The program.
            *args: Its arguments.
            check: Raise an exception unless the result is `ok`.
            **options: The fields of `RunOptions`.

        Raises:
            CommandFailedError: With `check`, the result is not `ok`; `CommandTimeoutError` for a timeout.
            ProcessStartError: The command can't be started.
        """
        return await self.run_process(make_options(command, args, options), check=check)

    async def run_with_options(self, options: RunOptions, *, check: bool = True) -> CommandResult:
        """Run a command from a `RunOptions`; as `run`."""
        return await self.run_process(options, check=check)

    @trio.lowlevel.enable_ki_protection
    async def run_process(
        self,
        options: RunOptions,
        *,
        check: bool = True,
        task_status: trio.TaskStatus[ManagedProcess] = trio.TASK_STATUS_IGNORED,
    ) -> CommandResult:
        """Run a command in the caller's nursery: ``await nursery.start(service.run_process, RunOptions(...))``.

        ``nursery.start`` returns the `ManagedProcess` once it is running. Cancelling the nursery stops the process. So does
        leaving the service; the result then says `STOPPED`.
        """
        if not isinstance(options, RunOptions):
            raise OptionError(f"run_process takes a RunOptions, got {options!r}")
        runtime = self._runtime
        for_start = task_status is not trio.TASK_STATUS_IGNORED
        child = await runtime.start(options, to_end=True, prompt=for_start)
        try:
            if for_start:
                task_status.started(process_of(child))
            if not child.is_settled:
                await child.settled.wait()
            if child.output.echo is not None:
                await runtime.flush_echo(child)
            result = child.result()
        except BaseException:
            if options.detach:  # it survives a cancellation
                raise
            child.ask(Request(EndReason.CANCELLED, by=task_name()))
            with trio.CancelScope(shield=True):
                await child.settled.wait()
            raise
        finally:
            child.claims -= 1
            runtime.table.trim()
        child.record.raise_trouble()
        check_watched(child)
        if check and not (runtime.is_closing and result.reason is EndReason.STOPPED):
            result.check()
        return result


async def start_noted(
    service: Service, options: RunOptions, note: Callable[[ManagedProcess], object]
) -> ManagedProcess:
    """Start a process, and call `note` with it before any other task can have seen it, or an event of it.

    Raises:
        ProcessStartError: As for `Service.start`.
    """
    process = process_of(await service._runtime.start(piped_stdin(options)))
    note(process)
    await trio.lowlevel.cancel_shielded_checkpoint()
    return process


def _ignore(process: ManagedProcess) -> None:
    del process


def piped_stdin(options: RunOptions) -> RunOptions:
    """Return the options of a process that can be written to: its stdin is a pipe unless another one is given."""
    if options.stdin is not None or options.detach:
        return options
    return with_stdin_pipe(options)
