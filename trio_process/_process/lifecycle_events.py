"""What the bus is told of a process: that it has started, that it was killed, that it has ended."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from .._core import (
    ActionProcessExited,
    ActionProcessKilled,
    ActionProcessStarted,
    Bus,
    CommandResult,
    RunOptions,
    signal_name,
)


def announce_start(bus: Bus, key: str, options: RunOptions, pid: int, started_at: datetime) -> None:
    """Tell who wants to know that a process runs."""
    if not bus.targets(ActionProcessStarted, key, options.name):
        return
    command, args, cwd = options.shown_command, options.shown_args, options.shown_cwd
    bus.publish(ActionProcessStarted(key, options.name, command, args, cwd, pid, started_at))


def announce_end(
    bus: Bus, key: str, options: RunOptions, exit_code: int | None, result: Callable[[], CommandResult]
) -> None:
    """Tell who wants to know how a process has ended, and end the subscriptions that are for it alone."""
    if exit_code is not None and exit_code < 0 and bus.targets(ActionProcessKilled, key, options.name):
        bus.publish(ActionProcessKilled(key, options.name, signal_name(-exit_code)))
    if not bus.targets(ActionProcessExited, key, options.name):
        bus.end_of(key)
        return
    end = result()
    assert end.reason is not None
    error = end.error()
    bus.publish(
        ActionProcessExited(key, end.name, end.command, end.args, end.exit_code, end.duration, error, end.reason)
    )
