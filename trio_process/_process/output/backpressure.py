"""`Backpressure`: a child that writes faster than its consumers read waits for them, one stream at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, final

import trio

from ..._core import Stream, logger
from ..reactor import Reactor
from .router import Consumer

SLOW_READER: Final = 10.0
"""Seconds for which a consumer may hold a child up before a log record names it."""


@final
class Backpressure:
    """The consumers that each paused stream of one child waits for; made when the first stream is paused.

    Args:
        reactor: Whose timers are used.
        process: The name of the child in log records.
        pause: Stops reading a stream.
        resume: Reads a stream again.
        resumed: Called when a stream is read again, with the error if it can't be watched any more.
    """

    __slots__ = ("_pause", "_process", "_reactor", "_resume", "_resumed", "_waits")

    def __init__(
        self,
        reactor: Reactor,
        process: str,
        pause: Callable[[Stream], object],
        resume: Callable[[Stream], object],
        resumed: Callable[[OSError | None], object],
    ) -> None:
        self._reactor = reactor
        self._process = process
        self._pause = pause
        self._resume = resume
        self._resumed = resumed
        self._waits: dict[Stream, _Wait] = {}

    def __bool__(self) -> bool:
        return bool(self._waits)

    def wait(self, stream: Stream, full: list[Consumer]) -> None:
        """Pause a stream until none of the consumers is full; one that is paused already stays so."""
        if stream in self._waits:
            return
        self._pause(stream)
        wait = self._waits[stream] = _Wait(full, lambda: self.resume(stream))
        self._reactor.call_at(trio.current_time() + SLOW_READER, lambda: self._warn_slow(stream, wait))

    def _warn_slow(self, stream: Stream, wait: _Wait) -> None:
        if self._waits.get(stream) is wait:
            wait.warn_slow(self._process)

    def resume(self, stream: Stream) -> None:
        """Read a stream again."""
        self._waits.pop(stream).cancel()
        error = None
        try:
            self._resume(stream)
        except OSError as failure:  # it concerns this child, and not the task of the reader that made room
            error = failure
        self._resumed(error)

    def release_all(self) -> None:
        """Read every stream again, even if its consumers are full."""
        for stream in list(self._waits):
            self.resume(stream)

    def cancel(self) -> None:
        """Stop waiting, and leave the streams paused."""
        while self._waits:
            self._waits.popitem()[1].cancel()


@final
class _Wait:
    """Waits on behalf of one stream until all of its consumers have room."""

    __slots__ = ("_consumers", "_done")

    def __init__(self, consumers: list[Consumer], done: Callable[[], object]) -> None:
        self._consumers = consumers
        self._done = done
        for consumer in consumers:
            consumer.when_room(self._check)

    def _check(self) -> None:
        for consumer in self._consumers:
            if consumer.full:
                consumer.forget(self._check)
                consumer.when_room(self._check)
                return
        self._done()

    def cancel(self) -> None:
        """Stop waiting."""
        for consumer in self._consumers:
            consumer.forget(self._check)

    def warn_slow(self, process: str) -> None:
        """Log the consumers that are still full."""
        for consumer in self._consumers:
            notice = consumer.hold_up_notice(process, SLOW_READER) if consumer.full else None
            if notice is not None:
                logger.warning("%s", notice)
