"""Format the output and the state changes of services, one per line, for `up`, `attach` and `logs`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Final, final

import click

from ..._supervisor import UnitChanged, UnitEvent
from ..colour import Colour
from ..text import cell_ljust, cells, logged, one_line

_COLOURS: Final = ("cyan", "yellow", "green", "magenta", "blue", "bright_cyan", "bright_yellow", "bright_magenta")
STATE_COLOURS: Final = {"ready": "green", "failed": "red", "unready": "yellow", "backoff": "yellow"}
_WIDEST: Final = 24
_AS_EXPECTED: Final = frozenset({
    UnitEvent.WANTED, UnitEvent.UNWANTED, UnitEvent.CONDITIONS_HOLD, UnitEvent.BECAME_READY, UnitEvent.ENDED_WELL,
    UnitEvent.DELAY_OVER, UnitEvent.GONE_UNWANTED, UnitEvent.GONE_WANTED,
})  # fmt: skip
"""Reasons that say no more than the new state does."""


@final
class Lines:
    """Formatter that prefixes lines with the name of their service.

    Args:
        names: The names known at the start, for the width of the column.
        colour: Whether to colour the names.
    """

    def __init__(self, names: list[str], *, colour: bool) -> None:
        self._colour = colour
        self._width = min(max([cells(one_line(name)) for name in names], default=0), _WIDEST)
        self._order: dict[str, str] = {}
        self._colours: dict[str, Colour] = {}

    def output(self, name: str, *lines: str) -> str:
        """Return lines that a service has written, formatted."""
        colour = self._colours.get(name)
        if colour is None:
            colour = self._colours[name] = Colour()
        front = f"{self._prefix(name)} | "
        if lines and not colour and "".join(lines).isprintable():  # a call for each line takes seven times as long
            return front + f"\n{front}".join(lines) + "\n"
        return "".join([f"{front}{colour.feed(logged(line))}\n" for line in lines])

    def event(self, event: Any) -> str:
        """Return an event of the services, formatted: an `ActionProcessOutput` batch or a `UnitChanged`."""
        if isinstance(event, UnitChanged):
            return self.change(event.name, str(event.new), event.reason)
        return self.output(event.name, *event.lines)

    def change(self, name: str, state: str, reason: str) -> str:
        """Return the line for a change of a service's state."""
        if state == "starting":
            self._colours.pop(name, None)  # those of the last run
        why = f": {one_line(reason)}" if reason and reason not in _AS_EXPECTED else ""
        word = coloured(state, STATE_COLOURS.get(state), bold=True) if self._colour else state
        return f"{self._prefix(name)} = {word}{why}\n"

    def _prefix(self, name: str) -> str:
        shown = one_line(name)
        self._width = max(self._width, min(cells(shown), _WIDEST))
        column = cell_ljust(shown, self._width)
        if not self._colour:
            return column
        return click.style(column, fg=self._order.setdefault(name, _COLOURS[len(self._order) % len(_COLOURS)]))


def coloured(text: str, colour: str | None, *, bold: bool = False) -> str:
    """Return a text in a colour of the terminal."""
    return click.style(text, fg=colour, bold=bold or None)


def wants_colour() -> bool:
    """Whether lines on stdout are coloured (https://no-color.org, FORCE_COLOR)."""
    import os  # noqa: PLC0415 - imported where needed

    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or sys.stdout.isatty()


def table(rows: list[dict[str, Any]], shown: Callable[[dict[str, Any]], list[str]], head: list[str]) -> str:
    """Return rows as a table with columns as wide as their widest cell."""
    lines = [head, *[[one_line(cell) for cell in shown(row)] for row in rows]]
    widths = [max(cells(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell_ljust(cell, width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )
