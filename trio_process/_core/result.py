"""The results of a run: `ProcessInfo`, `ResourceUsage`, `CommandResult`, and the errors that carry a result."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final, Self, TypeVar, final

import attrs

from .enums import EndReason, Status
from .errors import ProcessError, ProcessStartError, without_traceback
from .secret import NO_SECRETS, Masker
from .serialize import json_ready
from .text import command_line, escape_controls, in_one_line, in_seconds, last_lines

SHOWN_LINES = 20
"""The number of last lines that an error quotes."""


def _texts(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(values)


@final
@attrs.frozen(kw_only=True)
class ResourceUsage:
    """The resources used by a process and the children that it waited for (wait4(2), getrusage(2)).

    Attributes:
        user: CPU seconds in user mode.
        system: CPU seconds in the kernel.
        max_rss: Peak resident memory in bytes, None where the kernel's figure is not that of the child alone.
        oom_killed: Whether the out-of-memory killer killed it; None where that isn't known (without a cgroup in which
            memory is counted).
        core_dumped: Whether a core dump was written.
    """

    user: float = 0.0
    system: float = 0.0
    max_rss: int | None = None
    oom_killed: bool | None = None
    core_dumped: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, ready for JSON."""
        return json_ready(self)


@final
@attrs.frozen(kw_only=True)
class ProcessInfo:
    """A snapshot of a process.

    Attributes:
        id: The id of the process in its service.
        name: Its label, or None.
        command: The program.
        args: Its arguments, secrets masked.
        cwd: The directory it runs in; None for the current one.
        started_at: When it was started, timezone-aware; None before that.
        running: Whether it is running.
        status: Its state.
        exit_code: The exit code; -N for death by signal N, None while it runs or if it never ran.
        duration: How long it has run, in seconds.
        pid: Its PID; None before the start.
        host: The host it runs on; None for this one.
    """

    id: str
    name: str | None
    command: str
    args: tuple[str, ...]
    cwd: str | None
    started_at: datetime | None
    running: bool
    status: Status
    exit_code: int | None
    duration: float
    pid: int | None
    host: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the snapshot, ready for JSON, with the keys of go-process; `host` only where it is another machine."""
        found = json_ready(self, {"cwd": "dir"})
        if self.host is None:
            del found["host"]
        return found


@attrs.frozen(kw_only=True)
class CommandResult:  # not final: `PipeResult` of trio_process.exec adds the stages
    """The result of a run: its output, how and why it ended, and the task that asked for the end.

    Attributes:
        id: The id of the process in its service, ``""`` if it has none.
        name: Its label.
        command: The command.
        args: Its arguments, secrets masked.
        cwd: Its working directory; None for that of this program.
        exit_code: The exit code, -N for death by signal N; None while it runs or if it never ran.
        signal_name: The signal that killed it, e.g. ``"SIGTERM"``, else None.
        status: The state, final once the process has ended.
        reason: Why it ended; None while it runs.
        requested_by: The name of the task that asked for the end, or None.
        output_bytes: The tail of both streams, in the order of arrival.
        stdout_bytes: The tail of stdout.
        stderr_bytes: The tail of stderr.
        dropped: The number of bytes, of both streams, that the capture has overwritten.
        output_incomplete: Whether another process still held the pipe open when reading ended.
        started_at: When it was started.
        duration: Seconds from the start to the end.
        usage: The resources it used, None before its end.
        ok: Whether it ended as it should.
        start_error: The error of the start, for `FAILED_TO_START`.
        host: The host it ran on; None for this one.
        lost: What is known of the loss of its agent, for `LOST`.
    """

    command: str
    args: tuple[str, ...] = attrs.field(default=(), converter=_texts)
    id: str = ""
    name: str | None = None
    cwd: str | None = None
    exit_code: int | None = None
    signal_name: str | None = None
    status: Status = attrs.field(default=Status.EXITED, converter=Status)
    reason: EndReason | None = attrs.field(default=EndReason.EXITED, converter=attrs.converters.optional(EndReason))
    requested_by: str | None = None
    output_bytes: bytes = attrs.field(default=b"", repr=False)
    stdout_bytes: bytes = attrs.field(default=b"", repr=False)
    stderr_bytes: bytes = attrs.field(default=b"", repr=False)
    dropped: int = 0
    output_incomplete: bool = False
    started_at: datetime | None = None
    duration: float = 0.0
    usage: ResourceUsage | None = None
    ok: bool = attrs.field()
    start_error: ProcessStartError | None = attrs.field(default=None, repr=False, eq=False)
    host: str | None = None
    lost: str | None = None
    encoding: str = attrs.field(default="utf-8", repr=False)
    errors: str = attrs.field(default="replace", repr=False)
    _masker: Masker = attrs.field(default=NO_SECRETS, repr=False, eq=False)

    @ok.default
    def _ended_well(self) -> bool:
        return self.status is Status.EXITED and self.exit_code == 0 and self.reason in _GOOD_ENDS

    @property
    def output(self) -> str:
        """The tail of both streams, decoded."""
        return self.output_bytes.decode(self.encoding, self.errors)

    @property
    def stdout(self) -> str:
        """The tail of stdout, decoded."""
        return self.stdout_bytes.decode(self.encoding, self.errors)

    @property
    def stderr(self) -> str:
        """The tail of stderr, decoded."""
        return self.stderr_bytes.decode(self.encoding, self.errors)

    @property
    def truncated(self) -> bool:
        """Whether `output` lacks a part of what was written."""
        return self.dropped > 0

    def error(self, note: str = "") -> ProcessError | None:
        """Return the error that `check` raises, or None."""
        if self.ok:
            return None
        return self.failure(note) if self.start_error is None else without_traceback(self.start_error)

    def failure(self, note: str = "") -> CommandFailedError:
        """Return this result as an error, whether it is `ok` or not."""
        if self.reason is EndReason.LOST:
            return AgentLostError(self, note)
        timed_out = self.reason in (EndReason.TIMED_OUT, EndReason.IDLE)
        return (CommandTimeoutError if timed_out else CommandFailedError)(self, note)

    def check(self) -> CommandResult:
        """Return this result if it is `ok`.

        Raises:
            CommandFailedError: It isn't; `CommandTimeoutError` for a timeout.
            ProcessStartError: It never ran.
        """
        error = self.error()
        if error is None:
            return self
        try:
            raise error
        finally:
            # its traceback refers to this frame: the collector would have to free both, and the output with them
            del error

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the result with secrets masked in its output, as the masker, which holds them, isn't pickled."""
        fields = {field.alias: getattr(self, field.name) for field in attrs.fields(type(self))}
        if self._masker:
            for name in ("output_bytes", "stdout_bytes", "stderr_bytes"):
                masked = self._masked(fields[name])
                if masked != fields[name].decode(self.encoding, "backslashreplace"):
                    fields[name] = masked.encode(self.encoding, "replace")
            fields["masker"] = NO_SECRETS
        return _with_fields, (type(self), fields)

    def _masked(self, data: bytes) -> str:
        return self._masker(data.decode(self.encoding, "backslashreplace"), cut=self.truncated)

    def describe(self) -> str:
        """Return the text that errors use: the command, why it ended, after how long, and its last lines."""
        typed = in_one_line(command_line(self.command, self.args))
        where = f" in {in_one_line(self.cwd)}" if self.cwd else ""
        account = f"`{typed}`{where} {self._account()}"
        quoted, source = self._quotation()
        if quoted:
            account += f"\nlast lines of {source}:\n" + "\n".join("  " + line for line in quoted)
        return account

    def _account(self) -> str:
        """Return how it ended, and after how long."""
        account = f"{self._end()} after {in_seconds(self.duration)}"
        if self.requested_by:
            account += f", as the task {self.requested_by!r} asked"
        if self.output_incomplete:
            account += "; something still held its output open when reading ended"
        return account

    def _quotation(self) -> tuple[list[str], str]:
        for data, source in ((self.stderr_bytes, "stderr"), (self.output_bytes, "output")):
            if data.strip():
                # only the end is decoded, and never strictly: an error text must not fail
                end = data[-(SHOWN_LINES * 8192) :]
                text = end.decode(self.encoding, "backslashreplace")
                lines = last_lines(self._masker(text, cut=self.truncated or len(end) < len(data)), SHOWN_LINES)
                return [escape_controls(line) for line in lines], source
        return [], ""

    def _end(self) -> str:
        died = f"{self.signal_name}{' (core dumped)' if self.usage and self.usage.core_dumped else ''}"
        how = f"died of {died}" if self.signal_name else f"exited with code {self.exit_code}"
        if self.exit_code is None:
            how = "before it ran"
        if self.reason is EndReason.LOST and self.lost:
            return f"was {'lost, and may have had effects' if may_have_run(self) else 'not run'} ({self.lost}),"
        return _ENDS.get(self.reason, "{how}").format(how=how)

    def to_dict(self) -> dict[str, Any]:
        """Return the result, ready for JSON; `host` only where it ran on another machine."""
        found = {
            "id": self.id,
            "name": self.name,
            "command": self.command,
            "args": list(self.args),
            "dir": self.cwd,
            "exitCode": self.exit_code,
            "signalName": self.signal_name,
            "status": self.status.value,
            "reason": None if self.reason is None else self.reason.value,
            "requestedBy": self.requested_by,
            "output": self._masked(self.output_bytes),
            "stdout": self._masked(self.stdout_bytes),
            "stderr": self._masked(self.stderr_bytes),
            "dropped": self.dropped,
            "truncated": self.truncated,
            "outputIncomplete": self.output_incomplete,
            "startedAt": None if self.started_at is None else self.started_at.isoformat(),
            "duration": self.duration,
            "usage": None if self.usage is None else self.usage.to_dict(),
            "ok": self.ok,
        }
        return found if self.host is None else {**found, "host": self.host}


class CommandFailedError(ProcessError):
    """A command failed.

    Args:
        result: The result of the run.
        note: What was expected of it; it comes before the description of the result.
    """

    def __init__(self, result: CommandResult, note: str = "") -> None:
        super().__init__(result, note)
        self._result = result
        self._note = note
        self._text = ""

    @property
    def result(self) -> CommandResult:
        """The result of the run."""
        return self._result

    def __str__(self) -> str:
        # formatted on demand: most failures are only counted
        account = self._text or self.result.describe()
        return f"{self._note}: {account}" if self._note else account


class CommandTimeoutError(CommandFailedError, TimeoutError):
    """A command exceeded its `timeout` or `idle_timeout`."""

    # OSError, a base of TimeoutError, takes two arguments as errno and text, and would print those
    def __str__(self) -> str:
        return CommandFailedError.__str__(self)


class AgentLostError(CommandFailedError):
    """The machine or agent that a command ran on was lost, and the command with it.

    The command may have had effects before that; how it ended can't be known.
    """


_Result = TypeVar("_Result", bound=CommandResult)


def may_have_run(lost: CommandResult) -> bool:
    """Return whether a process that was lost may have had effects: an agent was asked to start it."""
    return lost.exit_code is not None or lost.host is not None


def _with_fields(cls: type[_Result], fields: dict[str, Any]) -> _Result:
    return cls(**fields)


_GOOD_ENDS = (EndReason.EXITED, EndReason.STOPPED)

_ENDS: Final[Mapping[EndReason | None, str]] = {
    None: "is still running",
    EndReason.TIMED_OUT: "ran into its timeout ({how})",
    EndReason.IDLE: "wrote nothing for its idle_timeout ({how})",
    EndReason.KILLED: "was killed ({how})",
    EndReason.STOPPED: "was stopped ({how})",
    EndReason.CANCELLED: "was cancelled ({how})",
    EndReason.OUTPUT_LIMIT: "wrote more than its max_output ({how})",
    EndReason.LOST: "was lost with the machine or agent it ran on",
    EndReason.FAILED_TO_START: "did not start",
}
