"""Finding what a process has left behind: members of its group, and escapees that left the group.

Every child carries a marker in its environment, which its descendants inherit, whatever `setsid` or double fork they do.
Looking through all of `/proc` at each end would cost milliseconds, and mostly find nothing. PIDs are handed out in order
(the kernel's `idr_alloc_cyclic`), so that a descendant has a PID after its ancestor's: if every PID handed out since the
start of a process is one of our own children, there is nothing to look for.
"""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Collection, Iterable
from typing import Final, NamedTuple, final

from .._core import read_stat

MARKER: Final = "TRIO_PROCESS_ID"
"""The variable by which the descendants of a process are known; nested services append to it, separated by `;`."""

_NARROW: Final = 256  # PIDs to look at one by one, instead of listing /proc
_WRAP_AGE: Final = 2.0  # seconds in which no machine forks once through all PIDs


class Left(NamedTuple):
    """A process that was left behind: its PID, its state (proc_pidread_stat(5)) and its command's name."""

    pid: int
    state: str
    command: str


class Wanted(NamedTuple):
    """Whose descendants to look for: the leader and group, its marker, and how long ago it was started."""

    pid: int
    token: str
    age: float


@final
class Lineage:
    """Knows which PIDs were handed out to our own children, and finds the descendants of those."""

    def __init__(self) -> None:
        self._order: deque[int] = deque(maxlen=_NARROW)  # our children in the order of their start
        self._alive: set[int] = set()
        try:
            self._loadavg = os.open("/proc/loadavg", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._loadavg = -1  # no /proc: groups are all there is

    @property
    def sees_escapees(self) -> bool:
        """Whether this machine has a /proc to look through."""
        return self._loadavg >= 0

    def close(self) -> None:
        """Close what it reads."""
        if self._loadavg >= 0:
            os.close(self._loadavg)
            self._loadavg = -1

    def add(self, pid: int) -> None:
        """Note that a PID is a child of ours."""
        self._alive.add(pid)
        self._order.append(pid)

    def discard(self, pid: int) -> None:
        """Note that a child is about to be reaped, and its PID to be anybody's."""
        self._alive.discard(pid)

    def may_have_left_some(self, wanted: Wanted) -> bool:
        """Return whether the process can have made others at all; False is certain."""
        candidates = self._narrow(wanted)
        return candidates is None or bool(candidates)

    def _narrow(self, wanted: Wanted) -> list[int] | None:
        """Return the few PIDs that may be descendants, None if they are too many to name."""
        if self._loadavg < 0 or wanted.age > _WRAP_AGE:
            return None
        # proc_loadavg(5): the last field is the PID that was handed out last
        last = int(os.pread(self._loadavg, 128, 0).rsplit(None, 1)[-1])
        if not 0 <= last - wanted.pid <= _NARROW:
            return None
        younger = set()
        for pid in reversed(self._order):
            if pid == wanted.pid:
                break
            younger.add(pid)
        return [pid for pid in range(wanted.pid + 1, last + 1) if pid not in younger]

    def find(self, wanted: Collection[Wanted]) -> dict[int, list[Left]]:
        """Return the living descendants of each leader, by its PID; zombies are not alive."""
        groups = {one.pid for one in wanted}
        leaders = self._alive
        tokens = {one.token.encode(): one.pid for one in wanted if one.token}
        found: dict[int, list[Left]] = {}
        for pid in self._candidates(wanted):
            if pid in leaders:
                continue
            stat = read_stat(pid)
            if stat is None or stat.dead or stat.parent == 2:  # 2: kthreadd
                continue
            if stat.group in groups:
                leader = stat.group
            else:
                marked = _marks(pid) & tokens.keys()
                if not marked:
                    continue
                leader = tokens[marked.pop()]
            found.setdefault(leader, []).append(Left(pid, stat.state, stat.command))
        return found

    def _candidates(self, wanted: Collection[Wanted]) -> Iterable[int]:
        if len(wanted) == 1:
            narrow = self._narrow(next(iter(wanted)))
            if narrow is not None:
                return narrow
        try:
            return [int(name) for name in os.listdir("/proc") if name.isdecimal()]
        except OSError:
            return []


def state_of(pid: int) -> str:
    """Return the state of a process as one letter (proc_pidread_stat(5)), `?` where it can't be known."""
    stat = read_stat(pid)
    return "?" if stat is None else stat.state


def _marks(pid: int) -> set[bytes]:
    """Return the tokens of all services that a process descends from."""
    data = _read(f"/proc/{pid}/environ")
    prefix = MARKER.encode() + b"="
    begin = 0 if data.startswith(prefix) else data.find(b"\0" + prefix) + 1
    if not begin and not data.startswith(prefix):
        return set()
    end = data.find(b"\0", begin)
    return set(data[begin + len(prefix) : end if end >= 0 else None].split(b";"))


def _read(path: str) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""  # it has ended, or is not ours to look into, and so not ours at all
    try:
        data = os.read(descriptor, 65536)
        while data and len(data) % 65536 == 0:
            more = os.read(descriptor, 65536)
            if not more:
                break
            data += more
    except OSError:
        return b""  # ended while it was read
    else:
        return data
    finally:
        os.close(descriptor)


def kill(left: Left, wanted: Wanted) -> None:
    """Kill one descendant; its PID is looked at again through a pidfd, so that nobody else is hit."""
    try:
        pidfd = os.pidfd_open(left.pid)
    except OSError:
        return  # gone
    try:
        stat = read_stat(left.pid)
        if stat is not None and (
            stat.group == wanted.pid or (wanted.token and wanted.token.encode() in _marks(left.pid))
        ):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    except OSError:
        pass  # gone, or not ours to signal: it is looked for again, and named if it stays
    finally:
        os.close(pidfd)
