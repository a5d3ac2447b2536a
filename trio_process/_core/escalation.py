"""What repeated signals do to a program: the first stops it, the second ends every grace, the third exits at once.

The rule is that of pytest, Docker Compose, Ninja and systemd's `TimeoutStopSec`: a person who presses Ctrl-C again
wants a faster end, and the third time an immediate one, at any price.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Final, final

_ALL: Final = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
_THIRD: Final = 3


def stop_signals() -> tuple[int, ...]:
    """Return SIGINT, SIGTERM and SIGHUP, but for those that are ignored: by nohup, or in a shell's background job.

    Call it before handlers are installed. An ignored signal stays ignored across execve(2), which is how nohup(1)
    protects a program from the end of its terminal; installing a handler would undo that.
    """
    return tuple(int(number) for number in _ALL if signal.getsignal(number) is not signal.SIG_IGN)


def _at_once(call: Callable[[int], object], number: int) -> None:
    call(number)


def _nothing() -> None:
    pass


@final
class Escalation:
    """The first signal stops, the second ends every grace, the third exits with 128+N.

    Args:
        stop: Called with the first signal.
        hurry: Called with the second.
        last_words: Called before the exit: restore a terminal, nothing that can block.
        deliver: How the first two reach the loop, called with the callable and the signal; a signal handler passes
            `token.run_sync_soon`, so that the third works although the loop is stuck.

    Attributes:
        first: The signal that started it, or None.
    """

    __slots__ = ("_count", "_deliver", "_hurry", "_last_words", "_stop", "first")

    def __init__(
        self,
        *,
        stop: Callable[[int], object],
        hurry: Callable[[int], object],
        last_words: Callable[[], object] = _nothing,
        deliver: Callable[[Callable[[int], object], int], object] = _at_once,
    ) -> None:
        self._stop = stop
        self._hurry = hurry
        self._last_words = last_words
        self._deliver = deliver
        self._count = 0
        self.first: int | None = None

    def receive(self, number: int) -> None:
        """Escalate by one step; the third call never returns."""
        self._count += 1
        if self._count >= _THIRD:
            try:
                self._last_words()
            finally:
                os._exit(128 + number)  # no finally, no atexit, no flush: each of them could wait
        if self._count == 1:
            self.first = number
            self._deliver(self._stop, number)
        else:
            self._deliver(self._hurry, number)
