"""`Command`: one command as a value; and `run_quiet`."""

from __future__ import annotations

from typing import final

import attrs

from .._core import Argument, CommandFailedError, CommandResult, RunOptions, Stdio, escape_controls
from .pipe import Pipe, joined
from .runnable import Runnable
from .stage import Stage


@final
@attrs.frozen(init=False, repr=False)
class Command(Runnable):
    """A command as an immutable value: each ``with_…`` returns a new one, and awaiting `run` or `output` runs it.

    By default its stdin is the null device, and it runs in the caller's directory and environment. There is no shell:
    arguments are passed unchanged. If the caller is cancelled, the command is stopped, with everything it started.

    Args:
        program: Looked up on the PATH, or a path with a slash. A relative path is relative to the
            caller's directory, even with `with_dir`.
        *args: str, bytes, paths or `Secret`. Numbers are refused.

    Raises:
        OptionError: An argument is invalid.

    >>> async def main() -> str:
    ...     return await Command("git", "log", "-1").with_timeout(10).output()
    """

    def __init__(self, program: Argument, *args: Argument) -> None:
        options = RunOptions(command=program, args=args)
        object.__setattr__(self, "_stages", (Stage(options=options),))

    def __or__(self, other: object) -> Pipe:
        """Return the pipe in which `other` reads what this one writes."""
        return joined(self, other) if isinstance(other, Runnable) else NotImplemented

    async def run(self) -> CommandResult:
        """Run the command and return its result, with the last MiB of each stream.

        Raises:
            CommandFailedError: It failed; `CommandTimeoutError` for a timeout.
            ProcessStartError: It can't be started; `ProgramNotFoundError` if there is no such program.
            OptionError: A file given to it is closed.
        """
        return await self._run(self._stages)

    def _result(self, results: tuple[CommandResult, ...]) -> CommandResult:
        return results[0]


async def run_quiet(program: Argument, *args: Argument) -> None:
    """Run a command for its effect: stdout is discarded, and stderr becomes the text of the error.

    Args:
        program: The program, found on the PATH unless it has a slash.
        *args: Its arguments.

    Raises:
        CommandFailedError: It failed; the text is its stderr, trimmed.
        ProcessStartError: It can't be started.

    >>> async def main() -> None:
    ...     await run_quiet("git", "diff", "--quiet")
    """
    try:
        await Command(program, *args).with_stdout(Stdio.NULL).run()
    except CommandFailedError as error:
        stderr = error.result.to_dict()["stderr"].strip()  # secrets masked
        error._text = escape_controls(stderr)
        raise
