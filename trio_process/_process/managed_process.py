"""`ManagedProcess`, the public side of one child, and `OutputLines`, its lines."""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Iterator, Mapping
from datetime import datetime
from signal import SIGCONT, SIGKILL, SIGSTOP, SIGTERM
from typing import Final, Self, final
from weakref import ref

import trio

from .._core import (
    CommandResult,
    EndReason,
    Masker,
    OptionError,
    ProcessInfo,
    ProcessNotRunningError,
    Status,
    StdinNotAvailableError,
    StopFailedError,
    Stream,
    Unique,
    bad_option,
    checks,
    escape_controls,
    masker_for,
    matches,
    member,
    shown_args,
    shown_command,
    shown_cwd,
    signal_name,
    signal_number,
    without_traceback,
)
from .end_reason import Request
from .lifecycle import OVER, SIGNALLABLE, Lifecycle, Phase, check_watched, wait_stopped
from .output import LineCursor, OutputLine, each_line
from .record import time_for

_QUOTED = 20  # lines that an error of wait_for_line quotes
_EMPTY: Final[Iterator[OutputLine]] = iter(())


@final
class ManagedProcess(Unique):
    """A process of a service: its state, its output, and methods to end it; created by `start`, `open` and `run_process`.

    Attributes:
        id: Its key in the service, such as ``proc-1-9f86d08188``, unique across programs.
    """

    __slots__ = ("__weakref__", "_child", "id")

    def __init__(self, child: Lifecycle) -> None:
        self._child = child
        self.id: Final[str] = child.record.id

    def __repr__(self) -> str:
        return f"<ManagedProcess {self.id}: {self.command!r}, {self.status}, pid {self.pid}>"

    @property
    def done(self) -> trio.Event:
        """An event, set when the state is final and all output is captured."""
        return self._child.done

    @property
    def name(self) -> str | None:
        """The label it was started with."""
        return self._child.record.options.name

    @property
    def command(self) -> str:
        """The command."""
        return shown_command(self._child.record.options)

    @property
    def args(self) -> tuple[str, ...]:
        """The arguments, secrets masked."""
        return shown_args(self._child.record.options)

    @property
    def cwd(self) -> str | None:
        """The directory it runs in; None for that of this program."""
        return shown_cwd(self._child.record.options)

    @property
    def env(self) -> Mapping[str, checks.EnvValue]:
        """The changes to this program's environment that it was started with; secrets are still `Secret`."""
        return dict(self._child.record.options.env)

    @property
    def pid(self) -> int | None:
        """Its PID, which is also the id of its process group; None before the start."""
        return self._child.record.pid

    @property
    def host(self) -> str | None:
        """The host it runs on, where its PID counts; None for this machine."""
        return self._child.record.host

    @property
    def started_at(self) -> datetime | None:
        """When it was started, timezone-aware."""
        return self._child.record.started_at

    @property
    def status(self) -> Status:
        """Its state."""
        return self._child.record.status

    @property
    def exit_code(self) -> int | None:
        """None until the end, then the exit code, or -N for death by signal N."""
        return self._child.record.exit_code

    @property
    def signal_name(self) -> str | None:
        """The signal it died of, e.g. ``"SIGTERM"``, else None."""
        return self._child.record.signal_name

    @property
    def duration(self) -> float:
        """How long it has run, in seconds."""
        return self._child.record.duration(time_for(self._child.record))

    @property
    def reason(self) -> EndReason | None:
        """Why it ended, None until then."""
        return self._child.record.reason

    @property
    def is_running(self) -> bool:
        """Whether it has not ended: until `done`."""
        return self._child.phase is not Phase.ENDED

    async def wait(self, *, check: bool = True) -> int:
        """Wait for the end and return the exit code. Cancelling the wait doesn't affect the process.

        Args:
            check: Raise an exception unless the result is `ok`.

        Raises:
            CommandFailedError: With `check`, the result is not `ok`; `CommandTimeoutError` for a timeout.
            ProcessStartError: The process never ran; with or without `check`.
            ServiceClosedError: The process is detached and its service was left, so its end is not known.
        """
        await _wait_ended(self._child)
        if self._child.record.start_error is not None:
            raise without_traceback(self._child.record.start_error)
        if self._child.record.output_error is not None:
            raise self._child.record.output_error
        if check:
            self.result().check()
        assert self._child.record.exit_code is not None
        return self._child.record.exit_code

    def kill(self) -> None:
        """Send SIGKILL to the group; do nothing if the process has ended.

        Raises:
            ServiceClosedError: The process is detached, and its service was left.
        """
        check_watched(self._child)
        self._child.ask(Request(EndReason.KILLED, SIGKILL, task_name()))

    def terminate(self) -> None:
        """Send SIGTERM to the group, once; do nothing if the process has ended.

        Raises:
            ServiceClosedError: The process is detached, and its service was left.
        """
        check_watched(self._child)
        self._child.ask(Request(EndReason.SIGNALLED, SIGTERM, task_name()))

    def signal(self, sig: int | str) -> None:
        """Send a signal to the group, once; no other signal follows.

        Raises:
            ProcessNotRunningError: It has ended.
            OptionError: There is no such signal.
        """
        number = signal_number(sig)
        _check_running(self._child, f"sent {signal_name(number)}")
        self._child.ask(Request(EndReason.SIGNALLED, number, task_name()))

    def suspend(self) -> None:
        """Suspend the group with SIGSTOP, until `resume`; `stop` ends a suspended process, too."""
        _send_job_control(self._child, SIGSTOP, "suspended")

    def resume(self) -> None:
        """Continue the group, with SIGCONT."""
        _send_job_control(self._child, SIGCONT, "resumed")

    async def stop(
        self, grace_period: float | None = None, *, reason: EndReason | str = EndReason.STOPPED
    ) -> CommandResult:
        """Send the stop signal, wait for the grace period, send SIGKILL; return when the group is empty.

        Cancelling the call ends the grace period: the group is killed and reaped, then `trio.Cancelled` is raised.

        Args:
            grace_period: Seconds; None for that of the process, 0 kills at once.
            reason: The reason that the result will give.

        Returns:
            The result, even if the process had already ended by itself.

        Raises:
            StopFailedError: A process was still alive 5 s after SIGKILL.
        """
        if grace_period is not None:
            grace_period = checks.seconds("grace_period", grace_period)
        child = self._child
        check_watched(child)
        child.ask(Request(member(EndReason, reason, "reason"), None, task_name(), grace_period))
        await wait_stopped(child, task_name())
        if child.record.survivors:
            raise StopFailedError(child.record.survivors)
        check_watched(child)
        return self.result()

    async def send_input(self, data: str | bytes) -> None:
        """Write to the child's stdin; return when everything is written.

        Raises:
            ProcessNotRunningError: It has ended.
            StdinNotAvailableError: The child has no stdin, or it is closed, or the child closed it.
        """
        if not isinstance(data, (str, bytes, bytearray, memoryview)):
            raise OptionError(f"send_input takes str or bytes, got {checks.brief(data)}")
        await trio.lowlevel.checkpoint()
        check_watched(self._child)
        if self._child.phase not in SIGNALLABLE:
            raise ProcessNotRunningError(f"{self.id} ({self.command}) takes no input: it is {self.status}")
        await self._child.handle.write_stdin(_encoded(data, self._child.record.options.encoding))

    async def close_stdin(self) -> None:
        """Close the child's stdin, so that it reads end of file; can be repeated.

        Raises:
            StdinNotAvailableError: It was started without a stdin to write to.
        """
        await trio.lowlevel.checkpoint()
        if self._child.phase is Phase.STARTING or self._child.record.start_error is not None:
            raise ProcessNotRunningError(f"{self.id} ({self.command}) has no stdin: it is {self.status}")
        if not self._child.handle.has_stdin:
            raise StdinNotAvailableError(f"{self.id} ({self.command}) was started without a stdin to write to")
        self._child.handle.close_stdin()

    def output(self) -> str:
        """Return the captured output of both streams so far, in the order of arrival; empty if capture is disabled."""
        options = self._child.record.options
        return self.output_bytes().decode(options.encoding, options.errors)

    def output_bytes(self) -> bytes:
        """Return the captured output so far, not decoded."""
        return self._child.output.capture.bytes()

    def lines(self, source: str = "all") -> OutputLines:
        """Return an async iterator over the lines: first those still captured, then new ones as they arrive.

        It yields each line once, ends with the process, and never delays the process.

        Args:
            source: ``"all"``, ``"stdout"`` or ``"stderr"``.
        """
        if source != "all" and source not in Stream.__members__.values():
            raise bad_option("source", f"must be 'all', 'stdout' or 'stderr', got {checks.brief(source)}")
        return OutputLines(self._child, self._child.output.cursor(None if source == "all" else Stream(source)))

    async def wait_for_line(self, pattern: str | re.Pattern[str], timeout: float | None = None) -> OutputLine:  # noqa: ASYNC109 - its error quotes the last lines
        """Wait for a line that contains `pattern`, from the first captured line on, and return it.

        Args:
            pattern: A substring, or a compiled regular expression.
            timeout: Seconds; None for ever.

        Raises:
            TimeoutError: No such line was written in time.
            CommandFailedError: The process ended before it wrote such a line.
        """
        pattern = checks.pattern("pattern", pattern)
        limit = checks.seconds("timeout", timeout) if timeout is not None else math.inf
        await trio.lowlevel.checkpoint()
        return await _find_line(self, pattern, limit)

    def info(self) -> ProcessInfo:
        """Return a frozen snapshot."""
        return self._child.record.info(time_for(self._child.record))

    def result(self) -> CommandResult:
        """Return the result so far, even while the process is running."""
        return self._child.result()


@final
class OutputLines(Unique):
    """The lines of a process, from the first captured one to the last; created by `ManagedProcess.lines`.

    Attributes:
        missed: How many lines the capture overwrote before they were read. For encodings in which a newline is not the byte
            0x0A alone, such as UTF-16 and EBCDIC, it is an estimate.
    """

    def __init__(self, child: Lifecycle, cursor: LineCursor) -> None:
        self._child = child
        self._cursor = cursor
        self._taken: Iterator[OutputLine] = _EMPTY  # the lines that have been taken in
        self._finished = False
        child.claims += 1  # output is kept until this has read it, however much it is
        child.output.readers += 1

    def _release(self) -> None:
        self._child.claims -= 1
        self._child.output.readers -= 1

    @property
    def missed(self) -> int:
        """How many lines the capture overwrote before they were read."""
        return self._cursor.missed

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> OutputLine:
        for line in self._taken:  # a call of next() for each line would take a sixth longer
            return line
        await trio.lowlevel.checkpoint()
        while True:
            for line in self._taken:  # after a wait, too: another reader may have taken lines since
                return line
            if self._finished:
                if self._child.record.output_error is not None:
                    raise self._child.record.output_error
                raise StopAsyncIteration
            if not self._take():
                check_watched(self._child)
                await self._child.output.readable()

    def __del__(self) -> None:
        if not getattr(self, "_finished", True):
            self._release()

    def _take(self) -> bool:
        """Take some of the available lines, once those taken before are read; return whether there was anything to take."""
        cursor, is_over = self._cursor, self._child.phase in OVER
        found = cursor.read_some(keep_up=not is_over)
        is_behind = cursor.is_behind(cursor.total)
        if is_over and not is_behind:
            found += cursor.finish()
            self._finished = True
            self._release()
        self._taken = each_line(found)
        return bool(found) or self._finished or is_behind

    async def _search(self, pattern: str | re.Pattern[str], last: deque[str]) -> OutputLine | None:
        """Return the first line so far that contains `pattern`, or None; the lines before it are added to `last`."""
        end = self._cursor.total
        while True:
            if not self._finished:
                self._take()
            for line in self._taken:
                if matches(pattern, line.text):
                    return line
                last.append(line.text)
            if self._finished or not self._cursor.is_behind(end):
                return None
            await trio.lowlevel.checkpoint()


def process_of(child: Lifecycle) -> ManagedProcess:
    """Return the `ManagedProcess` of a child, always the same object, so that results can be compared by identity."""
    process = child.managed_ref() if child.managed_ref is not None else None
    if process is None:
        process = ManagedProcess(child)
        # a plain reference would make a cycle, which only the garbage collector could free
        child.managed_ref = ref(process)
    assert isinstance(process, ManagedProcess)
    return process


async def _wait_ended(child: Lifecycle) -> None:
    """Wait until the record is final."""
    check_watched(child)
    child.claims += 1
    try:
        await child.settled.wait()
        check_watched(child)
        if child.phase is not Phase.ENDED:
            await child.done.wait()  # it could not be killed, so far
    finally:
        child.claims -= 1


async def _find_line(process: ManagedProcess, pattern: str | re.Pattern[str], limit: float) -> OutputLine:
    """Return the first line that contains `pattern`, waiting at most `limit` seconds."""
    child = process._child
    record = child.record
    wanted = repr(pattern if isinstance(pattern, str) else pattern.pattern)
    last: deque[str] = deque(maxlen=_QUOTED)
    lines = process.lines()
    found = await lines._search(pattern, last)  # captured lines are searched even with a timeout of 0
    with trio.move_on_after(limit):
        while found is None and not lines._finished:
            check_watched(child)
            if lines._cursor.is_behind(lines._cursor.total):  # more has come meanwhile
                await trio.lowlevel.checkpoint()
            else:
                await child.output.readable()
            found = await lines._search(pattern, last)
    if found is None:
        found = await lines._search(pattern, last)  # what came together with the deadline
    if found is not None:
        return found
    if lines._finished:
        check_watched(child)
        if record.output_error is not None:
            raise record.output_error
        if record.start_error is not None:
            raise without_traceback(record.start_error)
        raise process.result().failure(f"no line with {wanted} came before the end")
    masker = masker_for(record.options)
    quoted = "".join("\n  " + escape_controls(masker(text)) for text in last) or " none"
    raise TimeoutError(f"{process.command} wrote no line with {wanted} within {limit:g} s; its last lines:{quoted}")


def _check_running(child: Lifecycle, action: str) -> None:
    """Raise unless there is a running child; `action`, such as "sent SIGHUP", is named in the error."""
    check_watched(child)
    if child.phase not in SIGNALLABLE:
        record = child.record
        raise ProcessNotRunningError(
            f"{record.id} ({shown_command(record.options)}) can't be {action}: it is {record.status}"
        )


def _send_job_control(child: Lifecycle, number: int, action: str) -> None:
    """Send SIGSTOP or SIGCONT to the group (signal(7)); neither is a request for the end."""
    _check_running(child, action)
    child.handle.signal(number, group=child.record.options.kill_group)


def _encoded(data: str | bytes, encoding: str) -> bytes:
    try:
        return data.encode(encoding) if isinstance(data, str) else bytes(data)
    except UnicodeEncodeError as error:
        raise OptionError(f"the text can't be encoded: {error}; give it as bytes, or choose an encoding") from None


def ask_to_stop(
    process: ManagedProcess,
    *,
    stop_signal: int | None = None,
    grace_period: float | None = None,
    reason: EndReason = EndReason.STOPPED,
) -> None:
    """Start a stop without waiting for the end, with another stop signal if one is given."""
    process._child.ask(Request(reason, None, task_name(), grace_period, stop_signal))


def unfinished_line(process: ManagedProcess) -> str:
    """Return the unfinished last line of a process."""
    return process._child.output.unfinished()


def stop_signal_of(process: ManagedProcess) -> int:
    """Return the stop signal that a process was started with."""
    return process._child.record.options.stop_signal


def masker_of(process: ManagedProcess) -> Masker:
    """Return the masker of a process's secrets; false if it has none."""
    return masker_for(process._child.record.options)


def processor_time_of(process: ManagedProcess) -> float:
    """Return the CPU seconds of an ended process and the children that it waited for; 0 before its end."""
    usage = process._child.record.usage
    return 0.0 if usage is None else usage.user + usage.system


def task_name() -> str | None:
    """Return the name of the running task, None outside of one."""
    try:
        return trio.lowlevel.current_task().name
    except RuntimeError:
        return None
