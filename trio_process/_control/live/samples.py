"""Measure the usage of running services: CPU, memory and descriptors, in one scan of /proc."""

from __future__ import annotations

import math
import os
import time
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple, final

import attrs
import trio

_KEPT: Final = 90  # three minutes, for the sparklines of a newly opened page
_LONGEST_GAP: Final = 6.0  # seconds between two points of one history
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


class Used(NamedTuple):
    """The usage of a process and its descendants: seconds of CPU so far, bytes of memory, descriptors, processes."""

    cpu: float
    memory: int
    descriptors: int
    processes: int


_NOTHING: Final = Used(0.0, 0, 0, 0)


class _Stat(NamedTuple):
    parent: int
    ticks: int
    pages: int


def measure(leaders: Mapping[str, int]) -> dict[str, Used]:
    """Return the usage of each process, given by name and PID, with all its descendants (proc_pid_stat(5)).

    It reads all of /proc, so call it in a thread.
    """
    stats = {int(name): stat for name in os.listdir("/proc") if name.isdecimal() and (stat := _read(name)) is not None}
    children: dict[int, list[int]] = {}
    for pid, stat in stats.items():
        children.setdefault(stat.parent, []).append(pid)
    found: dict[str, Used] = {}
    for name, leader in leaders.items():
        family, waiting = [], [leader] if leader in stats else []
        while waiting:
            pid = waiting.pop()
            family.append(pid)
            waiting += children.get(pid, ())
        if family:
            found[name] = Used(
                sum(stats[pid].ticks for pid in family) / _TICKS,
                sum(stats[pid].pages for pid in family) * _PAGE,
                sum(map(_descriptors, family)),
                len(family),
            )
    return found


def _read(pid: str) -> _Stat | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None  # it has just ended
    ticks = sum(map(int, fields[11:15]))  # its own and those of its reaped children
    return _Stat(int(fields[1]), ticks, int(fields[21]))


def _descriptors(pid: int) -> int:
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return 0  # it belongs to another user, or has just ended


@final
@attrs.define(eq=False)
class _Series:
    """What is known of one service.

    Attributes:
        pid: The process of the latest measurement.
        last: The latest measurement.
        measured: When it was made.
        cpu_total: All seconds of CPU so far.
        counted: How many of these belong to each process whose end is not known yet, by PID.
        points: CPU and memory usage of the last minutes.
    """

    pid: int = 0
    last: Used = _NOTHING
    measured: float = 0.0
    cpu_total: float = 0.0
    counted: dict[int, float] = attrs.field(factory=dict)
    points: deque[tuple[float, int]] = attrs.field(factory=lambda: deque(maxlen=_KEPT))

    def count(self, pid: int, cpu: float) -> float:
        """Add the seconds of CPU that a process has used so far; return how many are new."""
        spent = max(0.0, cpu - self.counted.get(pid, 0.0))
        self.cpu_total += spent
        self.counted[pid] = max(cpu, self.counted.get(pid, 0.0))
        return spent


@final
class Samples:
    """The latest measurements, with a short history.

    Attributes:
        measured: When the latest measurement was made, in monotonic seconds.
        measuring: Held during a measurement.
        loop_lag: The latest delay of the event loop, in seconds.
        loop_lag_max: The longest one so far.
    """

    __slots__ = ("_ended", "_look", "_looked", "_series", "loop_lag", "loop_lag_max", "measured", "measuring")

    def __init__(self) -> None:
        self._series: dict[str, _Series] = {}
        self._ended: set[int] = set()  # since the latest measurement began
        self._looked = -math.inf
        self._look = trio.Event()
        self.measured = -math.inf
        self.measuring = trio.Lock()
        self.loop_lag = 0.0
        self.loop_lag_max = 0.0

    def look(self) -> None:
        """Note that a client looks at the measurements."""
        self._looked = now()
        self._look.set()
        self._look = trio.Event()

    async def wait_looked(self, age: float) -> None:
        """Wait until a client looks; return at once if the last look is less than `age` seconds ago."""
        while now() - self._looked >= age:
            await self._look.wait()

    def lag(self, seconds: float) -> None:
        """Record the delay of the event loop."""
        self.loop_lag = max(0.0, seconds)
        self.loop_lag_max = max(self.loop_lag_max, self.loop_lag)

    def begin(self) -> None:
        """Called before a measurement."""
        self._ended.clear()

    def add(self, leaders: Mapping[str, int], found: Mapping[str, Used], at: float) -> None:
        """Add a measurement. After a gap of some seconds, the history of the last minutes starts from here."""
        if at - self.measured > _LONGEST_GAP:
            for series in self._series.values():
                series.points.clear()
                series.pid, series.measured = 0, 0.0
        self.measured = at
        for name, used in found.items():
            pid = leaders[name]
            if pid in self._ended:
                continue
            series = self._series.setdefault(name, _Series())
            spent = series.count(pid, used.cpu)
            if series.measured:  # else there is nothing to compare with
                share = spent / max(at - series.measured, 0.001) if series.pid == pid else 0.0
                series.points.append((share, used.memory))
            series.pid, series.last, series.measured = pid, used, at
        for name, series in self._series.items():
            if name not in found and series.last.processes:
                series.last = _NOTHING
                series.pid = 0
                series.points.append((0.0, 0))

    def ended(self, name: str, pid: int | None, cpu: float) -> None:
        """Add the seconds of CPU that a process has used until its end: it may have used them since it was last measured."""
        if pid is not None:
            self._ended.add(pid)
            series = self._series.setdefault(name, _Series())
            series.count(pid, cpu)
            del series.counted[pid]

    def forget(self, but: Iterable[str]) -> None:
        """Drop all measurements except these."""
        kept = set(but)
        for name in [name for name in self._series if name not in kept]:
            del self._series[name]

    def latest(self) -> list[dict[str, Any]]:
        """Return the latest measurement of each running process, ready for JSON."""
        return [
            {
                "name": name,
                "cpu": round(series.points[-1][0], 4) if series.points else 0.0,
                "memory": series.last.memory,
                "descriptors": series.last.descriptors,
                "processes": series.last.processes,
            }
            for name, series in self._series.items()
            if series.last.processes
        ]

    def history(self) -> dict[str, list[tuple[float, int]]]:
        """Return the CPU (1.0 is one core) and memory usage of the last minutes, by name."""
        return {
            name: [(round(cpu, 4), memory) for cpu, memory in series.points] for name, series in self._series.items()
        }

    def totals(self) -> Iterable[tuple[str, float, Used]]:
        """Yield the name, the total seconds of CPU, and the latest measurement."""
        for name, series in self._series.items():
            yield name, series.cpu_total, series.last


def now() -> float:
    """Return the monotonic time, in seconds."""
    return time.monotonic()
