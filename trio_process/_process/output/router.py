"""`OutputRouter`: passes each chunk of output to the capture, the subscribers, the log file and the echo."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol, final

import trio

from ..._core import ActionProcessOutput, Backlog, Bus, EventBatch, RunOptions, Stream, masker_for
from .capture import Capture
from .echo import Echo
from .lines import LineCursor, LineSplitter, Split, is_direct
from .redact import Redactor
from .ring_buffer import DEFAULT_BUFFER_SIZE


class Consumer(Protocol):
    """A consumer whose full buffer pauses the child."""

    @property
    def full(self) -> bool:
        """Whether it can take no more for now."""

    def when_room(self, callback: Callable[[], object]) -> None:
        """Call `callback` once, as soon as it is no longer full."""

    def forget(self, callback: Callable[[], object]) -> None:
        """Undo `when_room`."""

    def hold_up_notice(self, process: str, seconds: float) -> str | None:
        """Return the log message after it has delayed `process` for `seconds`, or None."""


class Sink(Protocol):
    """A consumer that gets every byte and never waits: a log file."""

    def write(self, stream: Stream, data: bytes) -> None:
        """Take in a chunk; never raises and never waits."""

    def finish(self) -> None:
        """Called at the end of the output."""


_GLANCE: Final = 4096  # bytes of an unfinished line
_NO_SPLITTERS: Final[dict[Stream, LineSplitter]] = {}  # shared while nothing splits, and never written to


@final
class OutputRouter:
    """Routes the output of one process, from chunk to capture and events.

    Lines are split off only while there is a subscriber. A subscription that begins in the middle of a line still gets all of
    it: the part that was written before is taken from the capture. Of a line over `max_line` it gets the pieces that were not
    complete yet.
    """

    __slots__ = (
        "_always_splits",
        "_bus",
        "_id",
        "_known",
        "_name",
        "_options",
        "_redactors",
        "_rest",
        "_splitters",
        "_targets",
        "_window",
        "arrived",
        "capture",
        "echo",
        "over_limit",
        "readers",
        "sinks",
    )

    def __init__(self, bus: Bus, id: str, options: RunOptions, size: float) -> None:  # noqa: A002 - as in the events
        self._bus = bus
        self._id = id
        self._name = options.name
        self._options = options
        self._known = -1  # the version of the bus that `_targets` is of
        self._targets: Sequence[Backlog] = ()
        self._splitters = _NO_SPLITTERS
        masker = masker_for(options) if options.redact else None
        self._redactors = {stream: Redactor(masker, options.encoding) for stream in Stream} if masker else None
        if options.disable_capture:
            size = 0
        # where the beginning of a line can't be taken from the capture
        self._always_splits = not size or not is_direct(options.encoding)
        self._window: Capture | None = None  # for readers of lines, where nothing is captured
        self.capture: Capture = Capture(size)
        self.sinks: tuple[Sink, ...] = ()
        self._rest = options.max_output  # how many more bytes it may write
        self.over_limit: bool = False
        self.echo: Echo | None = None
        self.readers: int = 0  # of lines
        self.arrived: trio.lowlevel.ParkingLot | None = None  # where they wait, once there was one

    def receive(self, stream: Stream, data: bytes) -> list[Consumer] | None:
        """Pass a chunk to all consumers; return those that are full, None if there are none."""
        if not data:
            return None  # only a sign of life
        if self._rest is not None:
            self._rest -= len(data)
            self.over_limit = self._rest < 0
        if self._redactors is not None:
            data = self._redactors[stream].feed(data)
            if not data:
                return None
        return self._pass_on(stream, data)

    def _pass_on(self, stream: Stream, data: bytes) -> list[Consumer] | None:
        full: list[Consumer] | None = None
        if self._find_targets():
            splitter = self._splitter(stream)
            weight = splitter.unfinished + len(data)
            split = splitter.feed(data)
            full = self._publish(stream, split, weight - splitter.unfinished)
        elif self._always_splits:
            self._splitter(stream).skip(data)
        elif self._splitters:
            self._splitters = _NO_SPLITTERS
        self.capture.write(stream, data)
        if self._window is not None:
            self._window.write(stream, data)
        for sink in self.sinks:
            sink.write(stream, data)
        if self.echo is not None:
            self.echo.write(stream, data)
            if self.echo.full:
                full = [*(full or ()), self.echo]
        if self.arrived is not None:
            self.arrived.unpark_all()
        return full

    def _find_targets(self) -> Sequence[Backlog]:
        """Return the backlogs that get its lines now."""
        version = self._bus.version
        if version != self._known:
            self._known = version
            self._targets = self._bus.targets(ActionProcessOutput, self._id, self._name)
        return self._targets

    def _splitter(self, stream: Stream) -> LineSplitter:
        splitter = self._splitters.get(stream)
        if splitter is None:
            options = self._options
            splitter = LineSplitter(options.encoding, options.errors, options.max_line)
            self._splitters = {**self._splitters, stream: splitter}
            unfinished, torn = self.capture.unfinished(stream)
            splitter.resume(unfinished, torn=torn)
        return splitter

    def _publish(self, stream: Stream, split: Split, weight: int) -> list[Consumer] | None:
        if not split.lines:
            return None
        batch = EventBatch(
            id=self._id, name=self._name, stream=stream, lines=split.lines, partial=split.partial, weight=weight
        )
        full: list[Consumer] | None = None
        for backlog in self._targets:
            backlog.offer(batch)
            if backlog.full:
                full = [*(full or ()), backlog]
        return full

    def unfinished(self) -> str:
        """Return the unfinished line of a stream: a prompt, or progress that ends in carriage returns."""
        encoding = self._options.encoding if is_direct(self._options.encoding) else "utf-8"
        partial = next((splitter.partial for splitter in self._splitters.values() if splitter.partial), b"")
        return partial[-_GLANCE:].decode(encoding, "replace")

    def finish(self) -> None:
        """Pass on the unfinished last lines."""
        if self._redactors is not None:
            for stream, redactor in self._redactors.items():
                rest = redactor.finish()
                if rest:
                    self._pass_on(stream, rest)
        self._targets = self._bus.targets(ActionProcessOutput, self._id, self._name) or ()
        if self._targets:
            for stream in Stream:
                if self.capture.ring(stream) is not None or stream in self._splitters:
                    splitter = self._splitter(stream)
                    weight = splitter.unfinished
                    self._publish(stream, splitter.finish(), weight)
        self._splitters = _NO_SPLITTERS
        self._window = None  # its readers hold it
        for sink in self.sinks:
            sink.finish()
        if self.echo is not None:
            self.echo.finish()

    def abandon(self) -> None:
        """Write the unfinished last lines, and wake the readers: no more is read from a child that is no longer watched."""
        self.close_sinks()
        if self.echo is not None:
            self.echo.finish()
        self.wake_readers()

    def close_sinks(self) -> None:
        """Let the sinks write their buffers, and close."""
        for sink in self.sinks:
            sink.finish()

    def wake_readers(self) -> None:
        """Wake the readers of lines."""
        if self.arrived is not None:
            self.arrived.unpark_all()

    @property
    def has_readers(self) -> bool:
        """Whether anybody reads its lines or events while they come."""
        return self.readers > 0 or bool(self._find_targets())

    async def readable(self) -> None:
        """Wait for more output, or its end."""
        assert self.arrived is not None
        await self.arrived.park()

    def cursor(self, source: Stream | None) -> LineCursor:
        """Return a reader of lines, beginning with the first captured one."""
        if self.arrived is None:
            self.arrived = trio.lowlevel.ParkingLot()
        options = self._options
        capture = self.capture if self.capture.size else self._open_window()
        return LineCursor(capture, source, options.encoding, options.errors, options.max_line)

    def _open_window(self) -> Capture:
        """Keep the tail for readers of lines from now on, although nothing is captured."""
        if self._window is None:
            self._window = Capture(DEFAULT_BUFFER_SIZE)
            for stream, splitter in self._splitters.items():
                self._window.write(stream, splitter.partial)
        return self._window
