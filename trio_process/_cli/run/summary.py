"""What the account at the end of a run shows: failures with their consequences, and the slowest tasks."""

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


def summarize(whole: RunAllResult, culprit: str | None, *, interrupted: bool = False) -> Summary:
    """Return the parts of the account of a run.

    Args:
        whole: The run.
        culprit: The first task whose failure was not allowed, to which ``--on-failure`` reacted.
        interrupted: Whether a signal ended the run early.
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
