"""The agent's side of the seam: a backend that spawns here, and reports each child's events over the wire.

The lifecycle of the child is that of the execution layer: drained, swept, reaped, guarded. A handle is added between
the real one and the lifecycle; it passes everything on and sends a copy. A stream without credit is not read, so that
the child waits in its `write`, as it would for a slow reader here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, final

import trio

from .._core import RunOptions, Stream
from .._process import CHUNK, Backend, ExitInfo, Handle, HandleBetween, HandleOwner, Reactor, Survivor, Swept
from .link import Link, Outflow
from .messages import Exited, Started, Stuck
from .wire import Kind

_REPORTED_AFTER: Final = 0.01  # seconds; a start that need not be prompt is reported after one to two times that
_HELD_UP: Final = 0.05  # seconds between two looks at a stream without credit, after the exit of its process

_KINDS: Final = {Stream.STDOUT: Kind.STDOUT, Stream.STDERR: Kind.STDERR}


@final
class Tap:
    """The data to send of one child; it outlives the child until all of it has had credit.

    Args:
        link: The connection to the client.
        process: The number of the child at the client.
        prompt: Whether its start must be reported at once.
    """

    __slots__ = (
        "_flushed",
        "_outflows",
        "asked_to_end",
        "exited",
        "id",
        "link",
        "pid",
        "process",
        "prompt",
        "signals",
        "survivors",
        "when_room",
    )

    def __init__(self, link: Link, process: int, *, prompt: bool) -> None:
        self.link = link
        self.process = process
        self.prompt = prompt
        self.pid: int | None = None  # until its start is reported
        self.id = ""
        self.exited = False  # before its start was reported
        self.survivors: Sequence[Survivor] = ()
        self.signals: set[int] = set()  # that the client has sent
        self.asked_to_end = False  # by the client, so that the end is not the agent's doing
        self.when_room: Callable[[], object] | None = None
        self._outflows: dict[Stream, Outflow] = {}  # most processes write to one stream at most
        self._flushed: trio.lowlevel.ParkingLot | None = None  # made when a task waits

    def outflow(self, stream: Stream) -> Outflow:
        """Return the sending side of a stream."""
        outflow = self._outflows.get(stream)
        if outflow is None:
            outflow = self._outflows[stream] = Outflow(self.link, _KINDS[stream], self.process)
        return outflow

    def report_start(self) -> None:
        """Report the start, unless that was done, and the exit if it has come since."""
        if self.pid is not None:
            self.link.send(Started(self.process, self.pid))
            self.pid = None
            if self.exited:
                self.link.send(Exited(self.process))

    def add_credit(self, stream: Stream, count: int) -> None:
        """Add credit for a stream, and resume reading if the child has waited for it."""
        self.outflow(stream).add(count)
        if self.when_room is not None:
            self.when_room()
        if not self.held:
            self._wake()

    @property
    def held(self) -> int:
        """How many bytes are waiting for credit."""
        return sum([outflow.held for outflow in self._outflows.values()]) if self._outflows else 0

    async def flushed(self) -> None:
        """Wait until all output of the child has been sent, or can't be sent any more."""
        while self.held and self.link.broken is None:
            if self._flushed is None:
                self._flushed = trio.lowlevel.ParkingLot()
            await self._flushed.park()

    def _wake(self) -> None:
        if self._flushed is not None:
            self._flushed.unpark_all()

    def give_up(self) -> None:
        """Stop waiting for credit: the connection has ended, and the child's pipes must be read during its grace period."""
        for stream in Stream:
            self.outflow(stream).release()
        if self.when_room is not None:
            self.when_room()
        self._wake()


@final
class TappedBackend:
    """Spawns through `real`; the label of each child is its number at the client.

    Args:
        real: The real backend.
        reactor: The reactor of the service.
        taps: The tap of each child that is about to be started, by its number.
    """

    def __init__(self, real: Backend, reactor: Reactor, taps: dict[int, Tap]) -> None:
        self._real = real
        self._reactor = reactor
        self._taps = taps
        self._started: list[Tap] = []  # and not reported yet
        self._started_before: list[Tap] = []  # the last call of the timer

    def report_start_soon(self, tap: Tap) -> None:
        """Report a start at the next but one call of the timer, unless it is reported with the end by then."""
        if not (self._started or self._started_before):
            self._reactor.call_at(trio.current_time() + _REPORTED_AFTER, self._report_starts)
        self._started.append(tap)

    def _report_starts(self) -> None:
        due, self._started_before, self._started = self._started_before, self._started, []
        for tap in due:
            tap.report_start()
        if self._started_before:
            self._reactor.call_at(trio.current_time() + _REPORTED_AFTER, self._report_starts)

    @property
    def mechanism(self) -> str:
        """How descendants are found."""
        return self._real.mechanism

    @property
    def guardian_pid(self) -> int | None:
        """The PID of the guardian, which outlives the agent."""
        return self._real.guardian_pid

    def spawn(self, id: str, options: RunOptions, number: int) -> Handle:  # noqa: A002 - as in the protocol
        """Start a child here."""
        tap = self._taps[int(options.name or 0)]
        tap.id = id
        return TappedHandle(self._real.spawn(id, options, number), tap, self._reactor, self.report_start_soon)

    def adopt(self, pid: int, log: int | None) -> Handle:
        """Adopt a child; no message requests it."""
        return self._real.adopt(pid, log)

    def close(self) -> None:
        """Release shared resources."""
        self._real.close()


@final
class TappedHandle(HandleBetween):
    """A child here, as its lifecycle and the wire see it."""

    def __init__(self, real: Handle, tap: Tap, reactor: Reactor, report_soon: Callable[[Tap], object]) -> None:
        super().__init__(real)
        self._report_soon = report_soon
        self._tap = tap
        self._reactor = reactor
        self._waiting: tuple[Stream, ...] = ()
        self._reaped = False

    def begin(self, owner: HandleOwner) -> None:
        """Start watching the child, in the place of its lifecycle."""
        self._tap.when_room = self._read_on
        self._tap.pid = self._real.pid or 0
        if self._tap.prompt:
            self._tap.report_start()
        else:
            self._report_soon(self._tap)
        super().begin(owner)

    def received(self, stream: Stream, data: bytes) -> None:
        """Send a chunk; without credit for the next one, stop reading for now."""
        self._tap.report_start()
        outflow = self._tap.outflow(stream)
        outflow.write(data)
        if outflow.room < CHUNK and not self._reaped and stream not in self._waiting:
            self._waiting += (stream,)
            self._real.pause(stream)
        super().received(stream, b"")  # a sign of life: lines are made, and the tail is kept, at the client

    def _read_on(self) -> None:
        waiting, self._waiting = self._waiting, ()
        for stream in waiting:
            if self._tap.outflow(stream).room < CHUNK:
                self._waiting += (stream,)
            elif not self._reaped:
                try:
                    self._real.resume(stream)
                except OSError as error:
                    self._owner.output_lost(error)

    def exited(self) -> None:
        """Pass it on; report it, unless the process has ended completely by then, and its end is reported.

        That waits for the credit of the last output, which a slow reader at the client gives only once it has exited.

        A start that need not be prompt is not reported for this: where other programs start processes all the time, many
        runs wait a moment for a search for their descendants.
        """
        super().exited()
        if self._reaped and not self._tap.held:
            return
        if self._tap.pid is None:
            self._tap.link.send(Exited(self._tap.process))
        else:
            self._tap.exited = True
        self._look_held_up()

    def _look_held_up(self) -> None:
        """Check whether a stream is only waiting for credit: then it is not silent, and the drain has not ended."""
        if self._reaped:
            return
        for stream in self._waiting:
            self._owner.received(stream, b"")
        self._reactor.call_at(trio.current_time() + _HELD_UP, self._look_held_up)

    def resume(self, stream: Stream) -> None:
        """Pass it on, if there is credit."""
        if stream not in self._waiting:
            super().resume(stream)

    def survivor(self) -> Survivor | None:
        """Report a child that SIGKILL did not end."""
        survivor = super().survivor()
        if survivor is not None:
            self._tap.report_start()
            self._tap.link.send(Stuck(self._tap.process, [survivor]))
        return survivor

    def sweep(self, age: float, kill_from: float, callback: Swept) -> Callable[[], None] | None:
        """Pass it on, and remember the processes that could not be ended."""

        def swept(left: list[Survivor], killed: bool) -> None:  # noqa: FBT001 - the callback's signature
            self._tap.survivors = left
            callback(left, killed)

        return super().sweep(age, kill_from, swept)

    def reap(self) -> ExitInfo:
        """Pass it on."""
        self._end()
        return super().reap()

    def abandon(self) -> None:
        """Pass it on."""
        self._end()
        super().abandon()

    def _end(self) -> None:
        self._reaped = True
        self._tap.when_room = None  # it refers to this: the collector would have to free both
