"""The second mark of a child's descendants: a resource limit with an odd value, which every process inherits.

A title overwrites the environment (setproctitle, perl's ``$0``), a program that is not dumpable hides it (ssh-agent), ``env -i``
drops it, and it is gone with the main thread. ``/proc/PID/limits`` can be read in all of these cases, by every user. The
limit is RLIMIT_RTTIME: it applies only to processes under real-time scheduling, and a value of 2**62 microseconds is no
restriction. A program that sets this limit itself is not found by it.
"""

from __future__ import annotations

import os
import resource
import threading
from typing import Final, Self, final

_CHILDREN: Final = 10**6  # a service's limits differ in the last six digits, one for each of its children
_FIRST: Final = 2**62 // _CHILDREN + 1
_LAST: Final = (2**63 - 1) // _CHILDREN - 1
_LINE: Final = b"Max realtime timeout"


@final
class LimitMarks:
    """The values of one service's children.

    Attributes:
        prefix: The digits that all of them begin with, for the guardian.
    """

    def __init__(self) -> None:
        self.prefix = _FIRST + int.from_bytes(os.urandom(8)) % (_LAST - _FIRST)

    def of(self, number: int) -> int:
        """Return the value for the child with this number."""
        return self.prefix * _CHILDREN + number % _CHILDREN

    def has(self, value: int) -> bool:
        """Whether a value belongs to a child of this service."""
        return value // _CHILDREN == self.prefix


@final
class InheritedLimitMark:
    """A block in which to start a child that inherits the mark; call `reach` with its PID inside the block.

    If this thread is the only one of the program, the mark is set as our own limit inside the block. Otherwise another
    thread could start a process meanwhile, which would be mistaken for a descendant of the child. So the child is then
    marked from outside, some ten microseconds after its exec; a descendant that it forks before that, and that has no
    environment left, is not found.

    Args:
        value: The mark, 0 for none.
    """

    __slots__ = ("_lent", "_limits", "_value")  # not a generator, which takes 3 µs of a start

    def __init__(self, value: int) -> None:
        self._value = value

    def __enter__(self) -> Self:
        value = self._value
        _, hard = self._limits = resource.getrlimit(resource.RLIMIT_RTTIME)
        if value and not (hard == resource.RLIM_INFINITY or hard >= value):
            self._value = value = 0
        self._lent = bool(value) and threading.active_count() == 1
        if self._lent:
            resource.setrlimit(resource.RLIMIT_RTTIME, (value, hard))
        return self

    def reach(self, pid: int) -> None:
        """Mark the child from outside, unless it has inherited the mark."""
        if self._value and not self._lent:
            _mark_from_outside((self._value, self._limits[1]), pid)

    def __exit__(self, *_: object) -> None:
        if self._lent:
            resource.setrlimit(resource.RLIMIT_RTTIME, self._limits)


def _mark_from_outside(limits: tuple[int, int], pid: int) -> None:
    try:
        resource.prlimit(pid, resource.RLIMIT_RTTIME, limits)
    except (OSError, ValueError):
        pass  # it has ended, or runs as another user by now: it has its environment


def limit_mark_of(pid: int) -> int:
    """Return the value of a process, 0 if it has none."""
    try:
        with open(f"/proc/{pid}/limits", "rb", buffering=0) as file:
            data = file.read()
    except OSError:
        return 0
    begin = data.find(_LINE)
    soft = data[begin + len(_LINE) :].split(None, 1)[0] if begin >= 0 else b""
    return int(soft) if soft.isdigit() else 0
