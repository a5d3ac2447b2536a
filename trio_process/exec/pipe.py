"""`Pipe`: commands connected by kernel pipes; and `PipeResult`."""

from __future__ import annotations

from typing import Any, final

import attrs

from .._core import CommandResult, EndReason, OptionError, ResourceUsage, in_seconds
from .execution import failed, masker_of
from .runnable import Verbs


@final
@attrs.frozen(kw_only=True)
class PipeResult(CommandResult):
    """What is known of a pipe: the results of its stages, and as a `CommandResult` the pipe as a whole.

    The code, signal, status and reason are those of the stage that the pipe failed for, else of the last; `stdout` is
    the last stage's, `stderr` that of all stages, one after the other.

    Attributes:
        stages: A `CommandResult` each.
        ok: All stages are, but for those that died of SIGPIPE because the next one wanted no more.
    """

    stages: tuple[CommandResult, ...]

    def describe(self) -> str:
        """Return the account that errors give: the pipe, and each stage that failed."""
        places = failed(self.stages)
        typed = self.command.replace("\n", "\\n")
        if not places:
            return f"`{typed}` exited with code {self.exit_code} after {in_seconds(self.duration)}"
        which = ", ".join(str(place + 1) for place in places)
        accounts = "\n".join(self.stages[place].describe() for place in places)
        return f"`{typed}` failed in stage {which} of {len(self.stages)}:\n{accounts}"

    def to_dict(self) -> dict[str, Any]:
        """Return the result, ready for JSON, with the stages' own."""
        return {**super().to_dict(), "stages": [stage.to_dict() for stage in self.stages]}


@final
@attrs.frozen(init=False, repr=False)
class Pipe(Verbs):
    """Commands that run side by side, each one's stdout being the next one's stdin; made by `a | b`.

    The kernel moves the bytes. A pipe is as good as all its stages (pipefail), but for early ones that died of SIGPIPE
    because the next one wanted no more, as in `yes | head -1`. It is over when all stages are.

    >>> from trio_process.exec import Command
    >>> async def main() -> str:
    ...     return await (Command("ps", "-e") | Command("sort") | Command("head", "-5")).output()
    """

    def __init__(self, *commands: Verbs) -> None:
        if len(commands) < 2 or not all(isinstance(command, Verbs) for command in commands):
            raise OptionError(f"a Pipe is made of two commands or more, got {commands!r}")
        pipe = commands[0]
        for command in commands[1:]:
            pipe = joined(pipe, command)
        object.__setattr__(self, "_stages", pipe._stages)

    def __or__(self, other: object) -> Pipe:
        """Return the pipe in which `other` reads what this one writes."""
        return joined(self, other) if isinstance(other, Verbs) else NotImplemented

    async def run(self) -> PipeResult:
        """Run it, and return its result; of each stage's output, the last MiB of each stream is kept.

        Raises:
            CommandFailedError: A stage did not end well; `.result` is the `PipeResult`. `CommandTimeoutError` if it was
                for a timeout.
            ProcessStartError: A stage can't be started; the others are stopped.
            OptionError: What was given to a stage as a file is closed.
        """
        result = await self._run(self._stages)
        assert isinstance(result, PipeResult)
        return result

    def _result(self, results: tuple[CommandResult, ...]) -> PipeResult:
        last = results[-1]
        bad = [results[place] for place in failed(results)]
        # bash's pipefail: the rightmost; but a timeout explains the others
        late = [result for result in bad if result.reason in (EndReason.TIMED_OUT, EndReason.IDLE)]
        decisive = (late or bad or [last])[-1]
        early_stderr = b"".join([result.stderr_bytes for result in results[:-1]])
        return PipeResult(
            command=str(self),
            exit_code=decisive.exit_code,
            signal_name=decisive.signal_name,
            status=decisive.status,
            reason=decisive.reason,
            requested_by=decisive.requested_by,
            output_bytes=early_stderr + last.output_bytes,
            stdout_bytes=last.stdout_bytes,
            stderr_bytes=early_stderr + last.stderr_bytes,
            dropped=sum([result.dropped for result in results]),
            output_incomplete=any([result.output_incomplete for result in results]),
            started_at=results[0].started_at,
            usage=_sum([result.usage for result in results if result.usage is not None]),
            duration=max([result.duration for result in results]),
            ok=not bad,
            encoding=last.encoding,
            errors=last.errors,
            masker=masker_of(self._stages),
            stages=results,
        )


def _sum(usages: list[ResourceUsage]) -> ResourceUsage:
    """Return what all stages used, and the largest of their peaks."""
    killed = [usage.oom_killed for usage in usages if usage.oom_killed is not None]
    return ResourceUsage(
        user=sum([usage.user for usage in usages]),
        system=sum([usage.system for usage in usages]),
        max_rss=max([usage.max_rss for usage in usages if usage.max_rss is not None], default=None),
        oom_killed=any(killed) if killed else None,
        core_dumped=any([usage.core_dumped for usage in usages]),
    )


def joined(left: Verbs, right: Verbs) -> Pipe:
    """Return the pipe from one to the other.

    Raises:
        OptionError: The one's stdout, or the other's stdin, is somewhere else already.
    """
    writer, reader = left._stages[-1], right._stages[0]
    if not writer.gives_output:
        raise OptionError(
            f"`{writer.typed}` has its stdout elsewhere, so that `{reader.typed}` would read nothing of it"
        )
    if not reader.takes_input:
        raise OptionError(f"`{reader.typed}` has another stdin, so that it would not read from `{writer.typed}`")
    return Pipe._of([*left._stages, *right._stages])
