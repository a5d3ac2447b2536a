"""Strays: processes that the kernel gives to PID 1, or to the nearest subreaper, when their parent has died.

Their new parent must reap them (wait(2), "NOTES"), and Python reaps only children that it is asked for. In a container
without an init process, every orphan stays a zombie and keeps its PID.

A child that other code has started (`subprocess`, asyncio, `os.fork`) looks the same, and its exit status must be left
to that code. Strays are distinguished by one of two things that no such child has: the group of a child of the service,
or the resource limit that marks its descendants. Both can still be read from a zombie.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from typing import Final, final

import trio

from ..._core import ProcStat, read_stat
from ..reactor import Reactor

_EVERY: Final = 0.5  # seconds; only a wait for any child would report a stray, and it would take the status of all


@final
class StrayReaper:
    """Reaps zombies that nothing else in this program waits for, twice a second.

    Args:
        reactor: Provides the timer.
        managed: Returns the PIDs that the service itself reaps.
        is_descendant: Whether a process descends from a child of the service; None reaps every child, which is right
            only for a program that starts processes by the service alone.
    """

    def __init__(
        self,
        reactor: Reactor,
        managed: Callable[[], Collection[int]],
        is_descendant: Callable[[int, ProcStat], bool] | None,
    ) -> None:
        self._reactor = reactor
        self._managed = managed
        self._is_descendant = is_descendant
        self._look()

    def _look(self) -> None:
        self._reactor.call_at(trio.current_time() + _EVERY, self._look)
        managed = self._managed()
        for pid in _children():
            if pid in managed:
                continue
            stat = read_stat(pid)
            if stat is None or not stat.dead or stat.parent != os.getpid():
                continue
            if self._is_descendant is None or self._is_descendant(pid, stat):
                try:
                    os.waitpid(pid, os.WNOHANG)
                except ChildProcessError:
                    pass  # other code was faster


def _children() -> list[int]:
    """Return the PIDs of this process's children, of whichever thread (proc_tid_children(5))."""
    pids: list[int] = []
    for thread in os.listdir("/proc/self/task"):
        try:
            with open(f"/proc/self/task/{thread}/children", "rb", buffering=0) as file:
                pids += map(int, file.read().split())
        except FileNotFoundError:
            pass  # the thread has ended, or the kernel has no such file (CONFIG_PROC_CHILDREN)
    return pids
