"""`UnitLines`: the lines of a unit, over all of its runs."""

from __future__ import annotations

from collections import deque
from typing import Self, final

import trio

from .._process import ManagedProcess, OutputLine, OutputLines


@final
class UnitLines:
    """The lines of a unit's current run and all later ones; created by `Unit.lines`.

    Attributes:
        missed: How many lines the captures overwrote before they were read.
    """

    __slots__ = ("__weakref__", "_lines", "_missed", "_more", "_over", "_waiting")

    def __init__(self) -> None:
        self._waiting: deque[OutputLines] = deque()
        self._lines: OutputLines | None = None
        self._missed = 0
        self._more = trio.Event()
        self._over = False

    @property
    def missed(self) -> int:
        """How many lines the captures overwrote before they were read."""
        return self._missed + (0 if self._lines is None else self._lines.missed)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> OutputLine:
        while True:
            if self._lines is not None:
                try:
                    return await self._lines.__anext__()
                except StopAsyncIteration:
                    self._missed += self._lines.missed
                    self._lines = None
            if self._waiting:
                self._lines = self._waiting.popleft()
                continue
            if self._over:
                await trio.lowlevel.checkpoint()
                raise StopAsyncIteration
            self._more = trio.Event()
            await self._more.wait()

    def _follow(self, process: ManagedProcess) -> None:
        """Continue with another run."""
        self._waiting.append(process.lines())
        self._more.set()

    def _ends(self) -> None:
        """Called when no run will follow."""
        self._over = True
        self._more.set()
