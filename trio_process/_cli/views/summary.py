"""Collect the content of a run's final summary: failures with their consequences, and the slowest tasks."""

from __future__ import annotations

from typing import final

import attrs

from ..._pipeline import RootCause, RunAllResult, RunResult, find_origins, group_by_origin


@final
@attrs.frozen
class Summary:
    """The parts of the account.

    Attributes:
        causes: The failures by root cause, allowed ones last.
        interrupted: The tasks that ended because the run was interrupted.
        critical: The critical path.
        slowest: The tasks that ran, slowest first.
    """

    causes: tuple[RootCause, ...]
    interrupted: tuple[str, ...]
    critical: tuple[RunResult, ...]
    slowest: tuple[RunResult, ...]


def summarize(result: RunAllResult, culprit: str | None, *, interrupted: bool = False) -> Summary:
    """Return the parts of the account of a run.

    Args:
        result: The result of the run.
        culprit: The first task whose failure was not allowed, to which ``--on-failure`` reacted.
        interrupted: Whether a signal ended the run early.
    """
    origins = find_origins(result.results, halted_by=culprit, interrupted=interrupted)
    aimless = [one for one in result.results if one.name in origins and origins[one.name] is None]
    ran = [one for one in result.results if one.started is not None]
    return Summary(
        causes=tuple(sorted(group_by_origin(result.results, origins), key=lambda cause: cause.result.allowed)),
        interrupted=tuple(one.name for one in aimless if not one.skipped),
        critical=result.critical_path,
        slowest=tuple(sorted(ran, key=lambda one: -one.duration)),
    )
