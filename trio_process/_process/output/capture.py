"""`Capture`: the tails of a process's two streams, and of both in the order of arrival."""

from __future__ import annotations

import builtins
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from typing import Final, final

from ..._core import Stream
from .ring_buffer import Ring

# shared by all captures that hold nothing yet, and never written to: 160 bytes less of each idle child
_NO_RINGS: Final[dict[Stream, Ring]] = {}
_NO_SWITCHES: Final = array("Q")


@final
class Capture:
    """The tails of a process's two streams, and of both in the order of arrival.

    No buffer is created before the first byte. While only one stream has been written to, both share one buffer.
    """

    __slots__ = ("_both", "_last", "_rings", "_size", "_switches")

    def __init__(self, size: float) -> None:
        self._size = size
        self._rings = _NO_RINGS
        self._both: Ring | None = None
        self._last: Stream | None = None  # the stream that was written last
        self._switches = _NO_SWITCHES  # the offsets in `_both` at which the other stream took over

    def write(self, stream: Stream, data: builtins.bytes) -> None:
        """Keep a chunk of one stream."""
        ring = self._rings.get(stream)
        if ring is None:
            ring = Ring(self._size)
            self._rings = {**self._rings, stream: ring}
            self._both = ring if self._both is None else self._both.copy()
        both = self._both
        assert both is not None
        if stream is not self._last:
            if self._last is not None:
                if self._switches is _NO_SWITCHES:
                    self._switches = array("Q")
                self._switches.append(both.total)
                if len(self._switches) > 4096:
                    self._forget_old_switches(both)
            self._last = stream
        ring.write(data)
        if both is not ring:
            both.write(data)

    def _forget_old_switches(self, both: Ring) -> None:
        stale = bisect_right(self._switches, both.start)
        if stale > len(self._switches) // 2:  # at most as often as that many were added
            del self._switches[:stale]

    def ring(self, stream: Stream | None) -> Ring | None:
        """Return the buffer of a stream, of both for None; None before its first byte."""
        return self._both if stream is None else self._rings.get(stream)

    def bytes(self, stream: Stream | None = None) -> builtins.bytes:
        """Return the tail of a stream, or of both in the order of arrival."""
        ring = self.ring(stream)
        return b"" if ring is None else ring.bytes()

    @property
    def size(self) -> int | float:
        """How many bytes of each stream it keeps."""
        return self._size

    @property
    def total(self) -> int:
        """How many bytes both streams have written."""
        return 0 if self._both is None else self._both.total

    @property
    def dropped(self) -> int:
        """How many bytes are missing from the tail of both."""
        return 0 if self._both is None else self._both.dropped

    @property
    def held(self) -> int:
        """How many bytes are kept at most, for the bound on remembered output."""
        return 0 if self._both is None else sum([len(ring) for ring in self._distinct()])

    def unfinished(self, stream: Stream) -> tuple[builtins.bytes, bool]:
        """Return the output of a stream since its last newline, and whether the beginning of that is no longer kept."""
        ring = self.ring(stream)
        if ring is None:
            return b"", False
        tail = ring.bytes()
        begin = tail.rfind(b"\n") + 1
        return tail[begin:], not begin and ring.in_line_at(ring.start)

    def in_line(self, stream: Stream) -> bool:
        """Return whether a stream has written anything since its last newline, kept or not."""
        ring = self._rings.get(stream)
        return ring is not None and ring.in_line

    def places(self, source: Stream | None, offset: int) -> dict[Stream, int]:
        """Return how much of each stream that was written to came before `offset` in the buffer of `source`."""
        if source is not None:
            return {source: offset}
        places = {stream: ring.total for stream, ring in self._rings.items()}
        for stream, begin, end in self._runs(offset):
            places[stream] -= end - begin
        return places

    def in_line_at(self, stream: Stream, place: int) -> bool:
        """Return whether a place of a stream, one of `places`, is within a line."""
        return self._rings[stream].in_line_at(place)

    def release(self) -> None:
        """Discard the kept output; the counts remain."""
        for ring in self._distinct():
            ring.release()
        self._switches = _NO_SWITCHES

    def _distinct(self) -> list[Ring]:
        rings = [*self._rings.values()]
        if self._both is not None and self._both not in rings:
            rings.append(self._both)
        return rings

    def parts(self, source: Stream | None, offset: int) -> Iterator[tuple[Stream, builtins.bytes]]:
        """Yield the output from `offset` on, each part with its stream."""
        ring = self.ring(source)
        if ring is None:
            return
        data = ring.since(offset)
        if source is not None:
            yield source, data
            return
        for stream, begin, end in self._runs(offset):
            yield stream, data[begin - offset : end - offset]

    def _runs(self, offset: int) -> Iterator[tuple[Stream, int, int]]:
        """Yield the stream, begin and end of each part that was written at once from `offset` on."""
        assert self._last is not None
        assert self._both is not None
        cuts = self._switches[bisect_right(self._switches, offset) :]
        stream = self._last if len(cuts) % 2 == 0 else other(self._last)
        begin = offset
        for cut in (*cuts, self._both.total):
            if cut > begin:
                yield stream, begin, cut
            begin = cut
            stream = other(stream)


def other(stream: Stream) -> Stream:
    """Return the other of the two streams."""
    return Stream.STDERR if stream is Stream.STDOUT else Stream.STDOUT
