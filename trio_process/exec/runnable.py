"""`Runnable`: the methods that a command and a pipe share, to refine and to run them."""

from __future__ import annotations

import math
import os
from abc import abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Self, Unpack

import attrs

from .._core import CommandResult, EnvValue, OptionError, Stdio, checks, escape_controls, uninterrupted
from .execution import executing
from .lines import Lines, check_source
from .logger import Logger, check_logger
from .stage import Source, Stage, Target

if TYPE_CHECKING:
    from .keywords import CommandKeywords


@attrs.frozen(init=False, repr=False)
class Runnable:
    """One or more commands, the stdout of each connected to the stdin of the next."""

    _stages: tuple[Stage, ...]

    @classmethod
    def _of(cls, stages: Sequence[Stage]) -> Self:
        made = cls.__new__(cls)
        object.__setattr__(made, "_stages", tuple(stages))
        return made

    @abstractmethod
    def _result(self, results: tuple[CommandResult, ...]) -> CommandResult:
        """Combine the results of the stages."""

    def __str__(self) -> str:
        return escape_controls(" | ".join(stage.command_line for stage in self._stages))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self}>"

    # refining: each returns a new value

    def _each(self, change: Callable[[Stage], Stage]) -> Self:
        return self._of([change(stage) for stage in self._stages])

    def with_dir(self, directory: str | bytes | os.PathLike[str] | None) -> Self:
        """Return the same command with another working directory; a relative program path stays relative to the caller's.

        Args:
            directory: The directory; None for the caller's.
        """
        return self._each(lambda stage: stage.with_dir(directory))

    def with_env(self, env: Mapping[str, EnvValue] | None = None, /, **names: EnvValue) -> Self:
        """Return the same command with more environment variables.

        Args:
            env: Names and values; a value of None removes the name.
            **names: More of them, as keywords.

        >>> from trio_process.exec import Command
        >>> quiet = Command("make").with_env(LC_ALL="C", MAKEFLAGS=None)
        """
        if env is not None and not isinstance(env, Mapping):
            raise OptionError(f"with_env takes a mapping or keywords, got {checks.brief(env)}")
        return self._each(lambda stage: stage.with_env({**(env or {}), **names}))

    def with_stdin(self, source: Source) -> Self:
        """Return the same command with another stdin, that of the first stage for a pipe; the default is the null device.

        Args:
            source: A str or bytes, which is the data itself; a `Path` to read; an open binary file; `Stdio.INHERIT` or
                ``.NULL``; or an async iterable of bytes, which is read once, as fast as the command reads.
        """
        first, *rest = self._stages
        return self._of([first.with_stdin(source), *rest])

    def with_stdout(self, target: Target, *, append: bool = False) -> Self:
        """Return the same command with another stdout, that of the last stage for a pipe.

        Args:
            target: A `Path`; an open file; `Stdio.INHERIT`, ``.NULL`` or ``.PIPE`` (captured, the default); or a callable,
                called with each line while the command runs (an async one is awaited). A slow callable delays the
                command; one that raises stops it.
            append: Append to the file at the `Path` instead of replacing it.
        """
        *rest, last = self._stages
        return self._of([*rest, last.with_output("stdout", target, append=checks.flag("append", append))])

    def with_stderr(self, target: Target, *, append: bool = False) -> Self:
        """Return the same command with another stderr, that of every stage for a pipe; as `with_stdout`, or `Stdio.STDOUT`."""
        append = checks.flag("append", append)
        return self._each(lambda stage: stage.with_output("stderr", target, append=append))

    def with_timeout(self, seconds: float | None) -> Self:
        """Return the same command with a time limit; when it runs longer, it is stopped, with a `CommandTimeoutError`.

        Args:
            seconds: The limit, counted from the start; None for no limit. A stage of a pipe keeps a shorter one.
        """
        own = seconds is None or len(self._stages) == 1
        return self._each(lambda stage: stage.with_timeout(seconds if own else _shorter(seconds, stage)))

    def with_logger(self, logger: Logger | None) -> Self:
        """Return the same command with another logger; None for the default one."""
        check_logger(logger)
        return self._each(lambda stage: attrs.evolve(stage, logger=logger))

    def with_options(self, **options: Unpack[CommandKeywords]) -> Self:
        """Return the same command with other fields of `RunOptions`: `ok_exit_codes`, `redact`, `grace_period` and so on.

        >>> from trio_process.exec import Command
        >>> found = Command("git", "log") | Command("grep", "fix").with_options(ok_exit_codes=(0, 1))
        """
        return self._each(lambda stage: stage.with_options(options))

    # running

    async def _run(self, stages: Sequence[Stage]) -> CommandResult:
        async with executing(stages) as execution:
            await execution.finish()
        execution.report()
        return self._result(execution.results()).check()

    def _whole(self, wanted: Sequence[str]) -> list[Stage]:
        """Return the stages with all of their output kept."""
        *rest, last = self._stages
        for stream in wanted:
            if getattr(last.options, stream) not in (Stdio.PIPE, Stdio.STDOUT):
                raise OptionError(
                    f"`{last.command_line}` has its {stream} elsewhere, so that there is none to return; use run()"
                )
        return [stage.with_options({"buffer_size": math.inf}) for stage in (*rest, last)]

    async def output(self) -> str:
        """Run the command and return its whole stdout, unchanged.

        Raises:
            CommandFailedError: It failed; ``.result`` has the output.
            ProcessStartError: It can't be started; `ProgramNotFoundError` if there is no such program.
            OptionError: Its stdout is redirected, or a file given to it is closed.
        """
        return (await self._run(self._whole(["stdout"]))).stdout

    async def combined_output(self) -> str:
        """Run the command and return its whole stdout and stderr, in the order written; raises as `output` does.

        For a pipe: the stderr of the early stages, one after the other, then both streams of the last.
        """
        *rest, last = self._whole(["stdout", "stderr"])
        if last.stdout.call is None and last.stderr.call is None:
            # one pipe for both streams keeps their order; two pipes would be read one after the other
            last = last.with_output("stderr", Stdio.STDOUT, append=False)
        return (await self._run([*rest, last])).output

    @uninterrupted
    async def lines(self, source: str = "stdout") -> AsyncIterator[Lines]:
        """Run the command for the length of a block and yield its lines; leaving the block stops it.

        No line is lost: a slow reader delays the command. The loop ends with the command, and then raises as `output`
        does. Leaving the block earlier raises nothing.

        Args:
            source: ``"stdout"``, ``"stderr"`` (that of all stages for a pipe) or ``"all"``.

        >>> from trio_process.exec import Command
        >>> async def main() -> None:
        ...     async with Command("git", "log", "--oneline").lines() as lines:
        ...         async for line in lines:
        ...             print(line)
        """
        source = check_source(source)
        async with executing(self._stages, listen=True) as execution:
            ended: list[CommandResult] = []

            async def end() -> None:
                await execution.finish()
                if not ended:
                    execution.report()
                    ended.append(self._result(execution.results()))
                ended[0].check()

            yield Lines(execution, source, end)


def _shorter(seconds: float | None, stage: Stage) -> float:
    limit = checks.seconds("timeout", seconds)
    return limit if stage.options.timeout is None else min(limit, stage.options.timeout)
