"""Events: batches inside, events outside.

A `Bus` hands each batch to the `Backlog` of every subscriber that wants it; the subscriber's `Subscription` reads it.
The backlog is held by the bus, the subscription by its reader alone, so that one that is forgotten can close itself.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Self, final

import attrs
import trio

from . import checks
from .batch import EventBatch
from .enums import Overflow, member
from .errors import OptionError
from .events import ActionProcessOutput
from .scope import logger

MAX_WEIGHT: Final = 16 * 2**20
"""The most text that a backlog holds before its policy strikes, in bytes."""

_NOTHING: Final = object()


@final
@attrs.frozen(kw_only=True)
class SubscriptionStatistics:
    """A snapshot: events and bytes of text in the backlog, its bound, what was dropped, how many tasks wait."""

    buffered: int
    buffered_bytes: int
    buffer: int | float
    dropped: int
    tasks_waiting: int


@final
class Backlog:
    """What one subscriber has not read yet, and its policy when that gets too much.

    Counts are of events. Where others wait for room, a batch that is being read one by one counts until the next one.
    """

    __slots__ = (
        "_bus", "_kept", "_key", "_name", "_overflow", "_room_wanted", "_types", "buffer", "closed", "count", "dropped", "ended",
        "named", "origin", "queue", "readers", "weight",
    )  # fmt: skip

    def __init__(
        self, bus: Bus, types: tuple[type, ...], key: str | None, name: str | None, buffer: float, overflow: Overflow
    ) -> None:
        self._bus: Bus | None = bus
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
        self.origin = "unknown"
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
        if self._bus is not None:
            self._bus.leave(self)
            self._bus = None


@final
class Subscription(trio.abc.ReceiveChannel[Any]):
    """A channel of events, read one by one or, faster, by batches.

    It ends (`trio.EndOfChannel`, the end of an `async for`) once the service or core it was asked of is closed, or the
    one process it is for has exited, and its backlog is read. A checkpoint is made once per batch.

    Attributes:
        dropped: How many events its policy has dropped.
    """

    def __init__(self, backlog: Backlog) -> None:
        self._backlog = backlog
        self._events: Iterator[Any] = iter(())
        self._held = (0, 0)  # count and weight of the batch that is being read one by one
        try:
            self._token: trio.lowlevel.TrioToken | None = trio.lowlevel.current_trio_token()
        except RuntimeError:
            self._token = None  # made outside of Trio: nothing runs there that could wait for it

    @property
    def dropped(self) -> int:
        """How many events the policy has dropped so far."""
        return self._backlog.dropped

    def statistics(self) -> SubscriptionStatistics:
        """Return a snapshot of the backlog."""
        backlog = self._backlog
        return SubscriptionStatistics(
            buffered=backlog.count - self._held[0],
            buffered_bytes=backlog.weight - self._held[1],
            buffer=backlog.buffer,
            dropped=backlog.dropped,
            tasks_waiting=backlog.readers.statistics().tasks_waiting,
        )

    async def receive(self) -> Any:
        """Return the next event.

        Raises:
            trio.EndOfChannel: There will be none.
            trio.ClosedResourceError: The subscription was closed, here or under us.
        """
        event = next(self._events, _NOTHING)
        while event is _NOTHING:
            batch = await self._take()
            if self._backlog.drops:
                # it is out of the backlog: counted on, it would push out newer events than itself
                self._backlog.taken(len(batch), batch.weight)
            else:
                self._held = (len(batch), batch.weight)
            self._events = iter(batch)
            event = next(self._events, _NOTHING)
        return event

    async def __anext__(self) -> Any:
        event = next(self._events, _NOTHING)
        if event is not _NOTHING:
            return event
        try:
            return await self.receive()
        except trio.EndOfChannel:
            raise StopAsyncIteration from None

    async def receive_batch(self) -> EventBatch:
        """Return the next events, as many as came at once; raises as `receive` does."""
        rest = list(self._events)
        if rest:  # receive() has begun this one
            await trio.lowlevel.checkpoint()
            first = rest[0]
            if not isinstance(first, ActionProcessOutput):
                return EventBatch.of(first)
            partial = frozenset(place for place, event in enumerate(rest) if event.partial)
            lines = [event.line for event in rest]
            return EventBatch(id=first.id, name=first.name, stream=first.stream, lines=lines, partial=partial)
        batch = await self._take()
        self._backlog.taken(len(batch), batch.weight)
        return batch

    async def _take(self) -> EventBatch:
        backlog = self._backlog
        if backlog.closed:
            await trio.lowlevel.checkpoint()
            raise trio.ClosedResourceError("the subscription is closed")
        count, weight = self._held
        if count:
            self._held = (0, 0)
            backlog.taken(count, weight)
        await trio.lowlevel.checkpoint()
        while not backlog.queue:
            if backlog.closed:
                raise trio.ClosedResourceError("the subscription was closed by another task")
            if backlog.ended:
                raise trio.EndOfChannel
            await backlog.readers.park()
        return backlog.pop()

    def close(self) -> None:
        """Stop listening; what was not read is thrown away, and whoever waited for this reader goes on."""
        self._events = iter(())
        self._backlog.close()

    async def aclose(self) -> None:
        """Close, as a checkpoint."""
        self.close()
        await trio.lowlevel.checkpoint()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        backlog = getattr(self, "_backlog", None)
        if backlog is None or backlog.closed or (backlog.ended and not backlog.queue):
            return
        logger.warning(
            "a subscription made at %s was garbage-collected unclosed; use it in a with block", backlog.origin
        )
        if self._token is None:
            backlog.close()
            return
        with suppress(trio.RunFinishedError):  # the run is over: nobody waits any more
            self._token.run_sync_soon(backlog.close)  # the collector runs in any thread, and closing wakes tasks


@final
class Bus:
    """Who wants which events; a bus with a parent hands everything on to it too.

    Args:
        parent: The bus of the core that a service belongs to.
        has_ended: Says of a process whether it has ended, so that a subscription to it ends at once.
    """

    __slots__ = ("_backlogs", "_children", "_closed", "_has_ended", "_parent", "_version")

    def __init__(self, parent: Bus | None = None, has_ended: Callable[[str], bool] | None = None) -> None:
        self._backlogs: list[Backlog] = []
        self._children: list[Bus] = []
        self._parent = parent
        self._has_ended = has_ended
        self._closed = False
        self._version = 0
        if parent is not None:
            parent._children.append(self)

    @property
    def closed(self) -> bool:
        """Whether nothing comes over it any more."""
        return self._closed

    @property
    def version(self) -> int:
        """A number that changes whenever the answer of `targets` may change."""
        return self._version if self._parent is None else self._version + self._parent.version

    def targets(self, kind: type, key: str, name: str | None) -> list[Backlog]:
        """Return the backlogs that want events of that class and process."""
        backlogs = self._backlogs
        found = [backlog for backlog in backlogs if backlog.wants(kind, key, name)] if backlogs else []
        if self._parent is not None:
            found += self._parent.targets(kind, key, name)
        return found

    def publish(self, event: object) -> list[Backlog]:
        """Hand an event to all who want it; return the backlogs that are full."""
        batch = EventBatch.of(event)
        targets = self.targets(batch.kind, batch.id, batch.name)
        for backlog in targets:
            backlog.offer(batch)
        if batch.final:
            self.end_of(batch.id)
        return [backlog for backlog in targets if backlog.full]

    def end_of(self, key: str) -> None:
        """End the subscriptions that are for this one process."""
        if self._backlogs:
            for backlog in [backlog for backlog in self._backlogs if backlog.sees_end_of(key)]:
                backlog.end()
        if self._parent is not None:
            self._parent.end_of(key)

    def subscribe(
        self,
        *types: type,
        id: str | None = None,  # noqa: A002 - the keyword of the contract
        name: str | None = None,
        buffer: float = 1024,
        overflow: Overflow | str = Overflow.WAIT,
    ) -> Subscription:
        """Return a subscription; the arguments are those of `Service.subscribe`."""
        for kind in types:
            if not isinstance(kind, type):
                raise OptionError(f"subscribe takes event classes, such as ActionProcessOutput; got {kind!r}")
        if id is not None and not isinstance(id, str):
            raise OptionError(f"id must be a process id (a str), got {id!r}")
        if name is not None and not isinstance(name, str):
            raise OptionError(f"name must be the label of processes (a str), got {name!r}")
        buffer = checks.whole("buffer", buffer, infinite=True)
        backlog = Backlog(self, types, id, name, buffer, member(Overflow, overflow, "overflow"))
        backlog.origin = _caller()
        if self._closed or (id is not None and self._knows_end_of(id)):
            backlog.ended = True
        else:
            self._backlogs.append(backlog)
            self._version += 1
        return Subscription(backlog)

    def _knows_end_of(self, key: str) -> bool:
        if self._has_ended is not None and self._has_ended(key):
            return True
        return any(child._knows_end_of(key) for child in self._children)

    def leave(self, backlog: Backlog) -> None:
        """Forget a backlog."""
        if backlog in self._backlogs:
            self._backlogs.remove(backlog)
            self._version += 1

    def close(self) -> None:
        """End every subscription once its backlog is read."""
        self._closed = True
        for backlog in list(self._backlogs):
            backlog.end()
        if self._parent is not None and self in self._parent._children:
            self._parent._children.remove(self)


def _caller() -> str:
    """Return `file:line` of the code that subscribed: the first frame outside of this package.

    Our own context managers are entered through `contextlib`, which is nobody's code either.
    """
    ours = (__name__.partition(".")[0], "contextlib")
    frame = sys._getframe(1)  # the one cheap way; inspect.stack reads source files
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in ours:
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
