"""Provide job control for a command that has our terminal, and for ourselves (setpgid(2), tcsetpgrp(3), signal(7))."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any, Final, final

import trio

from .._core import stopped_by
from .output import print_error
from .terminal import WANTS_TERMINAL, Terminal

if TYPE_CHECKING:
    from .._process import ManagedProcess

JOB_CONTROL: Final = (signal.SIGTSTP, *WANTS_TERMINAL)
CHANGES: Final = (signal.SIGCONT, signal.SIGCHLD)
"""Together with those above, the signals that `Foreground.react` handles."""


@final
class Foreground:
    """Loan of the terminal to a command while it runs.

    Args:
        process: The command.
        terminal: Our terminal.
        clock: Stands still while we are suspended.
    """

    def __init__(self, process: ManagedProcess, terminal: Terminal, clock: SuspendableClock) -> None:
        self._process = process
        self._terminal = terminal
        self._clock = clock
        self._neighbour_has_terminal = False
        assert process.pid is not None
        self._pid = process.pid
        terminal.give(self._pid)
        self._look_stopped()  # it may already have tried to use the terminal

    def react(self, number: int) -> None:
        """Handle a signal of job control."""
        if not self._process.is_running:
            return
        if number == signal.SIGCHLD:
            self._look_stopped()
        elif number == signal.SIGCONT:
            self._resume()
        elif number == signal.SIGTSTP:
            self._process.signal(number)
            self._suspend(number, group=False)  # the rest of our group received the signal as well
        else:
            self._lend(number)

    def take_back(self, *, restore: bool) -> None:
        """Take the terminal back; see `Terminal.take`."""
        self._terminal.take(self._pid, restore=restore)

    def _look_stopped(self) -> None:
        """Give the terminal to a command that was stopped for lack of it; else stop with it, so that our shell notices."""
        number = stopped_by(self._pid)
        if not number or not self._terminal.exists:
            return
        wants_terminal = number in WANTS_TERMINAL
        if wants_terminal and self._terminal.give(self._pid):
            self._neighbour_has_terminal = False
            self._process.signal(signal.SIGCONT)
            return
        if not self._suspend(number if wants_terminal else signal.SIGTSTP, group=True) and wants_terminal:
            print_error(f"trio-process: stopped, as {self._process.command!r} wants the terminal from the background")
            self._process.kill()

    def _suspend(self, number: int, *, group: bool) -> bool:
        """Stop by the same signal as the command, and resume it when we are resumed; return whether we were stopped."""
        self._terminal.take(self._pid, restore=True)
        stopped = self._clock.suspend(number, group=group)
        if stopped or number == signal.SIGTSTP:
            self._resume()  # not in our SIGCONT handler: the command's stop might be reported first
        return stopped

    def _resume(self) -> None:
        if not self._neighbour_has_terminal:
            self._terminal.give(self._pid)
        self._process.signal(signal.SIGCONT)

    def _lend(self, number: int) -> None:
        """Give the terminal to another process of our own group, such as a pager that reads our output.

        That process was stopped, with us, because it needs the terminal, which the command has.
        """
        if self._terminal.is_with(self._pid):
            self._neighbour_has_terminal = True
            self._terminal.take(self._pid, restore=False)
            os.killpg(0, signal.SIGCONT)
        elif not self._terminal.is_ours:
            self._suspend(number, group=False)


@final
class SuspendableClock(trio.abc.Clock):
    """Trio's clock minus the time during which we were suspended: a timeout must not expire while nothing can run."""

    def __init__(self) -> None:
        self._skipped = 0.0
        self._continued = 0  # the number of SIGCONTs received
        self._continued_before: dict[int, int] = {}  # that number at the last of each stop signal

    def start_clock(self) -> None:
        """Do nothing."""

    def current_time(self) -> float:
        """Return the seconds since an arbitrary moment, minus the skipped ones."""
        return time.monotonic() - self._skipped

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """Return the seconds until `deadline`."""
        return deadline - self.current_time()

    @contextmanager
    def following(self, *numbers: int) -> Iterator[None]:
        """Record the order of stop signals and SIGCONT inside the block; enter it once their handlers are set."""
        with ExitStack() as stack:
            for number in (signal.SIGCONT, *numbers):
                stack.enter_context(self._noting(number))
            yield

    @contextmanager
    def _noting(self, number: int) -> Iterator[None]:
        before = signal.getsignal(number)

        def note(number: int, frame: FrameType | None) -> None:
            if number == signal.SIGCONT:
                self._continued += 1
            else:
                self._continued_before[number] = self._continued
            if callable(before):
                before(number, frame)

        with _handling(number, note):
            yield

    def suspend(self, number: int, *, group: bool) -> bool:
        """Stop this process by a job-control signal, and return once it is continued.

        If no shell could continue us (an orphaned process group, credentials(7)), the kernel doesn't stop us. Nor are
        we stopped if SIGCONT has arrived since the signal: the kernel discards such stops as well (signal(7)).

        Args:
            number: SIGTSTP, SIGTTIN or SIGTTOU.
            group: Whether to stop our whole group, as the terminal does: the script or pipeline that we are part of.

        Returns:
            Whether we were stopped.
        """
        before = self._continued
        if self._continued_before.pop(number, before) < before:
            return True
        started = time.monotonic()
        with _handling(number, signal.SIG_DFL):
            if group:
                os.killpg(0, number)
            else:
                os.kill(os.getpid(), number)
        if self._continued == before:
            return False
        self._skipped += time.monotonic() - started
        return True


@contextmanager
def _handling(number: int, handler: Callable[[int, FrameType | None], Any] | signal.Handlers) -> Iterator[None]:
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)
