"""Find out why a run failed and which specs determined its duration: pure functions over the results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import final

import attrs

from .._core import EndReason, ProcessStartError
from .result import RunResult, is_not_needed


@final
@attrs.frozen
class RootCause:
    """A failure that is not allowed and was not caused by another spec, with its consequences.

    Attributes:
        result: The result of the spec that failed.
        stopped: The names of the specs that were stopped because of it.
        skipped: The names of the specs that were skipped because of it.
    """

    result: RunResult
    stopped: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()


def root_causes(
    results: Sequence[RunResult], *, halted_by: str | None, interrupted: bool = False
) -> tuple[RootCause, ...]:
    """Return the failures that are not allowed and were not caused by another spec, in input order.

    Args:
        results: The results of a run.
        halted_by: The spec whose failure `on_failure` reacted to, or None.
        interrupted: Whether the run as a whole was stopped or cancelled from outside.
    """
    origins = find_origins(results, halted_by=halted_by, interrupted=interrupted)
    return tuple(cause for cause in group_by_origin(results, origins) if not cause.result.allowed)


def group_by_origin(results: Sequence[RunResult], origins: Mapping[str, str | None]) -> tuple[RootCause, ...]:
    """Return each failure that is its own origin, including allowed failures, with the specs that it stopped or skipped."""
    stopped: dict[str, list[str]] = {}
    skipped: dict[str, list[str]] = {}
    for result in results:
        origin = origins.get(result.name)
        if origin is not None and origin != result.name:
            (skipped if result.skipped else stopped).setdefault(origin, []).append(result.name)
    return tuple(
        RootCause(result, tuple(stopped.get(result.name, ())), tuple(skipped.get(result.name, ())))
        for result in results
        if origins.get(result.name) == result.name
    )


def find_origins(
    results: Sequence[RunResult], *, halted_by: str | None, interrupted: bool = False
) -> dict[str, str | None]:
    """Map every spec that did not pass to the spec whose failure caused that (often itself), or to None."""
    origins: dict[str, str | None] = {}
    harmless = {result.name for result in results if result.passed or result.allowed or is_not_needed(result)}
    for result in _dependencies_first(results):
        if result.passed or is_not_needed(result):
            continue
        if result.skipped:
            failed = next((name for name in result.spec.after if name in origins and name not in harmless), None)
            origins[result.name] = halted_by if failed is None else origins[failed]
        elif interrupted and _was_interrupted(result, halted_by):
            origins[result.name] = None
        elif halted_by is not None and _was_stopped(result):
            origins[result.name] = halted_by
        else:
            origins[result.name] = result.name
    return origins


def _dependencies_first(results: Sequence[RunResult]) -> list[RunResult]:
    """Return the results in topological order: each follows its dependencies; specs that could not run come first."""
    return sorted(results, key=lambda result: -1 if result.wave is None else result.wave)


def _was_stopped(result: RunResult) -> bool:
    ended = result.command_result
    return ended is not None and ended.reason is EndReason.STOPPED


def _was_interrupted(result: RunResult, halted_by: str | None) -> bool:
    ended = result.command_result
    if ended is not None:
        return ended.reason is EndReason.CANCELLED or (ended.reason is EndReason.STOPPED and halted_by is None)
    return result.attempts > 0 and not isinstance(result.error, ProcessStartError)


def critical_path(results: Sequence[RunResult]) -> tuple[RunResult, ...]:
    """Return the critical path, the chain of specs that determined the duration of the run, first to last.

    The path ends with the spec that ended last. Each spec is preceded by the dependency that it waited for last. A
    dependency that never ran is replaced by its own dependencies.
    """
    by_name = {result.name: result for result in results}
    path: list[RunResult] = []
    current = max((result for result in results if result.started is not None), key=_end, default=None)
    while current is not None:
        path.append(current)
        current = _waited_for(current, by_name)
    return tuple(reversed(path))


def _end(result: RunResult) -> float:
    return (result.started or 0.0) + result.duration


def _waited_for(result: RunResult, by_name: Mapping[str, RunResult]) -> RunResult | None:
    """Return the dependency of `result` that ended last, direct or through specs that never ran."""
    found: RunResult | None = None
    seen = {result.name}
    pending = list(result.spec.after)
    while pending:
        needed = by_name.get(pending.pop())
        if needed is None or needed.name in seen:
            continue
        seen.add(needed.name)
        if needed.started is None:
            pending += needed.spec.after
        elif _was_awaited(needed, result) and (found is None or _end(needed) > _end(found)):
            found = needed
    return found


def _was_awaited(needed: RunResult, result: RunResult) -> bool:
    """Return whether a dependency was obeyed: `run_parallel` and `run_sequential` consider only the waves."""
    return needed.wave is None or result.wave is None or needed.wave < result.wave
