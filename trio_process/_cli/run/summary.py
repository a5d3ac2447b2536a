"""What one wants to know after a run: what failed and what fell with it, what was slow, what the whole had to wait for."""

from __future__ import annotations

from typing import final

import attrs

from ..._pipeline import RootCause, RunAllResult, RunResult, find_origins, group_by_origin


@final
@attrs.frozen
class Summary:
    """What came out of a run.

    Attributes:
        causes: The failures by root cause, those that count before those that are allowed.
        interrupted: Those that ended because the run was interrupted.
        critical: The chain of dependencies that took longest, in order.
        slowest: Those that took longest, in descending order.
    """

    causes: tuple[RootCause, ...]
    interrupted: tuple[str, ...]
    critical: tuple[RunResult, ...]
    slowest: tuple[RunResult, ...]


def summarize(whole: RunAllResult, culprit: str | None, *, interrupted: bool = False) -> Summary:
    """Return what came out of a run.

    Args:
        whole: The run.
        culprit: The first task whose failure was not allowed: what `--on-failure` reacted to.
        interrupted: Whether it was cancelled.
    """
    origins = find_origins(whole.results, halted_by=culprit, interrupted=interrupted)
    aimless = [result for result in whole.results if result.name in origins and origins[result.name] is None]
    ran = [result for result in whole.results if result.started is not None]
    return Summary(
        causes=tuple(sorted(group_by_origin(whole.results, origins), key=lambda cause: cause.result.allowed)),
        interrupted=tuple(result.name for result in aimless if not result.skipped),
        critical=whole.critical_path,
        slowest=tuple(sorted(ran, key=lambda result: -result.duration)),
    )
