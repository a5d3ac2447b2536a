"""Store the lines of every service, each with a cursor, by which a client fills the gap after a reconnection.

Cursors count all lines of one instance from 1, so that the lines of several services have a total order. Lines are kept
as they arrived, in chunks of one process and stream; a chunk takes a contiguous range of cursors, and ranges never
overlap, so services are merged by sorting chunks.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime
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
_SCAN_STEP: Final = 20_000  # lines that are searched before other tasks get a turn


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


@final
class Log:
    """The last lines of one service."""

    __slots__ = ("chunks", "dropped", "lines", "total", "weight")

    def __init__(self) -> None:
        self.chunks: deque[Chunk] = deque()
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
        oldest = self.chunks.popleft()
        excess = max(1, min(len(oldest.lines), self.lines - MAX_LINES))
        if self.weight > MAX_BYTES:
            excess = len(oldest.lines) if self.chunks else max(1, len(oldest.lines) // 2)
        gone, rest = oldest.lines[:excess], oldest.lines[excess:]
        self.lines -= len(gone)
        weight = oldest.weight if not rest else _weight(gone)
        self.weight -= weight
        self.dropped += len(gone)
        if rest:
            self.chunks.appendleft(
                oldest._replace(first=oldest.first + len(gone), lines=rest, weight=oldest.weight - weight)
            )


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

    __slots__ = ("_logs", "_services", "cursor")

    def __init__(self) -> None:
        self._logs: dict[str, Log] = {}  # of processes that aren't services, the longest silent first
        self._services: Collection[str] = ()
        self.cursor = 0

    def protect(self, services: Collection[str]) -> None:
        """Never drop the logs of these services; lines of processes that were called like a new one are filed by id."""
        for name in set(services).difference(self._services):
            stray = self._logs.pop(name, None)
            for chunk in () if stray is None else stray.chunks:
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

    def _chunks(self, services: Collection[str], query: Query) -> list[Chunk]:
        names = services or list(self._logs)
        low = -1 if query.after is None else query.after
        high = self.cursor + 1 if query.before is None else query.before
        found = [
            chunk
            for name in names
            if name in self._logs
            for chunk in self._logs[name].chunks
            if chunk.last > low and chunk.first < high
        ]
        found.sort(key=lambda chunk: chunk.first)
        return found

    async def read(self, services: Collection[str], query: Query) -> dict[str, Any]:
        """Return a page of lines, oldest first, as in the answer to ``GET /logs``.

        Args:
            services: The services; empty for all.
            query: Selects the lines. With `after`, the oldest matches are returned, else the newest.
        """
        chunks = self._chunks(services, query)
        forward = query.after is not None
        rows: list[dict[str, Any]] = []
        room = _ANSWER_BYTES
        more, seen = False, 0
        for chunk in chunks if forward else reversed(chunks):
            places = range(len(chunk.lines)) if forward else range(len(chunk.lines) - 1, -1, -1)
            for place in places:
                if not _between(chunk.first + place, query) or (query.grep and not query.matches(chunk.lines[place])):
                    continue
                if len(rows) >= query.limit or (room <= 0 and rows):
                    more = True
                    break
                rows.append(chunk.row(place))
                room -= len(chunk.lines[place])
            if more:
                break
            seen += len(chunk.lines)
            if seen >= _SCAN_STEP:
                seen = 0
                await trio.lowlevel.checkpoint()
        if not forward:
            rows.reverse()
        first = rows[0]["cursor"] if rows else None
        return {"lines": rows, "first": first, "last": rows[-1]["cursor"] if rows else None, "more": more}


def _between(cursor: int, query: Query) -> bool:
    return (query.after is None or cursor > query.after) and (query.before is None or cursor < query.before)
