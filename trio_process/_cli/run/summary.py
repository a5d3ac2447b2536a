"""What one wants to know after a run: what failed and what fell with it, what was slow, what the whole had to wait for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import attrs

from ..._core import EndReason, ProcessStartError
from ..._pipeline import RunAllResult, RunResult


@final
@attrs.frozen
class RootCause:
    """A failure of its own, and what was stopped or not run because of it."""

    result: RunResult
    stopped: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()


@final
@attrs.frozen
class Findings:
    """What came out of a run.

    Attributes:
        causes: The failures by root cause, those that count before those that are allowed.
        interrupted: Those that ended because the run was interrupted.
        not_run: Those that did not begin, for no failure of another.
        critical: The chain of dependencies that took longest, in order.
        slowest: Those that took longest, in descending order.
    """

    causes: tuple[RootCause, ...]
    interrupted: tuple[str, ...]
    not_run: tuple[str, ...]
    critical: tuple[RunResult, ...]
    slowest: tuple[RunResult, ...]


def find(whole: RunAllResult, culprit: str | None, *, interrupted: bool = False) -> Findings:
    """Return what came out of a run.

    Args:
        whole: The run.
        culprit: The first task whose failure was not allowed: what `--on-failure` reacted to.
        interrupted: Whether it was cancelled.
    """
    roots = _roots(whole.results, culprit, interrupted=interrupted)
    stopped: dict[str, list[str]] = {}
    skipped: dict[str, list[str]] = {}
    for result in whole.results:
        root = roots.get(result.name)
        if root is not None and root != result.name:
            (skipped if result.skipped else stopped).setdefault(root, []).append(result.name)
    causes = [
        RootCause(result, tuple(stopped.get(result.name, ())), tuple(skipped.get(result.name, ())))
        for result in whole.results
        if roots.get(result.name) == result.name
    ]
    aimless = [result for result in whole.results if result.name in roots and roots[result.name] is None]
    ran = [result for result in whole.results if result.started is not None]
    return Findings(
        causes=tuple(sorted(causes, key=lambda cause: cause.result.allowed)),
        interrupted=tuple(result.name for result in aimless if not result.skipped),
        not_run=tuple(result.name for result in aimless if result.skipped),
        critical=critical_path(whole.results),
        slowest=tuple(sorted(ran, key=lambda result: -result.duration)),
    )


def _in_order(results: Sequence[RunResult]) -> list[RunResult]:
    """Return the results so that each comes after what it needs; those that could not run first."""
    return sorted(results, key=lambda result: -1 if result.wave is None else result.wave)


def _roots(results: Sequence[RunResult], culprit: str | None, *, interrupted: bool) -> dict[str, str | None]:
    """Return for all that did not pass what is at the root of it: a name, its own too; None for no task at all."""
    roots: dict[str, str | None] = {}
    forgiven = {result.name for result in results if result.passed or result.allowed}
    for result in _in_order(results):
        if result.passed:
            continue
        if result.skipped:
            fallen = next((name for name in result.spec.after if name in roots and name not in forgiven), None)
            roots[result.name] = culprit if fallen is None else roots[fallen]
            continue
        ended = result.command_result
        if interrupted and _was_cancelled(result):
            roots[result.name] = None
        elif ended is not None and ended.reason is EndReason.STOPPED and culprit is not None:
            roots[result.name] = culprit
        else:
            roots[result.name] = result.name
    return roots


def _was_cancelled(result: RunResult) -> bool:
    if result.command_result is not None:
        return result.command_result.reason is EndReason.CANCELLED
    return result.attempts > 0 and not isinstance(result.error, ProcessStartError)


def critical_path(results: Sequence[RunResult]) -> tuple[RunResult, ...]:
    """Return the chain of dependencies whose durations add up to most: no shorter run is possible with these times."""
    ends: dict[str, float] = {}
    before: dict[str, str | None] = {}
    by_name = {result.name: result for result in results}
    for result in _in_order(results):
        if result.started is None:
            continue
        needed = max((name for name in result.spec.after if name in ends), key=ends.__getitem__, default=None)
        before[result.name] = needed
        ends[result.name] = result.duration + (0.0 if needed is None else ends[needed])
    path: list[RunResult] = []
    name = max(ends, key=ends.__getitem__, default=None)
    while name is not None:
        path.append(by_name[name])
        name = before[name]
    return tuple(reversed(path))
