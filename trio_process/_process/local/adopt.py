"""Adopting a detached process of an earlier service: is it still the same process, and what is known about it?"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from ..._core import (
    MAX_PID,
    START_SLACK,
    ProcessNotFoundError,
    RunOptions,
    bad_option,
    checks,
    lives_since,
    make_options,
)
from ..._core import started_at as began_at
from ..output import open_at_end


def adopted_options(pid: int, started_at: datetime, options: Mapping[str, Any]) -> RunOptions:
    """Return the options by which a process is watched again; a recycled PID raises `ProcessNotFoundError`."""
    check_identity(pid, started_at)
    moment = started_at.timestamp()
    began = began_at(pid)
    if not lives_since(pid, moment) or (began is not None and began < moment - START_SLACK):
        raise ProcessNotFoundError(f"PID {pid} is not the process that was started at {started_at}: it has ended")
    command = options.get("command") or command_of(pid)
    rest = {name: value for name, value in options.items() if name != "command"}
    return make_options(command, (), {**rest, "detach": True})


def check_identity(pid: object, started_at: object) -> None:
    """Check the identity of a process: its PID and its start."""
    if isinstance(pid, bool) or not isinstance(pid, int) or not 0 < pid <= MAX_PID:
        raise bad_option("pid", f"must be a process id, got {checks.brief(pid)}")
    if not isinstance(started_at, datetime) or started_at.tzinfo is None:
        raise bad_option("started_at", f"must be a timezone-aware datetime, got {checks.brief(started_at)}")


def follow_log(options: RunOptions) -> int | None:
    """Return a descriptor at the current end of the log file of a detached process, None if it has no log file."""
    if options.log_file is None:
        return None
    try:
        return open_at_end(options.log_file)
    except OSError as error:
        raise bad_option("log_file", f"{str(options.log_file)!r} can't be followed: {error.strerror}") from error


def command_of(pid: int) -> str:
    """Return the program of a running process, for people."""
    try:
        return os.readlink(f"/proc/{pid}/exe")
    except OSError:
        return f"PID {pid}"
