"""`Call`: one attempt to start a command, for the test to inspect."""

from __future__ import annotations

from typing import final

import attrs

from .._core import RunOptions, command_line, shown_args, shown_command


@final
@attrs.define(eq=False, repr=False)
class Call:
    """One start of a command; the list `FakeService.calls` holds them in order.

    Attributes:
        id: The id of the process.
        options: All options of the start: `cwd`, `env`, `timeout` and so on.
        at: The time of the start, on Trio's clock.
        stdin: The input written so far, whether the script has read it or not.
    """

    id: str
    options: RunOptions
    at: float
    stdin: bytes = b""

    @property
    def command(self) -> str:
        """The command."""
        return shown_command(self.options)

    @property
    def args(self) -> tuple[str, ...]:
        """The arguments, secrets masked."""
        return shown_args(self.options)

    def __repr__(self) -> str:
        return f"<Call {self.id}: {self} at {self.at:g} s>"

    def __str__(self) -> str:
        return command_line(self.command, self.args)
