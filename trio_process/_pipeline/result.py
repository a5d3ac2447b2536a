"""What became of a pipeline: of each spec, of the whole, and each change on the way."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, final

import attrs

from .._core import CommandResult, ProcessError, shown
from . import report
from .spec import RunSpec


class SpecState(StrEnum):
    """Where a spec stands; the last three are final."""

    PENDING = "pending"
    RUNNING = "running"
    RETRYING = "retrying"
    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


@final
@attrs.frozen(kw_only=True)
class RunResult:
    """What became of one spec; after retries, what became of its last attempt.

    Attributes:
        spec: The spec.
        state: `PASSED`, `FAILED` or `SKIPPED`.
        exit_code: The exit code, -N for death by signal N; None if it never ran, but 1 for one that could not
            (a missing dependency, a cycle).
        error: Why it did not end by itself, or never ran. None for a success, and for a plain non-zero exit.
        wave: In which wave it was, from 0; None for one that could not run.
        attempts: How often it was run.
        started: When its first attempt began, in seconds since the pipeline did; None if it never ran.
        duration: Seconds from there to its end, with all attempts and the delays between them.
        command_result: What the executor told of the last attempt; None if it never ran.
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
        """The tail of what the last attempt wrote, both streams in the order of arrival."""
        return "" if self.command_result is None else self.command_result.output

    @property
    def passed(self) -> bool:
        """Whether it ran and ended by itself, with a code that is a success."""
        return self.state is SpecState.PASSED

    @property
    def skipped(self) -> bool:
        """Whether it was not run because of something else; `error` names that."""
        return self.state is SpecState.SKIPPED

    @property
    def failed(self) -> bool:
        """Whether it ran and did not pass, or could not run; allowed or not."""
        return self.state is SpecState.FAILED

    @property
    def allowed(self) -> bool:
        """Whether this failure is one that `allow_failure` forgives; a spec that could not run is not forgiven."""
        return self.failed and self.spec.allow_failure and self.wave is not None

    def to_dict(self) -> dict[str, Any]:
        """Return the result, ready for JSON, secrets masked."""
        options = self.spec.options
        command_result = None if self.command_result is None else self.command_result.to_dict()
        return {
            "name": self.name,
            "state": self.state.value,
            "command": shown(options.command),
            "args": list(options.shown_args),
            "dir": options.shown_cwd,
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


@final
@attrs.frozen(kw_only=True)
class RunAllResult:
    """What became of a pipeline.

    Attributes:
        results: One `RunResult` for every spec, in the order of the input.
        duration: Seconds that the whole took.
        timed_out: Whether the `timeout` of the whole ran out before everything had ended.
        passed: How many specs passed.
        failed: How many failed or could not run, allowed failures among them.
        skipped: How many were skipped.
    """

    results: tuple[RunResult, ...]
    duration: float
    timed_out: bool = False
    passed: int = attrs.field(init=False)
    failed: int = attrs.field(init=False)
    skipped: int = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        states = [result.state for result in self.results]
        for name in ("passed", "failed", "skipped"):
            object.__setattr__(self, name, states.count(SpecState(name)))

    @property
    def success(self) -> bool:
        """Whether nothing failed, allowed or not, and the time sufficed."""
        return self.failed == 0 and not self.timed_out

    @property
    def acceptable(self) -> bool:
        """Whether nothing failed but what may, nothing was skipped, and the time sufficed.

        An allowed failure never skips anything, so that a skipped spec always points at something else.
        """
        return not self.timed_out and all(result.passed or result.allowed for result in self.results)

    def to_dict(self) -> dict[str, Any]:
        """Return the whole, ready for JSON, secrets masked."""
        return {
            "success": self.success,
            "acceptable": self.acceptable,
            "timedOut": self.timed_out,
            "duration": self.duration,
            "passed": self.passed,
            "failed": self.failed,
            "skipped": self.skipped,
            "results": [result.to_dict() for result in self.results],
        }

    def to_junit(self) -> str:
        """Return the JUnit XML that CI systems read."""
        return report.to_junit(self)

    def to_chrome_trace(self) -> str:
        """Return a trace for Perfetto or chrome://tracing, in which one sees the waves."""
        return report.to_chrome_trace(self)

    def to_mermaid(self) -> str:
        """Return the graph as a Mermaid flowchart, coloured by what became of each spec."""
        return report.to_mermaid([result.spec for result in self.results], self)


@final
@attrs.frozen
class RunUpdate:
    """A change: `name` is now in `state`; `result` is set with a final one, else None."""

    name: str
    state: SpecState
    result: RunResult | None = None
