"""The processes of a service by id: those that run, and as many of the finished ones as shall be remembered."""

from __future__ import annotations

from typing import final

from .._core import OptionError, ProcessNotFoundError
from .lifecycle import Life


@final
class Table:
    """Owns the records; the oldest finished ones lose first their output, then their record.

    Args:
        retain: How many finished ones are remembered.
        retain_bytes: How much output they may hold.

    Attributes:
        lives: All records, in start order.
        running: Those that have not ended, in start order.
        held: Bytes of output that the finished ones hold.
    """

    def __init__(self, retain: float, retain_bytes: float) -> None:
        self._retain = retain
        self._retain_bytes = retain_bytes
        self.lives: dict[str, Life] = {}
        self.running: dict[str, Life] = {}
        self.held = 0
        self._finished: dict[str, None] = {}  # oldest first
        self._holding: dict[str, int] = {}  # those of them with output, and how many bytes

    @property
    def remembered(self) -> int:
        """How many finished ones there are."""
        return len(self._finished)

    def ended(self, life: Life) -> None:
        """Move a record to the finished ones, and forget what is too much."""
        self.running.pop(life.id, None)
        self._finished[life.id] = None
        size = life.output.capture.held
        if size:
            self._holding[life.id] = size
            self.held += size
        self.trim(but=life)  # what it wrote may be looked at now, however much it is
        while len(self._finished) > self._retain:
            self.forget(next(iter(self._finished)))

    def trim(self, but: Life | None = None) -> None:
        """Give up the output of the oldest, as far as it is too much and nobody waits for it."""
        if self.held <= self._retain_bytes:
            return
        for key in [key for key in self._holding if not self.lives[key].claims and self.lives[key] is not but]:
            self.lives[key].output.capture.release()
            self.held -= self._holding.pop(key)
            if self.held <= self._retain_bytes:
                return

    def forget(self, key: str) -> None:
        """Drop the record of a finished process."""
        del self._finished[key]
        self.held -= self._holding.pop(key, 0)
        del self.lives[key]

    def clear(self) -> None:
        """Drop the records of all finished processes."""
        for key in [*self._finished]:
            self.forget(key)

    def has_ended(self, key: str) -> bool:
        """Return whether that process is known, and has ended."""
        life = self.lives.get(key)
        return life is not None and life.over

    def find(self, key: str) -> Life:
        """Return the record of that id.

        Raises:
            ProcessNotFoundError: There is none.
        """
        if not isinstance(key, str):
            raise OptionError(f"an id is a str, as start returned it; got {key!r}")
        life = self.lives.get(key)
        if life is None:
            raise ProcessNotFoundError(f"this service has no process {key!r}; it may have been forgotten (retain)")
        return life
