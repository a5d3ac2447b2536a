"""The result of one spec, and the updates on the way to it."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, final

import attrs

from .._core import CommandResult, ProcessError, shown, shown_args, shown_cwd
from .spec import RunSpec


class SkippedError(ProcessError, shown_as=ProcessError):
    """A spec was skipped.

    Args:
        why: The reason.
    """

    def __init__(self, why: str) -> None:
        super().__init__(f"skipped: {why}")
        self.why = why


class SpecState(StrEnum):
    """The state of a spec; the last four are final.

    Attributes:
        PENDING: It waits for the specs in its `after`, or for a free slot.
        QUEUED: It waits for a service that it uses, or for a place on another machine; runs without either never report
            it.
        RUNNING: Its command is running.
        RETRYING: An attempt has failed, and it waits for the next one.
        PASSED: Its command succeeded.
        UP_TO_DATE: It passed without being run: nothing has changed since its last success.
        FAILED: Its last attempt failed.
        SKIPPED: It was not run.
    """

    PENDING = "pending"
    QUEUED = "queued"
    RUNNING = "running"
    RETRYING = "retrying"
    PASSED = "passed"
    UP_TO_DATE = "up_to_date"
    FAILED = "failed"
    SKIPPED = "skipped"


@final
@attrs.frozen(kw_only=True)
class RunResult:
    """The result of one spec; after retries, that of its last attempt.

    Attributes:
        spec: The spec.
        state: `PASSED`, `UP_TO_DATE`, `FAILED` or `SKIPPED`.
        exit_code: The exit code, -N for death by signal N. None if it never ran; but 0 if it was up to date, and 1 if
            it could not run (a missing dependency, a cycle).
        error: Why it didn't end by itself, or never ran. None for a success, and for a plain non-zero exit.
        wave: The number of its wave, from 0; None if it could not run.
        attempts: How often it was run.
        started: When its first attempt started, in seconds since the start of the pipeline; None if it never ran.
        duration: Seconds from that start to its end, including all attempts and the delays between them.
        command_result: The executor's result of the last attempt; None if it never ran.
    """

    spec: RunSpec
    state: SpecState
    exit_code: int | None = None
    error: ProcessError | None = None
    wave: int | None = None
    attempts: int = 0
    started: float | None = None
    duration: float = 0.0
    command_result: CommandResult | None = attrs.field(default=None, repr=False)

    @property
    def name(self) -> str:
        """The name of the spec."""
        return self.spec.name

    @property
    def output(self) -> str:
        """The tail of the output of the last attempt, both streams in the order of arrival."""
        return "" if self.command_result is None else self.command_result.output

    @property
    def passed(self) -> bool:
        """Whether it ended by itself with an exit code that is a success, or was up to date."""
        return self.state in (SpecState.PASSED, SpecState.UP_TO_DATE)

    @property
    def skipped(self) -> bool:
        """Whether it was skipped; `error` gives the reason."""
        return self.state is SpecState.SKIPPED

    @property
    def failed(self) -> bool:
        """Whether it ran and did not pass, or could not run, whether allowed or not."""
        return self.state is SpecState.FAILED

    @property
    def allowed(self) -> bool:
        """Whether `allow_failure` allows this failure; it never allows that of a spec that could not run."""
        return self.failed and self.spec.allow_failure and self.wave is not None

    def to_dict(self) -> dict[str, Any]:
        """Return the result, ready for JSON, secrets masked."""
        options = self.spec.options
        command_result = None if self.command_result is None else self.command_result.to_dict()
        return {
            "name": self.name,
            "state": self.state.value,
            "command": shown(options.command),
            "args": list(shown_args(options)),
            "dir": shown_cwd(options),
            "after": list(self.spec.after),
            "allowFailure": self.spec.allow_failure,
            "exitCode": self.exit_code,
            "passed": self.passed,
            "skipped": self.skipped,
            "error": None if self.error is None else str(self.error),
            "wave": self.wave,
            "attempts": self.attempts,
            "started": self.started,
            "duration": self.duration,
            "output": "" if command_result is None else command_result.pop("output"),
            "commandResult": command_result,
        }


def is_not_needed(result: RunResult) -> bool:
    """Return whether this is a failure handler that was skipped.

    If it had a failure to handle (and was skipped because the cleanup timeout was over, for example), that failure is
    itself in the results of the run.
    """
    return result.skipped and result.spec.when == "failure"


@final
@attrs.frozen
class RunUpdate:
    """A change of the state of a spec.

    Attributes:
        name: The name of the spec.
        state: Its new state.
        result: Its result if that state is final, else None.
    """

    name: str
    state: SpecState
    result: RunResult | None = None
