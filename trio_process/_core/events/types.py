"""The four action events of a process's life, in the order in which they come."""

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
    """A process runs; `at` is its start, timezone-aware."""

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
    r"""One line, without its ``\n`` or ``\r\n``; `partial` marks all pieces of a long line but the last."""

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
    """A process died of a signal; `signal` is its true name, e.g. ``"SIGKILL"``."""

    id: str
    name: str | None
    signal: str

    def to_dict(self) -> dict[str, Any]:
        """Return the event, ready for JSON."""
        return json_ready(self)


@final
@attrs.frozen
class ActionProcessExited:
    """A process has ended, or never began; `error` is set for every end that is not `ok`; `duration` in seconds."""

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
