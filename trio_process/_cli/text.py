"""Format names, lines and times for a terminal or a log, and parse durations."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, final

import click

from .._core import OptionError, checks, command_line, escape_controls, shown_args, shown_command

if TYPE_CHECKING:
    from .._pipeline import RunSpec

# colours and other text attributes ("select graphic rendition", ECMA-48 8.3.117): the only harmless escape sequence
_COLOUR: Final = re.compile(r"(\x1b\[[0-9;:]*m)")
# all other escape sequences: cursor movement, titles, and so on (ECMA-48 5.4, xterm's OSC)
_SEQUENCE: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
# what only changes or joins the characters beside it: joiners, variation selectors, skin tones, tags
_JOINERS: Final = re.compile("[\u200c\u200d\ufe00-\ufe0f\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f]")
_TAB: Final = 4
_MOST_NAMES: Final = 8
_SHELLS: Final = (("-c",), ("-e", "-c"))
_TENTH: Final = 0.1
_MINUTE: Final = 60
_HOUR: Final = 3600


def one_line(text: str) -> str:
    """Return a name or a message on one line, without sequences that move the cursor."""
    return escape_controls(text).replace("\n", "\\n").replace("\t", "\\t")


def logged(line: str) -> str:
    """Return a line of a task in printable form: its final text, with colours, other control characters escaped."""
    if line.isprintable():
        return line
    pieces = _COLOUR.split(last_state(line))
    return "".join([piece if place % 2 else escape_controls(piece) for place, piece in enumerate(pieces)])


def steady(text: str) -> str:
    """Return a text without the joiners of emoji, as no two terminals agree on how many columns joined ones take.

    A view that is redrawn has to know the columns: a narrower window folds its rows.
    """
    return text if text.isascii() else _JOINERS.sub("", text)


def glimpse(line: str) -> str:
    """Return the visible part of a line: without colours, after its last carriage return, and of a steady width."""
    if not line.isprintable():
        line = one_line(last_state(_SEQUENCE.sub("", line)).expandtabs(_TAB))
    return steady(line).rstrip()


def last_state(line: str) -> str:
    """Return the visible part of a line with carriage returns, by which progress bars overwrite it."""
    if "\r" not in line:
        return line
    return next((part for part in reversed(line.split("\r")) if part.strip()), "")


def cells(text: str) -> int:
    """Return the number of terminal columns that a text takes."""
    if text.isascii() and text.isprintable():
        return len(text)
    try:
        from rich.cells import cell_len  # noqa: PLC0415 - `exec` and the commands of services work without rich
    except ModuleNotFoundError:
        shown = [char for char in text if char.isprintable() and not unicodedata.combining(char)]
        return sum(2 if unicodedata.east_asian_width(char) in "FW" else 1 for char in shown)
    return cell_len(text)


def cell_ljust(text: str, width: int) -> str:
    """Return a text padded to `width` columns."""
    return text + " " * (width - cells(text))


def without_sequences(text: str) -> str:
    """Return a text without the escape sequences of terminals."""
    return _SEQUENCE.sub("", text)


def typed(spec: RunSpec) -> str:
    """Return a command as typed in a shell; a script for ``sh -e`` or ``sh -c`` without that prefix, on one line."""
    args = shown_args(spec.options)
    if shown_command(spec.options) == "sh" and args[:-1] in _SHELLS:
        return one_line(args[-1].strip())
    return one_line(command_line(shown_command(spec.options), args))


def clock(seconds: float) -> str:
    """Return a duration in at most eight characters, for less than 100 hours: ``"37 ms"``, ``"0.4 s"``, ``"12.3 s"``, ``"3:05"``, ``"1:02:03"``."""
    if seconds < _TENTH:
        return f"{seconds * 1000:.0f} ms"
    if seconds < _MINUTE:
        return f"{seconds:.1f} s" if seconds < _MINUTE - 0.05 else "1:00"
    minutes, rest = divmod(round(seconds), _MINUTE)
    if seconds < _HOUR:
        return f"{minutes}:{rest:02}" if minutes < _MINUTE else "1:00:00"
    return f"{minutes // _MINUTE}:{minutes % _MINUTE:02}:{rest:02}"


def listed(names: Iterable[str], most: int = _MOST_NAMES) -> str:
    """Return names separated by commas; names beyond `most` are only counted.

    >>> listed(["a", "b", "c"], most=2)
    'a, b and 1 more'
    """
    shown = [one_line(name) for name in names]
    more = f" and {len(shown) - most} more" if len(shown) > most else ""
    return ", ".join(shown[:most]) + more


@final
class Name(click.ParamType[str]):
    """A name in the pipeline file, which is UTF-8 in any locale, while Python decodes arguments by the locale."""

    name = "name"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:  # noqa: ARG002 - click's
        """Return the name as written in the file."""
        return os.fsencode(value).decode("utf-8", "surrogateescape")


@final
class Whole(click.ParamType[int]):
    """A whole number in decimal digits; `int`, as `click.IntRange` calls it, also reads 1_0, and digits of other scripts.

    Args:
        least: The least number.
    """

    name = "whole number"

    def __init__(self, least: int) -> None:
        self._least = least

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number."""
        try:
            return checks.written("it", str(value), least=self._least)
        except OptionError as error:
            self.fail(str(error), param, ctx)


@final
class Duration(click.ParamType[float]):
    """Seconds, in any notation of a number, or a text such as ``10m``."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the seconds."""
        text = str(value)
        seconds: float | None
        try:
            # float() also reads 1_0, and digits of other scripts
            seconds = float(text) if text.isascii() and "_" not in text else None
        except ValueError:
            from .._pipeline import parse_duration  # noqa: PLC0415 - `exec` needs nothing else of it

            seconds = parse_duration(text)
        if seconds is None or not seconds >= 0:  # NaN is neither
            self.fail(f"expected seconds, or a text such as 90s or 10m; got {text!r}", param, ctx)
        return seconds + 0.0  # not -0.0, which errors would show
