"""The state machine of a run, pure: what stands where by the `rules`. One method writes a state; the clock is passed in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import final

import attrs

from .._core import CommandResult, EndReason, PipelineError, ProcessError
from .plan import Plan
from .result import RunAllResult, RunResult, RunUpdate, SpecState
from .rules import FINAL_REASONS, HALTS, TRANSITIONS, Cause, Change, Halt, never_ran, ran_to_its_end, verdict
from .spec import RunSpec


class _Progress:
    """What is known of a spec on its way."""

    __slots__ = ("asked", "attempts", "last", "result", "started", "state")

    def __init__(self) -> None:
        self.state = SpecState.PENDING
        self.attempts = 0
        self.started: float | None = None
        self.asked: Cause | None = None
        self.last: CommandResult | ProcessError | None = None
        self.result: RunResult | None = None


@final
class Machine:
    """The states of all specs of one run.

    Args:
        specs: The specs.
        plan: Their plan.
        rule: How a failure that is not allowed halts the run, None for not at all; and that rule in words.
        clock: Seconds, monotonic; `trio.current_time`.
        tell: Called with every change, the moment it is known.
        end: Called with every spec that has begun and has to end now.

    Attributes:
        cause: What halted the run, or None.
    """

    def __init__(
        self,
        specs: Sequence[RunSpec],
        plan: Plan,
        *,
        rule: tuple[Halt | None, str],
        clock: Callable[[], float],
        tell: Callable[[RunUpdate], object] | None,
        end: Callable[[int, EndReason], object],
    ) -> None:
        self._specs = specs
        self._plan = plan
        self._rule = rule
        self._clock = clock
        self._epoch = clock()
        self._tell = tell
        self._end = end
        self._progress = [_Progress() for _ in specs]
        self._needs = list(plan.needs)
        self.cause: Cause | None = None

    def open(self) -> None:
        """Tell where everything stands, and fail what can't run."""
        if self._tell is not None:
            for spec in self._specs:
                self._tell(RunUpdate(spec.name, SpecState.PENDING))
        for index, why in self._plan.broken.items():
            self._finish(index, Change.FAIL, PipelineError([f"can't run: {why}"]), exit_code=1)

    def may_begin(self, index: int) -> bool:
        """Return whether an attempt may begin: the spec's first, or the next after a failure."""
        return Change.BEGIN in TRANSITIONS[self._progress[index].state]

    def begin(self, index: int) -> None:
        """An attempt begins."""
        progress = self._progress[index]
        progress.attempts += 1
        if progress.started is None:
            progress.started = self._clock() - self._epoch
        self._change(index, Change.BEGIN)

    def ended(self, index: int, ended: CommandResult | ProcessError) -> Sequence[int]:
        """An attempt has ended; return the specs that waited for this one last."""
        spec, progress = self._specs[index], self._progress[index]
        progress.last = ended
        change = verdict(spec, ended, progress.attempts, asked=progress.asked is not None)
        if change is Change.RETRY:
            self._change(index, change)
            return ()
        self._conclude(index, change)
        if change is Change.PASS or spec.allow_failure:
            return self._release(index)
        self._fall(index)
        return ()

    def cancelled(self, index: int) -> None:
        """An attempt was cancelled, and its process has been stopped."""
        self._progress[index].last = ProcessError("cancelled while it ran")
        self._conclude(index, Change.FAIL)

    def halt(self, cause: Cause) -> None:
        """Begin nothing new; end what runs, if that kind of halt does."""
        if self.cause is not None and cause.halt.value <= self.cause.halt.value:
            return
        if all(progress.result is not None for progress in self._progress):
            return  # nothing is left to halt
        self.cause = cause
        for index in range(len(self._specs)):
            self._halt(index, cause)

    def whole(self) -> RunAllResult:
        """Return the result of the whole; every spec must have its own."""
        results = [progress.result for progress in self._progress if progress.result is not None]
        assert len(results) == len(self._specs), "every spec gets exactly one result"
        return RunAllResult(
            results=tuple(results),
            duration=self._clock() - self._epoch,
            timed_out=self.cause is not None and self.cause.halt is Halt.TIMEOUT,
        )

    def _halt(self, index: int, cause: Cause) -> None:
        progress, reason = self._progress[index], HALTS[cause.halt]
        if progress.state is SpecState.PENDING:
            self._finish(index, Change.SKIP, ProcessError(f"skipped: {cause.text}"))
        elif progress.state is SpecState.RUNNING and cause.halt is Halt.CANCEL:
            self.cancelled(index)  # the executor has stopped it before it let the cancellation through
        elif progress.result is None and progress.asked is None and reason is not None:
            progress.asked = cause
            if progress.state is SpecState.RETRYING:
                self._cut(index, reason)
            self._end(index, reason)

    def _release(self, index: int) -> list[int]:
        ready = []
        for dependent in self._plan.dependents[index]:
            self._needs[dependent] -= 1
            if not self._needs[dependent] and self.may_begin(dependent):
                ready.append(dependent)
        return ready

    def _fall(self, index: int) -> None:
        """A failure that is not allowed: what needs it is skipped for it, the rest for the mode."""
        name = self._specs[index].name
        for dependent, through in self._plan.cascade(index, self._waits):
            needed = self._specs[through].name
            why = "which failed" if through == index else f"which was skipped, as {name!r} failed"
            self._finish(dependent, Change.SKIP, ProcessError(f"skipped: it needs {needed!r}, {why}"))
        halt, words = self._rule
        if halt is not None:
            self.halt(Cause(halt, f"{name!r} failed, and {words}"))

    def _waits(self, index: int) -> bool:
        return self._progress[index].state is SpecState.PENDING

    def _cut(self, index: int, reason: EndReason) -> None:
        """It waits for its next attempt, and will not get one: its last one, as ended by us."""
        progress = self._progress[index]
        last = progress.last
        if isinstance(last, CommandResult):
            progress.last = attrs.evolve(last, reason=reason, ok=False)
        else:
            progress.last = never_ran(self._specs[index], reason)
        self._conclude(index, Change.FAIL)

    def _conclude(self, index: int, change: Change) -> None:
        """The last attempt has ended: its result is the spec's."""
        progress = self._progress[index]
        ended, asked = progress.last, progress.asked
        assert ended is not None, "concluded without an attempt"
        if isinstance(ended, ProcessError):
            self._finish(index, change, ended)
            return
        if ran_to_its_end(ended):
            error: ProcessError | None = None
        elif asked is not None and ended.reason in (HALTS[asked.halt], *FINAL_REASONS):
            # the reason is ours, though an executor may stop without saying for what
            ended = attrs.evolve(ended, reason=HALTS[asked.halt])
            error = ended.failure(asked.text)
        else:
            error = ended.start_error or ended.failure()
        self._finish(index, change, error, exit_code=ended.exit_code, command_result=ended)

    def _finish(
        self,
        index: int,
        change: Change,
        error: ProcessError | None,
        *,
        exit_code: int | None = None,
        command_result: CommandResult | None = None,
    ) -> None:
        progress = self._progress[index]
        started = progress.started
        progress.result = RunResult(
            spec=self._specs[index],
            state=TRANSITIONS[progress.state][change],
            exit_code=exit_code,
            error=error,
            wave=self._plan.wave[index],
            attempts=progress.attempts,
            started=started,
            duration=0.0 if started is None else self._clock() - self._epoch - started,
            command_result=command_result,
        )
        self._change(index, change)

    def _change(self, index: int, change: Change) -> None:
        """Write a state: the only place that does."""
        progress = self._progress[index]
        progress.state = TRANSITIONS[progress.state][change]
        if self._tell is not None:
            self._tell(RunUpdate(self._specs[index].name, progress.state, progress.result))
