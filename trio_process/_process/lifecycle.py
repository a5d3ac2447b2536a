"""The life of one child, from spawn to `Exited`: a state machine that is told what happens and asks for what must.

Everything here runs in the reactor's task or, for requests, synchronously in a caller's: no locks, no waiting.

    running --exit--> draining --silent, or its time is up--> sweeping --nothing left--> final

The leader stays a zombie until the sweep is over, so that its group's id is nobody else's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from signal import SIGCONT, SIGKILL
from typing import Any, final

import trio

from .._core import (
    TRANSITIONS,
    CommandResult,
    EndReason,
    ProcessStartError,
    ResourceUsage,
    RunOptions,
    Status,
    StopFailedError,
    Stream,
    signal_name,
)
from .backend import Handle
from .containment import STUCK_AFTER, Left, state_of
from .end_reason import Request, ended_well, first_cause
from .host import Host
from .lifecycle_events import announce_end, announce_start
from .output import SLOW_READER, Consumer, Output, Patience
from .reactor import Timer


@final
class Life:
    """One child; `ManagedProcess` is its public face."""

    __slots__ = (
        "_asked_early",
        "_done",
        "_drain_until",
        "_exited_at",
        "_grace",
        "_grace_until",
        "_hasten_sweep",
        "_host",
        "_idle",
        "_is_done",
        "_is_settled",
        "_last_output",
        "_patience",
        "_requests",
        "_settled",
        "_started",
        "_suspended",
        "_timeout",
        "abandoned",
        "claims",
        "duration_in_the_end",
        "exit_code",
        "face",
        "handle",
        "id",
        "left",
        "lost",
        "options",
        "output",
        "output_error",
        "output_incomplete",
        "pid",
        "reason",
        "requested_by",
        "start_error",
        "started_at",
        "status",
        "usage",
    )

    def __init__(self, host: Host, id: str, options: RunOptions, buffer_size: float) -> None:  # noqa: A002 - the contract's name
        self._host = host
        self.id = id
        self.options = options
        self.output = Output(host.bus, id, options, buffer_size)
        self.handle: Handle | None = None
        self.status = Status.PENDING
        self.pid: int | None = None
        self.started_at: datetime | None = None
        self.exit_code: int | None = None
        self.reason: EndReason | None = None
        self.requested_by: str | None = None
        self.usage: ResourceUsage | None = None
        self.start_error: ProcessStartError | None = None
        self.duration_in_the_end: float | None = None
        self.face: Callable[[], Any] | None = None  # a weak reference to its `ManagedProcess`
        self.left: Sequence[Left] = ()  # what SIGKILL did not end in time
        # made when somebody waits: of thousands that are alive, hardly any is waited for
        self._done: trio.Event | None = None
        self._settled: trio.Event | None = None
        self._is_done = False
        self._is_settled = False
        self.abandoned = False
        self.claims = 0  # how many tasks wait for its end: what it wrote is kept for them, however much it is
        self.lost: str | None = None  # what is known of the loss of its agent
        self._requests: tuple[Request, ...] = ()
        self._asked_early: tuple[Callable[[], None], ...] = ()  # while a launcher or a thread was at work on the start
        self._patience: dict[Stream, Patience] = {}
        self._started = 0.0
        self._last_output = 0.0
        self._exited_at: float | None = None
        self._grace_until: float | None = None  # when SIGKILL follows, once a stop was asked for
        self._drain_until: float | None = None  # while what is left in the pipes is read
        self.output_incomplete = False
        self.output_error: Exception | None = None  # why something of the output could not be taken in
        self._suspended = False
        self._timeout: Timer | None = None
        self._idle: Timer | None = None
        self._grace: Timer | None = None
        self._hasten_sweep: Callable[[], None] | None = None

    def _become(self, status: Status) -> None:
        """Write the state; the only place that does."""
        assert status in TRANSITIONS[self.status], f"{self.status} is never followed by {status}"
        self.status = status

    # the beginning

    def begins(self) -> None:
        """Take note that it is about to be spawned: it may be at work for long before we have the processor again."""
        self._started = trio.current_time()

    def began(self, handle: Handle, started_at: datetime | None = None) -> None:
        """Take over a child that was just spawned, or one that was detached at `started_at`."""
        now = trio.current_time()
        self.handle = handle
        self.pid = handle.pid
        self._last_output = now
        if started_at is None:
            # by this an adoption knows it again, so it must not be the end of a launch that took seconds
            self.started_at = datetime.now(UTC) - timedelta(seconds=now - self._started)
        else:
            self._started = now - (datetime.now(UTC) - started_at).total_seconds()
            self.started_at = started_at
        self._become(Status.RUNNING)
        options = self.options
        if options.timeout is not None:
            self._timeout = self._host.reactor.call_at(
                now + options.timeout, lambda: self.stop(EndReason.TIMED_OUT, None, None)
            )
        if options.idle_timeout is not None:
            self._idle = self._host.reactor.call_at(now + options.idle_timeout, self._look_idle)
        announce_start(self._host.bus, self.id, options, handle.pid, self.started_at)
        handle.begin(self)
        for ask in self._asked_early:
            ask()
        self._asked_early = ()

    def failed(self, error: ProcessStartError) -> None:
        """Take note that there is no child."""
        self.start_error = error
        self.started_at = datetime.now(UTC)
        self.reason = EndReason.FAILED_TO_START
        self.duration_in_the_end = 0.0
        self._become(Status.FAILED)
        self._end()

    # what the handle tells

    def received(self, stream: Stream, data: bytes) -> None:
        """Take in a chunk of output; a child that is still writing waits for full subscribers."""
        self._last_output = trio.current_time()
        if self.output_error is not None:
            return
        try:
            full = self.output.receive(stream, data)
        except Exception as error:  # noqa: BLE001 - the end of the process must be seen whatever its output leads to
            self.output_lost(error)
            return
        if full and self._exited_at is None and self._grace_until is None:
            self._wait_for(stream, full)

    def output_lost(self, error: Exception) -> None:
        """Kill a process whose output can't be taken in, for want of memory say; who waits for it gets the error."""
        if self.output_error is not None:
            return
        self.output_error = error
        self.output_incomplete = True
        process = f"{self.options.shown_command!r} ({self.id})"
        if self.options.detach:  # it does not depend on us, and its log has what we have not
            error.add_note(f"the output of {process} could not be taken in")
        else:
            error.add_note(f"the output of {process} could not be taken in, and so it was killed")
            self.kill(None)

    def _read_rest(self) -> None:
        assert self.handle is not None
        try:
            self.handle.read_rest()
        except Exception as error:  # noqa: BLE001 - as in `received`
            self.output_lost(error)

    def _wait_for(self, stream: Stream, full: list[Consumer]) -> None:
        assert self.handle is not None
        self.handle.pause(stream)
        patience = Patience(full, lambda: self._go_on(stream))
        self._patience[stream] = patience
        self._host.reactor.call_at(trio.current_time() + SLOW_READER, lambda: self._complain(stream, patience))

    def _go_on(self, stream: Stream) -> None:
        self._patience.pop(stream, None)
        self._last_output = trio.current_time()  # the silence was ours
        if self.handle is None:
            return
        try:
            self.handle.resume(stream)
        except OSError as error:  # we may be in a reader's task, whose trouble it is not
            self.output_lost(error)

    def _complain(self, stream: Stream, patience: Patience) -> None:
        if self._patience.get(stream) is patience:
            patience.complain(f"process {self.id} ({self.options.name or self.options.shown_command})")

    def _wait_no_more(self) -> None:
        for stream in list(self._patience):
            self._patience[stream].give_up()
            self._go_on(stream)

    def stream_ended(self) -> None:
        """Take note that a stream is at its end; a drain ends with the last one."""
        assert self.handle is not None
        if self._drain_until is not None and not self.handle.open_streams:
            self._end_drain()

    def exited(self) -> None:
        """Take note that the child has ended: read on until its pipes are silent, then sweep."""
        assert self.handle is not None
        self._exited_at = trio.current_time()
        for timer in (self._timeout, self._idle):
            if timer is not None:
                timer.cancel()
        self._wait_no_more()
        self._read_rest()
        if not self.handle.open_streams:
            self._begin_sweep()
            return
        self._drain_until = self._exited_at + self._host.settings.drain_limit
        self._look_silent()

    def _look_silent(self) -> None:
        """End the drain if nothing has come for `drain_grace`, else look again."""
        if self._drain_until is None:
            return  # it has ended already
        silent = max(self._last_output, self._exited_at or 0.0) + self._host.settings.drain_grace
        until = min(silent, self._drain_until)
        if until <= trio.current_time():
            self._end_drain()
        else:
            self._host.reactor.call_at(until, self._look_silent)

    def _end_drain(self) -> None:
        assert self.handle is not None
        self._drain_until = None
        self.output_incomplete = self.handle.open_streams > 0 or self.output_error is not None
        self._begin_sweep()

    def _begin_sweep(self) -> None:
        assert self.handle is not None
        assert self._exited_at is not None
        if not self.options.kill_group or (self.options.detach and self._grace_until is None):
            self._finish(())
            return
        # what is left of a process that is being stopped has the rest of the grace for its own clean-up
        kill_from = max(self._exited_at, self._grace_until or 0.0)
        self._hasten_sweep = self.handle.sweep(trio.current_time() - self._started, kill_from, self._swept)
        if self._hasten_sweep is None:
            self._finish(())

    def _swept(self, left: Sequence[Left], killed: bool) -> None:  # noqa: FBT001 - a callback of one place
        assert self.handle is not None
        self._read_rest()  # to the end of what has just been closed
        if not killed and not self.handle.open_streams and self.output_error is None:
            self.output_incomplete = False  # who held the pipe has let go of it by itself
        self._finish(left)

    # the end

    def _finish(self, left: Sequence[Left]) -> None:
        assert self.handle is not None
        assert self._exited_at is not None
        self._read_rest()
        self.handle.close_outputs()
        if self._grace is not None:
            self._grace.cancel()
        ending = self.handle.reap()
        self.exit_code = ending.exit_code
        self.usage = ending.usage
        self.duration_in_the_end = self._exited_at - self._started
        self.left = left
        self.output_incomplete = self.output_incomplete or ending.incomplete
        self.lost = ending.lost
        if ending.lost is not None:
            self.reason = EndReason.LOST
            self._become(Status.FAILED)
        else:
            self.reason, self.requested_by = first_cause(self._requests, ending.exit_code)
            self._become(Status.KILLED if ending.exit_code < 0 else Status.EXITED)
        try:
            self.output.finish()
        except Exception as error:  # noqa: BLE001 - as in `received`
            self.output_lost(error)
        self._end()

    def _end(self) -> None:
        """Tell everybody that all is over."""
        try:
            self._announce_end()
        finally:
            self._is_done = True
            if self._done is not None:
                self._done.set()
            self._settle()
            self.output.wake_readers()
            self._host.ended(self.id)

    def _announce_end(self) -> None:
        try:
            announce_end(self._host.bus, self.id, self.options, self.exit_code, self.result)
        except MemoryError as error:  # for a copy of what it wrote: without that there is room for the news
            self.output_lost(error)
            self.output.capture.release()
            announce_end(self._host.bus, self.id, self.options, self.exit_code, self.result)

    def _settle(self) -> None:
        self._is_settled = True
        if self._settled is not None:
            self._settled.set()
            self._settled = None  # who waits has it; of thousands that are remembered, hardly any is asked again

    @property
    def done(self) -> trio.Event:
        """Set when all is over and told."""
        if self._done is None:
            self._done = trio.Event()
            if self._is_done:
                self._done.set()
        return self._done

    @property
    def settled(self) -> trio.Event:
        """Set when it is done, not to be killed, or watched no more."""
        if self._settled is None:
            self._settled = trio.Event()
            if self._is_settled:
                self._settled.set()
        return self._settled

    def abandon(self) -> None:
        """Let a process run on, unwatched: one that is detached, or that even SIGKILL does not end."""
        assert self.handle is not None
        for timer in (self._timeout, self._idle, self._grace):
            if timer is not None:
                timer.cancel()
        self.handle.abandon()
        self.abandoned = True
        if self.output.echo is not None:
            self.output.echo.finish()
        self._settle()
        self.output.wake_readers()

    # requests

    @property
    def over(self) -> bool:
        """Whether the state is final."""
        return self.duration_in_the_end is not None

    @property
    def asked_to_end(self) -> bool:
        """Whether anybody has asked for the end."""
        return self._grace_until is not None or bool(self._requests)

    @property
    def can_be_signalled(self) -> bool:
        """Whether there is somebody to signal."""
        return self.handle is not None and not self.over and not self.abandoned

    def _note(self, request: Request) -> None:
        """Remember a request, unless one before it explains every end that it could (`first_cause`)."""
        if all(known.signal not in (request.signal, None) for known in self._requests):
            self._requests += (request,)

    def signal(self, number: int, by: str | None, reason: EndReason = EndReason.SIGNALLED) -> None:
        """Send a signal, once, to the group."""
        if self.handle is None:
            self._asked_early += (lambda: self.signal(number, by, reason),)
            return
        if not self.handle.has_exited():
            self._note(Request(reason, number, by))
        self.handle.signal(number, group=self.options.kill_group)

    def kill(self, by: str | None) -> None:
        """Send SIGKILL, and expect the end within a bounded time."""
        if self.handle is None:
            self._asked_early += (lambda: self.kill(by),)
            return
        self._wait_no_more()
        self.signal(SIGKILL, by, EndReason.KILLED)
        if self._grace_until is not None:
            self._grace_until = min(self._grace_until, trio.current_time())  # for what is left, too
        if self._hasten_sweep is not None:
            self._hasten_sweep()
        self._expect_end()

    def suspend(self, number: int) -> None:
        """Send a job-control signal to the group (signal(7))."""
        assert self.handle is not None
        self._suspended = number != SIGCONT
        self.handle.signal(number, group=self.options.kill_group)

    def stop(
        self, reason: EndReason, grace_period: float | None, by: str | None, stop_signal: int | None = None
    ) -> None:
        """Ask for the end: the stop signal, the grace, SIGKILL. Asked again, it can only come sooner."""
        if self.over or self.abandoned:
            return
        if self.handle is None:
            self._asked_early += (lambda: self.stop(reason, grace_period, by, stop_signal),)
            return
        grace = grace_period if grace_period is not None else self.options.grace_period
        if grace is None:
            grace = self._host.settings.grace_period
        until = min(trio.current_time() + grace, self._host.deadline.at)
        first = self._grace_until is None
        if not first and until >= (self._grace_until or 0.0):
            return
        self._grace_until = until
        self._wait_no_more()
        if self._exited_at is None and not self.handle.has_exited():
            self._note(Request(reason, None, by))
        if first and until > trio.current_time():
            if self._suspended or self.handle.is_stopped():
                self.handle.signal(SIGCONT, group=self.options.kill_group)
            self.handle.signal(stop_signal or self.options.stop_signal, group=self.options.kill_group)
        if self._grace is not None:
            self._grace.cancel()
        if until <= trio.current_time():
            self._end_grace()
        else:
            self._grace = self._host.reactor.call_at(until, self._end_grace)

    def shorten_grace(self) -> None:
        """End a grace that lasts longer than the deadline of the whole shutdown."""
        if self._grace_until is not None and self._host.deadline.at < self._grace_until:
            self.stop(EndReason.STOPPED, 0.0 if self._host.deadline.at <= trio.current_time() else None, None)

    def _end_grace(self) -> None:
        if not self.can_be_signalled:
            return
        assert self.handle is not None
        self.handle.signal(SIGKILL, group=self.options.kill_group)
        if self._hasten_sweep is not None:
            self._hasten_sweep()
        self._expect_end()

    def _expect_end(self) -> None:
        """Tell the service if the process is still there a while after SIGKILL."""
        self._host.reactor.call_at(trio.current_time() + STUCK_AFTER, self._look_stuck)

    def _look_stuck(self) -> None:
        if not self.over and self.pid is not None and self._exited_at is None:
            self.left = [Left(self.pid, state_of(self.pid), self.options.shown_command)]
            self._settle()
            self._host.ended(self.id)

    def _look_idle(self) -> None:
        """Stop a process that has been silent for too long; while we don't read, the silence is ours."""
        assert self.options.idle_timeout is not None
        now = trio.current_time()
        if self._patience:
            self._last_output = now
        until = self._last_output + self.options.idle_timeout
        if until <= now:
            self.stop(EndReason.IDLE, None, None)
        else:
            self._idle = self._host.reactor.call_at(until, self._look_idle)

    # what is known

    @property
    def host(self) -> str | None:
        """The host it runs on, None for ours."""
        return self.handle.host if self.handle is not None else None

    @property
    def duration(self) -> float:
        """How long it has run, in seconds."""
        if self.duration_in_the_end is not None:
            return self.duration_in_the_end
        return trio.current_time() - self._started if self.handle is not None else 0.0

    @property
    def signal_name(self) -> str | None:
        """The signal that it died of, e.g. `"SIGTERM"`, else None."""
        return signal_name(-self.exit_code) if self.exit_code is not None and self.exit_code < 0 else None

    def _ended_well(self) -> bool:
        lost = self.output_error is not None
        return self.over and not lost and ended_well(self.options, self.status, self.exit_code, self.reason)

    def raise_trouble(self) -> None:
        """Raise what no result can tell: SIGKILL did not end it, or its output could not be taken in."""
        if self.left:
            raise StopFailedError(self.left)
        if self.output_error is not None:
            raise self.output_error

    def result(self) -> CommandResult:
        """Return what is known so far."""
        options, capture = self.options, self.output.capture
        stdout, stderr = capture.bytes(Stream.STDOUT), capture.bytes(Stream.STDERR)
        return CommandResult(
            id=self.id,
            name=options.name,
            command=options.shown_command,
            args=options.shown_args,
            cwd=options.shown_cwd,
            exit_code=self.exit_code,
            signal_name=self.signal_name,
            status=self.status,
            reason=self.reason,
            requested_by=self.requested_by,
            output_bytes=capture.bytes() if stdout and stderr else stdout or stderr,
            stdout_bytes=stdout,
            stderr_bytes=stderr,
            dropped=capture.dropped,
            output_incomplete=self.output_incomplete,
            started_at=self.started_at,
            duration=self.duration,
            usage=self.usage,
            ok=self._ended_well(),
            start_error=self.start_error,
            host=self.host,
            lost=self.lost,
            encoding=options.encoding,
            errors=options.errors,
            masker=options.masker(),
        )
