"""`FileTail`: follows the log file that a detached process writes, so that its output is processed like any other."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final, final

import trio

from ..reactor import Reactor, Timer

_CHUNK: Final = 65536
_SHORTEST: Final = 0.01
_LONGEST: Final = 0.2


def open_at_end(path: Path) -> int:
    """Return a descriptor at the end of a file, to read later additions."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    os.lseek(descriptor, 0, os.SEEK_END)
    return descriptor


@final
class FileTail:
    """Reads additions to a file, checking often while it grows and less often while it doesn't.

    A file that was emptied (by `copytruncate` of logrotate(8), say) is read from its new beginning.

    It uses a timer instead of inotify(7), which needs another library, and misses writes of other hosts on a network disk.

    Args:
        descriptor: The file, at the position to read from; `close` closes it.
        reactor: Provides the timer.
        receive: Takes in each chunk.
    """

    __slots__ = ("_descriptor", "_interval", "_paused", "_reactor", "_receive", "_timer")

    def __init__(self, descriptor: int, reactor: Reactor, receive: Callable[[bytes], None]) -> None:
        self._descriptor = descriptor
        self._reactor = reactor
        self._receive = receive
        self._interval = _SHORTEST
        self._paused = False
        self._timer: Timer | None = None

    def resume(self) -> None:
        """Start to read, or continue."""
        self._paused = False
        if self._descriptor >= 0 and self._timer is None:
            self._timer = self._reactor.call_at(trio.current_time() + self._interval, self._look)

    def pause(self) -> None:
        """Stop reading until `resume`."""
        self._paused = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        size = self.read(_CHUNK)
        if size == _CHUNK:
            self._interval = 0.0  # there may be more, but readers and other tasks have their turn before
        else:
            self._interval = _SHORTEST if size else min(max(2 * self._interval, _SHORTEST), _LONGEST)
        if not self._paused:
            self.resume()

    def read(self, most: float = math.inf) -> int:
        """Read the available bytes, but at most `most`; return how many there were."""
        if self._descriptor < 0:
            return 0
        # no further than its present end: the writer may go on for ever
        size, place = os.fstat(self._descriptor).st_size, os.lseek(self._descriptor, 0, os.SEEK_CUR)
        if size < place:
            place = os.lseek(self._descriptor, 0, os.SEEK_SET)
        rest = min(size - place, most)
        taken = 0
        while rest > 0 and not self._paused and self._descriptor >= 0:
            data = os.read(self._descriptor, int(min(rest, _CHUNK)))
            if not data:
                break
            taken += len(data)
            rest -= len(data)
            self._receive(data)
        return taken

    def close(self) -> None:
        """Stop reading and close the file."""
        self.pause()
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
