"""Places for responses without an end and for WebSockets, apart from those of ordinary connections.

A stream is busy for as long as its client likes, so it never makes room for a new connection. If streams counted as
ordinary connections, a handful of them would keep the probes out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final, final

MAX_STREAMS: Final = 64


@final
class StreamPlaces:
    """The places for the streams of one server.

    Args:
        limit: How many streams there may be at once.
        on_change: Called when a place is taken or given back.

    Attributes:
        taken: How many streams there are now.
    """

    __slots__ = ("_limit", "_on_change", "taken")

    def __init__(self, limit: int, on_change: Callable[[], object]) -> None:
        self.taken = 0
        self._limit = limit
        self._on_change = on_change

    def take(self) -> bool:
        """Take a place; return False if there is none."""
        if self.taken >= self._limit:
            return False
        self.taken += 1
        self._on_change()
        return True

    def give_back(self) -> None:
        """Give a place back."""
        self.taken -= 1
        self._on_change()


@final
class Seat:
    """The place of one connection: among the ordinary ones, or among the streams.

    Attributes:
        streaming: Whether it is among the streams.
    """

    __slots__ = ("_places", "streaming")

    def __init__(self, places: StreamPlaces) -> None:
        self.streaming = False
        self._places = places

    @contextmanager
    def among_streams(self) -> Iterator[bool]:
        """Take a place among the streams inside the block; yield False if all places are taken."""
        if self.streaming or not self._places.take():
            yield self.streaming
            return
        self.streaming = True
        try:
            yield True
        finally:
            self.streaming = False
            self._places.give_back()


current_seat: ContextVar[Seat | None] = ContextVar("trio_process.seat", default=None)
"""The seat of the connection whose request is being answered; None under a test client, which has no connection."""


@contextmanager
def stream_place() -> Iterator[bool]:
    """Move the current connection to the streams inside the block; yield False if there is no place."""
    seat = current_seat.get()
    if seat is None:
        yield True
        return
    with seat.among_streams() as granted:
        yield granted
