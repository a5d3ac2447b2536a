"""`Call`: a command that was started, or tried, as the test sees it afterwards."""

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
        options: Everything it was told: `cwd`, `env`, `timeout` and so on.
        at: When, on Trio's clock.
        stdin: What was written to it so far, whether it read that or not.
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
