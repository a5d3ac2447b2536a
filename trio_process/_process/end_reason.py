"""Which request an end is due to, and whether it is the end that was wanted."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from .._core import EndReason, RunOptions, Status


class Request(NamedTuple):
    """Somebody asked for the end: why, by which signal (None for a stop, which always counts), and who."""

    reason: EndReason
    signal: int | None
    by: str | None


def first_cause(requests: Iterable[Request], exit_code: int) -> tuple[EndReason, str | None]:
    """Return the first request that an end can be due to, and who made it.

    1. A stop, a timeout or a cancellation can be the cause of any end.
    2. A signal can only be the cause of a death by that signal.
    3. Without a cause, it exited by itself or died of a stranger's signal.
    """
    for request in requests:
        if request.signal is None or request.signal == -exit_code:
            return request.reason, request.by
    return (EndReason.SIGNALLED if exit_code < 0 else EndReason.EXITED), None


def ended_well(options: RunOptions, status: Status, exit_code: int | None, reason: EndReason | None) -> bool:
    """Return whether a process ended as it should: by itself with a good code, or by the stop that was asked for."""
    if status is Status.EXITED:
        return exit_code in options.ok_exit_codes and reason in (EndReason.EXITED, EndReason.STOPPED)
    return reason is EndReason.STOPPED and exit_code == -options.stop_signal
