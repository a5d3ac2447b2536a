"""Finds leaks of a test: child processes, descriptors, threads, and tasks outside of its nurseries."""

from __future__ import annotations

import functools
import gc
import os
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Any, Final, final

import trio

from .._core import read_stat
from .._process import MARKER

_TIMEOUT: Final = 2.0  # seconds for processes that were asked to end, and for the kernel
_IDLE_THREAD: Final = "Trio thread "  # Trio keeps its worker threads for ten seconds, for all runs of this process


@final
class LeakCheck:
    """Compares the current state with that at its creation, or at the last `reset`."""

    def __init__(self) -> None:
        self._tasks: list[str] = []
        self.reset()

    def reset(self) -> None:
        """Take the current state as the new baseline."""
        self._before = (_processes(), _descriptors(), _threads())

    def find(self) -> list[str]:
        """Return the leaks, as texts, after a moment for anything that is just ending."""
        leaks = list(self._look())
        if leaks:
            gc.collect()  # objects that only wait for the collector are not leaks
            end = time.monotonic() + _TIMEOUT
            while (leaks := list(self._look())) and time.monotonic() < end:
                time.sleep(0.01)
        return [*self._tasks, *leaks]

    def _look(self) -> Iterator[str]:
        processes, descriptors, threads = self._before
        yield from (text for pid, text in _processes().items() if pid not in processes)
        for number, target in _descriptors().items():
            if descriptors.get(number) != target:
                yield f"descriptor {number}: {target}"
        yield from (f"thread {thread.name!r}" for thread in _threads() - threads if thread.is_alive())

    def watch_tasks(self, test: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        """Return an async test that records the system tasks that it has started and not ended."""

        @functools.wraps(test)
        async def watched(*args: Any, **kwargs: Any) -> Any:
            before = _system_tasks()
            result = await test(*args, **kwargs)
            for _ in range(50):  # not a time: the test's clock may stand still
                if not _system_tasks() - before:
                    break
                await trio.lowlevel.checkpoint()
            self._tasks = [f"task {task.name!r}" for task in _system_tasks() - before]
            return result

        return watched


def _system_tasks() -> set[trio.lowlevel.Task]:
    """Return the tasks that no nursery of a test ends: the siblings of the main task."""
    root = trio.lowlevel.current_root_task()
    assert root is not None
    return {task for nursery in root.child_nurseries for task in nursery.child_tasks}


def _processes() -> dict[int, str]:
    """Return our children, including zombies, and other descendants of children that this package has started."""
    found: dict[int, str] = {}
    marks = (f"={os.getpid()}.".encode(), f";{os.getpid()}.".encode())
    for pid in _pids():
        stat = read_stat(pid)
        if stat is not None and (stat.parent == os.getpid() or _is_marked(pid, marks)):
            found[pid] = f"process {pid} ({stat.command}, state {stat.state})"
    return found


def _pids() -> list[int]:
    try:
        return [int(name) for name in os.listdir("/proc") if name.isdecimal()]
    except FileNotFoundError:
        return []  # no /proc: processes can't be listed


def _is_marked(pid: int, marks: tuple[bytes, ...]) -> bool:
    if pid == os.getpid():
        return False
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            environment = file.read().split(b"\0")
    except OSError:
        return False  # it has ended, or belongs to another user
    return any(mark in entry for entry in environment if entry.startswith(MARKER.encode()) for mark in marks)


def _descriptors() -> dict[int, str]:
    found: dict[int, str] = {}
    try:
        names = os.listdir("/proc/self/fd")
    except FileNotFoundError:
        return found  # no /proc: they can't be recognized
    for name in names:
        with suppress(OSError):  # the descriptor of the listing itself
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    return found


def _threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if not thread.name.startswith(_IDLE_THREAD)}
