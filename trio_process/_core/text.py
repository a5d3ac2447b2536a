"""Formatting of commands, durations and quoted output for people."""

from __future__ import annotations

import math
import os
import re
import shlex
from collections.abc import Iterable, Sequence
from typing import final

import attrs

from .secret import MASK, Secret

# C0, DEL and C1, which can move a cursor and clear a screen; the controls of direction (UAX 9), the separators of lines, and
# what nothing is drawn for, by which a name looks like another; and surrogates, which can't be written to a file or a
# terminal. Not the joiners of scripts and emoji.
_CONTROLS = (
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"
    "\ud800-\udfff\ufeff\ufff9-\ufffb]"
)


@final
class Written(str):
    """An argument that people see as it was written: ``${TOKEN}``, and not the value that a child gets.

    Args:
        value: The value.
        shown: What stands for it in views, errors and reports.
    """

    __slots__ = ("shown",)

    shown: str

    def __new__(cls, value: str, shown: str) -> Written:
        made = super().__new__(cls, value)
        made.shown = shown
        return made

    def __repr__(self) -> str:
        return repr(self.shown)

    def __reduce__(self) -> tuple[type[Written], tuple[str, str]]:
        return Written, (str(self), self.shown)


def shown(argument: str | bytes | os.PathLike[str] | os.PathLike[bytes] | Secret) -> str:
    """Return an argument for display: a secret masked, bytes decoded like file names (PEP 383)."""
    if type(argument) is str:
        return argument
    if isinstance(argument, Written):
        return argument.shown
    return MASK if isinstance(argument, Secret) else os.fsdecode(argument)


def command_line(command: str, args: Iterable[str]) -> str:
    """Return a command as typed in a shell; a mask is not quoted."""
    return " ".join(part if part == MASK else shlex.quote(part) for part in (command, *args))


def escape_controls(text: str) -> str:
    """Return `text` with every control character but newline and tab, and bytes that are no text, written as escape sequences."""
    return re.sub(_CONTROLS, _escaped, text)


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:  # what a byte is decoded to that is no text (PEP 383)
        return f"\\x{code - 0xDC00:02x}"
    return match[0].encode("unicode_escape").decode("ascii")


def in_one_line(text: str) -> str:
    """Return `text` with its line breaks written as escape sequences, too."""
    return escape_controls(text).replace("\n", "\\n")


def matches(pattern: str | re.Pattern[str], text: str) -> bool:
    """Return whether a text contains another one, or a match of a compiled regular expression."""
    return pattern in text if isinstance(pattern, str) else pattern.search(text) is not None


def in_seconds(duration: float) -> str:
    """Return a duration for people: ``"3 ms"``, ``"1.25 s"``, ``"2 min 5 s"``."""
    if duration == math.inf:
        return "unlimited time"
    if duration < 1:
        return f"{duration * 1000:.0f} ms"
    if duration < 60:
        return f"{duration:.2f}".rstrip("0").rstrip(".") + " s"
    minutes, rest = divmod(round(duration), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


def last_lines(text: str, count: int, width: int = 2000) -> Sequence[str]:
    r"""Return the last lines of `text` that are not empty at its end, each cut to `width` characters.

    A line ends at ``\n`` alone, as everywhere here: not at form feeds, NEL and the like, which programs write within one.
    """
    lines = text.rstrip().split("\n")[-count:] if text.rstrip() else []
    return [line if len(line) <= width else line[:width] + " […]" for line in lines]


def short_repr(value: attrs.AttrsInstance, *first: str, **defaults: object) -> str:
    """Return the repr of an attrs value without the fields that have their defaults, which of thirty options are most.

    Args:
        value: The value.
        *first: Texts that come before the fields.
        **defaults: The defaults of fields that depend on others.
    """
    shown = list(first)
    for field in attrs.fields(type(value)):
        default = field.default.factory() if isinstance(field.default, attrs.Factory) else field.default  # type: ignore[arg-type]
        default = defaults.get(field.name, default)
        if field.repr and (mine := getattr(value, field.name)) != default:
            shown.append(f"{field.name}={mine!r}")
    return f"{type(value).__name__}({', '.join(shown)})"


def nearest(name: str, choices: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` with the choice most similar to `name`, or an empty text."""
    from difflib import get_close_matches  # noqa: PLC0415 - only for errors: kept out of the import time

    choices = list(choices)
    for choice in choices:
        if _plain(choice) == _plain(name):
            if choice.casefold() != name.casefold():
                return f"; {choice!r} looks the same, but its accents are encoded differently (Unicode NFC and NFD): copy it"
            return f"; did you mean {choice!r}?"
    found = get_close_matches(name, choices, n=1)
    return f"; did you mean {found[0]!r}?" if found else ""


def _plain(name: str) -> str:
    import unicodedata  # noqa: PLC0415 - as above

    return name.casefold() if name.isascii() else unicodedata.normalize("NFC", name).casefold()
