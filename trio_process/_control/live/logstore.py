"""Store the lines of every service, each with a cursor, by which a client fills the gap after a reconnection.

Cursors count all lines of one instance from 1, so that the lines of several services have a total order. Lines are kept
as they arrived, in chunks of one process and stream; a chunk takes a contiguous range of cursors, and ranges never
overlap, so services are merged by sorting chunks.

A service that writes a line now and then has as many chunks as lines, so that there may be millions. Only as many are looked
at as an answer needs, in portions, and between these other tasks get a turn: a search through everything may take seconds.
"""

from __future__ import annotations

import math
import re
import time
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterator, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any, Final, NamedTuple, final

import trio

MAX_LINES: Final = 100_000
"""Lines kept per service."""

MAX_BYTES: Final = 16 * 2**20
"""Characters kept per service."""

MAX_STRAYS: Final = 200
"""The number of logs kept of processes that aren't services; beyond it, the log that was silent longest is dropped."""

_ANSWER_BYTES: Final = 2 * 2**20  # characters in one answer, as a single line may have a million
_SEQUENCE: Final = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\|$)|\x1b[PX^_][^\x1b]*(?:\x1b\\|$)|\x1b[ -/]*[0-~]|\x1b"
)  # an escape sequence (ECMA-48), as the page leaves it out
_TURN: Final = 0.005  # seconds after which other tasks get a turn
_PORTION: Final = 4000  # chunks that are sorted at once
_GAP: Final = 1000  # forgotten chunks at the beginning of the list, which is shortened only then


class Source(NamedTuple):
    """The origin of lines."""

    service: str
    replica: int
    process: str


class Chunk(NamedTuple):
    """A range of lines with cursors counted from `first`."""

    first: int
    lines: Sequence[str]
    stream: str
    source: Source
    at: float
    weight: int

    @property
    def last(self) -> int:
        """The cursor of its last line."""
        return self.first + len(self.lines) - 1

    def row(self, place: int) -> dict[str, Any]:
        """Return one of its lines, ready for JSON."""
        return {
            "service": self.source.service,
            "replica": self.source.replica,
            "processId": self.source.process,
            "stream": self.stream,
            "line": self.lines[place],
            "cursor": self.first + place,
            "at": datetime.fromtimestamp(self.at, UTC).isoformat(),
        }


_GONE: Final = Chunk(0, (), "", Source("", 0, ""), 0.0, 0)
_first: Final = attrgetter("first")
_last: Final = attrgetter("last")


@final
class Log:
    """The last lines of one service; its chunks begin at `start`."""

    __slots__ = ("chunks", "dropped", "lines", "start", "total", "weight")

    def __init__(self) -> None:
        self.chunks: list[Chunk] = []  # not a deque, in which no cursor can be searched for
        self.start = 0
        self.lines = 0
        self.weight = 0
        self.total = 0
        self.dropped = 0

    def add(self, chunk: Chunk) -> None:
        """Append a chunk, and drop the oldest lines beyond the bounds."""
        self.chunks.append(chunk)
        self.lines += len(chunk.lines)
        self.total += len(chunk.lines)
        self.weight += chunk.weight
        while (self.lines > MAX_LINES or self.weight > MAX_BYTES) and self.lines > 1:
            self._forget()

    def _forget(self) -> None:
        oldest = self.chunks[self.start]
        excess = max(1, min(len(oldest.lines), self.lines - MAX_LINES))
        if self.weight > MAX_BYTES:
            excess = len(oldest.lines) if self.start + 1 < len(self.chunks) else max(1, len(oldest.lines) // 2)
        gone, rest = oldest.lines[:excess], oldest.lines[excess:]
        self.lines -= len(gone)
        weight = oldest.weight if not rest else _weight(gone)
        self.weight -= weight
        self.dropped += len(gone)
        if rest:
            left = oldest._replace(first=oldest.first + len(gone), lines=rest, weight=oldest.weight - weight)
            self.chunks[self.start] = left
            return
        self.chunks[self.start] = _GONE
        self.start += 1
        if self.start >= _GAP:
            del self.chunks[: self.start]
            self.start = 0


def _weight(lines: Sequence[str]) -> int:
    return len("".join(lines))  # a third of the time of a sum


class Query(NamedTuple):
    """A selection of lines.

    Attributes:
        after: The cursor that they follow; None to search backwards from the newest.
        before: The cursor that they precede.
        limit: The maximum number of lines.
        grep: A text that each line must contain; not a pattern. Escape sequences of the line are left out, unless the
            text has some itself.
        ignore_case: Whether `grep` ignores case.
    """

    after: int | None = None
    before: int | None = None
    limit: int = 500
    grep: str = ""
    ignore_case: bool = False

    def matches(self, line: str) -> bool:
        """Return whether a line contains the text."""
        if ("\x1b" in line or "\x9b" in line) and "\x1b" not in self.grep and "\x9b" not in self.grep:
            line = _SEQUENCE.sub("", line)  # `INFO:` is found where only `INFO` is coloured
        return self.grep in (line.lower() if self.ignore_case else line)


@final
class LogStore:
    """The logs of one instance.

    Attributes:
        cursor: The cursor of the newest line, 0 before the first.
    """

    __slots__ = ("_logs", "_searching", "_services", "cursor")

    def __init__(self) -> None:
        self._logs: dict[str, Log] = {}  # of processes that aren't services, the longest silent first
        self._services: Collection[str] = ()
        self._searching = (
            trio.Lock()
        )  # many searches at once would each have a turn, and all others wait for all of these
        self.cursor = 0

    def protect(self, services: Collection[str]) -> None:
        """Never drop the logs of these services; lines of processes that were called like a new one are filed by id."""
        for name in set(services).difference(self._services):
            stray = self._logs.pop(name, None)
            for chunk in () if stray is None else stray.chunks[stray.start :]:
                source = chunk.source._replace(service=chunk.source.process)
                self._logs.setdefault(source.service, Log()).add(chunk._replace(source=source))
        self._services = services

    def append(self, source: Source, stream: str, lines: Sequence[str], at: float) -> int:
        """Keep lines; return the cursor of the first."""
        first = self.cursor + 1
        self.cursor += len(lines)
        log = self._logs.pop(source.service, None) or Log()
        self._logs[source.service] = log  # now the last one
        log.add(Chunk(first, lines, stream, source, at, _weight(lines)))
        if len(self._logs) > MAX_STRAYS:
            self._forget_strays()
        return first

    def _forget_strays(self) -> None:
        strays = [name for name in self._logs if name not in self._services]
        for name in strays[: max(0, len(strays) - MAX_STRAYS)]:
            del self._logs[name]

    def counts(self) -> Iterator[tuple[str, int, int]]:
        """Yield the service, the total number of lines, and the number of dropped lines of each log."""
        for name, log in self._logs.items():
            yield name, log.total, log.dropped

    def _named(self, services: Collection[str]) -> tuple[list[Log], int]:
        """Return the logs of some services, and how many chunks of each make a portion."""
        logs = [self._logs[name] for name in services or self._logs if name in self._logs]
        return logs, max(8, _PORTION // max(1, len(logs)))

    def _older(self, services: Collection[str], edge: float) -> Iterator[Chunk]:
        """Yield the chunks that begin before a cursor, the newest first; lines may be appended meanwhile."""
        while edge > 0:
            logs, most = self._named(services)
            ends = [bisect_left(log.chunks, edge, log.start, key=_first) for log in logs]
            begins = [max(log.start, end - most) for log, end in zip(logs, ends, strict=True)]
            # where the first of them has no more in this portion, that of all ends
            more = [log.chunks[begin].first for log, begin in zip(logs, begins, strict=True) if begin > log.start]
            edge = max(more, default=0)
            found: list[Chunk] = []
            for log, begin, end in zip(logs, begins, ends, strict=True):
                found += log.chunks[bisect_left(log.chunks, edge, begin, end, key=_first) : end]
            yield from sorted(found, key=_first, reverse=True)

    def _newer(self, services: Collection[str], edge: float) -> Iterator[Chunk]:
        """Yield the chunks that end after a cursor, the oldest first."""
        while edge < math.inf:
            logs, most = self._named(services)
            begins = [bisect_right(log.chunks, edge, log.start, key=_last) for log in logs]
            ends = [min(len(log.chunks), begin + most) for log, begin in zip(logs, begins, strict=True)]
            more = [log.chunks[end - 1].last for log, end in zip(logs, ends, strict=True) if end < len(log.chunks)]
            edge = min(more, default=math.inf)
            found: list[Chunk] = []
            for log, begin, end in zip(logs, begins, ends, strict=True):
                found += log.chunks[begin : bisect_right(log.chunks, edge, begin, end, key=_last)]
            yield from sorted(found, key=_first)

    async def read(self, services: Collection[str], query: Query) -> dict[str, Any]:
        """Return a page of lines, oldest first, as in the answer to ``GET /logs``.

        Args:
            services: The services; empty for all.
            query: Selects the lines. With `after`, the oldest matches are returned, else the newest.
        """
        async with self._searching if query.grep else nullcontext():
            return await self._read(services, query)

    async def _read(self, services: Collection[str], query: Query) -> dict[str, Any]:
        # lines that come meanwhile are not part of the answer
        high = min(self.cursor + 1, math.inf if query.before is None else query.before)
        forward = query.after is not None
        rows: list[dict[str, Any]] = []
        room = _ANSWER_BYTES
        more, turn = False, time.monotonic() + _TURN
        for chunk in self._older(services, high) if query.after is None else self._newer(services, query.after):
            if chunk.first >= high:
                break
            places = range(len(chunk.lines)) if forward else range(len(chunk.lines) - 1, -1, -1)
            for place in places:
                cursor = chunk.first + place
                if cursor >= high or (query.after is not None and cursor <= query.after):
                    continue
                if query.grep and not query.matches(chunk.lines[place]):
                    continue
                if len(rows) >= query.limit or (room <= 0 and rows):
                    more = True
                    break
                rows.append(chunk.row(place))
                room -= len(chunk.lines[place])
            if more:
                break
            if time.monotonic() >= turn:
                await trio.lowlevel.checkpoint()
                turn = time.monotonic() + _TURN
        if not forward:
            rows.reverse()
        first = rows[0]["cursor"] if rows else None
        return {"lines": rows, "first": first, "last": rows[-1]["cursor"] if rows else None, "more": more}
