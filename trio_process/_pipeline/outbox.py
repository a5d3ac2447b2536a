"""Send a run's updates without ever making the run wait for their reader."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Final

import trio

from .._core import bad_option, open_scope, uninterrupted
from .result import RunUpdate

_GONE = (trio.BrokenResourceError, trio.ClosedResourceError)

FRUITLESS_PASSES: Final = 10
"""The number of scheduler passes without progress after which a cancelled run stops sending. It can't wait for the
reader, but the reader of an unbuffered channel takes the next update only once it has been scheduled again."""


@uninterrupted
async def open_outbox(
    channel: trio.MemorySendChannel[RunUpdate] | None,
) -> AsyncIterator[Callable[[RunUpdate], None] | None]:
    """Yield the function that sends updates, synchronously and in order; close the channel at the end.

    Updates that the reader has not received yet are queued, and delivery is awaited once the run is over. A reader that
    has left is ignored. A run that is cancelled or fails sends as much as possible without waiting.

    Raises:
        OptionError: `channel` is not a sending end.
    """
    if channel is None:
        yield None
        return
    if not isinstance(channel, trio.MemorySendChannel):
        raise bad_option("updates", f"must be a trio.MemorySendChannel or None, got {channel!r}")
    outbox = _Outbox(channel)
    try:
        async with open_scope() as nursery:
            nursery.start_soon(outbox.pump)
            try:
                yield outbox.report
                await outbox.drain()
            finally:
                outbox.scope.cancel()
    except BaseException:
        await outbox.flush()
        raise
    finally:
        channel.close()


class _Outbox:
    def __init__(self, channel: trio.MemorySendChannel[RunUpdate]) -> None:
        # shielded: updates are still sent while a cancelled run stops its processes
        self.scope = trio.CancelScope(shield=True)
        self._channel = channel
        self._queue: deque[RunUpdate] = deque()
        self._wake = trio.lowlevel.ParkingLot()
        self._idle = trio.Event()
        self._ending = False
        self._gone = False

    def report(self, update: RunUpdate) -> None:
        """Send immediately if there is room and no earlier update is queued, else later."""
        if not self._queue and not self._gone:
            try:
                self._channel.send_nowait(update)
            except trio.WouldBlock:
                pass  # kept below, for the pump
            except _GONE:
                self._gone = True
            else:
                return
        if not self._gone:
            self._queue.append(update)
            self._wake.unpark()

    @trio.lowlevel.enable_ki_protection
    async def pump(self) -> None:
        with self.scope:
            try:
                while not (self._ending and not self._queue):
                    if self._queue:
                        await self._channel.send(self._queue[0])
                        self._queue.popleft()  # not before: a cancelled send has sent nothing
                    else:
                        await self._wake.park()
            except _GONE:
                self._gone = True
                self._queue.clear()
        self._idle.set()

    async def drain(self) -> None:
        """Wait until the reader has received everything, or has left."""
        self._ending = True
        self._wake.unpark()
        await self._idle.wait()

    async def flush(self) -> None:
        """Send the remaining updates, as long as the reader takes them without delay."""
        fruitless = 0
        with trio.CancelScope(shield=True):
            while self._queue and fruitless < FRUITLESS_PASSES:
                try:
                    self._channel.send_nowait(self._queue[0])
                except trio.WouldBlock:
                    fruitless += 1
                    await trio.lowlevel.checkpoint()
                except _GONE:
                    return
                else:
                    fruitless = 0
                    self._queue.popleft()
