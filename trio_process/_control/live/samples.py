"""Measure the usage of running services: CPU, memory and descriptors, every two seconds in one scan of /proc."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple, final

import attrs

PERIOD: Final = 2.0
"""Seconds between two measurements."""

_KEPT: Final = 90  # three minutes, for the sparklines of a newly opened page
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


class Used(NamedTuple):
    """The usage of a process and its descendants: seconds of CPU so far, bytes of memory, descriptors, processes."""

    cpu: float
    memory: int
    descriptors: int
    processes: int


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
    pid: int
    last: Used
    cpu_total: float = 0.0
    points: deque[tuple[float, float, int]] = attrs.field(factory=lambda: deque(maxlen=_KEPT))
    measured: float = 0.0


@final
class Samples:
    """The latest measurements, with a short history.

    Attributes:
        loop_lag: The latest delay of the event loop, in seconds.
        loop_lag_max: The longest one so far.
    """

    __slots__ = ("_series", "loop_lag", "loop_lag_max")

    def __init__(self) -> None:
        self._series: dict[str, _Series] = {}
        self.loop_lag = 0.0
        self.loop_lag_max = 0.0

    def lag(self, seconds: float) -> None:
        """Record the delay of the event loop."""
        self.loop_lag = max(0.0, seconds)
        self.loop_lag_max = max(self.loop_lag_max, self.loop_lag)

    def add(self, leaders: Mapping[str, int], found: Mapping[str, Used], at: float) -> None:
        """Add a measurement; of ended processes, only the seconds of CPU are kept."""
        for name, used in found.items():
            series = self._series.get(name)
            if series is None:
                self._series[name] = _Series(leaders[name], used, used.cpu, measured=at)
                continue
            again = series.pid == leaders[name]
            spent = max(0.0, used.cpu - series.last.cpu) if again else used.cpu
            share = spent / max(at - series.measured, 0.001) if again else 0.0
            series.cpu_total += spent
            series.pid, series.last, series.measured = leaders[name], used, at
            series.points.append((at, share, used.memory))
        for name, series in self._series.items():
            if name not in found and series.last.processes:
                series.last = Used(0.0, 0, 0, 0)
                series.pid = 0
                series.points.append((at, 0.0, 0))

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
                "cpu": round(series.points[-1][1], 4) if series.points else 0.0,
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
            name: [(round(cpu, 4), memory) for _, cpu, memory in series.points] for name, series in self._series.items()
        }

    def totals(self) -> Iterable[tuple[str, float, Used]]:
        """Yield the name, the total seconds of CPU, and the latest measurement."""
        for name, series in self._series.items():
            yield name, series.cpu_total, series.last


def now() -> float:
    """Return the monotonic time, in seconds."""
    return time.monotonic()
