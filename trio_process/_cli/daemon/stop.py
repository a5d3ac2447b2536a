"""Stopping a daemon: SIGTERM, wait, SIGKILL, and what came of it in one line."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

from ..._core import DaemonError, in_seconds, read_stat
from ..._daemon import default_registry, open_daemon
from .files import Place

_STUCK_AFTER: Final = 5.0
_LONGEST_POLL: Final = 1e6  # milliseconds; poll(2) takes an int


def stop_daemon(code: str, daemon: str, timeout: float) -> str:
    """Stop a daemon; return what happened, for people.

    Raises:
        DaemonError: It can't be stopped from here, or does not die.
    """
    key = f"{code}/{daemon}"
    found = open_daemon(default_registry(), code, daemon, Place(code, daemon).pid_file)
    if found is None:
        return f"{key} is not running"
    _, pid, pidfd = found
    begun = time.monotonic()
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGTERM)
        # one that was suspended gets to act on it, as systemd sees to, too (systemd.kill(5))
        signal.pidfd_send_signal(pidfd, signal.SIGCONT)
        if _end((pidfd,), timeout):
            return f"stopped {key} (PID {pid}) after {in_seconds(time.monotonic() - begun)}"
        left = _kill(pidfd, pid)
    except ProcessLookupError:
        return f"{key} (PID {pid}) ended by itself"
    except PermissionError:
        raise DaemonError(f"{key} (PID {pid}) belongs to another user: stop it as that one, or as root") from None
    finally:
        os.close(pidfd)
    default_registry().get(code, daemon)  # which prunes what it could not take away itself
    also = f"; still alive of its session: PID {', '.join(map(str, left))}" if left else ""
    return f"killed {key} (PID {pid}): it had not stopped within {timeout:g} s of SIGTERM{also}"


def _kill(pidfd: int, pid: int) -> list[int]:
    """Kill a daemon, and wait for what a guardian then kills: its session; return who is still alive of that."""
    members = _open_session(pid)
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        if not _end((pidfd,), _STUCK_AFTER):
            raise DaemonError(f"PID {pid} does not die of SIGKILL: it waits for the kernel")
        _end(members, _STUCK_AFTER)
        return [number for member, number in members.items() if not _end((member,), 0)]
    finally:
        for member in members:
            os.close(member)


def _open_session(leader: int) -> dict[int, int]:
    """Return the processes of a session but for its leader, by pidfd; none if it leads none."""
    members: dict[int, int] = {}
    stat = read_stat(leader)
    if stat is None or stat.session != leader:
        return members
    for name in os.listdir("/proc"):
        if name.isdecimal() and int(name) != leader:
            with suppress(OSError):  # it has just ended
                descriptor = os.pidfd_open(int(name))
                members[descriptor] = int(name)
                stat = read_stat(int(name))
                if stat is None or stat.session != leader:
                    del members[descriptor]
                    os.close(descriptor)
    return members


def _end(pidfds: Iterable[int], timeout: float) -> bool:
    """Wait until all have ended; return whether they have."""
    until = time.monotonic() + timeout
    for pidfd in pidfds:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        while not poll.poll(min(max(until - time.monotonic(), 0) * 1000, _LONGEST_POLL)):
            if time.monotonic() >= until:
                return False
    return True
