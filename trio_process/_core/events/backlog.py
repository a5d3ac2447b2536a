"""`Backlog`: what one subscriber has not read yet, and its policy when that gets too much."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, final

import trio

from ..enums import Overflow
from .batch import EventBatch

MAX_WEIGHT: Final = 16 * 2**20
"""The most text that a backlog holds before its policy strikes, in bytes."""


@final
class Backlog:
    """What one subscriber has not read yet, and its policy when that gets too much.

    Counts are of events. Where others wait for room, a batch that is being read one by one counts until the next one.
    """

    __slots__ = (
        "_kept", "_key", "_leave", "_name", "_overflow", "_room_wanted", "_types", "buffer", "closed", "count", "dropped",
        "ended", "named", "origin", "queue", "readers", "weight",
    )  # fmt: skip

    def __init__(
        self,
        types: tuple[type, ...],
        key: str | None,
        name: str | None,
        buffer: float,
        overflow: Overflow,
        leave: Callable[[Backlog], None],
        origin: str,
    ) -> None:
        self._leave: Callable[[Backlog], None] | None = leave  # takes it off the bus
        self._types = types
        self._key = key
        self._name = name
        self._overflow = overflow
        self._room_wanted: list[Callable[[], object]] = []
        self.buffer = buffer
        self.queue: deque[EventBatch] = deque()
        self._kept = 0  # how many batches at the front are known to be none that may be dropped
        self.count = 0
        self.weight = 0
        self.dropped = 0
        self.ended = False
        self.closed = False
        self.readers = trio.lowlevel.ParkingLot()
        self.origin = origin  # the line of code that subscribed
        self.named = False  # in a log record, for holding a child up

    def wants(self, kind: type, key: str, name: str | None) -> bool:
        """Return whether events of that class and process are asked for."""
        return (
            not self.ended
            and (self._key is None or self._key == key)
            and (self._name is None or self._name == name)
            and (not self._types or issubclass(kind, self._types))
        )

    def sees_end_of(self, key: str) -> bool:
        """Return whether the end of that process is the end of this backlog."""
        return self._key == key

    @property
    def drops(self) -> bool:
        """Whether it drops rather than let anybody wait."""
        return self._overflow is not Overflow.WAIT

    @property
    def full(self) -> bool:
        """Whether whoever produces should wait; a buffer of 0 takes a chunk at a time."""
        return (
            self._overflow is Overflow.WAIT
            and not self.closed
            and not self.ended
            and self.count > 0
            and (self.count >= self.buffer or self.weight >= MAX_WEIGHT)
        )

    def offer(self, batch: EventBatch) -> None:
        """Take a batch in, or what the policy leaves of it."""
        if self.closed or self.ended:
            return
        if self._overflow is Overflow.DROP_NEWEST and batch.droppable:
            room = 0 if self.weight >= MAX_WEIGHT else max(0, max(self.buffer, 1) - self.count)
            if len(batch) > room:
                self.dropped += len(batch) - int(room)
                batch = batch[: int(room)]
                if not len(batch):
                    return
        self.queue.append(batch)
        self.count += len(batch)
        self.weight += batch.weight
        if self._overflow is Overflow.DROP_OLDEST:
            self._drop_oldest()
        if self.readers:
            self.readers.unpark_all()

    def _drop_oldest(self) -> None:
        place = self._kept
        limit = max(self.buffer, 1)
        while (self.count > limit or self.weight > MAX_WEIGHT) and place < len(self.queue):
            batch = self.queue[place]
            if not batch.droppable:
                place += 1
                continue
            excess = len(batch) if self.weight > MAX_WEIGHT else min(len(batch), int(self.count - limit))
            rest = batch[excess:]
            self.dropped += excess
            self.count -= excess
            self.weight -= batch.weight - rest.weight
            if len(rest):
                self.queue[place] = rest
            else:
                del self.queue[place]
        self._kept = place

    def pop(self) -> EventBatch:
        """Take out the oldest batch."""
        self._kept = max(0, self._kept - 1)
        return self.queue.popleft()

    def taken(self, count: int, weight: int) -> None:
        """Note that a batch has been read, and let those go on who waited for room."""
        self.count -= count
        self.weight -= weight
        if self._room_wanted and not self.full:
            self._make_room()

    def when_room(self, callback: Callable[[], object]) -> None:
        """Call `callback` once, as soon as this backlog is no longer full."""
        self._room_wanted.append(callback)

    def forget(self, callback: Callable[[], object]) -> None:
        """Take back `when_room`."""
        if callback in self._room_wanted:
            self._room_wanted.remove(callback)

    def _make_room(self) -> None:
        callbacks, self._room_wanted = self._room_wanted, []
        for callback in callbacks:
            callback()

    def end(self) -> None:
        """Let the reader's loop end once the backlog is read; nobody waits for its room any more."""
        self.ended = True
        self._leave_bus()
        self._make_room()
        self.readers.unpark_all()

    def close(self) -> None:
        """Throw away what is there, and delay nobody any more."""
        if self.closed:
            return
        self.closed = True
        self.queue.clear()
        self._kept = 0
        self.count = self.weight = 0
        self._leave_bus()
        self._make_room()
        self.readers.unpark_all()

    def _leave_bus(self) -> None:
        if self._leave is not None:
            self._leave(self)
            self._leave = None
