"""The lifecycle of one child, from its start to `Exited`: a state machine that consumes events and issues commands.

Every method here runs to its end without waiting: in the reactor's task where a handle or a timer calls it, else in the
task of a caller. So nothing is locked, and a method may take for granted that the phase it has checked still holds.

Phases
    `Lifecycle._enter` is the only writer of the phase, and `NEXT` says which may follow which:

        STARTING ── RUNNING ──────────┬── DRAINING ── SWEEPING ── ENDED
                       └─ UNKILLABLE ─┘

    Each arrow to the right may skip phases that have nothing to do. A start that fails goes from STARTING to ENDED. A
    service that is left turns a detached or unkillable child from any phase after the start into ABANDONED.

    STARTING    No child yet, or its launcher still runs. The handle is a `PendingHandle`, which queues requests; they are
                replayed in their order when the child runs, so that a grace period counts from the start and not from
                the request. A start that a test's rules refuse drops the lifecycle in this phase.
    RUNNING     The child runs. Its PID is ours to signal, its pipes are read, its timers are set.
    UNKILLABLE  It still ran `STUCK_AFTER` seconds after SIGKILL; the kernel is waiting for a disk, say. Waiters of `stop`
                have had their `StopFailedError`. It may still exit, and then continues like any other.
    DRAINING    It has exited, but something holds its pipes open. They are read until they have been silent for
                `drain_grace`, at most for `drain_limit`.
    SWEEPING    Survivors in its group, and escapees, get the rest of the grace period, then SIGKILL.
    ENDED       Reaped, or never started. The record is final, the events are published, the waiters wake.
    ABANDONED   Detached or unkillable, and its service was left. Nothing is known of it from here on, and every callback
                is a no-op: the reactor serves the rest of its batch, and due timers once more, after `stop`.

Invariants
    1. The child stays an unreaped zombie from its exit until the sweep is over. Its PID is the id of its group. While the
       zombie exists, the kernel gives neither to another process, so a signal to the group can only reach descendants;
       after the reap it could hit a stranger. This is also why the exit is learned from a pidfd and `WNOWAIT`, not from
       wait(2), and why DRAINING comes before SWEEPING: what a descendant writes in reply to the stop signal is still read.
    2. Pipes are closed after they were read, never before. Closing first kills a child that writes on its way out by
       SIGPIPE, and loses what it wrote.
    3. A request is remembered only if it can be the cause of the end (`Stopping.note`), so that a result names the
       right requester. A repeated request can only make the end come sooner.
    4. A child that is still writing waits for slow consumers (`Backpressure`). From its exit or the first stop on it
       doesn't: a consumer can't delay an end.
    5. `done` is set after `Exited` is in every backlog. Whatever goes wrong while publishing, waiters wake.

Why not a task per child, in which this would read as straight-line code? A nursery with two tasks costs 22 µs and 10 kB
a child; a thousand idle children would hold 10 MB. And a request, a timer, the exit and a cancellation may come in any
order: as code it would be one wait for any of four things in every phase, which is this table again, written as branches.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from enum import Enum, auto
from signal import SIGKILL
from typing import TYPE_CHECKING, Final, final
from weakref import ref

import trio

from .._core import (
    CommandResult,
    EndReason,
    LazyEvent,
    ProcessStartError,
    RunOptions,
    ServiceClosedError,
    Stream,
    shown_command,
)
from .backend import ENDED_HANDLES, Handle, LifecycleHost, PendingHandle, Survivor
from .end_reason import Request, reason_of
from .lifecycle_events import publish_exited, publish_started
from .output import Backpressure, Drain, OutputRouter
from .record import Record, time_for
from .stopping import Limits, Stopping


class Phase(Enum):
    """The phase of a child; `Lifecycle._enter` is the only writer."""

    STARTING = auto()
    RUNNING = auto()
    DRAINING = auto()
    SWEEPING = auto()
    UNKILLABLE = auto()
    ENDED = auto()
    ABANDONED = auto()

    if not TYPE_CHECKING:
        __hash__ = object.__hash__  # that of Enum is written in Python, and each step looks a phase up twice


NEXT: Final[Mapping[Phase, frozenset[Phase]]] = {
    Phase.STARTING: frozenset({Phase.RUNNING, Phase.ENDED}),
    Phase.RUNNING: frozenset({Phase.DRAINING, Phase.SWEEPING, Phase.ENDED, Phase.UNKILLABLE, Phase.ABANDONED}),
    Phase.DRAINING: frozenset({Phase.SWEEPING, Phase.ENDED, Phase.ABANDONED}),
    Phase.SWEEPING: frozenset({Phase.ENDED, Phase.ABANDONED}),
    Phase.UNKILLABLE: frozenset({Phase.DRAINING, Phase.SWEEPING, Phase.ENDED, Phase.ABANDONED}),
    Phase.ENDED: frozenset(),
    Phase.ABANDONED: frozenset(),
}

# tuples: for so few members faster than sets
ALIVE: Final = (Phase.RUNNING, Phase.UNKILLABLE)
SIGNALLABLE: Final = (Phase.RUNNING, Phase.UNKILLABLE, Phase.DRAINING, Phase.SWEEPING)
OVER: Final = (Phase.ENDED, Phase.ABANDONED)


@final
class Lifecycle:
    """One child. `ManagedProcess` is its public side, `Record` holds the facts about it.

    Attributes:
        phase: Its phase.
        record: The facts about it.
        handle: The child itself; a `PendingHandle` until it has started, an `AbsentHandle` once it is reaped.
        host: Its service.
        output: Where its output goes; `last_output` is when some was last read, on Trio's clock.
        managed_ref: A weak reference to its `ManagedProcess`, None while there is none.
        stopping: The requests to end it; None until the first one.
        backpressure: Its slow consumers, None while there were none.
        claims: How many tasks wait for its end or read its lines; its output is kept for them.
        done: An event, set when the record is final and `Exited` is published.
        settled: An event, set when it is done, can't be killed, or is no longer watched.
    """

    __slots__ = (
        "_done", "_drain", "_exited_at", "_kill_now", "_limits", "_settled", "backpressure", "claims", "handle", "host",
        "last_output", "managed_ref", "output", "phase", "record", "stopping",
    )  # fmt: skip

    done: LazyEvent = LazyEvent("_done", lambda child: child.phase is Phase.ENDED)
    settled: LazyEvent = LazyEvent("_settled", lambda child: child.is_settled, keep=False)

    def __init__(self, host: LifecycleHost, id: str, options: RunOptions, buffer_size: float) -> None:  # noqa: A002 - the contract's name
        self.host: LifecycleHost = host
        self.phase: Phase = Phase.STARTING
        self.record: Record = Record(id, options)
        self.handle: Handle = PendingHandle()
        self.output: OutputRouter = OutputRouter(host.bus, id, options, buffer_size)
        self.managed_ref: ref[object] | None = None
        self.claims: int = 0
        self.last_output: float = 0.0
        self._done: trio.Event | None = None
        self._settled: trio.Event | None = None
        self._limits: Limits | None = None
        self.stopping: Stopping | None = None
        self.backpressure: Backpressure | None = None
        self._exited_at = 0.0  # of every phase after the exit
        self._drain: Drain | None = None  # of DRAINING
        self._kill_now: Callable[[], None] | None = None  # of SWEEPING: ends the grace period of descendants

    def _enter(self, phase: Phase) -> None:
        """Write the phase; the only place that does."""
        assert phase in NEXT[self.phase], f"{self.phase} is never followed by {phase}"
        self.phase = phase

    def started(self, handle: Handle, started_at: datetime | None = None) -> None:
        """Take over a child that was just spawned, or one that was detached at `started_at`."""
        now = trio.current_time()
        pending, self.handle = self.handle, handle
        self.record.begin(handle, started_at, now)
        self.last_output = now
        self._enter(Phase.RUNNING)
        options = self.record.options
        if options.timeout is not None or options.idle_timeout is not None:
            self._limits = Limits(self)
        publish_started(self.host.bus, self.record)
        handle.begin(self)
        if isinstance(pending, PendingHandle):
            for request in pending.requests:
                self.ask(request)  # does nothing if the child could not even be watched, and has ended

    def start_failed(self, error: ProcessStartError) -> None:
        """Called when there is no child."""
        self.record.fail(error)
        self._enter(Phase.ENDED)
        self._publish_end()

    def received(self, stream: Stream, data: bytes) -> None:
        """Take in a chunk of output; a child that is still writing waits for full consumers."""
        if self.record.output_error is not None or self.phase in OVER:
            return
        self.last_output = trio.current_time()
        try:
            full = self.output.receive(stream, data)
        except Exception as error:  # noqa: BLE001 - the end of the process must be seen whatever its output leads to
            self.output_lost(error)
            return
        if self.output.over_limit and not self.record.over_limit:
            self.record.over_limit = True
            self.ask(Request(EndReason.OUTPUT_LIMIT))
        if full and self.is_alive and self.kill_at is None:
            if self.backpressure is None:
                handle, label = self.handle, self.record.label
                self.backpressure = Backpressure(self.host.reactor, label, handle.pause, handle.resume, self._resumed)
            self.backpressure.wait(stream, full)

    def output_lost(self, error: Exception) -> None:
        """Kill a child whose output can't be stored, because memory has run out, for example; waiters and readers get the error."""
        if self.record.output_error is None and self.phase is not Phase.ABANDONED:
            self.record.lose_output(error)
            if not self.record.options.detach:
                self.ask(Request(EndReason.KILLED, SIGKILL))

    def read_rest(self) -> None:
        """Read all output that can be read now."""
        try:
            self.handle.read_rest()
        except Exception as error:  # noqa: BLE001 - as in `received`
            self.output_lost(error)

    def _resumed(self, error: OSError | None) -> None:
        self.last_output = trio.current_time()  # the silence was ours
        if error is not None:
            self.output_lost(error)

    def release_consumers(self) -> None:
        """Stop waiting for slow consumers."""
        if self.backpressure is not None:
            self.backpressure.release_all()

    def stream_ended(self) -> None:
        """Called at end of file on one stream. While draining, the last one ends the drain."""
        if self.phase is Phase.DRAINING and not self.handle.open_streams:
            self.drained()

    def exited(self) -> None:
        """Called when the child has exited: read on until its pipes are silent, then sweep."""
        if not self.is_alive:
            return
        now = self._exited_at = trio.current_time()
        if self._limits is not None:
            self._limits.cancel()
        self.read_rest()
        self.release_consumers()
        if not self.handle.open_streams:
            self._sweep(now)
            return
        self._enter(Phase.DRAINING)
        self._drain = Drain(self, self.host.reactor, self.host.options.drain_grace, self.host.options.drain_limit)
        self._drain.check()

    def drained(self) -> None:
        """Called when the pipes are at their end, or have been silent for long enough."""
        if self._drain is not None:
            self._drain.cancel()
        self.record.output_incomplete = self.handle.open_streams > 0 or self.record.output_error is not None
        self._sweep(trio.current_time())

    def _sweep(self, now: float) -> None:
        options = self.record.options
        if options.kill_group and (not options.detach or self.kill_at is not None):
            # descendants of a child that is being stopped have the rest of the grace for their own clean-up
            kill_from = max(self._exited_at, self.kill_at or 0.0)
            self._kill_now = self.handle.sweep(now - self.record.started, kill_from, self._swept)
        if self._kill_now is None:
            self._finish(())
        else:
            self._enter(Phase.SWEEPING)

    def _swept(self, survivors: Sequence[Survivor], killed: bool) -> None:  # noqa: FBT001 - a callback of one place
        if self.phase is not Phase.SWEEPING:
            return
        self.read_rest()  # to the end of the streams that have just been closed
        if not killed and not self.handle.open_streams and self.record.output_error is None:
            self.record.output_incomplete = False  # the process that held the pipe has closed it by itself
        self._finish(survivors)

    def _finish(self, survivors: Sequence[Survivor]) -> None:
        self.handle.close_outputs()
        info = self.handle.reap()
        self._limits = self._drain = self._kill_now = self.backpressure = None  # they refer to this:
        self.handle = ENDED_HANDLES[self.handle.has_stdin]  # the collector would have to free it
        cause = self.stopping.cause(info.exit_code) if self.stopping is not None else reason_of((), info.exit_code)
        if self.stopping is not None:
            self.stopping.end()
        self.record.end(info, cause, self._exited_at, survivors)
        self._enter(Phase.ENDED)
        try:
            self.output.finish()
        except Exception as error:  # noqa: BLE001 - as in `received`
            self.output_lost(error)
        self._publish_end()

    def _publish_end(self) -> None:
        """Publish the end and wake all waiters."""
        try:
            publish_exited(self.host.bus, self.record, self.output.capture, self.output_lost)
        finally:
            Lifecycle.settled.fire(self)
            self.output.wake_readers()
            self.host.ended(self.record.id)
            Lifecycle.done.fire(self)  # last: it fails if a task of another call of trio.run waits for it

    def abandon(self) -> None:
        """Release a child that runs on, unwatched: one that is detached, or that even SIGKILL does not end."""
        for part in (self._limits, self.stopping, self.backpressure, self._drain):
            if part is not None:
                part.cancel()
        self.handle.abandon()
        self._enter(Phase.ABANDONED)
        self.output.abandon()
        Lifecycle.settled.fire(self)

    @property
    def is_settled(self) -> bool:
        """Whether it is done, can't be killed, or is no longer watched; a survivor that dies later stays settled."""
        return self.phase in OVER or bool(self.record.survivors)

    @property
    def kill_at(self) -> float | None:
        """When SIGKILL follows the stop signal, on Trio's clock; None while no stop was asked for."""
        return None if self.stopping is None else self.stopping.kill_at

    @property
    def has_readers(self) -> bool:
        """Whether anybody reads its output while it comes."""
        return self.output.has_readers

    @property
    def is_alive(self) -> bool:
        """Whether it has started and not exited."""
        return self.phase in ALIVE

    @property
    def is_signallable(self) -> bool:
        """Whether there is a process to signal, or a group that it has left."""
        return self.phase in SIGNALLABLE

    def ask(self, request: Request) -> None:
        """Act on a request, now or as soon as the child has started; do nothing if it has ended."""
        if isinstance(self.handle, PendingHandle):
            self.handle.ask(request)
        elif self.is_signallable:
            self.stopping = self.stopping or Stopping(self)
            self.stopping.act_on(request)

    def shorten_grace(self) -> None:
        """End a grace period that lasts longer than the deadline of the whole shutdown."""
        if self.stopping is not None:
            self.stopping.shorten_grace()

    def kill_descendants(self) -> None:
        """End the grace period of the processes that a sweep has found."""
        if self.phase is Phase.SWEEPING and self._kill_now is not None:
            self._kill_now()

    def check_unkillable(self) -> None:
        """Report a child that SIGKILL has not ended; the service may then be left without it."""
        if self.phase is Phase.RUNNING and not self.handle.has_exited() and (survivor := self.handle.survivor()):
            self._enter(Phase.UNKILLABLE)
            self.record.survivors = (survivor._replace(command=shown_command(self.record.options)),)
            Lifecycle.settled.fire(self)
            self.host.ended(self.record.id)

    def result(self) -> CommandResult:
        """Return the result so far."""
        return self.record.result(self.output.capture, time_for(self.record))


def check_watched(child: Lifecycle) -> None:
    """Raise `ServiceClosedError` if its service was left while it ran, so that nothing is known of it any more.

    Raise `ProcessError` if it runs, and this is not the call of `trio.run` that it belongs to.
    """
    if child.phase is Phase.ABANDONED:
        record = child.record
        raise ServiceClosedError(
            f"{record.id} ({shown_command(record.options)}, pid {record.pid}) is no longer watched: its service was left "
            "while it ran; adopt it in another service"
        )
    if child.phase is not Phase.ENDED:
        child.host.reactor.check_run()


async def wait_stopped(child: Lifecycle, by: str | None) -> None:
    """Wait for the end of a child that is being stopped; if cancelled, end its grace period and wait for that."""
    child.claims += 1
    try:
        await child.settled.wait()
    except BaseException:
        child.ask(Request(EndReason.CANCELLED, by=by, grace_period=0.0))
        with trio.CancelScope(shield=True):
            await child.settled.wait()
        raise
    finally:
        child.claims -= 1
