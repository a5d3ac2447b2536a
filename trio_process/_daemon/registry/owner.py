"""Which process a registered daemon is, so that a signal to it reaches no other process.

A PID in a file proves nothing, and the file may come from another user, boot or container. So the process is opened first
(pidfd_open(2): from then on its PID can't be reused unnoticed), then it is proven to be the daemon, and only then may it
be signalled. Any of these is a proof, tried in this order:

1. It has the locked file open: the entry, or the PID file. Where the file is locked, a process that does not have it open
   is not the daemon.
2. Its boot, namespace and start are those recorded with its PID (`Viewpoint.proves`).
3. For an entry or PID file of another program, such as go-process: root or the user of the process wrote the file, and
   the process is not younger than the file. The time of the file may count here, because it can only cause a refusal.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, NamedTuple

from ..._core import DaemonError, ProcessIdentity, Viewpoint, lives_since, pidfd_open, read_uids
from ..pidfile import look_at_pid_file
from .entry import DaemonEntry
from .registry import Registry

_ROOT: Final = 0


class NotHereError(DaemonError, shown_as=DaemonError):
    """An entry can't be judged from here: its daemon may be in another container, or belong to an earlier boot."""


class OpenedDaemon(NamedTuple):
    """A running daemon, and a pidfd of its process, which the caller closes."""

    entry: DaemonEntry
    pid: int
    pidfd: int


class _Claim(NamedTuple):
    """A file that names a process as the daemon."""

    path: str
    status: os.stat_result
    pid: int
    locked: bool
    identity: ProcessIdentity | None


def open_daemon(registry: Registry, code: str, daemon: str, pid_file: Path | None = None) -> OpenedDaemon | None:
    """Open a running daemon; return None if it is not running.

    Args:
        registry: The registry that it is registered with.
        code: The first half of its key.
        daemon: The second half.
        pid_file: The PID file that it holds, which is used if the registry has no entry for it.

    Raises:
        OptionError: `code` or `daemon` can't be a key.
        RegistryError: The registry can't be read or trusted.
        NotHereError: Its entry can't be judged from here.
        DaemonError: It may be running, but no process here is proven to be it.
    """
    entry, claim, hidden = find_daemon(registry, code, daemon, pid_file)
    if claim is None:
        if hidden:
            raise NotHereError(f"{hidden}; nothing was signalled")
        return None
    key = f"{code}/{daemon}"
    try:
        pidfd = pidfd_open(claim.pid)
    except ProcessLookupError:
        if claim.locked:
            raise _elsewhere(key, claim.pid, "there is no process of that number here") from None
        return None
    try:
        _prove(key, claim)
    except BaseException:
        os.close(pidfd)
        raise
    return OpenedDaemon(entry or DaemonEntry(code, daemon, pid=claim.pid), claim.pid, pidfd)


def find_daemon(
    registry: Registry, code: str, daemon: str, pid_file: Path | None = None
) -> tuple[DaemonEntry | None, _Claim | None, str]:
    """Return the entry of a running daemon, the file that names its process, and why an entry is hidden.

    If the registry has lost the entry, the entry is None and the file is the PID file. All are empty if the daemon is not
    running.
    """
    found = registry._find(code, daemon)
    if found is not None and found.alive and (entry := found.entry()) is not None and entry.pid is not None:
        return entry, _Claim(found.path, found.status, entry.pid, found.locked, found.identity), ""
    state = None if pid_file is None else look_at_pid_file(pid_file)
    if state is not None and state.alive and state.locked:
        return None, _Claim(str(pid_file), state.status, state.pid, state.locked, state.identity), ""
    hidden = ""
    if found is not None and found.distrusted:
        hidden = f"the entry of {code}/{daemon}, {found.path}, is not believed: {found.distrusted}"
    elif found is not None and found.hidden:
        hidden = (
            f"the entry of {code}/{daemon} belongs to another container, boot or machine, so its PID "
            f"{found.fields['pid'] if found.fields else 0} can't be judged from here"
        )
    return None, None, hidden


def _prove(key: str, claim: _Claim) -> None:
    """Prove that the process of a PID is the daemon, or raise; called after its pidfd was opened."""
    if claim.locked:
        opened = _has_open(claim.pid, claim.status)
        if opened:
            return
        if opened is not None:
            raise _elsewhere(key, claim.pid, "here that is another process")
    # a new viewpoint: facts about the number are now facts about the process
    if Viewpoint().proves(claim.pid, claim.identity):
        return
    if claim.identity is not None:
        raise _unproven(key, claim, "its start can't be read (hidepid, proc(5)) or is another one")
    users = read_uids(claim.pid)
    if claim.status.st_uid != _ROOT and (users is None or claim.status.st_uid not in users):
        raise _unproven(key, claim, "that process belongs to another user than the one who wrote the file")
    if not lives_since(claim.pid, claim.status.st_mtime):
        raise _unproven(key, claim, "that process began after the file was written, so it may be another one")


def _has_open(pid: int, status: os.stat_result) -> bool | None:
    """Whether a process has a file open; None if that can't be known."""
    try:
        descriptors = list(Path(f"/proc/{pid}/fd").iterdir())
    except PermissionError:
        return None  # another user's
    except OSError:
        return False  # it has just ended, or there is no /proc
    return any(_is(descriptor, status) for descriptor in descriptors)


def _is(descriptor: Path, status: os.stat_result) -> bool:
    try:
        return os.path.samestat(descriptor.stat(), status)
    except OSError:
        return False  # closed in between


def _elsewhere(key: str, pid: int, why: str) -> DaemonError:
    return DaemonError(
        f"{key} runs as PID {pid} elsewhere, and {why}: it is in another container, or a child that it forked has "
        "outlived it; it can only be stopped from there"
    )


def _unproven(key: str, claim: _Claim, why: str) -> DaemonError:
    return DaemonError(
        f"{claim.path} names PID {claim.pid} as {key}, but {why}; nothing was signalled: look at that process, and end it "
        "by hand or remove the file"
    )
