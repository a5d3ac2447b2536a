"""Start a resident, and wait until its command is healthy; Ctrl-C undoes the start."""

from __future__ import annotations

import os
import shutil
import sys
from typing import Final

import trio

from ..._core import (
    DaemonError,
    Escalation,
    ShutdownDeadline,
    enter_deadline,
    escape_controls,
    last_lines,
    open_scope,
    stop_signals,
)
from ..._daemon import DaemonEntry, default_registry, read_pid
from ..._process import ManagedProcess, Service
from .files import DaemonSpec, StateFiles
from .readiness import refuse_answering_target, wait_until_healthy

_SHOWN_LINES: Final = 20
_STUCK_AFTER: Final = 10.0  # longer than the resident itself takes beyond the command's grace period


class Interrupted(Exception):  # noqa: N818 - an exit by a signal, not an error
    """A signal arrived while a daemon was being started, and the daemon was stopped again."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def check_startable(spec: DaemonSpec, files: StateFiles) -> None:
    """Check whether a start is possible, before `restart` stops a healthy daemon.

    Raises:
        DaemonError: The directory or the program is missing, or the state can't be written.
    """
    where = f"{spec.code}/{spec.daemon} can't be started again"
    advice = "the running daemon was left unchanged"
    if not os.path.isdir(spec.directory) or not os.access(spec.directory, os.X_OK):
        raise DaemonError(f"{where}: there is no directory {spec.directory} that this user may enter; {advice}")
    command = spec.command[0]
    path = os.environ.get("PATH", os.defpath)
    if "/" in command:
        if shutil.which(os.path.join(spec.directory, command)) is None:
            raise DaemonError(f"{where}: there is no program {command!r} that this user may execute; {advice}")
    elif shutil.which(command, path=path) is None:
        raise DaemonError(f"{where}: there is no program {command!r} on the PATH ({path}); {advice}")
    files.hand_over(spec).unlink()


async def start(spec: DaemonSpec, files: StateFiles) -> tuple[DaemonEntry, int]:
    """Start a daemon; return its entry and the PID of its command.

    Raises:
        DaemonError: It did not start, or was not healthy in time, and was stopped again.
        Interrupted: SIGINT, SIGTERM or SIGHUP arrived; a second signal ends the grace period, a third one exits at
            once.
    """
    deadline, scope = ShutdownDeadline(), trio.CancelScope()
    escalation = Escalation(stop=lambda _: scope.cancel(), hurry=lambda _: deadline.advance(trio.current_time()))
    heard = stop_signals()
    leave_deadline = enter_deadline(deadline)
    try:
        async with open_scope() as nursery:

            async def listen(*, task_status: trio.TaskStatus[None]) -> None:
                with trio.open_signal_receiver(*heard) as received:
                    task_status.started()
                    async for number in received:
                        escalation.receive(number)

            if heard:
                await nursery.start(listen)
            with scope:
                return await _start(spec, files)
    finally:
        leave_deadline()
    assert escalation.first is not None, "nothing else cancels the scope"
    raise Interrupted(escalation.first)


async def _start(spec: DaemonSpec, files: StateFiles) -> tuple[DaemonEntry, int]:
    if not read_pid(files.pid_file)[1]:  # else the resident refuses the start and names the PID
        await refuse_answering_target(spec)
    handed_over = files.hand_over(spec)
    written = files.log_file.stat().st_size if files.log_file.exists() else 0
    reading, writing = os.pipe()
    try:
        async with trio.lowlevel.FdStream(reading) as messages, Service() as service:
            with os.fdopen(writing, "wb") as theirs, trio.CancelScope(shield=True):
                # shielded: a resident that was started without our knowing its PID would be left behind
                resident = await service.start(
                    sys.executable,
                    "-m",
                    "trio_process._cli.daemon.resident",
                    handed_over,
                    detach=True,
                    stdout=theirs,
                    log_file=files.log_file,
                )
            try:
                pid = await wait_until_healthy(spec, resident, messages)
            except DaemonError as error:
                await _undo_start(spec, resident)
                log = _quoted(files, written)
                raise DaemonError(f"{spec.code}/{spec.daemon} did not start: {error}{log}") from error
            except BaseException:
                await _undo_start(spec, resident)
                raise
            entry = default_registry().get(spec.code, spec.daemon)
            return entry or DaemonEntry(spec.code, spec.daemon, pid=resident.pid), pid
    finally:
        handed_over.unlink(missing_ok=True)  # the resident takes the file, if one was started


async def _undo_start(spec: DaemonSpec, resident: ManagedProcess) -> None:
    if resident.is_running:
        with trio.CancelScope(shield=True):
            await resident.stop(spec.grace + _STUCK_AFTER)


def _quoted(files: StateFiles, begin: int) -> str:
    """Return the lines that this start has written to the log."""
    try:
        text = files.log_file.read_bytes()[begin:].decode(errors="replace")
    except OSError:
        return ""
    return "".join(f"\n  {escape_controls(line)}" for line in last_lines(text, _SHOWN_LINES))
