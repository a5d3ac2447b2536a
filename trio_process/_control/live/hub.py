"""Distribute events, as messages, to every stream that requested them.

Events that are published within 50 ms become one *frame*. A frame is encoded once for each distinct wish (channels,
services, batches or lines), however many clients share it, and a client's backlog holds references to frames. A backlog
is bounded: beyond the bound, output is dropped, the oldest first, and counted by service, so that the client receives a
`gap` in its place. Changes of state are never dropped; a client whose state changes alone exceed the bound is
disconnected. No other task waits for a client.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple, final

import trio

from ..message import encode
from .logstore import Source

TICK: Final = 0.05
"""Seconds for which events are collected before they are written."""

_AT_ONCE: Final = 8  # clients that are written to in one scheduler pass, so that probes get their turn in between
_REST: Final = 0.01  # seconds between two rounds, for any number of clients

MAX_BACKLOG: Final = 4 * 2**20
"""Bytes that may wait for one client."""

CHANNELS: Final = (
    "process.started",
    "process.output",
    "process.exited",
    "process.killed",
    "process.daemon.started",
    "process.daemon.stopped",
    "process.daemon.health",
    "service.changed",
    "pipeline.update",
    "sample",
)
"""The channels, in documentation order."""

_OUTPUT: Final = "process.output"


class Wish(NamedTuple):
    """The selection of events that a client requested.

    Attributes:
        channels: The channels; empty for all.
        services: The services; empty for all.
        batch: Whether one event may contain several lines.
    """

    channels: frozenset[str] = frozenset()
    services: frozenset[str] = frozenset()
    batch: bool = False

    def takes(self, channel: str, service: str | None) -> bool:
        """Return whether an event is selected."""
        return (not self.channels or channel in self.channels) and (not self.services or service in self.services)

    def misses(self, service: str | None) -> bool:
        """Return whether lost lines may have been selected; None for lines of an unknown service."""
        selected = service is None or not self.services or service in self.services
        return selected and (not self.channels or _OUTPUT in self.channels)


class Event(NamedTuple):
    """A published event."""

    channel: str
    data: Any
    process: str | None
    service: str | None
    at: float

    def messages(self, wish: Wish) -> Iterator[str]:
        """Yield its messages for a client with that wish."""
        data = self.data
        if self.channel == "sample":
            if wish.channels and self.channel not in wish.channels:
                return
            if wish.services:
                data = data | {"services": [each for each in data["services"] if each["service"] in wish.services]}
        elif not wish.takes(self.channel, self.service):
            return
        yield _message(self.channel, data, self.process, self.at)


class Output(NamedTuple):
    """Lines of one process, with cursors counted from `first`."""

    first: int
    lines: list[str]
    stream: str
    source: Source
    at: float

    def messages(self, wish: Wish) -> Iterator[str]:
        """Yield their messages for a client with that wish."""
        if not wish.takes(_OUTPUT, self.source.service):
            return
        about = {
            "id": self.source.process,
            "service": self.source.service,
            "replica": self.source.replica,
            "stream": self.stream,
        }
        if wish.batch:
            data = {**about, "lines": self.lines, "cursor": self.first}
            yield _message(_OUTPUT, data, self.source.process, self.at)
            return
        for cursor, line in enumerate(self.lines, self.first):
            yield _message(_OUTPUT, {**about, "line": line, "cursor": cursor}, self.source.process, self.at)


def _message(channel: str, data: Any, process: str | None, at: float) -> str:
    event: dict[str, Any] = {"type": "event", "channel": channel}
    if process is not None:
        event["processId"] = process
    return encode(event | {"data": data, "timestamp": stamp(at)}).decode("ascii")


def stamp(at: float) -> str:
    """Format a time in seconds since the epoch as in events and answers.

    >>> stamp(0)
    '1970-01-01T00:00:00+00:00'
    """
    return datetime.fromtimestamp(at, UTC).isoformat()


class Encoded(NamedTuple):
    """A frame for one wish: the messages, their size, the messages without output, and the lines that these omit."""

    messages: Sequence[str]
    size: int
    quiet: Sequence[str]
    lines: Counter[str]


@final
class Frame:
    """The events published within one tick."""

    __slots__ = ("_encoded", "_items")

    def __init__(self, items: Sequence[Event | Output]) -> None:
        self._items = items
        self._encoded: dict[Wish, Encoded] = {}

    def encoded(self, wish: Wish) -> Encoded:
        """Return the frame for a wish, encoded when the first client requests it."""
        found = self._encoded.get(wish)
        if found is None:
            messages: list[str] = []
            quiet: list[str] = []
            lines: Counter[str] = Counter()
            for item in self._items:
                own = list(item.messages(wish))
                messages += own
                if isinstance(item, Event):
                    quiet += own
                elif own:
                    lines[item.source.service] += len(item.lines)
            found = self._encoded[wish] = Encoded(messages, sum(map(len, messages)), quiet, lines)
        return found


@final
class Client:
    """One stream's backlog.

    Attributes:
        wish: The events that it requested.
        wake: Set when it is this client's turn to take the pending events.
        hopeless: Whether its state changes alone exceed the bound, so that it must be disconnected.
    """

    __slots__ = ("_backlog", "_missed", "_weight", "hopeless", "wake", "wish")

    def __init__(self, wish: Wish) -> None:
        self.wish = wish
        self.wake = trio.Event()
        self.hopeless = False
        self._backlog: deque[Encoded] = deque()
        self._weight = 0
        self._missed: Counter[str] = Counter()

    def offer(self, frame: Frame) -> int:
        """Add a frame; return how many lines had to be dropped for it."""
        encoded = frame.encoded(self.wish)
        if not encoded.messages:
            return 0
        self._backlog.append(encoded)
        self._weight += encoded.size
        return self._make_room() if self._weight > MAX_BACKLOG else 0

    def _make_room(self) -> int:
        dropped = 0
        for place, encoded in enumerate(self._backlog):
            if self._weight <= MAX_BACKLOG:
                break
            if encoded.lines:
                size = sum(map(len, encoded.quiet))
                self._backlog[place] = Encoded(encoded.quiet, size, encoded.quiet, Counter())
                self._weight -= encoded.size - size
                self._missed.update(encoded.lines)
                dropped += encoded.lines.total()
        self.hopeless = self._weight > 2 * MAX_BACKLOG
        return dropped

    def miss(self, service: str | None, count: int) -> None:
        """Record lines that never arrived here, unless the client didn't select them."""
        if self.wish.misses(service):
            self._missed[service or ""] += count

    @property
    def waiting(self) -> bool:
        """Whether anything is pending."""
        return bool(self._backlog or self._missed)

    def take(self) -> list[str]:
        """Return everything pending, gaps first."""
        taken = [
            encode(
                {"type": "gap", "service": service or None, "missed": missed, "timestamp": stamp(time.time())}
            ).decode()
            for service, missed in self._missed.items()
        ]
        for encoded in self._backlog:
            taken += encoded.messages
        self._missed.clear()
        self._backlog.clear()
        self._weight = 0
        self.wake = trio.Event()
        return taken


@final
class Hub:
    """Distributor of published events to the clients.

    Args:
        clock: The wall clock, in seconds since the epoch.

    Attributes:
        clients: The open streams.
        dropped: Lines that were dropped for clients that read too slowly.
    """

    __slots__ = ("_clock", "_joined", "_pending", "_wake", "clients", "dropped")

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._pending: list[Event | Output] = []
        self._wake = trio.Event()
        self._joined = trio.Event()
        self.clients: set[Client] = set()
        self.dropped = 0

    async def wait_for_clients(self) -> None:
        """Wait until there is a client."""
        while not self.clients:
            await self._joined.wait()

    def is_selected(self, channel: str) -> bool:
        """Return whether any client has selected a channel."""
        return any(not client.wish.channels or channel in client.wish.channels for client in self.clients)

    def publish(self, channel: str, data: Any, *, process: str | None = None, service: str | None = None) -> None:
        """Publish an event to every client that selected it."""
        if self.clients:
            self._pending.append(Event(channel, data, process, service, self._clock()))
            self._wake.set()

    def output(self, first: int, lines: Sequence[str], stream: str, source: Source, at: float) -> None:
        """Publish lines to every client that selected them."""
        if not self.clients:
            return
        last = self._pending[-1] if self._pending else None
        if (
            isinstance(last, Output)
            and last.source == source
            and last.stream == stream
            and last.first + len(last.lines) == first
        ):
            last.lines.extend(lines)
        else:
            self._pending.append(Output(first, list(lines), stream, source, at))
        self._wake.set()

    def miss(self, service: str | None, count: int) -> None:
        """Notify every client of lines that were lost before they arrived here."""
        self.flush()
        for client in self.clients:
            client.miss(service, count)
        self._wake.set()

    def join(self, wish: Wish) -> Client:
        """Return the backlog of a new client, which receives all events published from now on."""
        self.flush()
        client = Client(wish)
        self.clients.add(client)
        self._joined.set()
        self._joined = trio.Event()
        return client

    def leave(self, client: Client) -> None:
        """Forget a client."""
        self.clients.discard(client)

    def flush(self) -> None:
        """Deliver the pending events to the clients."""
        if not self._pending:
            return
        frame, self._pending = Frame(self._pending), []
        for client in self.clients:
            self.dropped += client.offer(frame)

    async def run(self) -> None:
        """Deliver published events to the clients, at most once per tick, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            due = trio.current_time() + TICK
            self.flush()
            for turn, client in enumerate([client for client in self.clients if client.waiting], 1):
                client.wake.set()
                if turn % _AT_ONCE == 0:
                    await trio.lowlevel.checkpoint()
            await trio.sleep_until(max(due, trio.current_time() + _REST))
