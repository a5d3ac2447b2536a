"""`Link`: one connection between a client and an agent; frames to and from any stream of bytes, and the heartbeat.

Sending never waits: frames are queued, and one task writes the queue in large pieces. The queue is bounded anyway,
because every stream of a process has credit for at most `WINDOW` bytes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, final

import trio

from .messages import Credit, Message, Ping, encode
from .wire import DATA_LIMIT, MAGIC, Frame, Kind, Parser, WireError, pack_header

WINDOW: Final = 2**20
"""How many bytes of a stream may be under way, or held for a slow reader."""

_READ: Final = 2**18
_WRITE: Final = 2**18
_SMALL: Final = 2**16
_LARGE: Final = 2 * _WRITE + 2**10  # the first entries, a full frame, and their headers
_BEATS: Final = 8  # pings per heartbeat

PATIENCE: Final = 1 + 2 / _BEATS
"""Heartbeats of silence after which the other side, too, has heard nothing for one.

It may have heard of us later than we of it, by the time between two pings, and by that which they take.
"""

_ENDLESS: Final = 2**62


@final
class _Data:
    """Raw data of one stream, as long as they wait to be sent: one frame."""

    __slots__ = ("_chunks", "_kind", "_process", "_size")

    def __init__(self, kind: Kind, process: int, data: bytes) -> None:
        self._kind = kind
        self._process = process
        self._chunks = [data]
        self._size = len(data)

    def takes(self, kind: Kind, process: int, size: int) -> bool:
        """Return whether this many bytes of a stream may follow in the same frame."""
        return process == self._process and kind is self._kind and self._size + size <= DATA_LIMIT

    def add(self, data: bytes) -> None:
        """Append a chunk."""
        self._chunks.append(data)
        self._size += len(data)

    def parts(self) -> list[bytes]:
        """Return the header and the chunks of the frame."""
        return [pack_header(self._kind, self._process, self._size), *self._chunks]


@final
class Link:
    """Sends and receives frames over a stream, which it owns.

    Attributes:
        broken: Why nothing can be sent any more, None while it can.
        ended: Whether the other side has closed the connection, or it broke.
        heard: When something was last received, on Trio's clock.
    """

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self.parser: Parser = Parser()
        self._queue: deque[bytes | _Data] = deque([MAGIC])
        self._buffer = bytearray()  # for writes of several parts
        self._wake = trio.lowlevel.ParkingLot()
        self._drained = trio.lowlevel.ParkingLot()
        self._writing = False
        self.broken: BaseException | None = None
        self.ended: bool = False
        self.heard: float = trio.current_time()
        self._sent = trio.current_time()

    def send(self, message: Message) -> None:
        """Queue a message."""
        self._put(encode(message))

    def send_data(self, kind: Kind, process: int, data: bytes) -> None:
        """Queue input or output of a process; chunks that wait one after the other become one frame."""
        last = self._queue[-1] if self._queue else None
        if isinstance(last, _Data) and last.takes(kind, process, len(data)):
            last.add(data)
            return
        for begin in range(0, len(data), DATA_LIMIT):
            self._put(_Data(kind, process, data if len(data) <= DATA_LIMIT else data[begin : begin + DATA_LIMIT]))

    def _put(self, entry: bytes | _Data) -> None:
        if self.broken is None:
            self._queue.append(entry)
            if self._wake:
                self._wake.unpark_all()

    @trio.lowlevel.enable_ki_protection
    async def write(self) -> None:
        """Write the queue, until the connection breaks."""
        queue = self._queue
        try:
            while True:
                while not queue:
                    self._drained.unpark_all()
                    await self._wake.park()
                self._writing = True
                await self._stream.send_all(self._take())
                self._sent = trio.current_time()
                self._writing = False
        except (trio.BrokenResourceError, trio.ClosedResourceError, OSError) as error:
            self.break_off(error)
        finally:
            self._writing = False
            self._drained.unpark_all()

    def _take(self) -> bytes | memoryview:
        """Take the next piece from the queue: a copy costs less than a turn of the loop for each part.

        Large pieces are copied to a buffer that is used again: new memory for each would be mapped page by page.
        """
        queue, size = self._queue, 0
        parts: list[bytes] = []
        while queue and size < _WRITE:
            entry = queue.popleft()
            found = entry.parts() if isinstance(entry, _Data) else (entry,)
            parts += found
            size += sum(map(len, found))
        if not _SMALL <= size <= _LARGE:
            return b"".join(parts)
        buffer, end = self._buffer, 0
        if not buffer:
            buffer += bytes(_LARGE)
        for part in parts:
            begin, end = end, end + len(part)
            buffer[begin:end] = part
        return memoryview(buffer)[:end]

    async def flush(self) -> None:
        """Wait until the whole queue was written, or can't be."""
        while (self._queue or self._writing) and self.broken is None:
            await self._drained.park()

    async def receive(self) -> list[Frame] | None:
        """Return the next frames, None at the end of the connection.

        Raises:
            WireError: The data violates the protocol.
        """
        while True:
            try:
                data = await self._stream.receive_some(_READ)
            except (trio.BrokenResourceError, trio.ClosedResourceError, OSError):
                data = b""
            if not data:
                self.ended = True
                return None
            self.heard = trio.current_time()
            frames = self.parser.feed(data)
            if frames:
                return frames

    @trio.lowlevel.enable_ki_protection
    async def beat(self, heartbeat: float, lost: Callable[[], object]) -> None:
        """Send a ping whenever nothing was sent for a while; call `lost` once nothing was received for `heartbeat` seconds."""
        interval = heartbeat / _BEATS
        pinged = self._sent
        while True:
            due = min(max(pinged, self._sent) + interval, self.heard + heartbeat)
            await trio.sleep_until(due)
            now = trio.current_time()
            if now - due > interval:
                # this whole program was held up, so that data may have arrived that was not read
                await trio.sleep(interval / 2)
                now = trio.current_time()
            if now >= self.heard + heartbeat:
                lost()
                return
            if now >= max(pinged, self._sent) + interval:
                self.send(Ping())
                pinged = now

    def break_off(self, why: BaseException) -> None:
        """Stop sending; wake the tasks that wait for the queue."""
        if self.broken is None:
            self.broken = why
        self._queue.clear()
        self._wake.unpark_all()
        self._drained.unpark_all()

    async def close(self) -> None:
        """Close the stream, at once."""
        self.break_off(trio.ClosedResourceError("the link is closed"))
        with trio.CancelScope(shield=True) as scope:
            scope.cancel()
            await self._stream.aclose()


@final
class Outflow:
    """The sending side of one stream, limited by the credit that the other side has given."""

    __slots__ = ("_credit", "_held", "_kind", "_link", "_process", "held")

    def __init__(self, link: Link, kind: Kind, process: int, credit: int = WINDOW) -> None:
        self._link = link
        self._kind = kind
        self._process = process
        self._credit = credit
        self._held: deque[bytes] = deque()
        self.held = 0

    @property
    def room(self) -> int:
        """How many bytes may be sent at once."""
        return 0 if self._held else self._credit

    def write(self, data: bytes) -> None:
        """Send `data`, or as much of it as may be sent; the rest is held."""
        if not self._held and len(data) <= self._credit:
            self._credit -= len(data)
            self._link.send_data(self._kind, self._process, data)
            return
        self._held.append(data)
        self.held += len(data)
        self._send_held()

    def add(self, count: int) -> None:
        """Take further credit.

        Raises:
            WireError: It is more than was ever spent.
        """
        if not 0 < count <= WINDOW - self._credit:
            raise WireError(f"a credit of {count} bytes came, with {self._credit} of {WINDOW} left")
        self._credit += count
        self._send_held()

    def release(self) -> None:
        """Discard held and later data: it has no receiver any more."""
        self._held.clear()
        self.held = 0
        self._credit = _ENDLESS

    def _send_held(self) -> None:
        while self._held and self._credit:
            data = self._held.popleft()
            now = data[: self._credit]
            if len(now) < len(data):
                self._held.appendleft(data[len(now) :])
            self._credit -= len(now)
            self.held -= len(now)
            self._link.send_data(self._kind, self._process, now)


@final
class Inflow:
    """The receiving side of one stream: the credit that it has given, and renews as it consumes the data."""

    __slots__ = ("_kind", "_left", "_link", "_process", "_taken")

    def __init__(self, link: Link, kind: Kind, process: int) -> None:
        self._link = link
        self._kind = kind
        self._process = process
        self._left = WINDOW
        self._taken = 0

    def arrived(self, count: int) -> None:
        """Count received bytes.

        Raises:
            WireError: They are more than the other side may send.
        """
        self._left -= count
        if self._left < 0:
            raise WireError(f"process {self._process} sent {-self._left} bytes more than it may")

    def take(self, count: int, *, in_pieces: bool = True) -> None:
        """Renew the credit for `count` consumed bytes; in large pieces, unless the other side is waiting for it."""
        self._taken += count
        if in_pieces and self._taken < WINDOW // 2:
            return
        given, self._taken = self._taken, 0
        self._left += given
        self._link.send(Credit(self._process, self._kind.name.lower(), given))
