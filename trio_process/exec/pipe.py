"""`Pipe`: commands connected by kernel pipes; and `PipeResult`."""

from __future__ import annotations

from typing import Any, final

import attrs

from .._core import CommandResult, EndReason, OptionError, ResourceUsage, in_seconds
from .execution import failed, masker_of
from .runnable import Runnable


@final
@attrs.frozen(kw_only=True)
class PipeResult(CommandResult):
    """The result of a pipe: of each stage, and, as a `CommandResult`, of the pipe as a whole.

    Code, signal, status and reason are those of the stage that made the pipe fail, else of the last stage. `stdout` is
    that of the last stage, `stderr` that of all stages, one after the other.

    Attributes:
        stages: A `CommandResult` each.
        ok: Whether all stages are; an early one may have died of SIGPIPE because the next one had read enough.
    """

    stages: tuple[CommandResult, ...]

    def describe(self) -> str:
        """Return the text that errors use: the pipe, and each failed stage."""
        places = failed(self.stages)
        typed = self.command.replace("\n", "\\n")
        if not places:
            return f"`{typed}` exited with code {self.exit_code} after {in_seconds(self.duration)}"
        which = ", ".join(str(place + 1) for place in places)
        accounts = "\n".join(self.stages[place].describe() for place in places)
        return f"`{typed}` failed in stage {which} of {len(self.stages)}:\n{accounts}"

    def to_dict(self) -> dict[str, Any]:
        """Return the result, ready for JSON, including those of the stages."""
        return {**super().to_dict(), "stages": [stage.to_dict() for stage in self.stages]}


@final
@attrs.frozen(init=False, repr=False)
class Pipe(Runnable):
    """Commands that run concurrently, the stdout of each connected to the stdin of the next; made by ``a | b``.

    The kernel moves the bytes. A pipe fails if any stage does (pipefail); an early stage that died of SIGPIPE because the
    next one had read enough, as in ``yes | head -1``, has not failed. The pipe ends when all stages have.

    >>> from trio_process.exec import Command
    >>> async def main() -> str:
    ...     return await (Command("ps", "-e") | Command("sort") | Command("head", "-5")).output()
    """

    def __init__(self, *commands: Runnable) -> None:
        if len(commands) < 2 or not all(isinstance(command, Runnable) for command in commands):
            raise OptionError(f"a Pipe takes two or more commands, got {commands!r}")
        pipe = commands[0]
        for command in commands[1:]:
            pipe = joined(pipe, command)
        object.__setattr__(self, "_stages", pipe._stages)

    def __or__(self, other: object) -> Pipe:
        """Return a pipe from this command to `other`."""
        return joined(self, other) if isinstance(other, Runnable) else NotImplemented

    async def run(self) -> PipeResult:
        """Run the pipe and return its result, with the last MiB of each stream of each stage.

        Raises:
            CommandFailedError: A stage failed; ``.result`` is the `PipeResult`. `CommandTimeoutError` for a timeout.
            ProcessStartError: A stage can't be started; the others are stopped.
            OptionError: A file given to a stage is closed.
        """
        result = await self._run(self._stages)
        assert isinstance(result, PipeResult)
        return result

    def _result(self, results: tuple[CommandResult, ...]) -> PipeResult:
        last = results[-1]
        bad = [results[place] for place in failed(results)]
        # the rightmost failure, as with bash's pipefail; but a timeout explains the others
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
    """Return the sum of the stages' usage, with the largest of their memory peaks."""
    killed = [usage.oom_killed for usage in usages if usage.oom_killed is not None]
    return ResourceUsage(
        user=sum([usage.user for usage in usages]),
        system=sum([usage.system for usage in usages]),
        max_rss=max([usage.max_rss for usage in usages if usage.max_rss is not None], default=None),
        oom_killed=any(killed) if killed else None,
        core_dumped=any([usage.core_dumped for usage in usages]),
    )


def joined(left: Runnable, right: Runnable) -> Pipe:
    """Return a pipe from `left` to `right`.

    Raises:
        OptionError: The stdout of `left` or the stdin of `right` is redirected already.
    """
    writer, reader = left._stages[-1], right._stages[0]
    if not writer.gives_output:
        raise OptionError(
            f"`{writer.command_line}` has its stdout elsewhere, so that `{reader.command_line}` would read nothing of it"
        )
    if not reader.takes_input:
        raise OptionError(
            f"`{reader.command_line}` has another stdin, so that it would not read from `{writer.command_line}`"
        )
    return Pipe._of([*left._stages, *right._stages])
