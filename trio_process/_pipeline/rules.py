"""Define the rules of a run in tables: retry, timeout, failure mode, skip, `when` and `allow_failure`.

`TRANSITIONS` lists the allowed transitions between the states of a spec, `HALTS` the effect of each kind of halt on
running specs; `verdict` interprets the end of one attempt. The `StateMachine` applies them.

An ended attempt:

| how it ended                                              | error      | retried                     |
| --------------------------------------------------------- | ---------- | --------------------------- |
| by itself, with an ok code                                | None       | -                           |
| by itself, with another code                              | None       | yes                         |
| by a signal, by its own timeout, or it did not start      | its own    | yes                         |
| the program was not found, or the executor is closed      | its own    | no: it would fail again     |
| it was lost with its agent                                | its own    | yes, with separate retries  |
| no agent of a cluster can run it (ClusterError)           | its own    | no: it would fail again     |
| it could not be killed (StopFailedError)                  | its own    | no: it still runs           |
| it was stopped or cancelled, by any caller                | its own    | no                          |
| a service that it uses failed                             | service's  | no                          |
| after the runner had asked it to end                      | unchanged  | no                          |

A halt (`on_failure`, `stopping`, the timeout of the whole run) skips specs that have not started and ends running ones.
Specs with ``when="failure"`` or ``"always"`` are exempt, because they clean up: they start and continue normally until
the cleanup timeout is over (`Halt.CLEANUP`). Only a Trio cancellation ends these immediately as well.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final, NamedTuple, TypeGuard

from .._core import (
    ClusterError,
    CommandResult,
    EndReason,
    ProcessError,
    ProgramNotFoundError,
    ServiceClosedError,
    Status,
    StopFailedError,
    UnitFailedError,
    may_have_run,
    shown_args,
    shown_command,
    shown_cwd,
)
from .result import SpecState
from .spec import RunSpec


class Change(Enum):
    """An event in the progress of a spec."""

    QUEUE = auto()
    BEGIN = auto()
    PASS = auto()
    FAIL = auto()
    RETRY = auto()
    SKIP = auto()
    UP_TO_DATE = auto()

    __hash__ = object.__hash__  # that of an Enum is a Python function, called for every look at `TRANSITIONS`


_ENDS: Final = {Change.PASS: SpecState.PASSED, Change.FAIL: SpecState.FAILED, Change.RETRY: SpecState.RETRYING}

TRANSITIONS: Final[dict[SpecState, dict[Change, SpecState]]] = {
    SpecState.PENDING: {
        Change.QUEUE: SpecState.QUEUED,
        Change.BEGIN: SpecState.RUNNING,
        Change.SKIP: SpecState.SKIPPED,
        Change.FAIL: SpecState.FAILED,  # it could not run: a missing dependency, a cycle
        Change.UP_TO_DATE: SpecState.UP_TO_DATE,
    },
    SpecState.QUEUED: {
        Change.BEGIN: SpecState.RUNNING,
        Change.FAIL: SpecState.FAILED,
        Change.RETRY: SpecState.RETRYING,
    },
    SpecState.RUNNING: _ENDS,
    SpecState.RETRYING: {
        Change.QUEUE: SpecState.QUEUED,
        Change.BEGIN: SpecState.RUNNING,
        Change.FAIL: SpecState.FAILED,
    },
    SpecState.PASSED: {},
    SpecState.UP_TO_DATE: {},
    SpecState.FAILED: {},
    SpecState.SKIPPED: {},
}


class Halt(Enum):
    """Why a run starts no further spec. A later halt replaces an earlier one, but specs already asked to end stay so."""

    NO_NEW = 1
    KILL = 2
    STOPPING = 3
    TIMEOUT = 4
    CLEANUP = 5
    CANCEL = 6


HALTS: Final[dict[Halt, EndReason | None]] = {
    Halt.NO_NEW: None,
    Halt.KILL: EndReason.STOPPED,
    Halt.STOPPING: EndReason.STOPPED,
    Halt.TIMEOUT: EndReason.TIMED_OUT,
    Halt.CLEANUP: EndReason.TIMED_OUT,
    Halt.CANCEL: EndReason.CANCELLED,
}
"""The reason with which a halt ends started specs: a running spec is asked to stop, a spec between two attempts fails.
None: they continue, to their last retry, as they are not new. Every halt skips the specs that have not started."""

ENDS_CLEANUP: Final = frozenset({Halt.CLEANUP, Halt.CANCEL})
"""The halts that also affect specs that run after failures, or always."""

FINAL_REASONS: Final = frozenset({EndReason.STOPPED, EndReason.CANCELLED})
"""The ends that are never retried, because a caller requested them."""

FINAL_ERRORS: Final = (ClusterError, ProgramNotFoundError, ServiceClosedError, StopFailedError, UnitFailedError)
"""The errors that are never retried: they would recur, or the next attempt would run beside one that is still alive."""


class Cause(NamedTuple):
    """Why a run is halted: the kind, a text, and the spec whose failure was the reason, if any."""

    halt: Halt
    text: str
    spec: str | None = None


def was_lost(ended: CommandResult | ProcessError) -> bool:
    """Return whether an attempt was lost with its agent: not a failure of its own, so it is counted separately."""
    return isinstance(ended, CommandResult) and ended.reason is EndReason.LOST


def was_not_run(ended: CommandResult | ProcessError) -> TypeGuard[CommandResult]:
    """Return whether an attempt was lost before there was a process."""
    return isinstance(ended, CommandResult) and was_lost(ended) and not may_have_run(ended)


def verdict(spec: RunSpec, ended: CommandResult | ProcessError, attempts: int, *, asked: bool) -> Change:
    """Return the consequence of the end of an attempt for its spec: `PASS`, `RETRY` or `FAIL`.

    Args:
        spec: The spec.
        ended: The result returned, or the exception raised, by the executor.
        attempts: The number of attempts that ended like this, lost or not, including this one.
        asked: Whether the runner had asked it to end.
    """
    if isinstance(ended, ProcessError):
        final = isinstance(ended, FINAL_ERRORS)
    elif ran_to_its_end(ended) and ended.exit_code in spec.ok_exit_codes:
        return Change.PASS
    else:
        final = ended.reason in FINAL_REASONS or isinstance(ended.start_error, FINAL_ERRORS)
    return Change.FAIL if final or asked or attempts > spec.retries else Change.RETRY


def ran_to_its_end(result: CommandResult) -> bool:
    """Return whether the attempt ended by itself, with an exit code."""
    return result.reason is EndReason.EXITED and result.status is Status.EXITED


def never_ran(spec: RunSpec, reason: EndReason) -> CommandResult:
    """Return the result of an attempt that had to end before there was a process."""
    options = spec.options
    return CommandResult(
        command=shown_command(options),
        args=shown_args(options),
        name=spec.name,
        cwd=shown_cwd(options),
        status=Status.FAILED,
        reason=reason,
    )
