"""Stop a daemon: SIGTERM, wait, SIGKILL, and a line about the outcome."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Final, NamedTuple

from ..._core import DaemonError, ask_to_end, in_seconds, pidfd_open, pidfd_send_signal, read_stat
from ..._daemon import default_registry, open_daemon
from .files import REAPING, StateFiles

_STUCK_AFTER: Final = 5.0
_LONGEST_POLL: Final = 1e6  # milliseconds; poll(2) takes an int
_SHORTEST_WAIT: Final = 30.0


class Stopped(NamedTuple):
    """The outcome of a stop.

    Attributes:
        text: A message about the outcome for the user.
        killed: Whether SIGKILL was needed, so that the daemon may have lost data.
    """

    text: str
    killed: bool = False


def stop_daemon(code: str, daemon: str, timeout: float | None = None) -> Stopped:
    """Stop a daemon.

    Args:
        code: The first half of its key.
        daemon: The second half.
        timeout: Seconds between SIGTERM and SIGKILL. None for the grace period from its spec plus the time that its
            resident needs, at least 30 s.

    Raises:
        NotHereError: Whether it is running can't be determined from this machine or container.
        DaemonError: It can't be stopped from here, or survives SIGKILL.
    """
    key = f"{code}/{daemon}"
    files = StateFiles(code, daemon)
    found = open_daemon(default_registry(), code, daemon, files.pid_file)
    if found is None:
        return Stopped(f"{key} is not running")
    pid, pidfd = found.pid, found.pidfd
    timeout = _wait_for(files) if timeout is None else timeout
    began = time.monotonic()
    try:
        ask_to_end(pidfd)
        if _end((pidfd,), timeout):
            text = f"stopped {key} (PID {pid}) after {in_seconds(time.monotonic() - began)}"
            state = files.state(pid)
            if state is None or not state.killed:
                return Stopped(text)
            grace = files.spec().grace
            return Stopped(
                f"{text}; its command was killed: it had not ended within {grace:g} s of SIGTERM", killed=True
            )
        survivors = _kill(pidfd, pid)
    except ProcessLookupError:
        return Stopped(f"{key} (PID {pid}) ended by itself")
    except PermissionError:
        raise DaemonError(f"{key} (PID {pid}) belongs to another user; stop it as that user, or as root") from None
    finally:
        os.close(pidfd)
    default_registry().get(code, daemon)  # prunes the entry that a killed daemon could not remove itself
    also = f"; still alive of its session: PID {', '.join(map(str, survivors))}" if survivors else ""
    return Stopped(f"killed {key} (PID {pid}): it had not stopped within {timeout:g} s of SIGTERM{also}", killed=True)


def reload_daemon(code: str, daemon: str) -> str:
    """Send SIGHUP to the command of a daemon through its resident; return a message for the user.

    Raises:
        DaemonError: It is not running, or was not started by the command line: SIGHUP would end most other programs.
    """
    key = f"{code}/{daemon}"
    files = StateFiles(code, daemon)
    found = open_daemon(default_registry(), code, daemon, files.pid_file)
    if found is None:
        raise DaemonError(f"{key} is not running")
    try:
        state = files.state(found.pid)
        if state is None:
            raise DaemonError(
                f"{key} (PID {found.pid}) was not started by `trio-process daemon start`, so SIGHUP may end it; if it reloads "
                f"on SIGHUP, send it with: kill -HUP {found.pid}"
            )
        if state.command is None:
            raise DaemonError(f"the command of {key} is not running; it waits to be restarted")
        pidfd_send_signal(found.pidfd, signal.SIGHUP)
    except ProcessLookupError:
        raise DaemonError(f"{key} is not running") from None
    except PermissionError:
        raise DaemonError(f"{key} (PID {found.pid}) belongs to another user") from None
    finally:
        os.close(found.pidfd)
    return f"reloaded {key}: SIGHUP was sent to its command (PID {state.command})"


def _wait_for(files: StateFiles) -> float:
    """Return the seconds that a daemon may take to stop by itself."""
    try:
        grace = files.spec().grace
    except DaemonError:
        return _SHORTEST_WAIT  # another program's daemon
    return max(_SHORTEST_WAIT, grace + 2 * REAPING)


def _kill(pidfd: int, pid: int) -> list[int]:
    """Kill a daemon, wait until a guardian has killed its session, and return the survivors."""
    members = _open_session(pid)
    try:
        pidfd_send_signal(pidfd, signal.SIGKILL)
        if not _end((pidfd,), _STUCK_AFTER):
            raise DaemonError(f"PID {pid} does not die of SIGKILL: it waits for the kernel")
        _end(members, _STUCK_AFTER)
        return [number for member, number in members.items() if not _end((member,), 0)]
    finally:
        for member in members:
            os.close(member)


def _open_session(leader: int) -> dict[int, int]:
    """Return pidfds of the processes of a session except its leader; none if the process leads no session."""
    members: dict[int, int] = {}
    stat = read_stat(leader)
    if stat is None or stat.session != leader:
        return members
    for name in os.listdir("/proc"):
        if name.isdecimal() and int(name) != leader:
            with suppress(OSError):  # it has just ended
                descriptor = pidfd_open(int(name))
                members[descriptor] = int(name)
                stat = read_stat(int(name))
                if stat is None or stat.session != leader:
                    del members[descriptor]
                    os.close(descriptor)
    return members


def _end(pidfds: Iterable[int], timeout: float) -> bool:
    """Wait until all processes have ended; return whether they have."""
    until = time.monotonic() + timeout
    for pidfd in pidfds:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        while not poll.poll(min(max(until - time.monotonic(), 0) * 1000, _LONGEST_POLL)):
            if time.monotonic() >= until:
                return False
    return True
