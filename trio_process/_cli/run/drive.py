"""Running a pipeline for the command line: service, runner, view and signals, in the order in which they must end."""

from __future__ import annotations

import math
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final, Protocol, final

import attrs
import trio

from ..._core import (
    ActionProcessExited,
    ActionProcessOutput,
    Overflow,
    ShutdownDeadline,
    Subscription,
    enter_deadline,
    open_scope,
    signal_name,
)
from ..._pipeline import RunAllResult, Runner, RunSpec, RunUpdate
from ..._process import Service, ServiceOptions
from ..output import takes_more
from ..terminal import SIGNALS
from .board import Board

_SHOW_CURSOR: Final = b"\x1b[?25h\n"
_IMPATIENT: Final = 2
_OUT_OF_PATIENCE: Final = 3


class View(Protocol):
    """What shows a run."""

    async def show(self, updates: trio.MemoryReceiveChannel[RunUpdate], output: Subscription[Any]) -> None:
        """Show what comes until both have ended."""


@final
@attrs.frozen(kw_only=True)
class Settings:
    """How a pipeline is run; the fields are the options of the command."""

    jobs: int | None = None
    schedule: str = "eager"
    on_failure: str = "continue"
    timeout: float | None = None


@final
class Interruption:
    """What signals do: the first stops everything gracefully, the second at once, the third ends this process.

    Args:
        board: Where it is shown.

    Attributes:
        number: The first signal that came, 0 for none.
        scope: What the first one cancels.
        deadline: The deadline of every grace, which the second one advances.
    """

    def __init__(self, board: Board) -> None:
        self._board = board
        self._count = 0
        self.number = 0
        self.scope = trio.CancelScope()
        self.deadline = ShutdownDeadline()

    async def listen(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Wait for signals, until cancelled."""
        # under nohup the end of the terminal is to be ignored
        heard = [number for number in SIGNALS if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN]
        with trio.open_signal_receiver(*heard) as received:
            task_status.started()
            async for number in received:
                self.hit(number)

    def hit(self, number: int) -> None:
        """A signal came."""
        self._count += 1
        self.number = self.number or number
        if self._count >= _OUT_OF_PATIENCE:
            with suppress(OSError):
                if os.isatty(1) and takes_more(sys.stdout, 0):  # else nobody reads the terminal
                    os.write(1, _SHOW_CURSOR)  # the live view has hidden it, and will not come to undo that
            os._exit(128 + number)
        self._board.interrupted = "Ctrl-C" if self.number == signal.SIGINT else signal_name(self.number)
        self.scope.cancel()
        if self._count >= _IMPATIENT:
            self.deadline.advance(trio.current_time())


async def drive(
    specs: Sequence[RunSpec], settings: Settings, board: Board, view: View, *, lossless: bool
) -> tuple[RunAllResult, int]:
    """Run a pipeline and show it; return when every process has ended and everything is shown.

    Args:
        specs: What is run.
        settings: How.
        board: What the view shows.
        view: Shows it.
        lossless: Whether the view needs every line; one that shows only the last must not slow the tasks.

    Returns:
        The result, and the signal that interrupted the run, or 0.
    """
    interruption = Interruption(board)
    leave_deadline = enter_deadline(interruption.deadline)
    whole: RunAllResult | None = None
    try:
        async with open_scope() as listening:
            await listening.start(interruption.listen)
            async with open_scope(wait=True) as showing:
                updates, received = trio.open_memory_channel[RunUpdate](math.inf)
                # signals cancel this only: the view goes on until all is stopped, and shows that
                with updates, interruption.scope:
                    async with Service(options=ServiceOptions(guardian=True)) as service:
                        output = _subscribe(service, lossless=lossless)
                        showing.start_soon(view.show, received, output)
                        whole = await Runner(service, max_parallel=settings.jobs).run_all(
                            specs,
                            schedule=settings.schedule,
                            on_failure=settings.on_failure,
                            timeout=settings.timeout,
                            updates=updates,
                        )
    finally:
        leave_deadline()
    return whole or board.whole(), interruption.number


def _subscribe(service: Service, *, lossless: bool) -> Subscription[Any]:
    if lossless:
        return service.subscribe(ActionProcessOutput, ActionProcessExited)
    return service.subscribe(ActionProcessOutput, overflow=Overflow.DROP_OLDEST)
