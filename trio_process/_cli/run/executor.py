"""Run the attempts of tasks: lend the terminal to interactive tasks, and stop tasks with the received signal."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Protocol, final

import trio

from ..._core import CommandResult, EndReason, Escalation, ProcessError, RunOptions, Stdio
from ..._pipeline import Attempt
from ..._process import ManagedProcess, ask_to_stop, keep_terminal, stop_signal_of
from ..job_control import Foreground, SuspendableClock
from ..terminal import Terminal
from ..views import View
from .place import Place

_NO_TERMINAL = (
    "it wants the terminal (interactive = true), and there is none: run it from a terminal, or leave `interactive` out"
)
_IN_BACKGROUND = "it wants the terminal (interactive = true), and we are in the background: run it in the foreground"


class Interrupted(Protocol):
    """Whether the run is being stopped, and by which signal (0 for none)."""

    number: int
    stopping: trio.Event


@final
class TerminalExecutor:
    """Executor of attempts, here or on a cluster.

    Args:
        place: The services that run them.
        view: Leaves the terminal to a task that needs it.
        terminal: Our terminal.
        clock: The clock of this Trio run.
        interruption: Holds the signal that stops the run.
        escalation: Receives a Ctrl-C that was sent to a task with the terminal.

    Attributes:
        foreground: The task that has the terminal, or None.
    """

    def __init__(
        self,
        place: Place,
        view: View,
        terminal: Terminal,
        clock: SuspendableClock,
        interruption: Interrupted,
        escalation: Escalation,
    ) -> None:
        self._place = place
        self._view = view
        self._terminal = terminal
        self._clock = clock
        self._interruption = interruption
        self._escalation = escalation
        self.foreground: Foreground | None = None

    @property
    def slots(self) -> int | None:
        """The slots of the service that runs all tasks without the terminal."""
        return self._place.there.slots

    def has_place(self, options: RunOptions) -> bool:
        """Return whether an attempt would find a place immediately."""
        has_place = getattr(self._place.there, "has_place", None)
        return has_place is None or options.stdout is Stdio.INHERIT or has_place(options)

    async def run_process(
        self,
        options: RunOptions,
        *,
        check: bool = True,
        task_status: trio.TaskStatus[Attempt] = trio.TASK_STATUS_IGNORED,
    ) -> CommandResult:
        """Run a command to its end."""
        status = _Status(task_status, self._interruption)
        if options.stdout is not Stdio.INHERIT:
            return await self._place.there.run_process(options, check=check, task_status=status)
        if not self._terminal.is_ours:
            await trio.lowlevel.checkpoint()
            raise ProcessError(_IN_BACKGROUND if self._terminal.exists else _NO_TERMINAL)
        async with self._view.aside():
            status.started_with = self._lend
            try:
                result = await self._place.here.run_process(options, check=check, task_status=status)
            except BaseException:
                self._take_back(restore=True)
                raise
            self._take_back(restore=result.exit_code is None or result.exit_code < 0)
        if result.exit_code == -signal.SIGINT and not self._interruption.number:
            # the terminal sent it only to the task, but the user means the whole run
            self._escalation.receive(signal.SIGINT)
        return result

    def _lend(self, process: ManagedProcess) -> None:
        if process.pid is not None:
            keep_terminal(process.pid)
        self.foreground = Foreground(process, self._terminal, self._clock)

    def _take_back(self, *, restore: bool) -> None:
        if self.foreground is not None:
            self.foreground.take_back(restore=restore)
            self.foreground = None


@final
class _Status:
    """The `trio.TaskStatus` of an attempt: wraps the running process."""

    def __init__(self, status: trio.TaskStatus[Attempt], interruption: Interrupted) -> None:
        self._status = status
        self._interruption = interruption
        self.started_with: Callable[[ManagedProcess], object] | None = None

    def started(self, value: ManagedProcess | None = None) -> None:
        """Pass the process on as an attempt."""
        assert value is not None
        if self.started_with is not None:
            self.started_with(value)
        self._status.started(_Attempt(value, self._interruption))


@final
class _Attempt:
    """A running attempt. It is stopped by the same signal as the run, because programs may clean up only after that signal.

    Attributes:
        id: The id of its process.
    """

    def __init__(self, process: ManagedProcess, interruption: Interrupted) -> None:
        self._process = process
        self._interruption = interruption
        self.id = process.id

    async def stop(self, grace_period: float | None = None, *, reason: EndReason = EndReason.STOPPED) -> CommandResult:
        """Stop the attempt; its own stop signal takes precedence over the received signal."""
        number = self._interruption.number
        if self._interruption.stopping.is_set() and reason is EndReason.STOPPED:
            reason = EndReason.CANCELLED
            if number and stop_signal_of(self._process) == signal.SIGTERM:
                ask_to_stop(self._process, stop_signal=number, grace_period=grace_period, reason=reason)
        return await self._process.stop(grace_period, reason=reason)
