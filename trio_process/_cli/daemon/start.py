"""Starting a resident, and waiting until what it runs is healthy; Ctrl-C takes it back."""

from __future__ import annotations

import os
import signal
import sys
from typing import Final

import trio

from ..._core import DaemonError, ShutdownDeadline, enter_deadline, escape_controls, last_lines, open_scope
from ..._daemon import DaemonEntry, default_registry
from ..._process import ManagedProcess, Service
from ..terminal import SIGNALS
from .files import Order, Place
from .readiness import wait_until_healthy

_SHOWN_LINES: Final = 20
_STUCK_AFTER: Final = 10.0  # above what the resident takes itself, beyond the command's grace


class Interrupted(Exception):  # noqa: N818 - what it is, and not an error of anybody's
    """A signal came while a daemon was being started, and it was stopped again."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


async def launch(order: Order, place: Place) -> tuple[DaemonEntry, int]:
    """Start a daemon; return its entry and the PID of its command.

    Raises:
        DaemonError: It did not start, or was not healthy in time; it was stopped again.
        Interrupted: SIGINT, SIGTERM or SIGHUP came; a second one ends the grace.
    """
    deadline, came = ShutdownDeadline(), list[int]()
    leave_deadline = enter_deadline(deadline)
    try:
        async with open_scope() as nursery:
            scope = trio.CancelScope()

            async def listen(*, task_status: trio.TaskStatus[None]) -> None:
                # under nohup the end of the terminal is to be ignored
                heard = [
                    number
                    for number in SIGNALS
                    if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN
                ]
                with trio.open_signal_receiver(*heard) as received:
                    task_status.started()
                    async for number in received:
                        if came:
                            deadline.advance(trio.current_time())
                        came.append(number)
                        scope.cancel()

            await nursery.start(listen)
            with scope:
                return await _launch(order, place)
    finally:
        leave_deadline()
    raise Interrupted(came[0])


async def _launch(order: Order, place: Place) -> tuple[DaemonEntry, int]:
    handed_over = place.hand_over(order)
    written = place.log_file.stat().st_size if place.log_file.exists() else 0
    reading, writing = os.pipe()
    try:
        async with trio.lowlevel.FdStream(reading) as said, Service() as service:
            with os.fdopen(writing, "wb") as theirs, trio.CancelScope(shield=True):
                # shielded: one that is started and not known to us would stay
                resident = await service.start(
                    sys.executable,
                    "-m",
                    "trio_process._cli.daemon.resident",
                    handed_over,
                    detach=True,
                    stdout=theirs,
                    log_file=place.log_file,
                )
            try:
                pid = await wait_until_healthy(order, resident, said)
            except DaemonError as error:
                await _take_back(order, resident)
                log = _quoted(place, written)
                raise DaemonError(f"{order.code}/{order.daemon} did not start: {error}{log}") from error
            except BaseException:
                await _take_back(order, resident)
                raise
            entry = default_registry().get(order.code, order.daemon)
            return entry or DaemonEntry(order.code, order.daemon, pid=resident.pid), pid
    finally:
        handed_over.unlink(missing_ok=True)  # the resident takes it, if there ever was one


async def _take_back(order: Order, resident: ManagedProcess) -> None:
    if resident.is_running:
        with trio.CancelScope(shield=True):
            await resident.stop(order.grace + _STUCK_AFTER)


def _quoted(place: Place, begin: int) -> str:
    """Return what this start has written to the log."""
    try:
        text = place.log_file.read_bytes()[begin:].decode(errors="replace")
    except OSError:
        return ""
    return "".join(f"\n  {escape_controls(line)}" for line in last_lines(text, _SHOWN_LINES))
