"""The four action events of a process, in the order in which they are published."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple, final

import attrs

from ..enums import EndReason, Stream
from ..errors import ProcessError
from ..serialize import json_ready


@final
@attrs.frozen
class ActionProcessStarted:
    """A process has been started.

    Attributes:
        id: The id of the process.
        name: Its label, or None.
        command: The program.
        args: Its arguments, secrets masked.
        cwd: The directory it runs in; None for the current one.
        pid: Its PID.
        at: When it was started, timezone-aware.
    """

    id: str
    name: str | None
    command: str
    args: tuple[str, ...]
    cwd: str | None
    pid: int
    at: datetime

    def to_dict(self) -> dict[str, Any]:
        """Return the event, ready for JSON."""
        return json_ready(self, {"cwd": "dir"})


@final
class ActionProcessOutput(NamedTuple):
    r"""A process has written one line.

    Attributes:
        id: The id of the process.
        name: Its label, or None.
        line: The line, decoded, without its ``\n`` or ``\r\n``.
        stream: The stream it was written to.
        partial: Whether the line goes on in the next event: it is longer than `RunOptions.max_line`.
    """

    id: str
    name: str | None
    line: str
    stream: Stream
    partial: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return the event, ready for JSON."""
        return json_ready(self)


@final
@attrs.frozen
class ActionProcessKilled:
    """A process has died of a signal.

    Attributes:
        id: The id of the process.
        name: Its label, or None.
        signal: The name of the signal, e.g. ``"SIGKILL"``.
    """

    id: str
    name: str | None
    signal: str

    def to_dict(self) -> dict[str, Any]:
        """Return the event, ready for JSON."""
        return json_ready(self)


@final
@attrs.frozen
class ActionProcessExited:
    """A process has ended, or could not be started.

    Attributes:
        id: The id of the process.
        name: Its label, or None.
        command: The program.
        args: Its arguments, secrets masked.
        exit_code: The exit code; -N for death by signal N, None if it never ran.
        duration: How long it ran, in seconds.
        error: What `CommandResult.check` would raise; None if the result is `ok`.
        reason: Why it ended.
    """

    id: str
    name: str | None
    command: str
    args: tuple[str, ...]
    exit_code: int | None
    duration: float
    error: ProcessError | None
    reason: EndReason

    def to_dict(self) -> dict[str, Any]:
        """Return the event, ready for JSON; the error as its text."""
        return json_ready(self)
