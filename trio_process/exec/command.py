"""`Command`: one command as a value, said well; and `run_quiet`."""

from __future__ import annotations

from typing import final

import attrs

from .._core import Argument, CommandFailedError, CommandResult, RunOptions, Stdio, escape_controls
from .pipe import Pipe, joined
from .runnable import Verbs
from .stage import Stage


@final
@attrs.frozen(init=False, repr=False)
class Command(Verbs):
    """A command that runs when one of its verbs is awaited; a value, so that each `with_…` returns a new one.

    Its stdin is the null device and it runs in the caller's directory and environment, unless told otherwise. There is
    no shell: arguments are handed over as they are. It is stopped, with all that it started, if the caller is
    cancelled.

    Args:
        program: Looked up on the PATH, or a path with a slash. A relative path means the caller's directory, also with
            `with_dir`.
        *args: str, bytes, paths or `Secret`; no numbers.

    Raises:
        OptionError: A value was refused.

    >>> async def main() -> str:
    ...     return await Command("git", "log", "-1").with_timeout(10).output()
    """

    def __init__(self, program: Argument, *args: Argument) -> None:
        options = RunOptions(command=program, args=args)
        object.__setattr__(self, "_stages", (Stage(options=options),))

    def __or__(self, other: object) -> Pipe:
        """Return the pipe in which `other` reads what this one writes."""
        return joined(self, other) if isinstance(other, Verbs) else NotImplemented

    async def run(self) -> CommandResult:
        """Run it, and return its result; of its output, the last MiB of each stream is kept.

        Raises:
            CommandFailedError: It did not end well; `CommandTimeoutError` for a timeout.
            ProcessStartError: It can't be started; `ProgramNotFoundError` if there is no such program.
            OptionError: What was given to it as a file is closed.
        """
        return await self._run(self._stages)

    def _result(self, results: tuple[CommandResult, ...]) -> CommandResult:
        return results[0]


class _QuietFailedError(CommandFailedError):
    """A command that was run quietly failed: the text is what it said of it, else the usual account."""

    def __str__(self) -> str:
        said = self.result.to_dict()["stderr"].strip()  # secrets masked
        return escape_controls(said) or super().__str__()


async def run_quiet(program: Argument, *args: Argument) -> None:
    """Run a command for its effect: its stdout is discarded, and its stderr is the text of the error.

    Raises:
        CommandFailedError: It did not end well; the text is its stderr, trimmed.
        ProcessStartError: It can't be started.

    >>> async def main() -> None:
    ...     await run_quiet("git", "diff", "--quiet")
    """
    try:
        await Command(program, *args).with_stdout(Stdio.NULL).run()
    except CommandFailedError as error:
        raise _QuietFailedError(error.result) from None  # the same failure, said otherwise
