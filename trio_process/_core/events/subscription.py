"""`Subscription`: the reader's end of a backlog, a channel of events."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Self, final

import attrs
import trio

from ..scope import logger
from .backlog import Backlog
from .batch import EventBatch
from .types import ActionProcessOutput

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
        if event is not _NOTHING:
            return event
        await self._checkpoint()
        # looked at again after each wait: another reader may have begun a batch meanwhile, whose events are for all
        while (event := next(self._events, _NOTHING)) is _NOTHING:
            self._give_back()
            if not self._backlog.queue:
                await self._more()
                continue
            batch = self._backlog.pop()
            if self._backlog.drops:
                # it is out of the backlog: counted on, it would push out newer events than itself
                self._backlog.taken(len(batch), batch.weight)
            else:
                self._held = (len(batch), batch.weight)
            self._events = iter(batch)
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
        await self._checkpoint()
        while True:
            rest = list(self._events)
            self._give_back()
            if rest:  # receive() has begun this one
                return _batch_of(rest)
            if self._backlog.queue:
                batch = self._backlog.pop()
                self._backlog.taken(len(batch), batch.weight)
                return batch
            await self._more()

    async def _checkpoint(self) -> None:
        await trio.lowlevel.checkpoint()
        if self._backlog.closed:
            raise trio.ClosedResourceError("the subscription is closed")

    def _give_back(self) -> None:
        """Let those go on who wait for the room of the batch that has been read one by one."""
        count, weight = self._held
        if count:
            self._held = (0, 0)
            self._backlog.taken(count, weight)

    async def _more(self) -> None:
        """Wait until there may be a batch."""
        if self._backlog.closed:
            raise trio.ClosedResourceError("the subscription was closed by another task")
        if self._backlog.ended:
            raise trio.EndOfChannel
        await self._backlog.readers.park()

    def close(self) -> None:
        """Stop listening; what was not read is thrown away, and whoever waited for this reader goes on."""
        self._events = iter(())
        self._held = (0, 0)
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


def _batch_of(events: list[Any]) -> EventBatch:
    """Return the rest of a batch that was begun one by one, as a batch."""
    first = events[0]
    if not isinstance(first, ActionProcessOutput):
        return EventBatch.of(first)
    partial = frozenset(place for place, event in enumerate(events) if event.partial)
    lines = [event.line for event in events]
    return EventBatch(id=first.id, name=first.name, stream=first.stream, lines=lines, partial=partial)
