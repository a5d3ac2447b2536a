"""The event hub: hands events, as messages, to every stream that asked for them.

What is published within 50 ms becomes one *frame*. A frame is encoded once for each kind of wish (channels, services,
batches or lines), however many clients share it, and a client's backlog holds references to frames. A backlog has a bound:
beyond it, output is dropped, the oldest first, and counted by service, so that the client gets a `gap` in its place;
changes of state are never dropped, and a client whose changes alone are too much is cut. Nobody waits for a client.
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
"""Seconds that events are gathered before they are written."""

_AT_ONCE: Final = 8  # clients that are written to in one pass of the scheduler: between them, probes get their turn
_REST: Final = 0.01  # seconds between two rounds, however many clients there are

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
"""The channels, in the order of the documentation."""

_OUTPUT: Final = "process.output"


class Wish(NamedTuple):
    """What a client wants.

    Attributes:
        channels: The channels; none for all.
        services: The services; none for all.
        batch: Whether several lines may come in one event.
    """

    channels: frozenset[str] = frozenset()
    services: frozenset[str] = frozenset()
    batch: bool = False

    def takes(self, channel: str, service: str | None) -> bool:
        """Return whether an event is wanted."""
        return (not self.channels or channel in self.channels) and (not self.services or service in self.services)


class Event(NamedTuple):
    """Something that has happened."""

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
    """Lines of one process, with the cursors from `first` on."""

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
    """Return a moment, in seconds since the epoch, as events and answers have it.

    >>> stamp(0)
    '1970-01-01T00:00:00+00:00'
    """
    return datetime.fromtimestamp(at, UTC).isoformat()


class Encoded(NamedTuple):
    """A frame for one wish: the messages, their size, what they would be without output, and which lines those miss."""

    messages: Sequence[str]
    size: int
    quiet: Sequence[str]
    lines: Counter[str]


@final
class Frame:
    """What was published within one tick."""

    __slots__ = ("_encoded", "_items")

    def __init__(self, items: Sequence[Event | Output]) -> None:
        self._items = items
        self._encoded: dict[Wish, Encoded] = {}

    def encoded(self, wish: Wish) -> Encoded:
        """Return the frame for a wish, encoded when the first client asks."""
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
        wish: What it wants.
        wake: Set when it is this client's turn to take what waits.
        hopeless: Whether even its changes of state are too much, so that it must be cut.
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
        """Take a frame in; return how many lines had to be dropped for it."""
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
        """Note that lines never came here."""
        self._missed[service or ""] += count

    @property
    def waiting(self) -> bool:
        """Whether there is something to take."""
        return bool(self._backlog or self._missed)

    def take(self) -> list[str]:
        """Return all that waits, gaps first."""
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
    """Hands published events to the clients.

    Args:
        clock: The wall clock, in seconds since the epoch.

    Attributes:
        clients: The streams that are open.
        dropped: Lines that were dropped for clients that read too slowly.
    """

    __slots__ = ("_clock", "_pending", "_wake", "clients", "dropped")

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._pending: list[Event | Output] = []
        self._wake = trio.Event()
        self.clients: set[Client] = set()
        self.dropped = 0

    def publish(self, channel: str, data: Any, *, process: str | None = None, service: str | None = None) -> None:
        """Let every client that wants it know of an event."""
        if self.clients:
            self._pending.append(Event(channel, data, process, service, self._clock()))
            self._wake.set()

    def output(self, first: int, lines: Sequence[str], stream: str, source: Source, at: float) -> None:
        """Let every client that wants it know of lines."""
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
        """Let every client know that lines were lost before they came here."""
        self.flush()
        for client in self.clients:
            client.miss(service, count)
        self._wake.set()

    def join(self, wish: Wish) -> Client:
        """Return the backlog of a new client, which gets everything that is published from now on."""
        self.flush()
        client = Client(wish)
        self.clients.add(client)
        return client

    def leave(self, client: Client) -> None:
        """Forget a client."""
        self.clients.discard(client)

    def flush(self) -> None:
        """Hand the pending events to the clients."""
        if not self._pending:
            return
        frame, self._pending = Frame(self._pending), []
        for client in self.clients:
            self.dropped += client.offer(frame)

    async def run(self) -> None:
        """Hand published events to the clients, at most once per tick, for ever."""
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
