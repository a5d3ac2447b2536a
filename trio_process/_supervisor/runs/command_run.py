"""`CommandRun`: one run of a command, as a process of the service; and `Exits`, which reports the ends of the processes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol, final

import trio

from ..._core import (
    ActionProcessExited,
    ActionProcessOutput,
    RunOptions,
    StopFailedError,
    Subscription,
    grace,
    is_alive,
)
from ..._process import ManagedProcess, Service, start_noted
from .run import Run


class Watching(Protocol):
    """An object that is notified of the end of a process."""

    def exited(self) -> None:
        """Called when the process has ended."""


@final
class Exits:
    """Reports the ends of all processes through one subscription: a task for each process would cost more than the process.

    Args:
        service: The service of the processes.
    """

    __slots__ = ("_events", "_watching")

    def __init__(self, service: Service) -> None:
        self._watching: dict[str, Watching] = {}
        self._events = service.subscribe(ActionProcessExited)

    def watch(self, process: ManagedProcess, watching: Watching) -> None:
        """Call `exited` once when the process has ended, at once if it already has."""
        if process.is_running:
            self._watching[process.id] = watching
        else:
            watching.exited()

    async def run(self) -> None:
        """Report ends, until cancelled or the service is left."""
        with self._events:
            async for event in self._events:
                watching = self._watching.pop(event.id, None)
                if watching is not None:
                    watching.exited()


@final
class CommandRun(Run):
    """One run of a command.

    Args:
        wake: Called whenever a fact has changed.
        service: The service that starts it.
        options: The options of the command.
        exits: Reports its end.
        reads_output: Whether `take_output` will be called for its lines.
    """

    __slots__ = ("_exits", "_options", "_output", "_process", "_reads_output", "_service")

    def __init__(
        self,
        wake: Callable[[], object],
        service: Service,
        options: RunOptions,
        exits: Exits,
        *,
        reads_output: bool = False,
    ) -> None:
        super().__init__(wake)
        self._reads_output = reads_output
        self._output: Subscription[ActionProcessOutput] | None = None
        self._service = service
        self._options = options
        self._exits = exits
        self._process: ManagedProcess | None = None

    @property
    def process(self) -> ManagedProcess | None:
        """Its process, once it has one."""
        return self._process

    async def begin(self) -> None:
        """Start the process."""
        try:
            process = await start_noted(self._service, self._options, self._begun)
        except Exception as error:  # noqa: BLE001 - whatever it is, the unit did not start
            self._finish(error)
        else:
            self.started_at = trio.current_time()
            self._exits.watch(process, self)

    def _begun(self, process: ManagedProcess) -> None:
        self._process = process
        if self._reads_output:  # from here on no line is missed, however little of the output is kept
            self._output = self._service.subscribe(ActionProcessOutput, id=process.id)

    def take_output(self) -> Subscription[ActionProcessOutput] | None:
        """Return the lines from the first one on, for the caller to close; only once."""
        output, self._output = self._output, None
        return output

    def exited(self) -> None:
        """Called when the process has ended."""
        self._finish(None)

    async def collect(self) -> None:
        """Find out how it ended; the process has already ended, so this doesn't wait."""
        if self._process is None:
            return
        try:
            await self._process.wait()
        except Exception as error:  # noqa: BLE001 - as above: it did not end well
            self.failure = error

    def _finish(self, failure: BaseException | None) -> None:
        if (output := self.take_output()) is not None:  # it ended before anybody listened
            output.close()
        super()._finish(failure)

    async def stop(self) -> None:
        """Stop it: stop signal, grace period, SIGKILL; the grace period ends at the deadline of the shutdown at the latest."""
        if self._process is None:
            return
        try:
            with grace(math.inf) as scope:
                await self._process.stop()
            if scope.cancelled_caught:
                await self._process.stop(0)  # it has ended, or the survivors are raised
        except StopFailedError as error:
            self.stuck = error
        except Exception as error:  # noqa: BLE001 - the service was left under us: nothing of it runs
            self.failure = error
        self.ended = True

    def is_left(self) -> bool:
        """Whether the process or a descendant is alive after SIGKILL."""
        if self.stuck is None or self._process is None:
            return False
        return self._process.is_running or any(is_alive(pid) for pid, _, _ in self.stuck.processes)
