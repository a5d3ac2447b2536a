"""The second mark of a child's descendants: a resource limit with an odd value, which every process inherits.

A title overwrites the environment (setproctitle, perl's ``$0``), a program that is not dumpable hides it (ssh-agent), ``env -i``
drops it, and it is gone with the main thread. ``/proc/PID/limits`` can be read in all of these cases, by every user. The
limit is RLIMIT_RTTIME: it concerns processes under real-time scheduling alone, and a value of 2**62 microseconds bounds
nobody. A program that sets this limit itself is not found by it.
"""

from __future__ import annotations

import os
import resource
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Final, final

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
        """Return the value of the child of that number."""
        return self.prefix * _CHILDREN + number % _CHILDREN

    def has(self, value: int) -> bool:
        """Whether a value is of a child of this service."""
        return value // _CHILDREN == self.prefix


@contextmanager
def inherited_limit_mark(value: int) -> Iterator[Callable[[int], None]]:
    """Have a child started inside the block inherit the mark; yields what is to be called with its PID.

    Where this thread is the only one of the program, our own limit is the mark for the length of the block. Otherwise
    another thread could start a process meanwhile, which would be taken for a descendant of the child. So the child is
    marked from outside then, some ten microseconds after its exec, and one that forks before that, and has no
    environment left to be known by, is not found.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_RTTIME)
    if not value or not (hard == resource.RLIM_INFINITY or hard >= value):
        yield _nothing
    elif threading.active_count() > 1:
        yield partial(_mark_from_outside, (value, hard))
    else:
        resource.setrlimit(resource.RLIMIT_RTTIME, (value, hard))
        try:
            yield _nothing
        finally:
            resource.setrlimit(resource.RLIMIT_RTTIME, (soft, hard))


def _mark_from_outside(limits: tuple[int, int], pid: int) -> None:
    try:
        resource.prlimit(pid, resource.RLIMIT_RTTIME, limits)
    except (OSError, ValueError):
        pass  # it has ended, or runs as another user by now: it has its environment


def _nothing(_pid: int) -> None:
    pass


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
