"""The words of the package: states, streams, reasons; and the table of the states' transitions."""

from __future__ import annotations

import signal as _signal
from enum import StrEnum
from typing import TypeVar

from .errors import OptionError


class Status(StrEnum):
    """The state of a process; `TRANSITIONS` says which may follow which."""

    PENDING = "pending"
    RUNNING = "running"
    EXITED = "exited"
    FAILED = "failed"
    KILLED = "killed"


TRANSITIONS: dict[Status, frozenset[Status]] = {
    Status.PENDING: frozenset({Status.RUNNING, Status.FAILED}),
    Status.RUNNING: frozenset({Status.EXITED, Status.FAILED, Status.KILLED}),
    Status.EXITED: frozenset(),
    Status.FAILED: frozenset(),
    Status.KILLED: frozenset(),
}


class Stream(StrEnum):
    """Which of a process's two outputs a line was written to."""

    STDOUT = "stdout"
    STDERR = "stderr"


class Stdio(StrEnum):
    """What a standard stream of the child is connected to."""

    PIPE = "pipe"
    NULL = "null"
    INHERIT = "inherit"
    STDOUT = "stdout"


class EndReason(StrEnum):
    """Why a process ended: the first request that its end can be due to."""

    EXITED = "exited"
    SIGNALLED = "signalled"
    KILLED = "killed"
    STOPPED = "stopped"
    TIMED_OUT = "timed_out"
    IDLE = "idle"
    CANCELLED = "cancelled"
    FAILED_TO_START = "failed_to_start"
    OUTPUT_LIMIT = "output_limit"
    LOST = "lost"


class Overflow(StrEnum):
    """What happens when a subscriber reads more slowly than events come."""

    WAIT = "wait"
    DROP_OLDEST = "drop_oldest"
    DROP_NEWEST = "drop_newest"


_Member = TypeVar("_Member", bound=StrEnum)


def member(kind: type[_Member], value: object, option: str) -> _Member:
    """Return the member of `kind` that `value` is or names; `OptionError` names the choices."""
    try:
        return kind(value)  # type: ignore[arg-type]  # anything may be asked: it raises ValueError
    except ValueError:
        choices = ", ".join(repr(choice.value) for choice in kind)
        raise OptionError(f"{option} must be one of {choices}, got {value!r}") from None


def signal_name(number: int) -> str:
    """Return a signal's name, `"SIGTERM"`; real-time signals have none of their own: `"SIGRTMIN+3"` (signal(7))."""
    try:
        return _signal.Signals(number).name
    except ValueError:
        first: int | None = getattr(_signal, "SIGRTMIN", None)
        return f"SIGRTMIN+{number - first}" if first is not None and number > first else f"signal {number}"


def signal_number(value: object, option: str = "signal") -> int:
    """Return the number of a signal given as a member, a number or a name; 0 and the unknown are refused."""
    if isinstance(value, str):
        name = value.upper()
        found = _signal.Signals.__members__.get(name if name.startswith("SIG") else "SIG" + name)
        if found is not None:
            return int(found)
    elif isinstance(value, int) and not isinstance(value, bool) and value in _signal.valid_signals():
        return int(value)
    raise OptionError(f"{option} must be a signal, such as signal.SIGTERM, 15 or 'SIGTERM'; got {value!r}")
