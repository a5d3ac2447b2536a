"""How names, lines and times are written on a terminal or in a log."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from .._core import command_line, escape_controls
from .._pipeline import RunSpec

# colours and other text attributes ("select graphic rendition", ECMA-48 8.3.117): the one escape sequence that harms nobody
_COLOUR: Final = re.compile(r"(\x1b\[[0-9;:]*m)")
# all other sequences of a terminal: what moves the cursor, sets titles, and so on (ECMA-48 5.4, xterm's OSC)
_SEQUENCE: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
_TAB: Final = 4
_MOST_NAMES: Final = 8
_SHELLS: Final = (("-c",), ("-e", "-c"))
_TENTH: Final = 0.1
_MINUTE: Final = 60
_HOUR: Final = 3600


def one_line(text: str) -> str:
    """Return a name or a message in one line that can't move the cursor."""
    return escape_controls(text).replace("\n", "\\n").replace("\t", "\\t")


def logged(line: str) -> str:
    """Return a line of a task as it may be printed: in its colours, all other control characters escaped."""
    if line.isprintable():
        return line
    pieces = _COLOUR.split(line.rstrip("\r"))
    return "".join([piece if place % 2 else escape_controls(piece) for place, piece in enumerate(pieces)])


def glimpse(line: str) -> str:
    """Return what is left to see of a line of a task: without colours, and after the last carriage return."""
    if not line.isprintable():
        line = _SEQUENCE.sub("", line)
        line = next((part for part in reversed(line.split("\r")) if part.strip()), "")
        line = one_line(line.expandtabs(_TAB))
    return line.rstrip()


def typed(spec: RunSpec) -> str:
    """Return a command as one would type it; a script for `sh -e` or `sh -c` without that, and in one line."""
    args = spec.options.shown_args
    if spec.options.shown_command == "sh" and args[:-1] in _SHELLS:
        return one_line(args[-1].strip())
    return one_line(command_line(spec.options.shown_command, args))


def clock(seconds: float) -> str:
    """Return a duration in at most eight characters, for less than 100 hours: `"37 ms"`, `"0.4 s"`, `"12.3 s"`, `"3:05"`, `"1:02:03"`."""
    if seconds < _TENTH:
        return f"{seconds * 1000:.0f} ms"
    if seconds < _MINUTE:
        return f"{seconds:.1f} s" if seconds < _MINUTE - 0.05 else "1:00"
    minutes, rest = divmod(round(seconds), _MINUTE)
    if seconds < _HOUR:
        return f"{minutes}:{rest:02}" if minutes < _MINUTE else "1:00:00"
    return f"{minutes // _MINUTE}:{minutes % _MINUTE:02}:{rest:02}"


def listed(names: Iterable[str], most: int = _MOST_NAMES) -> str:
    """Return names in a row, those beyond `most` counted only.

    >>> listed(["a", "b", "c"], most=2)
    'a, b and 1 more'
    """
    shown = [one_line(name) for name in names]
    more = f" and {len(shown) - most} more" if len(shown) > most else ""
    return ", ".join(shown[:most]) + more
