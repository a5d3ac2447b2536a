"""`Record`: the facts about one child, and the snapshots and results made from them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import final

import attrs
import trio

from .._core import (
    CommandResult,
    EndReason,
    ProcessInfo,
    ProcessStartError,
    ResourceUsage,
    RunOptions,
    Status,
    StopFailedError,
    Stream,
    masker_for,
    shown_args,
    shown_command,
    shown_cwd,
    signal_name,
    without_traceback,
)
from .backend import ExitInfo, Handle, Survivor
from .end_reason import is_success
from .output import Capture


@final
@attrs.define(eq=False, weakref_slot=False)
class Record:
    """The facts about one child; everything it returns follows from these fields and the time.

    Attributes:
        id: The key, unique in this program.
        options: What was to be run, and how.
        pid: Its PID on the machine where it runs, None before the start.
        started_at: When it was started; None before, which distinguishes a child from a start in progress.
        started: The same on Trio's clock, in seconds.
        exit_code: -N for death by signal N; None until the end, and for a child that never ran.
        reason: Why it ended.
        requested_by: The name of the task that asked for the end.
        usage: The resources that it used.
        start_error: Why it never ran.
        final_duration: How long it ran, in seconds; set when it has ended, so this is what makes the record final.
        survivors: The processes that SIGKILL did not end in time.
        output_error: Why some of its output could not be stored.
        output_incomplete: Whether something still held a pipe when reading ended.
        host: The host it runs on; None for this one.
        lost: Why its end is not known: the agent or machine it ran on was lost.
        over_limit: Whether it wrote more than `max_output` bytes.
    """

    id: str
    options: RunOptions
    pid: int | None = None
    started_at: datetime | None = None
    started: float = 0.0
    exit_code: int | None = None
    reason: EndReason | None = None
    requested_by: str | None = None
    usage: ResourceUsage | None = None
    start_error: ProcessStartError | None = None
    final_duration: float | None = None
    survivors: Sequence[Survivor] = ()
    output_error: Exception | None = None
    output_incomplete: bool = False
    over_limit: bool = False
    host: str | None = None
    lost: str | None = None

    def begin(self, handle: Handle, started_at: datetime | None, now: float) -> None:
        """Note that the child runs.

        Args:
            handle: The child.
            started_at: When it was started by another service; None for just now, at `started`.
            now: The time on Trio's clock.
        """
        self.pid, self.host = handle.pid, handle.host
        if started_at is None:
            # an adoption recognizes the child by this, so it must not be the end of a launch that took seconds
            started_at = datetime.now(UTC) - timedelta(seconds=now - self.started)
        else:
            self.started = now - (datetime.now(UTC) - started_at).total_seconds()
        self.started_at = started_at

    def fail(self, error: ProcessStartError) -> None:
        """Note that the child could not be started."""
        self.start_error = without_traceback(error)  # its frames refer to this: the collector would have to free it
        self.started_at = datetime.now(UTC)
        self.reason = EndReason.FAILED_TO_START
        self.final_duration = 0.0

    def lose_output(self, error: Exception) -> None:
        """Note that some of the output could not be stored."""
        self.output_error = error
        self.output_incomplete = True
        # a detached process doesn't depend on this program
        killed = "" if self.options.detach else ", so it was killed"
        error.add_note(f"the output of {shown_command(self.options)!r} ({self.id}) could not be taken in{killed}")

    def end(
        self, info: ExitInfo, cause: tuple[EndReason, str | None], exited_at: float, survivors: Sequence[Survivor]
    ) -> None:
        """Note how the child has ended.

        Args:
            info: Its exit code and usage.
            cause: Why it ended, and the task that requested it.
            exited_at: When it exited, on Trio's clock.
            survivors: The descendants that SIGKILL did not end in time.
        """
        self.exit_code, self.usage, self.lost = info.exit_code, info.usage, info.lost
        self.output_incomplete = self.output_incomplete or info.incomplete
        self.reason, self.requested_by = cause if info.lost is None else (EndReason.LOST, None)
        self.survivors = survivors
        self.final_duration = exited_at - self.started

    @property
    def status(self) -> Status:
        """The state, final once the child has ended."""
        if self.final_duration is None:
            return Status.PENDING if self.started_at is None else Status.RUNNING
        if self.exit_code is None or self.lost is not None:
            return Status.FAILED  # it never ran, or its end was lost
        return Status.KILLED if self.exit_code < 0 else Status.EXITED

    @property
    def signal_name(self) -> str | None:
        """The signal that it died of, e.g. ``"SIGTERM"``, else None."""
        return signal_name(-self.exit_code) if self.exit_code is not None and self.exit_code < 0 else None

    @property
    def label(self) -> str:
        """What log records call it: its id, and its name or command."""
        return f"process {self.id} ({self.options.name or shown_command(self.options)})"

    def duration(self, now: float) -> float:
        """Return how long it has run at `now`, or ran, in seconds."""
        if self.final_duration is not None:
            return self.final_duration
        return now - self.started if self.started_at is not None else 0.0

    def info(self, now: float) -> ProcessInfo:
        """Return a snapshot."""
        options = self.options
        return ProcessInfo(
            id=self.id,
            name=options.name,
            command=shown_command(options),
            args=shown_args(options),
            cwd=shown_cwd(options),
            started_at=self.started_at,
            running=self.final_duration is None,
            status=self.status,
            exit_code=self.exit_code,
            duration=self.duration(now),
            pid=self.pid,
            host=self.host,
        )

    def result(self, capture: Capture, now: float) -> CommandResult:
        """Return the result so far, with the output that `capture` holds."""
        options = self.options
        stdout, stderr = capture.bytes(Stream.STDOUT), capture.bytes(Stream.STDERR)
        return CommandResult(
            id=self.id,
            name=options.name,
            command=shown_command(options),
            args=shown_args(options),
            cwd=shown_cwd(options),
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
            duration=self.duration(now),
            usage=self.usage,
            ok=self._is_ok(),
            start_error=self.start_error,
            host=self.host,
            lost=self.lost,
            encoding=options.encoding,
            errors=options.errors,
            masker=masker_for(options),
        )

    def _is_ok(self) -> bool:
        if self.final_duration is None or self.output_error is not None or self.over_limit:
            return False
        return is_success(self.options, self.status, self.exit_code, self.reason)

    def raise_trouble(self) -> None:
        """Raise an error that no result can report: SIGKILL did not end the child, or its output could not be stored."""
        if self.survivors:
            raise StopFailedError(self.survivors)
        if self.output_error is not None:
            raise self.output_error


def time_for(record: Record) -> float:
    """Return the time on Trio's clock for a snapshot; once the record is final it needs none, nor a running loop."""
    return trio.current_time() if record.final_duration is None else 0.0
