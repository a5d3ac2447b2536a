"""``trio-process down``: stop the running instance, and report the services that it is waiting for."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Final

import trio

from ..._control import ControlClient, ControlError
from ..._core import ProcessError, ask_to_end, in_seconds, pidfd_open
from ..instance import Instance
from ..output import report
from ..text import listed

_POLL: Final = 0.05  # seconds
_REPORT_EVERY: Final = 2.0  # seconds
_RUNNING: Final = ("starting", "ready", "unready", "stopping")


async def take_down(instance: Instance, timeout: float | None) -> int:  # noqa: ASYNC109 - the option of the command line
    """Stop an instance and wait until it has ended; return the exit status.

    Raises:
        ProcessError: It did not end within `timeout` seconds.
    """
    pid = instance.pid()
    if not pid:
        report(f"the services of {instance.file} are not running")
        return 0
    try:
        pidfd = pidfd_open(pid)
    except ProcessLookupError:  # it has just ended
        return 0
    try:
        if instance.pid() != pid:  # it has ended in between, and its PID may belong to another process
            return 0
        with suppress(ProcessLookupError):  # it has ended after that
            ask_to_end(pidfd)
        with trio.move_on_after(float("inf") if timeout is None else timeout) as limit:
            await _wait(instance, pidfd)
        if limit.cancelled_caught:
            assert timeout is not None
            waits = await _still_running(instance)
            raise ProcessError(
                f"the services have not stopped within {in_seconds(timeout)}: {waits or 'the instance itself'}"
            )
    finally:
        os.close(pidfd)
    report(f"stopped the services of {instance.file}")
    return 0


async def _wait(instance: Instance, pidfd: int) -> None:
    report_at = trio.current_time() + _REPORT_EVERY
    while True:
        with trio.move_on_after(max(_POLL, report_at - trio.current_time())):
            await trio.lowlevel.wait_readable(pidfd)
            return
        report_at = trio.current_time() + _REPORT_EVERY
        if waits := await _still_running(instance):
            report(f"waiting for {waits}")


async def _still_running(instance: Instance) -> str:
    rows = []
    with trio.move_on_after(_REPORT_EVERY), suppress(OSError, ControlError):
        rows = await ControlClient(instance.address).get("/services")
    return listed([row["name"] for row in rows if row["state"] in _RUNNING])
