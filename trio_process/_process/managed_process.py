"""`ManagedProcess`: what a user holds of one child."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from signal import SIGCONT, SIGSTOP, SIGTERM
from typing import final
from weakref import ref

import trio

from .._core import (
    CommandResult,
    EndReason,
    OptionError,
    ProcessInfo,
    ProcessNotRunningError,
    ProcessStartError,
    ServiceClosedError,
    Status,
    StdinNotAvailableError,
    StopFailedError,
    Stream,
    checks,
    escape_controls,
    member,
    signal_name,
    signal_number,
)
from .lifecycle import Life
from .output import OutputLine
from .output_lines import OutputLines

_QUOTED = 20  # lines that an error of wait_for_line quotes


@final
class ManagedProcess:
    """A process of a service: its state, its output, and the ways to end it.

    It is made by `Service.start`, `open` and `run_process`. Its `id` is its key in the service.

    Attributes:
        id: The key, unique in this Python process.
    """

    __slots__ = ("__weakref__", "_life", "id")

    def __init__(self, life: Life) -> None:
        self._life = life
        self.id = life.id

    def __repr__(self) -> str:
        return f"<ManagedProcess {self.id}: {self.command!r}, {self.status}, pid {self.pid}>"

    @property
    def done(self) -> trio.Event:
        """Set when the state is final, and all output is in."""
        return self._life.done

    @property
    def name(self) -> str | None:
        """The label it was started with."""
        return self._life.options.name

    @property
    def command(self) -> str:
        """The command."""
        return self._life.options.shown_command

    @property
    def args(self) -> tuple[str, ...]:
        """The arguments, secrets masked."""
        return self._life.options.shown_args

    @property
    def cwd(self) -> str | None:
        """The directory it runs in, None for ours."""
        return self._life.options.shown_cwd

    @property
    def env(self) -> Mapping[str, checks.EnvValue]:
        """What was laid over our environment; a secret is still one."""
        return dict(self._life.options.env)

    @property
    def pid(self) -> int | None:
        """Its PID, which is its group's id too; None before the start."""
        return self._life.pid

    @property
    def host(self) -> str | None:
        """The host it runs on, None for ours; on that host its PID is to be read."""
        return self._life.host

    @property
    def started_at(self) -> datetime | None:
        """When it was started, timezone-aware."""
        return self._life.started_at

    @property
    def status(self) -> Status:
        """Its state."""
        return self._life.status

    @property
    def exit_code(self) -> int | None:
        """None until the end, then the exit code, or -N for death by signal N."""
        return self._life.exit_code

    @property
    def signal_name(self) -> str | None:
        """The signal it died of, e.g. `"SIGTERM"`, else None."""
        return self._life.signal_name

    @property
    def duration(self) -> float:
        """How long it has run, in seconds."""
        return self._life.duration

    @property
    def reason(self) -> EndReason | None:
        """Why it ended, None until then."""
        return self._life.reason

    @property
    def is_running(self) -> bool:
        """Whether it has not ended: until `done`."""
        return not self._life.over

    async def wait(self, *, check: bool = True) -> int:
        """Wait for the end and return the exit code; cancelling it changes nothing.

        Args:
            check: Raise unless it ended as it should.

        Raises:
            CommandFailedError: With `check`, unless it is `ok`; `CommandTimeoutError` for a timeout.
            ProcessStartError: It never ran; with or without `check`.
            ServiceClosedError: It is detached, and its service was left: nobody learns of its end.
        """
        await self._wait()
        if self._life.start_error is not None:
            raise self._life.start_error
        if self._life.output_error is not None:
            raise self._life.output_error
        if check:
            self.result().check()
        assert self._life.exit_code is not None
        return self._life.exit_code

    async def _wait(self) -> None:
        """Wait until its state is final."""
        self._life.claims += 1
        try:
            await self._life.settled.wait()
            self.check_watched()
            if not self._life.over:
                await self.done.wait()  # it could not be killed, so far
        finally:
            self._life.claims -= 1

    def kill(self) -> None:
        """Send SIGKILL to the group; one that has ended is left alone.

        Raises:
            ServiceClosedError: It is detached, and its service was left.
        """
        self.check_watched()
        if not self._life.over:
            self._life.kill(task_name())

    def terminate(self) -> None:
        """Send SIGTERM to the group, once; one that has ended is left alone.

        Raises:
            ServiceClosedError: It is detached, and its service was left.
        """
        self.check_watched()
        if not self._life.over:
            self._life.signal(SIGTERM, task_name())

    def signal(self, sig: int | str) -> None:
        """Send a signal to the group, once; it never escalates by itself.

        Raises:
            ProcessNotRunningError: It has ended.
            OptionError: There is no such signal.
        """
        number = signal_number(sig)
        self._check_running(f"sent {signal_name(number)}")
        self._life.signal(number, task_name())

    def suspend(self) -> None:
        """Stop the group with SIGSTOP, until `resume`; a stopped process still dies on `stop`."""
        self._check_running("suspended")
        self._life.suspend(SIGSTOP)

    def resume(self) -> None:
        """Let the group go on, with SIGCONT."""
        self._check_running("resumed")
        self._life.suspend(SIGCONT)

    def check_watched(self) -> None:
        """Raise `ServiceClosedError` if its service was left while it ran, so that nothing is known of it any more."""
        if self._life.abandoned:
            raise ServiceClosedError(
                f"{self.id} ({self.command}, pid {self.pid}) is watched no more: its service was left while it ran; "
                "adopt it in another service"
            )

    def _check_running(self, what: str) -> None:
        self.check_watched()
        if not self._life.can_be_signalled:
            raise ProcessNotRunningError(f"{self.id} ({self.command}) can't be {what}: it is {self.status}")

    async def stop(
        self, grace_period: float | None = None, *, reason: EndReason | str = EndReason.STOPPED
    ) -> CommandResult:
        """Send the stop signal, wait for the grace, send SIGKILL; return when the group is empty.

        Cancelling it cuts the grace: SIGKILL, reaped, then `trio.Cancelled` goes on.

        Args:
            grace_period: Seconds; None for that of the process, 0 kills at once.
            reason: What the result gives as the reason.

        Returns:
            The result; of one that had ended already, as it ended.

        Raises:
            StopFailedError: Something was still alive 5 s after SIGKILL.
        """
        if grace_period is not None:
            grace_period = checks.seconds("grace_period", grace_period)
        self.check_watched()
        self._life.stop(member(EndReason, reason, "reason"), grace_period, task_name())
        await self.settle()
        if self._life.left:
            raise StopFailedError(self._life.left)
        self.check_watched()
        return self.result()

    def ask_to_stop(self, *, stop_signal: int | None = None) -> None:
        """Begin what `stop` does without waiting for the end, with another stop signal if one is given."""
        self._life.stop(EndReason.STOPPED, None, task_name(), stop_signal)

    async def settle(self) -> None:
        """Wait for the end of a process that is being stopped; cancelled, cut its grace and wait for that."""
        self._life.claims += 1
        try:
            await self._life.settled.wait()
        except BaseException:
            self._life.stop(EndReason.CANCELLED, 0, task_name())
            with trio.CancelScope(shield=True):
                await self._life.settled.wait()
            raise
        finally:
            self._life.claims -= 1

    async def send_input(self, data: str | bytes) -> None:
        """Write to the child's stdin; it ends when all is written, or when the process does.

        Raises:
            ProcessNotRunningError: It has ended.
            StdinNotAvailableError: There is none, it is closed, or the child closed it.
        """
        if not isinstance(data, (str, bytes, bytearray, memoryview)):
            raise OptionError(f"send_input takes str or bytes, got {data!r}")
        await trio.lowlevel.checkpoint()
        self.check_watched()
        if self._life.over or self._life.handle is None:
            raise ProcessNotRunningError(f"{self.id} ({self.command}) takes no input: it is {self.status}")
        try:
            raw = data.encode(self._life.options.encoding) if isinstance(data, str) else bytes(data)
        except UnicodeEncodeError as error:
            raise OptionError(f"the text can't be encoded: {error}; give it as bytes, or choose an encoding") from None
        await self._life.handle.write_stdin(raw)

    async def close_stdin(self) -> None:
        """Close the child's stdin, so that it reads the end of file; closing twice is fine.

        Raises:
            StdinNotAvailableError: It was started without a stdin to write to.
        """
        await trio.lowlevel.checkpoint()
        if self._life.handle is None:
            raise ProcessNotRunningError(f"{self.id} ({self.command}) has no stdin: it is {self.status}")
        if not self._life.handle.has_stdin:
            raise StdinNotAvailableError(f"{self.id} ({self.command}) was started without a stdin to write to")
        self._life.handle.close_stdin()

    def output(self) -> str:
        """Return what is captured so far of both streams in the order of arrival; empty when capture is disabled."""
        options = self._life.options
        return self.output_bytes().decode(options.encoding, options.errors)

    def output_bytes(self) -> bytes:
        """Return the same, not decoded."""
        return self._life.output.capture.bytes()

    def lines(self, source: str = "all") -> OutputLines:
        """Return an async iterator over the lines: first those still captured, then live ones, none twice.

        It ends with the process and never delays it.

        Args:
            source: `"all"`, `"stdout"` or `"stderr"`.
        """
        if source != "all" and source not in Stream.__members__.values():
            raise OptionError(f"source must be 'all', 'stdout' or 'stderr', got {source!r}")
        return OutputLines(self._life, self._life.output.cursor(None if source == "all" else Stream(source)))

    async def wait_for_line(self, pattern: str | re.Pattern[str], timeout: float | None = None) -> OutputLine:  # noqa: ASYNC109 - its error quotes the last lines
        """Wait for a line that contains `pattern`, from the first captured line on, and return it.

        Args:
            pattern: A substring, or a compiled regular expression.
            timeout: Seconds; None for ever.

        Raises:
            TimeoutError: There was none in time.
            CommandFailedError: The process ended before.
        """
        if not isinstance(getattr(pattern, "pattern", pattern), str) or not isinstance(pattern, (str, re.Pattern)):
            raise OptionError(f"pattern must be a str or a compiled regular expression, got {pattern!r}")
        limit = checks.seconds("timeout", timeout) if timeout is not None else float("inf")
        wanted = repr(pattern if isinstance(pattern, str) else pattern.pattern)
        last: list[str] = []
        await trio.lowlevel.checkpoint()
        lines = self.lines()
        lines._take()  # what is captured already is looked through even if there is no time
        with trio.move_on_after(limit) as scope:
            async for line in lines:
                if pattern in line.text if isinstance(pattern, str) else pattern.search(line.text):
                    return line
                last = [*last[1 - _QUOTED :], line.text]
            await self._wait()
        if not scope.cancelled_caught:
            if isinstance(self._life.start_error, ProcessStartError):
                raise self._life.start_error
            raise self.result().failure(f"no line with {wanted} came before the end")
        masker = self._life.options.masker()
        quoted = "".join("\n  " + escape_controls(masker(text)) for text in last) or " none"
        raise TimeoutError(f"{self.command} wrote no line with {wanted} within {limit:g} s; its last lines:{quoted}")

    def info(self) -> ProcessInfo:
        """Return a frozen snapshot."""
        life = self._life
        return ProcessInfo(
            id=self.id,
            name=self.name,
            command=self.command,
            args=self.args,
            cwd=self.cwd,
            started_at=life.started_at,
            running=not life.over,
            status=life.status,
            exit_code=life.exit_code,
            duration=life.duration,
            pid=life.pid,
            host=life.host,
        )

    def result(self) -> CommandResult:
        """Return what is known so far, also of a process that is still running."""
        return self._life.result()


def process_of(life: Life) -> ManagedProcess:
    """Return the one `ManagedProcess` of a life, so that two looks at a process can be compared."""
    process: ManagedProcess | None = life.face() if life.face is not None else None
    if process is None:
        process = ManagedProcess(life)
        life.face = ref(process)  # a plain reference would make a cycle, and thousands of those wait for the collector
    return process


def task_name() -> str | None:
    """Return the name of the running task, None outside of one."""
    try:
        return trio.lowlevel.current_task().name
    except RuntimeError:
        return None
