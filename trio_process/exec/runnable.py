"""The verbs that a command and a pipe share: how they are told more, and how they are run."""

from __future__ import annotations

import math
import os
from abc import abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Self, Unpack

import attrs

from .._core import CommandResult, EnvValue, OptionError, Stdio, checks, escape_controls
from .execution import executing
from .lines import Lines, check_source
from .logger import Logger, checked
from .stage import Source, Stage, Target

if TYPE_CHECKING:
    from .keywords import CommandKeywords


@attrs.frozen(init=False, repr=False)
class Verbs:
    """A row of commands, each one's stdout connected to the next one's stdin."""

    _stages: tuple[Stage, ...]

    @classmethod
    def _of(cls, stages: Sequence[Stage]) -> Self:
        made = cls.__new__(cls)
        object.__setattr__(made, "_stages", tuple(stages))
        return made

    @abstractmethod
    def _result(self, results: tuple[CommandResult, ...]) -> CommandResult:
        """Return the stages' results as one."""

    def __str__(self) -> str:
        return escape_controls(" | ".join(stage.typed for stage in self._stages))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self}>"

    # telling more: each returns a new one

    def _each(self, change: Callable[[Stage], Stage]) -> Self:
        return self._of([change(stage) for stage in self._stages])

    def with_dir(self, directory: str | bytes | os.PathLike[str] | None) -> Self:
        """Return the same, to be run in a directory; a relative program path still means the caller's directory.

        Args:
            directory: Where it runs; None for the caller's.
        """
        return self._each(lambda stage: stage.with_dir(directory))

    def with_env(self, env: Mapping[str, EnvValue] | None = None, /, **names: EnvValue) -> Self:
        """Return the same with variables laid over those it has already.

        Args:
            env: Names and values; a value of None removes the name.
            **names: The same, as keywords.

        >>> from trio_process.exec import Command
        >>> quiet = Command("make").with_env(LC_ALL="C", MAKEFLAGS=None)
        """
        if env is not None and not isinstance(env, Mapping):
            raise OptionError(f"with_env takes a mapping or keywords, got {env!r}")
        return self._each(lambda stage: stage.with_env({**(env or {}), **names}))

    def with_stdin(self, source: Source) -> Self:
        """Return the same with another stdin (of a pipe: of its first stage); it is the null device unless given.

        Args:
            source: A str or bytes, always data; a `Path` to read; an open binary file; `Stdio.INHERIT` or `.NULL`; or
                an async iterable of bytes, which is read as the command reads, and once only.
        """
        first, *rest = self._stages
        return self._of([first.with_stdin(source), *rest])

    def with_stdout(self, target: Target, *, append: bool = False) -> Self:
        """Return the same with another stdout (of a pipe: of its last stage).

        Args:
            target: A `Path`; an open file; `Stdio.INHERIT`, `.NULL` or `.PIPE` (captured, as at first); or a callable, which gets each line while the
                command runs (an async one is awaited). A slow one delays the command; one that raises stops it.
            append: Write behind what the `Path` holds, instead of replacing it.
        """
        *rest, last = self._stages
        return self._of([*rest, last.with_output("stdout", target, append=checks.flag("append", append))])

    def with_stderr(self, target: Target, *, append: bool = False) -> Self:
        """Return the same with another stderr (of a pipe: of every stage); as `with_stdout`, or `Stdio.STDOUT`."""
        append = checks.flag("append", append)
        return self._each(lambda stage: stage.with_output("stderr", target, append=append))

    def with_timeout(self, seconds: float | None) -> Self:
        """Return the same with a time limit from its start on; what runs longer is stopped, a `CommandTimeoutError`.

        Args:
            seconds: The limit; None for none. In a pipe, a stage with a shorter one keeps it.
        """
        own = seconds is None or len(self._stages) == 1
        return self._each(lambda stage: stage.with_timeout(seconds if own else _shorter(seconds, stage)))

    def with_logger(self, logger: Logger | None) -> Self:
        """Return the same with another logger; None for the default one."""
        checked(logger)
        return self._each(lambda stage: attrs.evolve(stage, logger=logger))

    def with_options(self, **options: Unpack[CommandKeywords]) -> Self:
        """Return the same with other fields of `RunOptions`: `ok_exit_codes`, `redact`, `grace_period` and so on.

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
        """Return the stages with nothing of their output thrown away."""
        *rest, last = self._stages
        for stream in wanted:
            if getattr(last.options, stream) not in (Stdio.PIPE, Stdio.STDOUT):
                raise OptionError(
                    f"`{last.typed}` has its {stream} elsewhere, so that there is none to return; use run()"
                )
        return [stage.with_options({"buffer_size": math.inf}) for stage in (*rest, last)]

    async def output(self) -> str:
        """Run it, and return its stdout, whole and as it is.

        Raises:
            CommandFailedError: It did not end well; `.result` has the output.
            ProcessStartError: It can't be started; `ProgramNotFoundError` if there is no such program.
            OptionError: Its stdout was sent elsewhere, or what was given to it is closed.
        """
        return (await self._run(self._whole(["stdout"]))).stdout

    async def combined_output(self) -> str:
        """Run it, and return stdout and stderr, whole, as they were written; raises as `output` does.

        Of a pipe: first the stderr of the early stages, stage by stage, then both streams of the last.
        """
        *rest, last = self._whole(["stdout", "stderr"])
        if last.stdout.call is None and last.stderr.call is None:
            # one pipe for both keeps the true order; two are only read one after the other
            last = last.with_output("stderr", Stdio.STDOUT, append=False)
        return (await self._run([*rest, last])).output

    @asynccontextmanager
    async def lines(self, source: str = "stdout") -> AsyncIterator[Lines]:
        """Run it for a block, and give its lines while it runs; leaving the block stops it.

        No line is lost: a slow reader delays the command. The loop ends with the command, and raises then as `output`
        does; a block that is left before raises nothing for the command.

        Args:
            source: `"stdout"`, `"stderr"` (of a pipe: of all stages) or `"all"`.

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
