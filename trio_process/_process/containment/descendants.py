"""Finds the descendants that a process has left behind: members of its group, and escapees that left the group.

Every child carries a marker in its environment, which its descendants inherit, even through `setsid` and double forks.
Scanning all of ``/proc`` at each end would cost milliseconds, and mostly find nothing. PIDs are handed out in order
(the kernel's `idr_alloc_cyclic`), so that a descendant has a PID after its ancestor's: if every PID handed out since the
start of a process is one of our own children, there is nothing to look for.
"""

from __future__ import annotations

import os
import signal
import time
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple, final

from ..._core import ProcStat, pidfd_open, pidfd_send_signal, read_stat
from ..backend import Survivor
from ..environment import MARKER
from .limit_mark import limit_mark_of
from .strategies import Containment

_NARROW: Final = 1024  # PIDs to look at one by one, instead of listing /proc
_WRAP_AGE: Final = 2.0  # seconds in which no machine forks once through all PIDs
_ROUNDS: Final = 8  # looks at the PIDs handed out meanwhile
_GONE: Final = -1
_RESERVE: Final = 3  # descriptors kept for a look: a directory, or a pidfd and a file


class Target(NamedTuple):
    """A process whose descendants are searched for.

    `pid` is that of the leader, and the id of its group; `age` is in seconds since its start; `stop_signal` asks
    escapees to end.
    """

    pid: int
    containment: Containment
    age: float
    stop_signal: int | None = None


class Scan(NamedTuple):
    """The result of a scan: the live descendants of each leader, by its PID; not `sure` if some could not be read."""

    survivors: dict[int, list[Survivor]]
    sure: bool


@final
class Lineage:
    """Knows the PIDs of our own children, and finds their descendants."""

    def __init__(self) -> None:
        self._order: deque[int] = deque(maxlen=_NARROW)  # our children in the order of their start
        self._alive: set[int] = set()
        self._session = os.getsid(0)  # that our children begin in
        try:
            self._loadavg = os.open("/proc/loadavg", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            self._loadavg = -1  # no /proc: groups are all there is
        self._reserve: list[int] = []
        self._refill()

    @property
    def sees_escapees(self) -> bool:
        """Whether this machine has a /proc to scan."""
        return self._loadavg >= 0

    def close(self) -> None:
        """Close its descriptors."""
        self._release()
        if self._loadavg >= 0:
            os.close(self._loadavg)
            self._loadavg = -1

    def add(self, pid: int) -> None:
        """Add the PID of a new child."""
        self._alive.add(pid)
        self._order.append(pid)

    def discard(self, pid: int) -> None:
        """Remove a child that is about to be reaped; its PID may be reused from then on."""
        self._alive.discard(pid)

    @property
    def alive(self) -> set[int]:
        """The PIDs of our own children that have not been reaped."""
        return set(self._alive)

    def has_led(self, group: int) -> bool:
        """Whether a group was led by one of our last few hundred children."""
        return group in self._order

    def may_have_left_some(self, target: Target) -> bool:
        """Return whether the process may have left descendants; False is certain."""
        populated = target.containment.populated
        if populated is not None:
            return populated
        if self._loadavg < 0 or not self._is_young(target):
            return True
        first = target.pid
        for _ in range(_ROUNDS):
            last = self._last_pid()
            pids = self._handed_out(first, last)
            if not pids:
                return pids is None  # too many to look at; [] are none but our own children
            sessions = {_session_of(pid) for pid in pids}
            if any(self._may_hold_some(session, target.pid, last) for session in sessions):
                return True
            if _GONE not in sessions:
                return False
            first = last  # a process that is gone may have forked before
        return True

    def _is_young(self, target: Target) -> bool:
        """Return whether the PIDs of its descendants follow its own, and their sessions are known."""
        return target.age <= _WRAP_AGE and os.getsid(0) == self._session

    def _may_hold_some(self, session: int, first: int, last: int) -> bool:
        """Return whether a session may hold descendants of a child, with PIDs from `first` to `last`.

        They are in the session of our children, or in one that a descendant has made, whose PID is its id (setsid(2)). On
        a busy machine this excludes most strangers in 0.3 µs each.
        """
        return session == self._session or first <= session <= last

    def _candidates(self, targets: Collection[Target]) -> list[int] | None:
        """Return the few PIDs that may be descendants, None if they are too many to name."""
        last = self._last_pid()
        if not all(self._is_young(target) and 0 <= last - target.pid <= _NARROW for target in targets):
            return None
        first = min(target.pid for target in targets)
        pids = self._handed_out(first, last)
        if pids is None:
            return None
        return [pid for pid in pids if self._may_hold_some(_session_of(pid), first, last)]

    def _last_pid(self) -> int:
        """Return the PID that was handed out last: the last field of proc_loadavg(5)."""
        return int(os.pread(self._loadavg, 128, 0).rsplit(None, 1)[-1])

    def _handed_out(self, first: int, last: int) -> list[int] | None:
        """Return the PIDs handed out after `first`, except to our own children; None if they are too many to name."""
        if last == first:
            return []
        if not 0 <= last - first <= _NARROW:
            return None
        younger = self._younger(first)
        return [pid for pid in range(first + 1, last + 1) if pid not in younger]

    def _younger(self, first: int) -> set[int]:
        """Return the PIDs of our own children that were started after `first`, including those that have ended."""
        younger = set()
        for pid in reversed(self._order):
            if pid == first:
                break
            younger.add(pid)
        return younger

    @contextmanager
    def provided(self) -> Iterator[None]:
        """Provide descriptors for a scan, even if this process has none left, so that no descendant is missed."""
        self._release()
        try:
            yield
        finally:
            self._refill()

    def _release(self) -> None:
        while self._reserve:
            os.close(self._reserve.pop())

    def _refill(self) -> None:
        try:
            while self._loadavg >= 0 and len(self._reserve) < _RESERVE:
                self._reserve.append(os.dup(self._loadavg))
        except OSError:
            pass  # they were taken elsewhere in the meantime: the rest has to do until the next time

    def find(self, targets: Collection[Target]) -> Scan:
        """Return the live descendants of each leader; zombies don't count.

        A process may fork and exit before the scan reaches it. So the PIDs handed out meanwhile are scanned, too, until
        there are none.
        """
        if self._loadavg < 0:
            return Scan({}, sure=True)
        scanner = _Scanner(targets, self._alive)
        for target in targets:
            scanner.add_members(target.containment.members(), target.pid)
        last = self._last_pid()
        candidates = self._candidates(targets)
        scanner.scan(candidates if candidates is not None else _all_pids())
        for _ in range(_ROUNDS):
            newest = self._last_pid()
            if newest == last:
                return Scan(scanner.found, scanner.sure)
            more = self._handed_out(last, newest)
            scanner.scan(more if more is not None else _all_pids())
            last = newest
        return Scan(scanner.found, sure=False)


@final
class _Scanner:
    """One scan of many processes, for the descendants of several leaders."""

    __slots__ = ("_groups", "_leaders", "_limits", "_oldest", "_seen", "_tokens", "found", "sure")

    def __init__(self, targets: Collection[Target], leaders: Collection[int]) -> None:
        self._groups = {target.pid for target in targets}
        self._tokens = {target.containment.token.encode(): target.pid for target in targets if target.containment.token}
        self._limits = {target.containment.limit: target.pid for target in targets if target.containment.limit}
        age = max((target.age for target in targets), default=0.0) + 1
        self._oldest = (time.clock_gettime(time.CLOCK_BOOTTIME) - age) * os.sysconf("SC_CLK_TCK")
        self._leaders = leaders
        self._seen: set[int] = set()
        self.found: dict[int, list[Survivor]] = {}
        self.sure = True

    def scan(self, pids: Iterable[int]) -> None:
        """Scan these processes; each descendant is found only once."""
        for pid in pids:
            if pid in self._leaders or pid in self._seen:
                continue
            stat = read_stat(pid)
            if stat is None or stat.dead or stat.kernel:
                continue
            leader = self._leader(pid, stat)
            if leader is not None:
                process = _process_of(pid)
                if process not in self._leaders and process not in self._seen:
                    self._seen.add(process)
                    self.found.setdefault(leader, []).append(Survivor(process, stat.state, stat.command))

    def add_members(self, pids: Iterable[int], leader: int) -> None:
        """Add the members of a leader's cgroup, which need no mark, unless they are dead."""
        for pid in pids:
            stat = read_stat(pid)
            if pid != leader and stat is not None and not stat.dead:
                self._seen.add(pid)
                self.found.setdefault(leader, []).append(Survivor(pid, stat.state, stat.command))

    def _leader(self, pid: int, stat: ProcStat) -> int | None:
        if stat.group in self._groups:
            return stat.group
        if not self._tokens:
            return None
        marks = _tokens_of(pid)
        known = (marks or set()) & self._tokens.keys()
        if known:
            return self._tokens[known.pop()]
        leader = self._limits.get(limit_mark_of(pid)) if stat.started >= self._oldest else None
        if leader is None and marks is None:
            self.sure = False
        return leader


def _session_of(pid: int) -> int:
    """Return the session of a process, `_GONE` if the process is gone, that of our children if it can't be known."""
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return _GONE
    except OSError:
        return os.getsid(0)


def _all_pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]


def _tokens_of(pid: int) -> set[bytes] | None:
    """Return the tokens of all services that a process descends from; None while they can't be known.

    During an exec a process has no environment: no longer that of the old program, and not yet that of the new one.
    """
    path = f"/proc/{pid}/environ"
    data = _read(path)
    if data is not None and not data:
        stat = read_stat(pid)
        if stat is not None and stat.state == "Z":
            return _tokens_of_threads(pid)
        if stat is not None and not stat.dead and not stat.environment[1]:
            return None
        data = _read(path)  # there is one by now, or it was started with an empty one
    if not data:
        return set()
    prefix = MARKER.encode() + b"="
    begin = 0 if data.startswith(prefix) else data.find(b"\0" + prefix) + 1
    if not begin and not data.startswith(prefix):
        return set()
    end = data.find(b"\0", begin)
    return set(data[begin + len(prefix) : end if end >= 0 else None].split(b";"))


def _tokens_of_threads(pid: int) -> set[bytes]:
    """Return the tokens of a process whose main thread, and with it its environment, is gone; other threads still have one."""
    try:
        threads = [int(name) for name in os.listdir(f"/proc/{pid}/task")]
    except OSError:
        return set()
    return set().union(*[_tokens_of(thread) or () for thread in threads if thread != pid])


def _process_of(pid: int) -> int:
    """Return the PID of the process that an id belongs to: those handed out are of threads, too (proc_pid_status(5))."""
    data = _read(f"/proc/{pid}/status") or b""
    begin = data.find(b"\nTgid:")
    return int(data[begin + 6 :].split(None, 1)[0]) if begin >= 0 else pid


def _read(path: str) -> bytes | None:
    """Return the content of a file of ``/proc``; None if it is gone, or unreadable and so not that of a descendant."""
    try:
        with open(path, "rb", buffering=0) as file:
            return file.readall()
    except OSError:
        return None


def ask_to_end(survivor: Survivor, target: Target) -> None:
    """Send the stop signal and SIGCONT to a descendant that has left the group, where signals to the group don't reach it."""
    if target.stop_signal is not None:
        for number in (target.stop_signal, signal.SIGCONT):
            _signal(survivor, target, number, to_members=False)


def kill(survivor: Survivor, target: Target) -> None:
    """Kill one descendant."""
    _signal(survivor, target, signal.SIGKILL, to_members=True)


def _signal(survivor: Survivor, target: Target, number: int, *, to_members: bool) -> None:
    """Signal one descendant; its PID is checked again through a pidfd, so that no other process is hit."""
    try:
        pidfd = pidfd_open(survivor.pid)
    except OSError:
        return  # gone
    try:
        stat = read_stat(survivor.pid)
        if stat is None:
            return
        member = stat.group == target.pid
        if to_members if member else _escaped(survivor.pid, target):
            pidfd_send_signal(pidfd, number)
    except OSError:
        pass  # gone, or not ours to signal: it is looked for again, and named if it stays
    finally:
        os.close(pidfd)


def _escaped(pid: int, target: Target) -> bool:
    if pid in target.containment.members():
        return True
    token, limit = target.containment.token, target.containment.limit
    return (bool(token) and token.encode() in (_tokens_of(pid) or ())) or (bool(limit) and limit_mark_of(pid) == limit)
