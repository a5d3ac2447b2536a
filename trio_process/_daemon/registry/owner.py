"""Which process a registered daemon is, so that a signal to it can reach nobody else."""

from __future__ import annotations

import os
from pathlib import Path

from ..._core import DaemonError
from .entry import DaemonEntry
from .registry import Registry


def open_daemon(registry: Registry, code: str, daemon: str) -> tuple[DaemonEntry, int] | None:
    """Return the entry of a daemon that runs, and a pidfd of its process; None if it does not run.

    A lock proves that a daemon lives, but not that the PID in its entry is its process here: that number can belong to
    another PID namespace (a container that shares the home), or to who came after it (a forked child keeps the lock).
    So who has locked the entry must have it open.

    Raises:
        OptionError: `code` or `daemon` can't be a key.
        DaemonError: It runs, but not as the process of that PID.
    """
    found = registry.find(code, daemon)
    entry = None if found is None else found.entry()
    if found is None or entry is None or entry.pid is None:
        return None
    try:
        pidfd = os.pidfd_open(entry.pid)
    except ProcessLookupError:
        if found.locked:
            raise _elsewhere(entry, "there is none of that number here") from None
        return None
    # after the pidfd was opened: what is true of the number now is true of its process
    if found.locked and not _has_open(entry.pid, found.status):
        os.close(pidfd)
        raise _elsewhere(entry, "here that is another process")
    return entry, pidfd


def _has_open(pid: int, status: os.stat_result) -> bool:
    try:
        descriptors = list(Path(f"/proc/{pid}/fd").iterdir())
    except PermissionError:
        return True  # another user's: the kernel will say what may be done to it
    except OSError:
        return False  # it has just ended, or there is no /proc
    return any(_is(descriptor, status) for descriptor in descriptors)


def _is(descriptor: Path, status: os.stat_result) -> bool:
    try:
        return os.path.samestat(descriptor.stat(), status)
    except OSError:
        return False  # closed in between


def _elsewhere(entry: DaemonEntry, why: str) -> DaemonError:
    return DaemonError(
        f"{entry.code}/{entry.daemon} runs as PID {entry.pid} elsewhere, and {why}: it is in another container, or a "
        "child that it forked has outlived it; it can only be stopped from there"
    )
