"""`Backlog`: the events that one subscriber has not read yet, and the policy for a full backlog."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Final, final

import trio

from ..enums import Overflow
from ..waiting import RoomWaiters
from .batch import EventBatch

MAX_WEIGHT: Final = 16 * 2**20
"""The most text that a backlog holds before its policy applies, in bytes."""


@final
class Backlog:
    """The events that one subscriber has not read yet, and the policy for a full backlog.

    Counts are of events. With `Overflow.WAIT`, a batch that is being read one by one counts until the next one is opened.
    """

    __slots__ = (
        "_kept", "_key", "_leave", "_name", "_named", "_opened", "_overflow", "_room", "_types", "buffer", "closed",
        "count", "dropped", "ended", "origin", "peak", "queue", "readers", "subscriptions", "weight",
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
        self._room = RoomWaiters()
        self._named = False  # in a log record, for holding up a process
        self._opened = (0, 0)  # the count and weight of the batch that is being read one by one
        self._kept = 0  # how many batches at the front can't be dropped
        self.buffer: float = buffer
        self.queue: deque[EventBatch] = deque()
        self.count: int = 0
        self.weight: int = 0
        self.peak: int = 0  # the most that `count` has been
        self.dropped: int = 0
        self.ended: bool = False
        self.closed: bool = False
        self.readers: trio.lowlevel.ParkingLot = trio.lowlevel.ParkingLot()
        self.subscriptions: int = 1  # that share it: the first, and its clones
        self.origin: str = origin  # the line of code that subscribed

    def wants(self, kind: type, key: str, name: str | None) -> bool:
        """Return whether events of this class and process are subscribed to."""
        return (
            not self.ended
            and (self._key is None or self._key == key)
            and (self._name is None or self._name == name)
            and (not self._types or issubclass(kind, self._types))
        )

    def sees_end_of(self, key: str) -> bool:
        """Return whether the backlog ends with this process."""
        return self._key == key

    @property
    def drops(self) -> bool:
        """Whether its policy is to drop events, not to delay their producers."""
        return self._overflow is not Overflow.WAIT

    @property
    def full(self) -> bool:
        """Whether producers should wait; a buffer of 0 takes one chunk at a time."""
        return (
            self._overflow is Overflow.WAIT
            and not self.closed
            and not self.ended
            and self.count > 0
            and (self.count >= self.buffer or self.weight >= MAX_WEIGHT)
        )

    def offer(self, batch: EventBatch) -> None:
        """Append a batch, or the part of it that the policy keeps."""
        if self.closed or self.ended:
            return
        if self._overflow is Overflow.DROP_NEWEST and batch._droppable:
            room = 0 if self.weight >= MAX_WEIGHT else max(0, max(self.buffer, 1) - self.count)
            if len(batch) > room:
                self.dropped += len(batch) - int(room)
                batch = batch[: int(room)]
                if not len(batch):
                    return
        self.queue.append(batch)
        self.count += len(batch)
        self.weight += batch._weight
        if self._overflow is Overflow.DROP_OLDEST:
            self._drop_oldest()
        self.peak = max(self.peak, self.count)
        if self.readers:
            self.readers.unpark_all()

    def _drop_oldest(self) -> None:
        place = self._kept
        limit = max(self.buffer, 1)
        while (self.count > limit or self.weight > MAX_WEIGHT) and place < len(self.queue):
            batch = self.queue[place]
            if not batch._droppable:
                place += 1
                continue
            excess = len(batch) if self.weight > MAX_WEIGHT else min(len(batch), int(self.count - limit))
            rest = batch[excess:]
            self.dropped += excess
            self.count -= excess
            self.weight -= batch._weight - rest._weight
            if len(rest):
                self.queue[place] = rest
            else:
                del self.queue[place]
        self._kept = place

    def pop(self) -> EventBatch:
        """Remove and return the oldest batch."""
        self._kept = max(0, self._kept - 1)
        return self.queue.popleft()

    def taken(self, count: int, weight: int) -> None:
        """Free the room of a batch that has been read; producers that wait for room resume."""
        self.count -= count
        self.weight -= weight
        if self._room and not self.full:
            self._room.run()

    def when_room(self, callback: Callable[[], object]) -> None:
        """Call `callback` once, as soon as this backlog is no longer full."""
        self._room.add(callback)

    def forget(self, callback: Callable[[], object]) -> None:
        """Undo `when_room`."""
        self._room.discard(callback)

    def open_batch(self) -> Iterator[Any]:
        """Remove the oldest batch, to be read one by one; return an iterator over its events."""
        batch = self.pop()
        if self.drops:
            # it is out of the backlog: if it counted, it would push out newer events than itself
            self.taken(len(batch), batch._weight)
        else:
            self._opened = (len(batch), batch._weight)
        return iter(batch)

    def close_batch(self) -> None:
        """Free the room of the batch that was opened, now that it has been read."""
        count, weight = self._opened
        if count:
            self._opened = (0, 0)
            self.taken(count, weight)

    @property
    def buffered(self) -> tuple[int, int]:
        """How many events, and bytes of text, are still unread."""
        return self.count - self._opened[0], self.weight - self._opened[1]

    @property
    def held_up(self) -> int:
        """How many producers wait for room."""
        return len(self._room)

    def hold_up_notice(self, process: str, seconds: float) -> str | None:
        """Return the log message about a process that waits for this reader; once, then None."""
        if self._named:
            return None
        self._named = True
        return (
            f"the subscription made at {self.origin} has held up {process} for {seconds:g} s: read it faster, give it a "
            "larger buffer, or let it drop (overflow=Overflow.DROP_OLDEST)"
        )

    def leave(self) -> None:
        """Close the backlog if its last subscription has been closed."""
        self.subscriptions -= 1
        if self.subscriptions:
            self.readers.unpark_all()  # one of them may wait through the subscription that was closed
        else:
            self.close()

    def end(self) -> None:
        """Make the reader's loop end once the backlog is read; no producer waits for it any longer."""
        self.ended = True
        self._leave_bus()
        self._room.run()
        self.readers.unpark_all()

    def close(self) -> None:
        """Discard all events; no producer waits for it any longer."""
        if self.closed:
            return
        self.closed = True
        self.queue.clear()
        self._kept = 0
        self._opened = (0, 0)
        self.count = self.weight = 0
        self._leave_bus()
        self._room.run()
        self.readers.unpark_all()

    def _leave_bus(self) -> None:
        if self._leave is not None:
            self._leave(self)
            self._leave = None
