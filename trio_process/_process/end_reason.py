"""Which request an end is due to, and whether the end is a success."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from .._core import EndReason, RunOptions, Status


class Request(NamedTuple):
    """A request for the end of a process, or for a signal.

    `signal` is None for a stop: the stop signal, the grace period, SIGKILL. `by` is the name of the task that asked.
    `grace_period` (seconds) and `stop_signal` are those of a stop, None for those of the process.
    """

    reason: EndReason
    signal: int | None = None
    by: str | None = None
    grace_period: float | None = None
    stop_signal: int | None = None


def reason_of(requests: Iterable[Request], exit_code: int) -> tuple[EndReason, str | None]:
    """Return the first request that an end can be due to, and the task that made it.

    1. A stop, a timeout, a cancellation or the output limit can be the cause of any end.
    2. A signal can only be the cause of a death by that signal.
    3. Without a cause, the process exited by itself or died of a stranger's signal.
    """
    for request in requests:
        if request.signal is None or request.signal == -exit_code:
            return request.reason, request.by
    return (EndReason.SIGNALLED if exit_code < 0 else EndReason.EXITED), None


def is_success(options: RunOptions, status: Status, exit_code: int | None, reason: EndReason | None) -> bool:
    """Return whether a process ended as intended: by itself with a good code, or by the stop that was asked for."""
    if status is Status.EXITED:
        return exit_code in options.ok_exit_codes and reason in (EndReason.EXITED, EndReason.STOPPED)
    return reason is EndReason.STOPPED and exit_code == -options.stop_signal
