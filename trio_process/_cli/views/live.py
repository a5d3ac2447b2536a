"""Draw the live view: a frame that is redrawn ten times a second during the run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, final

import trio
from rich.console import Console

from ..._core import Subscription, open_scope
from ..screen import Screen
from .board import Board, Change
from .render import frame_lines

INTERVAL: Final = 0.1
"""Seconds between two frames: smooth enough, and takes two to three per cent of a processor with 20 rows."""


@final
class LiveView:
    """Live view of a board on a terminal.

    Args:
        board: The state to show.
        console: Provides the terminal's size and colours.
        screen: Writes to the terminal.
    """

    def __init__(self, board: Board, console: Console, screen: Screen) -> None:
        self._board = board
        self._console = console
        self._screen = screen
        self._is_aside = False

    async def show(self, changes: trio.MemoryReceiveChannel[Change], output: Subscription[Any]) -> None:
        """Show the board until both channels have ended; the last frame stays."""
        with output:
            self._screen.enter()
            try:
                async with open_scope() as ticking:
                    ticking.start_soon(self._tick)
                    async with open_scope(wait=True) as reading:
                        reading.start_soon(self._drop, changes)
                        reading.start_soon(self._read_output, output)
                self._screen.drain()
                self._draw()
            finally:
                self._screen.leave()
            self._screen.drain()

    async def _tick(self) -> None:
        while True:
            if not self._is_aside:
                self._screen.enter()  # again, after a suspension, or once we are in the foreground
                self._draw()
            await trio.sleep(INTERVAL)
            self._screen.flush()

    def _draw(self) -> None:
        self._board.look()
        width = self._console.width
        lines, cells = frame_lines(self._board, self._console)
        self._screen.draw(lines, cells, width)

    async def _drop(self, changes: trio.MemoryReceiveChannel[Change]) -> None:
        """Wait for the end of the run; the board holds the changes."""
        with changes:
            async for _ in changes:
                pass

    async def _read_output(self, output: Subscription[Any]) -> None:
        while True:
            try:
                batch = await output.receive_batch()
            except trio.EndOfChannel:
                return
            self._board.line(batch.name, batch.lines)

    @asynccontextmanager
    async def aside(self) -> AsyncIterator[None]:
        """Leave the terminal to a task."""
        self._is_aside = True
        try:
            with self.suspended():
                yield
        finally:
            self._is_aside = False

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """Leave the terminal to the shell, or to a task; the next frame is drawn below their output."""
        self._draw()
        self._screen.leave()
        self._screen.flush()
        yield
        # the next frame hides the cursor and turns echo off again

    def last_words(self) -> None:
        """Restore the terminal at once."""
        self._screen.give_up()
