"""`OutputLines`: the lines of a process as an async iterator that never delays the child."""

from __future__ import annotations

from typing import Self, final

import trio

from .lifecycle import Life
from .output import LineCursor, OutputLine


@final
class OutputLines:
    """The lines of a process, from the first one that is still captured to the last; made by `ManagedProcess.lines`.

    Attributes:
        missed: How many lines the capture overwrote before they were read.
    """

    def __init__(self, life: Life, cursor: LineCursor) -> None:
        self._life = life
        self._cursor = cursor
        self._pending: list[OutputLine] = []
        self._finished = False
        life.claims += 1  # what the process wrote is kept until this has read it, however much it is

    @property
    def missed(self) -> int:
        """How many lines the capture overwrote before they were read."""
        return self._cursor.missed

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> OutputLine:
        if not self._pending:
            await trio.lowlevel.checkpoint()
            while not self._take():
                if self._finished:
                    if self._life.output_error is not None:
                        raise self._life.output_error
                    raise StopAsyncIteration
                await self._life.output.readable()
        return self._pending.pop()

    def __del__(self) -> None:
        if not getattr(self, "_finished", True):
            self._life.claims -= 1

    def _take(self) -> bool:
        """Take in the lines that are there; return whether there are any to hand out."""
        if not self._pending and not self._finished:
            if self._life.over or self._life.abandoned:
                self._pending = self._cursor.finish()
                self._finished = True
                self._life.claims -= 1
            else:
                self._pending = self._cursor.read()
            self._pending.reverse()  # taken from the end, which costs the same for every line
        return bool(self._pending)
