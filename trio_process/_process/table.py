"""The records of a service by id: the processes that run, and the finished ones that it remembers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import final

from .._core import OptionError, ProcessError, ProcessNotFoundError, shown_command
from .lifecycle import Lifecycle, Phase


@final
class Table:
    """Owns the records; the oldest finished ones lose first their output, then their record.

    Args:
        retain: How many finished ones are remembered.
        retain_bytes: How many bytes of output they may hold.

    Attributes:
        running: The lifecycles that have started and not ended, by id in start order.
        held: Bytes of output that the finished ones hold.
    """

    def __init__(self, retain: float, retain_bytes: float) -> None:
        self._retain = retain
        self._retain_bytes = retain_bytes
        self._all: dict[str, Lifecycle] = {}  # in start order
        self.running: dict[str, Lifecycle] = {}
        self.held = 0
        self._finished: dict[str, None] = {}  # oldest first
        self._holding: dict[str, int] = {}  # the ids of those with output, and how many bytes

    def __iter__(self) -> Iterator[Lifecycle]:
        """All records, in start order."""
        return iter(self._all.values())

    @property
    def remembered(self) -> int:
        """How many finished ones there are."""
        return len(self._finished)

    def add(self, child: Lifecycle) -> None:
        """Add a child that is about to be started."""
        self._all[child.record.id] = child

    def started(self, child: Lifecycle) -> None:
        """Count a child among those that run."""
        self._all[child.record.id] = self.running[child.record.id] = child

    def discard(self, child: Lifecycle) -> None:
        """Forget a child that was never started, or can't be watched."""
        self._all.pop(child.record.id, None)
        self.running.pop(child.record.id, None)

    def ended(self, child: Lifecycle) -> None:
        """Move a child to the finished ones, and forget the oldest beyond the limits."""
        key = child.record.id
        self.running.pop(key, None)
        self._finished[key] = None
        size = child.output.capture.held
        if size:
            self._holding[key] = size
            self.held += size
        # a caller that holds the process may read its output now, however much that is
        is_held = child.managed_ref is not None and child.managed_ref() is not None
        self.trim(but=child if is_held else None)
        while len(self._finished) > self._retain:
            self.forget(next(iter(self._finished)))

    def trim(self, but: Lifecycle | None = None) -> None:
        """Release the output of the oldest beyond the limit, unless a task waits for the process or reads from it."""
        if self.held <= self._retain_bytes:
            return
        for key in [key for key in self._holding if not self._all[key].claims and self._all[key] is not but]:
            self._all[key].output.capture.release()
            self.held -= self._holding.pop(key)
            if self.held <= self._retain_bytes:
                return

    def remove(self, key: str) -> None:
        """Drop the record of a process that has ended.

        Raises:
            ProcessError: It is still running.
            ProcessNotFoundError: There is none.
        """
        child = self.get(key)
        if child.phase is not Phase.ENDED:
            command = shown_command(child.record.options)
            raise ProcessError(f"{key} ({command}) is still running; stop it before you remove it")
        self.forget(key)

    def forget(self, key: str) -> None:
        """Drop the record of a finished process."""
        del self._finished[key]
        self.held -= self._holding.pop(key, 0)
        del self._all[key]

    def clear(self) -> None:
        """Drop the records of all finished processes."""
        for key in [*self._finished]:
            self.forget(key)

    def has_ended(self, key: str) -> bool:
        """Return whether the process with this id is known, and has ended."""
        child = self._all.get(key)
        return child is not None and child.phase is Phase.ENDED

    def get(self, key: str) -> Lifecycle:
        """Return the process with this id.

        Raises:
            ProcessNotFoundError: There is none.
        """
        if not isinstance(key, str):
            raise OptionError(f"an id is a str, as start returned it; got {key!r}")
        child = self._all.get(key)
        if child is None:
            raise ProcessNotFoundError(f"this service has no process {key!r}; it may have been forgotten (retain)")
        return child
