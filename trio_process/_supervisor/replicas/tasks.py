"""`Tasks`: starts the tasks of keepers, a few at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from functools import partial
from typing import Final, final

import trio

_AT_ONCE: Final = 64

Main = Callable[[], Awaitable[object]]


@final
class Tasks:
    """Starts tasks in a nursery, in the context in which this object was created.

    When a thousand units are started or stopped, all of them ask for a task at once; most tasks end within milliseconds.
    If many tasks exist, only a few start at each turn of the loop, so that the memory of a thousand tasks is never needed.
    None waits for the end of another one.

    Args:
        nursery: The nursery of the tasks.
    """

    __slots__ = ("_context", "_count", "_nursery", "_waiting")

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._context = copy_context()
        self._count = 0
        self._waiting: deque[tuple[Main, str]] = deque()

    def begin(self, main: Main, name: str) -> None:
        """Start a task, now or at one of the next turns of the loop."""
        if self._count < _AT_ONCE and not self._waiting:
            self._begin(main, name)
            return
        self._waiting.append((main, name))
        if len(self._waiting) == 1:
            self._soon(self._admit, "keepers that begin later")

    def _begin(self, main: Main, name: str) -> None:
        self._count += 1
        self._soon(partial(self._run, main), name)

    @trio.lowlevel.enable_ki_protection
    async def _run(self, main: Main) -> None:
        try:
            await main()
        finally:
            self._count -= 1

    @trio.lowlevel.enable_ki_protection
    async def _admit(self) -> None:
        while self._waiting:
            await trio.lowlevel.cancel_shielded_checkpoint()
            for _ in range(min(_AT_ONCE, len(self._waiting))):
                self._begin(*self._waiting.popleft())

    def _soon(self, main: Main, name: str) -> None:
        self._context.run(partial(self._nursery.start_soon, main, name=name))
