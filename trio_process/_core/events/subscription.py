"""`Subscription`: the reader's end of a backlog, a channel of events."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Generic, Self, TypeVar, final
from weakref import WeakSet

import attrs
import trio

from ..scope import check_run, logger
from ..unique import Unique
from .backlog import Backlog
from .batch import EventBatch, batch_of
from .types import ActionProcessOutput

E_co = TypeVar("E_co", covariant=True)

_NOTHING: Final[Any] = object()
_EMPTY: Final[Iterator[Any]] = iter(())


@final
@attrs.frozen(kw_only=True)
class SubscriptionStatistics:
    """A snapshot of a subscription's backlog; the last seven fields are those of `trio.MemoryChannelStatistics`.

    Attributes:
        buffered: Events that no reader has taken yet.
        buffered_bytes: Their text, in bytes.
        buffer: How many events it keeps before its policy applies.
        dropped: How many events the policy has dropped so far.
        tasks_waiting: How many tasks wait in `receive`.
        current_buffer_used: As `buffered`.
        max_buffer_size: As `buffer`.
        open_send_channels: 1 while events may still come, else 0.
        open_receive_channels: How many clones are open, this one included.
        tasks_waiting_send: How many processes and broadcasts wait for room.
        tasks_waiting_receive: As `tasks_waiting`.
        peak_buffer_used: The most that were buffered at any time.
    """

    buffered: int
    buffered_bytes: int
    buffer: int | float
    dropped: int
    tasks_waiting: int
    current_buffer_used: int
    max_buffer_size: int | float
    open_send_channels: int
    open_receive_channels: int
    tasks_waiting_send: int
    tasks_waiting_receive: int
    peak_buffer_used: int


@final
class Subscription(Unique, trio.abc.ReceiveChannel[E_co], Generic[E_co]):
    """A channel of events, read one by one or, faster, by batches; it can stand in for a `trio.MemoryReceiveChannel`.

    It ends (`trio.EndOfChannel`, the end of an ``async for``) once the service or core that it belongs to is closed, or the
    one process it is for has exited, and its backlog is read.

    A checkpoint is executed once per batch, before its first event: the lines of one chunk of output come without
    checkpoints in between.

    Attributes:
        dropped: How many events its policy has dropped.
    """

    def __init__(self, backlog: Backlog) -> None:
        self._backlog = backlog
        self._events: Iterator[E_co] = _EMPTY  # of the batch that is being read one by one, the same in every clone
        # all clones that share the backlog; None: only this one
        self._clones: WeakSet[Subscription[E_co]] | None = None
        self._closed = False
        try:
            self._token: trio.lowlevel.TrioToken | None = trio.lowlevel.current_trio_token()
        except RuntimeError:
            self._token = None  # made outside of Trio: no task can be waiting for it

    @property
    def dropped(self) -> int:
        """How many events the policy has dropped so far."""
        return self._backlog.dropped

    def statistics(self) -> SubscriptionStatistics:
        """Return a snapshot of the backlog."""
        backlog = self._backlog
        buffered, buffered_bytes = backlog.buffered
        waiting = backlog.readers.statistics().tasks_waiting
        return SubscriptionStatistics(
            buffered=buffered,
            buffered_bytes=buffered_bytes,
            buffer=backlog.buffer,
            dropped=backlog.dropped,
            tasks_waiting=waiting,
            current_buffer_used=buffered,
            max_buffer_size=backlog.buffer,
            open_send_channels=0 if backlog.ended or backlog.closed else 1,
            open_receive_channels=backlog.subscriptions,
            tasks_waiting_send=backlog.held_up,
            tasks_waiting_receive=waiting,
            peak_buffer_used=backlog.peak,
        )

    def clone(self) -> Subscription[E_co]:
        """Return another subscription that shares the backlog: each event goes to one of the clones.

        The backlog is closed with the last of them. Give each worker of a pool its own clone, as with
        `trio.MemoryReceiveChannel.clone`.

        Raises:
            trio.ClosedResourceError: This subscription is closed.
        """
        self._check_open()
        if self._clones is None:
            self._clones = WeakSet((self,))
        twin = Subscription[E_co](self._backlog)
        twin._events = self._events
        twin._clones = self._clones
        self._clones.add(twin)
        self._backlog.subscriptions += 1
        return twin

    def receive_nowait(self) -> E_co:
        """Return the next event if it is buffered; without a checkpoint, so that it works in a cancelled scope too.

        Raises:
            trio.WouldBlock: No event is buffered.
            trio.EndOfChannel: There will be none.
            trio.ClosedResourceError: The subscription is closed.
        """
        event: E_co = next(self._events, _NOTHING)
        if event is not _NOTHING:
            return event
        self._check_open()
        event = self._next_buffered()
        if event is not _NOTHING:
            return event
        if self._backlog.ended:
            raise trio.EndOfChannel
        raise trio.WouldBlock

    async def receive(self) -> E_co:
        """Return the next event.

        Raises:
            trio.EndOfChannel: There will be none.
            trio.ClosedResourceError: The subscription was closed, before or during the call.
        """
        event: E_co = next(self._events, _NOTHING)
        if event is not _NOTHING:
            return event
        await trio.lowlevel.checkpoint()
        self._check_open()
        # checked again after each wait: another reader may have opened a batch since, whose events are for all clones
        while (event := self._next_buffered()) is _NOTHING:
            await self._wait_for_more()
        return event

    async def __anext__(self) -> E_co:
        for event in self._events:  # a call of next() for each event would take a tenth longer
            return event
        try:
            return await self.receive()
        except trio.EndOfChannel:
            raise StopAsyncIteration from None

    async def receive_batch(self) -> EventBatch:
        """Return the next events, as many as came at once; raises as `receive` does."""
        await trio.lowlevel.checkpoint()
        self._check_open()
        backlog = self._backlog
        while True:
            rest = list(self._events)
            backlog.close_batch()
            if rest:  # receive() has opened this one
                return _rest_of_batch(rest)
            if backlog.queue:
                batch = backlog.pop()
                backlog.taken(len(batch), batch._weight)
                return batch
            await self._wait_for_more()

    def _next_buffered(self) -> E_co:
        """Return the next event, from the next batch if the current one is read; `_NOTHING` if none is buffered."""
        event: E_co
        while (event := next(self._events, _NOTHING)) is _NOTHING:
            self._backlog.close_batch()
            if not self._backlog.queue:
                return event
            self._events = self._backlog.open_batch()
            for clone in self._clones or ():
                clone._events = self._events
        return event

    async def _wait_for_more(self) -> None:
        """Wait until there may be a batch."""
        if self._backlog.ended:
            raise trio.EndOfChannel
        if self._token is not None:
            check_run(self._token, "Subscription")
        await self._backlog.readers.park()
        self._check_open()

    def _check_open(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError("this subscription is closed")

    def close(self) -> None:
        """Stop listening. With the last clone, the backlog is thrown away, and no process waits for it any more."""
        if self._closed:
            return
        self._closed = True
        self._events = _EMPTY
        if self._clones is not None:
            self._clones.discard(self)
        self._backlog.leave()

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
        if backlog is None or self._closed or (backlog.ended and not backlog.queue):
            return
        logger.warning(
            "a subscription made at %s was garbage-collected unclosed; use it in a with block", backlog.origin
        )
        if self._token is None:
            backlog.leave()
            return
        with suppress(trio.RunFinishedError):  # the run is over: no task waits any more
            self._token.run_sync_soon(backlog.leave)  # the collector runs in any thread, and closing wakes tasks


def _rest_of_batch(events: list[Any]) -> EventBatch:
    """Return the rest of a batch that receive() has opened, as a batch."""
    first = events[0]
    if not isinstance(first, ActionProcessOutput):
        return batch_of(first)
    partial = frozenset(place for place, event in enumerate(events) if event.partial)
    lines = [event.line for event in events]
    return EventBatch(id=first.id, name=first.name, stream=first.stream, lines=lines, partial=partial)
