"""`RunAllResult`: the result of a whole pipeline."""

from __future__ import annotations

from collections import Counter
from typing import Any, final

import attrs

from . import report
from .analysis import RootCause, critical_path, root_causes
from .result import RunResult, SpecState, is_not_needed


@final
@attrs.frozen(kw_only=True)
class RunAllResult:
    """The result of a pipeline.

    Attributes:
        results: One `RunResult` for every spec, in the order of the input.
        duration: Seconds that the whole run took.
        timed_out: Whether the `timeout` of the whole run expired before everything had ended.
        halted_by: The name of the spec whose failure `on_failure` reacted to; None if it reacted to none.
        passed: The number of specs that passed, including those that were up to date.
        failed: The number of specs that failed or could not run, including allowed failures.
        skipped: The number of specs that were skipped.
    """

    results: tuple[RunResult, ...]
    duration: float
    timed_out: bool = False
    halted_by: str | None = None
    _interrupted: bool = attrs.field(default=False, repr=False)
    passed: int = attrs.field(init=False)
    failed: int = attrs.field(init=False)
    skipped: int = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        put = object.__setattr__
        counts = Counter([result.state for result in self.results])
        put(self, "passed", counts[SpecState.PASSED] + counts[SpecState.UP_TO_DATE])
        put(self, "failed", counts[SpecState.FAILED])
        put(self, "skipped", counts[SpecState.SKIPPED])

    @property
    def success(self) -> bool:
        """Whether no spec failed, allowed or not, and the run didn't time out."""
        return self.failed == 0 and not self.timed_out

    @property
    def acceptable(self) -> bool:
        """Whether every spec passed, failed with `allow_failure`, or was a failure handler that was not needed.

        A failure handler is a spec with ``when="failure"``. An allowed failure never skips a spec, so any other skipped
        spec points to a failure.
        """
        return not self.timed_out and all(
            result.passed or result.allowed or is_not_needed(result) for result in self.results
        )

    @property
    def critical_path(self) -> tuple[RunResult, ...]:
        """The critical path: the specs that determined the duration of the run, first to last.

        The path ends with the spec that ended last; each spec is preceded by the dependency that it waited for last.
        """
        return critical_path(self.results)

    @property
    def root_causes(self) -> tuple[RootCause, ...]:
        """The failures that are not allowed and were not caused by another spec, in input order.

        >>> build = RunResult(spec=RunSpec(name="build", command="make"), state=SpecState.FAILED, exit_code=2, wave=0)
        >>> test = RunResult(spec=RunSpec(name="test", command="x", after=["build"]), state=SpecState.SKIPPED, wave=1)
        >>> [cause] = RunAllResult(results=(build, test), duration=1.0).root_causes
        >>> cause.result.name, cause.stopped, cause.skipped
        ('build', (), ('test',))
        """
        return root_causes(self.results, halted_by=self.halted_by, interrupted=self._interrupted)

    def to_dict(self) -> dict[str, Any]:
        """Return the result, ready for JSON, secrets masked."""
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
        """Return the run as JUnit XML, for CI systems."""
        return report.to_junit(self.results, self.duration)

    def to_chrome_trace(self) -> str:
        """Return a trace of the waves and the specs, for Perfetto or chrome://tracing."""
        return report.to_chrome_trace(self.results, self.duration)

    def to_mermaid(self) -> str:
        """Return the graph as a Mermaid flowchart, coloured by the results."""
        return report.to_mermaid([result.spec for result in self.results], self.results)
