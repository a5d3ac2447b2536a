"""The state machine of a run, without I/O: it applies the `rules`. Only one method writes a state; the clock is passed in."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import final

import attrs

from .._core import CommandResult, EndReason, PipelineError, ProcessError, may_have_run
from .plan import Plan
from .result import RunResult, RunUpdate, SkippedError, SpecState
from .rules import (
    ENDS_CLEANUP,
    FINAL_REASONS,
    HALTS,
    TRANSITIONS,
    Cause,
    Change,
    Halt,
    never_ran,
    ran_to_its_end,
    verdict,
    was_lost,
    was_not_run,
)
from .run_result import RunAllResult
from .spec import RunSpec


class _Progress:
    """The progress of a spec."""

    __slots__ = (
        "asked",
        "attempts",
        "has_failed_need",
        "is_well",
        "last",
        "lost",
        "missed",
        "result",
        "started",
        "state",
    )

    def __init__(self) -> None:
        self.state = SpecState.PENDING
        self.attempts = 0
        self.lost = 0  # of these
        self.started: float | None = None
        self.asked: Cause | None = None
        self.has_failed_need = False  # a dependency failed, or was skipped because of a failure
        self.is_well = False  # with a result: whether dependents count it as a success
        self.last: CommandResult | ProcessError | None = None  # of the last attempt, or the last one that was run
        self.missed: tuple[str, ...] = ()  # why each attempt after that one was not run
        self.result: RunResult | None = None


@final
class StateMachine:
    """The states of all specs of one run.

    Args:
        specs: The specs.
        plan: Their plan.
        rule: How a failure that is not allowed halts the run, None for not at all; and the rule in words.
        clock: Seconds, monotonic; `trio.current_time`.
        report: Called with every change, as soon as it is known; None without a listener.
        end: Called with every started spec that has to end now.

    Attributes:
        cause: What halted the run, or None.
        unfinished: How many specs without ``when="failure"`` or ``"always"`` have no result yet.
    """

    def __init__(
        self,
        specs: Sequence[RunSpec],
        plan: Plan,
        *,
        rule: tuple[Halt | None, str],
        clock: Callable[[], float],
        report: Callable[[RunUpdate], object] | None,
        end: Callable[[int, EndReason], object],
    ) -> None:
        self._specs = specs
        self._plan = plan
        self._rule = rule
        self._clock = clock
        self._epoch = clock()
        self._report = report
        self._end = end
        self._progress = [_Progress() for _ in specs]
        self._needs = list(plan.needs)
        self._ready: list[int] = []
        self._halts: set[Halt] = set()
        self._halted_by: str | None = None
        self.unfinished = plan.when.count("success")
        self.cause: Cause | None = None

    def open(self) -> None:
        """Report the state of every spec, and fail those that can't run."""
        if self._report is not None:
            for spec in self._specs:
                self._report(RunUpdate(spec.name, SpecState.PENDING))
        for index, why in self._plan.broken.items():
            self._finish(index, Change.FAIL, PipelineError([f"can't run: {why}"]), exit_code=1)
            for dependent in self._plan.dependents[index]:
                self._progress[dependent].has_failed_need = True
        for index in range(len(self._specs)):
            if not self._needs[index] and self._is_pending(index) and self._admit(index):
                self._settle(index, well=True)

    def take_ready(self) -> Sequence[int]:
        """Return the specs that have become ready since the last call, and still are."""
        ready, self._ready = self._ready, []
        return [index for index in ready if self._is_pending(index)]

    def may_begin(self, index: int) -> bool:
        """Return whether an attempt may start: the spec's first, or the next one after a failure."""
        return Change.BEGIN in TRANSITIONS[self._progress[index].state]

    def queue(self, index: int) -> None:
        """Record that an attempt waits for a service or for a place."""
        self._change(index, Change.QUEUE)

    def begin(self, index: int) -> None:
        """Record the start of an attempt."""
        progress = self._progress[index]
        progress.attempts += 1
        if progress.started is None:
            progress.started = self._clock() - self._epoch
        self._change(index, Change.BEGIN)

    def up_to_date(self, index: int) -> None:
        """Pass a spec without running it."""
        self._finish(index, Change.UP_TO_DATE, None, exit_code=0)
        self._settle(index, well=True)

    def ended(self, index: int, ended: CommandResult | ProcessError, *, is_final: bool = False) -> None:
        """Record the end of an attempt; if `is_final`, the spec is not retried."""
        spec, progress = self._specs[index], self._progress[index]
        if was_not_run(ended) and isinstance(progress.last, CommandResult) and may_have_run(progress.last):
            progress.missed += (str(ended.lost),)
        else:
            progress.last, progress.missed = ended, ()
        progress.lost += was_lost(ended)
        attempts = progress.lost if was_lost(ended) else progress.attempts - progress.lost
        change = verdict(spec, ended, attempts, asked=is_final or progress.asked is not None)
        if change is Change.RETRY:
            self._change(index, change)
            return
        self._conclude(index, change)
        # a failure is forgiven, unless the run itself ended the spec, which then lacked time
        well = change is Change.PASS or (spec.allow_failure and progress.asked is None)
        self._settle(index, well=well)
        halt, words = self._rule
        if halt is not None and change is Change.FAIL and not spec.allow_failure:
            self.halt(Cause(halt, f"{spec.name!r} failed, and {words}", spec.name))

    def cancelled(self, index: int) -> None:
        """Record that an attempt was cancelled, and its process has been stopped."""
        if self._is_pending(index) or self._progress[index].result is not None:
            return  # the attempt was only the check whether the spec is up to date
        self._progress[index].last = ProcessError("cancelled while it ran")
        self._conclude(index, Change.FAIL)

    def halt(self, cause: Cause) -> None:
        """Start no further spec; end running ones, if this kind of halt does. Most kinds spare specs that clean up."""
        if self.cause is not None and cause.halt.value <= self.cause.halt.value:
            return
        if self.cause is None:
            self._halted_by = cause.spec
        if all(progress.result is not None for progress in self._progress):
            return  # nothing left to halt
        self.cause = cause
        self._halts.add(cause.halt)
        concerned = [
            index for index, when in enumerate(self._plan.when) if when == "success" or cause.halt in ENDS_CLEANUP
        ]
        for index in [index for index in concerned if self._halt(index, cause)]:
            self._settle(index, well=False)

    def forgive(self) -> Sequence[int]:
        """Lift the halt that a failure caused, and return the specs that it skipped or ended, or that failed."""
        if self.cause is None:
            return ()
        self.cause = self._halted_by = None
        self._halts.clear()
        return [
            index
            for index, progress in enumerate(self._progress)
            if progress.asked is not None or (progress.result is not None and not progress.result.passed)
        ]

    def reopen(self, indexes: Collection[int]) -> None:
        """Reset specs to their initial state.

        Args:
            indexes: The specs, none of which is running. All dependents of each must be reset as well, either in the
                same call or once they have been stopped.
        """
        chosen = sorted(set(indexes) - set(self._plan.broken))
        for index in chosen:
            self.unfinished += self._progress[index].result is not None and self._plan.when[index] == "success"
            self._progress[index] = _Progress()
            if self._report is not None:
                self._report(RunUpdate(self._specs[index].name, SpecState.PENDING))
        self._ready = [index for index in self._ready if index not in indexes]
        failed = self._recount(chosen)
        for index in chosen:
            if not self._is_pending(index):
                continue  # it was skipped with one of its dependencies
            if failed[index] and self._plan.when[index] == "success":
                needed = self._specs[failed[index][0]].name
                self._finish(index, Change.SKIP, SkippedError(f"it needs {needed!r}, which failed"))
                self._settle(index, well=False)
            elif not self._needs[index] and index not in self._ready and self._admit(index):
                self._settle(index, well=True)

    def _recount(self, chosen: Iterable[int]) -> dict[int, list[int]]:
        """Recount the dependencies that specs wait for, and return which of them have failed."""
        needed: dict[int, list[int]] = {index: [] for index in chosen}
        for place, dependents in enumerate(self._plan.dependents):
            for dependent in dependents:
                if dependent in needed:
                    needed[dependent].append(place)
        failed: dict[int, list[int]] = {}
        for index, places in needed.items():
            ended = [place for place in places if self._progress[place].result is not None]
            self._needs[index] = len(places) - len(ended)
            failed[index] = [place for place in ended if not self._progress[place].is_well]
            self._progress[index].has_failed_need = bool(failed[index])
        return failed

    def result_of(self, index: int) -> RunResult | None:
        """Return the result of a spec, or None if it has none yet."""
        return self._progress[index].result

    def result(self) -> RunAllResult:
        """Return the result of the whole run; every spec must have a result."""
        results = [progress.result for progress in self._progress if progress.result is not None]
        assert len(results) == len(self._specs), "every spec gets exactly one result"
        return RunAllResult(
            results=tuple(results),
            duration=self._clock() - self._epoch,
            timed_out=Halt.TIMEOUT in self._halts,
            halted_by=self._halted_by,
            interrupted=Halt.STOPPING in self._halts,
        )

    def _is_pending(self, index: int) -> bool:
        return self._progress[index].state is SpecState.PENDING

    def _halt(self, index: int, cause: Cause) -> bool:
        """Apply a halt to one spec; return whether that gave it a result."""
        progress, reason = self._progress[index], HALTS[cause.halt]
        if progress.state is SpecState.PENDING:
            self._finish(index, Change.SKIP, SkippedError(cause.text))
            return True
        if progress.state in (SpecState.RUNNING, SpecState.QUEUED) and cause.halt is Halt.CANCEL:
            self.cancelled(index)  # the executor stopped the process before it let the cancellation propagate
            return True
        if progress.result is None and progress.asked is None and reason is not None:
            progress.asked = cause
            cut = progress.state is SpecState.RETRYING
            if cut:
                self._cut(index, reason)
            self._end(index, reason)
            return cut
        return False

    def _settle(self, index: int, *, well: bool) -> None:
        """Propagate the result of a spec to its dependents, breadth first: they become ready or are skipped."""
        root = self._specs[index].name
        ended = [(index, well)]
        for place, is_good in ended:
            self._progress[place].is_well = is_good
            for dependent in self._plan.dependents[place]:
                self._needs[dependent] -= 1
                if not self._is_pending(dependent):
                    continue
                if not is_good and self._plan.when[dependent] == "success":
                    needed = self._specs[place].name
                    why = "which failed" if place == index else f"which was skipped, as {root!r} failed"
                    self._finish(dependent, Change.SKIP, SkippedError(f"it needs {needed!r}, {why}"))
                    ended.append((dependent, False))
                    continue
                self._progress[dependent].has_failed_need |= not is_good
                if not self._needs[dependent] and self._admit(dependent):
                    ended.append((dependent, True))

    def _admit(self, index: int) -> bool:
        """Make a spec ready, or skip it if it handles failures and none occurred; return whether it was skipped."""
        if self._plan.when[index] == "failure" and not self._progress[index].has_failed_need:
            self._finish(index, Change.SKIP, SkippedError("nothing that it comes after failed"))
            return True
        self._ready.append(index)
        return False

    def _cut(self, index: int, reason: EndReason) -> None:
        """Conclude a spec whose next attempt won't take place: its last attempt counts, as ended by the run."""
        progress = self._progress[index]
        last = progress.last
        if isinstance(last, CommandResult):
            progress.last = attrs.evolve(last, reason=reason, ok=False)
        else:
            progress.last = never_ran(self._specs[index], reason)
        self._conclude(index, Change.FAIL)

    def _conclude(self, index: int, change: Change) -> None:
        """Make the result of the last attempt the result of the spec."""
        progress = self._progress[index]
        ended, asked = progress.last, progress.asked
        assert ended is not None, "concluded without an attempt"
        if isinstance(ended, ProcessError):
            self._finish(index, change, ended)
            return
        if ran_to_its_end(ended) and not progress.missed:
            error: ProcessError | None = None
        elif asked is not None and ended.reason in (HALTS[asked.halt], *FINAL_REASONS):
            # the reason is the runner's, because an executor may stop without passing it on; a canceller knows the
            # reason itself
            if ended.reason is not EndReason.CANCELLED:
                ended = attrs.evolve(ended, reason=HALTS[asked.halt])
            error = ended.failure(asked.text)
        else:
            error = ended.start_error or ended.failure(_about(progress.missed))
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
        self.unfinished -= self._plan.when[index] == "success"
        self._change(index, change)

    def _change(self, index: int, change: Change) -> None:
        """Write a state; the only method that does so."""
        progress = self._progress[index]
        progress.state = TRANSITIONS[progress.state][change]
        if self._report is not None:
            self._report(RunUpdate(self._specs[index].name, progress.state, progress.result))


def _about(missed: Sequence[str]) -> str:
    """Return what an error says about attempts that were not run."""
    if not missed:
        return ""
    attempts = "1 more attempt was" if len(missed) == 1 else f"{len(missed)} more attempts were"
    return f"{attempts} not run ({missed[-1].splitlines()[0]})"
