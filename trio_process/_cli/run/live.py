"""The live view: a frame of rich, drawn anew ten times a second while the run goes on."""

from __future__ import annotations

from functools import partial
from typing import Any, Final, final

import trio
from rich.console import Console
from rich.live import Live

from ..._core import Subscription, open_scope
from ..._pipeline import RunUpdate
from ..output import writing
from .board import Board, receive_all
from .render import frame

INTERVAL: Final = 0.1
"""Seconds between two frames: as the eye asks for, at two to three per cent of a processor with 20 rows."""


@final
class LiveView:
    """Shows a board on a terminal.

    Args:
        board: What is shown.
        console: The terminal.
    """

    def __init__(self, board: Board, console: Console) -> None:
        self._board = board
        self._console = console

    async def show(self, updates: trio.MemoryReceiveChannel[RunUpdate], output: Subscription[Any]) -> None:
        """Show what comes until both have ended; the last frame stays."""
        live = Live(console=self._console, auto_refresh=False, vertical_overflow="crop")
        with writing(), live:
            async with open_scope() as ticking:
                ticking.start_soon(self._tick, live)
                async with open_scope(wait=True) as reading:
                    reading.start_soon(self._read_updates, updates)
                    reading.start_soon(self._read_output, output)
            live.update(frame(self._board, self._console), refresh=True)

    async def _tick(self, live: Live) -> None:
        while True:
            # The frame is made here, where nobody changes the board meanwhile; it is drawn in a thread, as a terminal that
            # was stopped by Ctrl-S blocks whoever writes to it, and timeouts and Ctrl-C must go on.
            made = frame(self._board, self._console)
            await trio.to_thread.run_sync(partial(live.update, made, refresh=True), abandon_on_cancel=True)
            await trio.sleep(INTERVAL)

    async def _read_updates(self, updates: trio.MemoryReceiveChannel[RunUpdate]) -> None:
        async with updates:
            while found := await receive_all(updates):
                for update in found:
                    self._board.update(update)

    async def _read_output(self, output: Subscription[Any]) -> None:
        with output:
            while True:
                try:
                    batch = await output.receive_batch()
                except trio.EndOfChannel:
                    return
                self._board.line(batch.name, batch.lines)
