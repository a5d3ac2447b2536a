"""The rules of a run: retry, timeout, failure mode, skip and `allow_failure` in three tables.

`TRANSITIONS` says which state of a spec may follow which; `HALTS` what the end of the whole run does to specs in each
state; `verdict` what the end of one attempt means. The `Machine` goes by them.

An ended attempt:

| it ended                                                  | error      | is tried again        |
| --------------------------------------------------------- | ---------- | --------------------- |
| by itself, with an ok code                                | None       | -                     |
| by itself, with another code                              | None       | yes                   |
| by a signal, its own timeout, or it did not start         | its own    | yes                   |
| the program was not found, or the executor is closed      | its own    | no: it would not help |
| it would not die (StopFailedError)                        | its own    | no: it still runs     |
| it was stopped or cancelled, by whomever                  | its own    | no                    |
| after we had asked it to end (kill, timeout of the whole) | as it is   | no                    |
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final, NamedTuple

from .._core import (
    CommandResult,
    EndReason,
    ProcessError,
    ProgramNotFoundError,
    ServiceClosedError,
    Status,
    StopFailedError,
)
from .result import SpecState
from .spec import RunSpec


class Change(Enum):
    """What can happen to a spec."""

    BEGIN = auto()
    PASS = auto()
    FAIL = auto()
    RETRY = auto()
    SKIP = auto()


TRANSITIONS: Final[dict[SpecState, dict[Change, SpecState]]] = {
    SpecState.PENDING: {
        Change.BEGIN: SpecState.RUNNING,
        Change.SKIP: SpecState.SKIPPED,
        Change.FAIL: SpecState.FAILED,  # it could not run: a missing dependency, a cycle
    },
    SpecState.RUNNING: {
        Change.PASS: SpecState.PASSED,
        Change.FAIL: SpecState.FAILED,
        Change.RETRY: SpecState.RETRYING,
    },
    SpecState.RETRYING: {Change.BEGIN: SpecState.RUNNING, Change.FAIL: SpecState.FAILED},
    SpecState.PASSED: {},
    SpecState.FAILED: {},
    SpecState.SKIPPED: {},
}


class Halt(Enum):
    """Why a run begins nothing new; a later one replaces an earlier one, what was asked to end stays so."""

    NO_NEW = 1
    KILL = 2
    TIMEOUT = 3
    CANCEL = 4


HALTS: Final[dict[Halt, EndReason | None]] = {
    Halt.NO_NEW: None,
    Halt.KILL: EndReason.STOPPED,
    Halt.TIMEOUT: EndReason.TIMED_OUT,
    Halt.CANCEL: EndReason.CANCELLED,
}
"""What ends a spec that has begun: one that runs is asked to stop for that reason, one between two attempts fails with
it. None: it goes on, to its last retry, as it is not new. Every spec that has not begun is skipped, whatever the halt."""

FINAL_REASONS: Final = frozenset({EndReason.STOPPED, EndReason.CANCELLED})
"""What is never tried again: somebody wanted it to end."""

FINAL_ERRORS: Final = (ProgramNotFoundError, ServiceClosedError, StopFailedError)
"""What would fail again just so, or would run beside an attempt that still lives."""


class Cause(NamedTuple):
    """What halts a run: of which kind, and in words."""

    halt: Halt
    text: str


def verdict(spec: RunSpec, ended: CommandResult | ProcessError, attempts: int, *, asked: bool) -> Change:
    """Return what the end of an attempt means for its spec: `PASS`, `RETRY` or `FAIL`.

    Args:
        spec: The spec.
        ended: What the executor returned or raised.
        attempts: How often it was run, this time included.
        asked: Whether we had asked it to end.
    """
    if isinstance(ended, ProcessError):
        final = isinstance(ended, FINAL_ERRORS)
    elif ran_to_its_end(ended) and ended.exit_code in spec.ok_exit_codes:
        return Change.PASS
    else:
        final = ended.reason in FINAL_REASONS or isinstance(ended.start_error, FINAL_ERRORS)
    return Change.FAIL if final or asked or attempts > spec.retries else Change.RETRY


def ran_to_its_end(result: CommandResult) -> bool:
    """Return whether it ended by itself, with an exit code."""
    return result.reason is EndReason.EXITED and result.status is Status.EXITED


def never_ran(spec: RunSpec, reason: EndReason) -> CommandResult:
    """Return the result of an attempt that had to end before there was a process."""
    options = spec.options
    return CommandResult(
        command=options.shown_command,
        args=options.shown_args,
        name=spec.name,
        cwd=options.shown_cwd,
        status=Status.FAILED,
        reason=reason,
    )
