"""Publishes the events of one child: `Started`, `Killed`, `Exited`. None is made where nothing listens."""

from __future__ import annotations

from collections.abc import Callable

import trio

from .._core import (
    ActionProcessExited,
    ActionProcessKilled,
    ActionProcessStarted,
    Bus,
    shown_args,
    shown_command,
    shown_cwd,
)
from .output import Capture
from .record import Record


def publish_started(bus: Bus, record: Record) -> None:
    """Publish that a process runs."""
    options = record.options
    if not bus.targets(ActionProcessStarted, record.id, options.name):
        return
    assert record.pid is not None
    assert record.started_at is not None
    command, args, cwd = shown_command(options), shown_args(options), shown_cwd(options)
    bus.publish(ActionProcessStarted(record.id, options.name, command, args, cwd, record.pid, record.started_at))


def publish_exited(bus: Bus, record: Record, capture: Capture, lost: Callable[[Exception], object]) -> None:
    """Publish how a process has ended, and end the subscriptions that are for it alone.

    Args:
        bus: Where to publish.
        record: The facts about the process.
        capture: Its output.
        lost: Called if there is no memory for a copy of its output, which is then discarded, so that the event can be
            made.
    """
    try:
        _publish_exited(bus, record, capture)
    except MemoryError as error:
        lost(error)
        capture.release()
        _publish_exited(bus, record, capture)


def _publish_exited(bus: Bus, record: Record, capture: Capture) -> None:
    key, name = record.id, record.options.name
    if record.signal_name is not None and bus.targets(ActionProcessKilled, key, name):
        bus.publish(ActionProcessKilled(key, name, record.signal_name))
    if not bus.targets(ActionProcessExited, key, name):
        bus.end_of(key)
        return
    end = record.result(capture, trio.current_time())
    assert end.reason is not None
    error = end.error()
    bus.publish(
        ActionProcessExited(key, end.name, end.command, end.args, end.exit_code, end.duration, error, end.reason)
    )
