"""`LiveShow`: the live view of `up` on a terminal: the services' lines scroll above a table of the services."""

from __future__ import annotations

import logging
import math
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from typing import Any, Final, final

import trio

from ..._core import open_scope
from ..._supervisor import Supervisor, Unit, UnitState, names_of
from ..screen import Screen
from ..terminal import heard
from ..text import cells, clock, one_line
from .view import STATE_COLOURS, Lines, coloured, table

_INTERVAL: Final = 0.1  # seconds between two frames
_REDRAW: Final = 1.0  # seconds between two frames while idle
_MOST_TEXT: Final = 256 * 1024  # characters that may wait for the terminal before the services have to wait
_SMALLEST: Final = 4  # the minimum number of rows of services, on a terminal of any size
_SIZE: Final = (80, 24)
_QUIET: Final = (UnitState.READY, UnitState.COMPLETED, UnitState.STOPPED)
_HEAD: Final = ["", "SERVICE", "STATE", "SINCE", "PID", "RESTARTS", ""]
_MARKS: Final = {
    UnitState.READY: "●",
    UnitState.COMPLETED: "✓",
    UnitState.FAILED: "✗",
    UnitState.SKIPPED: "-",
    UnitState.STOPPED: "○",
}


@final
class LiveShow:
    """Live view of the services of a supervisor on a terminal.

    Args:
        supervisor: The supervisor whose services are shown.
        screen: Writes to the terminal.
        colour: Whether to colour names and states.
    """

    def __init__(self, supervisor: Supervisor, screen: Screen, *, colour: bool) -> None:
        self._supervisor = supervisor
        self._screen = screen
        self._lines = Lines(names_of(supervisor), colour=colour)
        self._colour = colour
        self._text: list[str] = []
        self._length = 0
        self._taken = trio.Event()
        self._is_ending = False

    async def emit(self, event: Any) -> None:
        """Show an event; wait while the terminal accepts no output, so that no line is lost."""
        self._say(self._lines.event(event))
        while self._length > _MOST_TEXT and not self._is_ending:
            await self._taken.wait()

    def announce(self, text: str) -> None:
        """Show a line of the instance itself."""
        self._say(f"{text}\n")

    def _say(self, text: str) -> None:
        """Show whole lines above the table."""
        self._text.append(text)
        self._length += len(text)

    def end(self) -> None:
        """Stop waiting for the terminal, because the services are being stopped."""
        self._is_ending = True
        self._taken.set()

    @asynccontextmanager
    async def showing(self) -> AsyncIterator[None]:
        """Show the services during the block; the last table stays."""
        with self._records():
            self._screen.enter()
            try:
                async with open_scope() as nursery:
                    nursery.start_soon(self._tick)
                    nursery.start_soon(self._suspend_us)
                    yield
                self._draw(whole=True)
            finally:
                self._screen.leave()
            self._screen.drain()

    async def _tick(self) -> None:
        drawn = -math.inf
        while True:
            self._screen.enter()  # again, after a suspension, or once we are in the foreground
            if self._text or trio.current_time() >= drawn + _REDRAW:
                drawn = trio.current_time()
                self._draw()
            else:
                self._screen.flush()
            await trio.sleep(_INTERVAL)

    def _draw(self, *, whole: bool = False) -> None:
        if whole:
            self._screen.drain()
        elif not self._screen.flush():
            return
        text, self._text, self._length = "".join(self._text), [], 0
        self._taken.set()
        self._taken = trio.Event()
        width, height = self._size()
        self._screen.scroll(text, width)
        lines = self._frame(width, height)
        self._screen.draw([line for line, _ in lines], [count for _, count in lines], width)

    def _size(self) -> tuple[int, int]:
        try:
            size = os.get_terminal_size(1)
        except OSError:
            return _SIZE
        return size.columns or _SIZE[0], size.lines or _SIZE[1]

    def _frame(self, width: int, height: int) -> list[tuple[str, int]]:
        """Return the lines of the table, each with its cells."""
        units = self._supervisor.units
        room = max(_SMALLEST, height // 2)
        shown, rest = choose(units, room)
        text = table([_row(unit) for unit in shown], lambda row: row["cells"], _HEAD).split("\n")
        lines = [("─" * width, width), (text[0], cells(text[0]))]
        for unit, line in zip(shown, text[1:], strict=True):
            lines.append((coloured(line, STATE_COLOURS.get(str(unit.state))) if self._colour else line, cells(line)))
        if rest:
            lines.append((rest, cells(rest)))
        return [(line, min(count, width)) for line, count in lines]

    async def _suspend_us(self) -> None:
        """Leave the terminal to the shell at Ctrl-Z; the services continue to run."""
        numbers = heard(signal.SIGTSTP)
        if not numbers:
            return
        with trio.open_signal_receiver(*numbers) as received:
            async for _ in received:
                self._screen.leave()
                self._screen.flush()
                os.kill(os.getpid(), signal.SIGSTOP)

    @contextmanager
    def _records(self) -> Iterator[None]:
        """Show log records above the table, which they would otherwise garble."""
        logger = logging.getLogger("trio_process")
        handler = _Handler(self)
        logger.addHandler(handler)
        try:
            yield
        finally:
            logger.removeHandler(handler)


class _Handler(logging.Handler):
    """Log handler that shows warnings in a view."""

    def __init__(self, view: LiveShow) -> None:
        super().__init__(logging.WARNING)
        self._view = view

    def emit(self, record: logging.LogRecord) -> None:
        self._view.announce(f"trio-process: {self.format(record)}")


def choose(units: tuple[Unit, ...], room: int) -> tuple[list[Unit], str]:
    """Return the units that fit, with those that need attention first, and a line for the others."""
    if len(units) <= room:
        return list(units), ""
    loud = [unit for unit in units if unit.state not in _QUIET]
    quiet = [unit for unit in units if unit.state in _QUIET]
    chosen = {id(unit) for unit in [*loud, *quiet][: room - 1]}
    hidden = [unit for unit in units if id(unit) not in chosen]
    counts: dict[str, int] = {}
    for unit in hidden:
        counts[str(unit.state)] = counts.get(str(unit.state), 0) + 1
    rest = ", ".join(f"{count} {state}" for state, count in counts.items())
    return [unit for unit in units if id(unit) in chosen], f"… {len(hidden)} more: {rest}"


def _row(unit: Unit) -> dict[str, Any]:
    process = unit.process
    pid = str(process.pid) if process is not None and process.is_running else "-"
    ago = clock(math.floor(max(0.0, (datetime.now(unit.since.tzinfo) - unit.since).total_seconds())))
    why = "" if unit.error is None else one_line(str(unit.error).partition("\n")[0])
    if not why and unit.waiting_for:
        why = f"waits for {', '.join(unit.waiting_for)}"
    mark = _MARKS.get(unit.state, "…")
    return {"cells": [mark, unit.name, str(unit.state), ago, pid, str(unit.restarts), why]}
