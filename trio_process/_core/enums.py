"""The enums: states, streams, reasons, policies; and the table of transitions between states."""

from __future__ import annotations

import functools
import signal as _signal
from enum import StrEnum
from typing import TypeVar

from .checks import brief
from .errors import bad_option


class Status(StrEnum):
    """The state of a process; the last three are final.

    Attributes:
        PENDING: It was requested, and has not been started yet. RUNNING or FAILED follows.
        RUNNING: It has been started. EXITED, FAILED or KILLED follows.
        EXITED: It has exited, with whatever code.
        FAILED: It could not be started, or its agent was lost.
        KILLED: It died of a signal.
    """

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
    """Which of its two output streams a process wrote a line to.

    Attributes:
        STDOUT: Standard output.
        STDERR: Standard error.
    """

    STDOUT = "stdout"
    STDERR = "stderr"


class Stdio(StrEnum):
    """What a standard stream of the child is connected to.

    Attributes:
        PIPE: A pipe to this program, which reads the output and writes the input.
        NULL: The null device: no input, and output is discarded.
        INHERIT: The same stream of this program.
        STDOUT: For `stderr`: wherever stdout goes.
    """

    PIPE = "pipe"
    NULL = "null"
    INHERIT = "inherit"
    STDOUT = "stdout"


class EndReason(StrEnum):
    """Why a process ended: the first request that the end can be due to.

    Attributes:
        EXITED: It exited on its own.
        SIGNALLED: It died of a signal that this program did not send, or that `ManagedProcess.signal` or `terminate` sent.
        KILLED: `ManagedProcess.kill` was called.
        STOPPED: It was stopped: by `ManagedProcess.stop`, or because its service was left.
        TIMED_OUT: Its `timeout` expired.
        IDLE: It wrote nothing for `idle_timeout` seconds.
        CANCELLED: The scope that waited for it was cancelled.
        FAILED_TO_START: It could not be started.
        OUTPUT_LIMIT: It wrote more than `max_output` bytes.
        LOST: The agent that ran it on another machine was lost.
    """

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
    """What happens to new events while the backlog of a subscriber is full.

    Attributes:
        WAIT: The process waits until there is room: its pipe is not read meanwhile.
        DROP_OLDEST: The oldest lines in the backlog are dropped.
        DROP_NEWEST: New lines are dropped.
    """

    WAIT = "wait"
    DROP_OLDEST = "drop_oldest"
    DROP_NEWEST = "drop_newest"


_Member = TypeVar("_Member", bound=StrEnum)


def member(kind: type[_Member], value: object, option: str) -> _Member:
    """Return the member of `kind` that `value` is or names; raise an `OptionError` with the choices if there is none."""
    try:
        return kind(value)  # type: ignore[arg-type]  # anything may be asked: it raises ValueError
    except ValueError:
        choices = ", ".join(repr(choice.value) for choice in kind)
        raise bad_option(option, f"must be one of {choices}, got {brief(value)}") from None


def signal_name(number: int) -> str:
    """Return a signal's name, ``"SIGTERM"``; real-time signals have none of their own: ``"SIGRTMIN+3"`` (signal(7))."""
    try:
        return _signal.Signals(number).name
    except ValueError:
        first: int | None = getattr(_signal, "SIGRTMIN", None)
        return f"SIGRTMIN+{number - first}" if first is not None and number > first else f"signal {number}"


@functools.cache
def _valid_signals() -> frozenset[int]:
    """Return the signals of this platform; `signal.valid_signals` makes an enum member of each, at every call."""
    return frozenset([int(number) for number in _signal.valid_signals()])


def signal_number(value: object, option: str = "signal") -> int:
    """Return the number of a signal given as a member, number or name; 0 and unknown signals are refused."""
    if isinstance(value, str):
        name = value.upper()
        found = _signal.Signals.__members__.get(name if name.startswith("SIG") else "SIG" + name)
        if found is not None:
            return int(found)
    elif isinstance(value, int) and not isinstance(value, bool) and value in _valid_signals():
        return int(value)
    raise bad_option(option, f"must be a signal, such as signal.SIGTERM, 15 or 'SIGTERM'; got {brief(value)}")
