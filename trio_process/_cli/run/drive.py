"""Run a pipeline for the command line: service, runner, view and signals, nested in the order in which they must end."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager, suppress
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, final

import attrs
import trio

from ..._core import (
    ActionProcessExited,
    ActionProcessOutput,
    Escalation,
    Overflow,
    ShutdownDeadline,
    Subscription,
    enter_deadline,
    open_scope,
    signal_name,
    stop_signals,
)
from ..._pipeline import Memory, RunAllResult, Runner, RunSpec, RunUpdate, run_restartable
from ..._process import ManagedProcess, unfinished_line
from ..._supervisor import UnitSpec
from ..instance import Instance
from ..job_control import CHANGES, JOB_CONTROL, SuspendableClock
from ..output import OutputLost
from ..terminal import Terminal, heard
from ..views import Board, Change, View, receive_all
from .executor import TerminalExecutor
from .listen import shown_at
from .place import Place
from .uses import services_of
from .watch import open_watch

if TYPE_CHECKING:
    from ..._cluster import Launcher

_QUIT: Final = 128 + signal.SIGQUIT


@final
@attrs.frozen(kw_only=True)
class RunSettings:
    """The settings of a run; most fields are options of the command.

    Attributes:
        reload: With ``--watch``: reads the file again after a change, returns whether that requires another run, and
            raises `ProcessError` if it has faults.
        files: The files that the pipeline was read from.
    """

    jobs: int | None = None
    schedule: str = "eager"
    on_failure: str = "continue"
    timeout: float | None = None
    launcher: Launcher | None = None
    listen: str | None = None
    cleanup_timeout: float = 30.0
    memory: Memory | None = None
    units: Sequence[UnitSpec] = ()
    reload: Callable[[], bool] | None = None
    files: Sequence[str] = ()
    instance: Instance | None = None


class Outcome(NamedTuple):
    """The outcome of a run.

    Attributes:
        result: Its result.
        signal: The signal that interrupted it, 0 if none did.
        lost: The reason why its output was lost.
        is_outdated: Whether it was ended because its file has changed, and another run will follow.
    """

    result: RunAllResult
    signal: int
    lost: OutputLost | None
    is_outdated: bool = False


@final
class Interruption:
    """The early end of a run: the first signal stops the tasks, the second kills them, the third ends this process.

    Args:
        board: Shows the interruption.

    Attributes:
        number: The first signal that arrived, 0 before that.
        stopping: Halts the run; set by the first signal, and when the output is lost.
        scope: Cancelled by the second signal, which also ends tasks that clean up, and by the first one while no task can
            run yet.
        is_waiting: Whether no task can run yet, as no agent is up.
        deadline: The deadline of every grace period, which the second signal advances.
    """

    def __init__(self, board: Board) -> None:
        self._board = board
        self.number = 0
        self.stopping = trio.Event()
        self.scope = trio.CancelScope()
        self.is_waiting = True
        self.deadline = ShutdownDeadline()

    def stop(self, number: int) -> None:
        """Stop the tasks with the received signal."""
        self.number = number
        self._board.interrupted = "Ctrl-C" if number == signal.SIGINT else signal_name(number)
        self.stopping.set()
        if self.is_waiting:
            self.scope.cancel()

    def hurry(self, number: int) -> None:
        """Kill the tasks."""
        del number
        self.deadline.advance(trio.current_time())
        self.scope.cancel()


@contextmanager
def _handling(interruption: Interruption, view: View) -> Iterator[Escalation]:
    """Set the signal handlers; the third signal and SIGQUIT work even if the event loop is stuck."""
    token = trio.lowlevel.current_trio_token()

    def deliver(call: Callable[[int], object], number: int) -> None:
        token.run_sync_soon(call, number)

    escalation = Escalation(
        stop=interruption.stop, hurry=interruption.hurry, last_words=view.last_words, deliver=deliver
    )

    def receive(number: int, frame: FrameType | None) -> None:
        del frame
        if number == signal.SIGQUIT:
            view.last_words()
            os._exit(_QUIT)
        escalation.receive(number)

    before = {number: signal.signal(number, receive) for number in (*stop_signals(), *heard(signal.SIGQUIT))}
    try:
        yield escalation
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


async def drive(
    specs: Sequence[RunSpec],
    settings: RunSettings,
    board: Board,
    view: View,
    clock: SuspendableClock,
    *,
    lossless: bool,
) -> Outcome:
    """Run a pipeline and show it; return when every process has ended and everything is shown.

    Args:
        specs: The specs to run.
        settings: The settings of the run.
        board: The state that the view shows.
        view: Shows the run.
        clock: The clock of this Trio run.
        lossless: Whether the view needs every line; a view that shows only the last line must not slow down the tasks.
    """
    interruption = Interruption(board)
    leave_deadline = enter_deadline(interruption.deadline)
    terminal = Terminal()
    try:
        with _handling(interruption, view) as escalation:
            run = _Run(board, view, clock, interruption, terminal, escalation, Place(settings.launcher))
            async with open_scope() as listening:
                await listening.start(run.job_control)
                return await run(specs, settings, lossless=lossless)
    finally:
        terminal.close()
        leave_deadline()


@final
class _Run:
    """One run of specs, with its view."""

    def __init__(
        self,
        board: Board,
        view: View,
        clock: SuspendableClock,
        interruption: Interruption,
        terminal: Terminal,
        escalation: Escalation,
        place: Place,
    ) -> None:
        self._board = board
        self._view = view
        self._clock = clock
        self._interruption = interruption
        self._place = place
        self._executor = TerminalExecutor(place, view, terminal, clock, interruption, escalation)
        self._lost: OutputLost | None = None
        self._is_outdated = False
        board.progress = lambda: (
            (process.name, process.host, unfinished_line(process)) for process in self._place.running()
        )
        self._relay: Callable[[RunUpdate], None]

    async def __call__(self, specs: Sequence[RunSpec], settings: RunSettings, *, lossless: bool) -> Outcome:
        result: RunAllResult | None = None
        async with open_scope(wait=True) as showing:
            updates, received = trio.open_memory_channel[RunUpdate](math.inf)
            # signals cancel only this: the view continues until everything is stopped, and shows that
            with updates, self._interruption.scope:
                stopping, there = self._interruption.stopping, self._place.there
                async with self._place.entered(), shown_at(settings.listen, there, specs, stopping) as self._relay:
                    self._interruption.is_waiting = False
                    output = self._subscribe(lossless=lossless)
                    changed, changes = trio.open_memory_channel[Change](math.inf)
                    showing.start_soon(self._follow, received, changed)
                    showing.start_soon(self._show, changes, output)
                    result = await self._run(specs, settings, updates, stopping)
        return Outcome(result or self._board.result(), self._interruption.number, self._lost, self._is_outdated)

    async def _run(
        self,
        specs: Sequence[RunSpec],
        settings: RunSettings,
        updates: trio.MemorySendChannel[RunUpdate],
        stopping: trio.Event,
    ) -> RunAllResult:
        async with AsyncExitStack() as stack:
            supervisor = None
            if any(spec.uses for spec in specs):
                supervisor = await stack.enter_async_context(
                    services_of(settings.instance, settings.units, stopping, self._view)
                )
            runner = Runner(self._executor, max_parallel=settings.jobs, supervisor=supervisor, memory=settings.memory)
            run_all: Callable[..., Awaitable[RunAllResult]] = partial(runner.run_all, schedule=settings.schedule)
            if settings.reload is not None:
                changes = open_watch(specs, settings.files, settings.reload, self._start_over)
                restarts = await stack.enter_async_context(changes)
                run_all = partial(run_restartable, runner, restarts=restarts)
            return await run_all(
                specs,
                on_failure=settings.on_failure,
                timeout=settings.timeout,
                cleanup_timeout=settings.cleanup_timeout,
                stopping=stopping,
                updates=updates,
            )

    def _start_over(self) -> None:
        """End this run, because another run will follow."""
        self._is_outdated = True
        self._board.interrupted = "a change of the file"
        self._interruption.stopping.set()

    def _subscribe(self, *, lossless: bool) -> Subscription[Any]:
        if lossless:
            return self._place.source.subscribe(ActionProcessOutput, ActionProcessExited)
        return self._place.source.subscribe(ActionProcessOutput, overflow=Overflow.DROP_OLDEST)

    async def _follow(
        self, updates: trio.MemoryReceiveChannel[RunUpdate], changed: trio.MemorySendChannel[Change]
    ) -> None:
        """Keep the board up to date even if the view is lost: it holds the results of a run that is cut short."""
        with updates, changed:
            while found := await receive_all(updates):
                changes = [self._board.update(update) for update in found]
                for update in found:
                    self._relay(update)
                with suppress(trio.BrokenResourceError):  # the view is lost
                    for change in changes:
                        changed.send_nowait(change)

    async def _show(self, changes: trio.MemoryReceiveChannel[Change], output: Subscription[Any]) -> None:
        try:
            await self._view.show(changes, output)
        except OutputLost as error:
            self._lost = error
            self._interruption.stopping.set()

    async def job_control(self, *, task_status: trio.TaskStatus[None]) -> None:
        """React to the signals of a shell's job control, until cancelled."""
        stops = heard(*JOB_CONTROL)
        with trio.open_signal_receiver(*stops, *CHANGES) as received, self._clock.following(*stops):
            task_status.started()
            await self._react(received)

    async def _react(self, received: AsyncIterator[int]) -> None:
        async for number in received:
            if self._executor.foreground is not None:
                self._executor.foreground.react(number)
            elif number in JOB_CONTROL:
                self._suspend(number)

    def _suspend(self, number: int) -> None:
        """Stop the tasks, and then us, until SIGCONT."""
        suspended: list[ManagedProcess] = []
        with self._view.suspended():
            for process in self._place.running():
                process.suspend()
                suspended.append(process)
            self._clock.suspend(number, group=False)  # the rest of our group received the signal as well
        for process in suspended:
            if process.is_running:
                process.resume()
