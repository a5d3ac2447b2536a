"""Find the line of each key of a TOML file, which `tomllib` does not report.

The scan runs before `tomllib`, which takes time quadratic in the depth of a key: a key that is nested too deeply is
refused here. Apart from that, the scanner relies on valid text and only has to find where values end
(https://toml.io/en/v1.0.0). Keys inside inline tables have no line of their own; callers use that of the enclosing key.
"""

from __future__ import annotations

import re
import tomllib
from typing import Final

_KEY_PART: Final = re.compile(r"""[ \t]*("(?:[^"\\]|\\.)*"|'[^']*'|[A-Za-z0-9_-]+)[ \t]*""")
# a string of any of the four forms, a comment, a bracket, the end of a line, or a run of anything else
_PIECE: Final = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}(?!")'
    r"|'''.*?'{3,5}(?!')"
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'[^'\n]*'"
    r"|\#[^\n]*"
    r"|[\[{]|[\]}]|\n|[^\[\]{}\n\"'\#]+",
    re.DOTALL,
)


DEEPEST: Final = 100
"""The maximum number of parts of a dotted key."""


class TooDeepError(ValueError):
    """A key has more than `DEEPEST` parts.

    Attributes:
        line: Its line.
    """

    def __init__(self, line: int) -> None:
        super().__init__(line)
        self.line = line


def key_lines(text: str) -> dict[tuple[str | int, ...], int]:
    """Return the line, from 1, of each key and table of a valid TOML text; keys that it can't parse are left out.

    Raises:
        TooDeepError: A key is nested too deeply.
    """
    found: dict[tuple[str | int, ...], int] = {}
    table: tuple[str | int, ...] = ()
    sizes: dict[tuple[str | int, ...], int] = {}
    position, line = 0, 1
    while position < len(text):
        character = text[position]
        if character == "\n":
            position, line = position + 1, line + 1
        elif character in " \t\r":
            position += 1
        elif character == "#":
            position = _line_end(text, position)
        elif character == "[":
            array = text.startswith("[[", position)
            keys, position = _dotted(text, position + (2 if array else 1), line)
            if not keys:
                return found
            table = _resolve(keys, sizes)
            if array:
                sizes[table] = sizes.get(table, -1) + 1
                table = (*table, sizes[table])
            _note(found, table, line)
            position = _line_end(text, position)
        else:
            keys, position = _dotted(text, position, line)
            if not keys:
                return found
            _note(found, table + keys, line)
            end = _value_end(text, position, line)
            line += text.count("\n", position, end)
            position = end
    return found


def _note(found: dict[tuple[str | int, ...], int], path: tuple[str | int, ...], line: int) -> None:
    found[path] = line
    for cut in range(len(path) - 1, 0, -1):
        if found.setdefault(path[:cut], line) != line:
            break  # its parents were recorded with it


def _resolve(keys: tuple[str | int, ...], sizes: dict[tuple[str | int, ...], int]) -> tuple[str | int, ...]:
    """Return a header's path with the index of the last element of each array of tables along it."""
    path: tuple[str | int, ...] = ()
    for key in keys[:-1]:
        path = (*path, key)
        if path in sizes:
            path = (*path, sizes[path])
    return (*path, keys[-1])


def _dotted(text: str, position: int, line: int) -> tuple[tuple[str | int, ...], int]:
    keys: list[str | int] = []
    while match := _KEY_PART.match(text, position):
        part = match[1]
        if len(keys) == DEEPEST:
            raise TooDeepError(line)
        try:
            keys.append(tomllib.loads(f"x = {part}")["x"] if part[0] in "\"'" else part)
        except tomllib.TOMLDecodeError:
            return (), position  # tomllib will report it
        position = match.end()
        if not text.startswith(".", position):
            break
        position += 1
    return tuple(keys), position


def _line_end(text: str, position: int) -> int:
    end = text.find("\n", position)
    return len(text) if end < 0 else end


def _value_end(text: str, position: int, line: int) -> int:
    """Return the end of a value: the first end of a line outside strings and brackets."""
    depth = 0
    dots = 0  # of the key in an inline table that may be in progress
    start = position
    while match := _PIECE.match(text, position):
        piece = match[0]
        if piece == "\n" and not depth:
            return position
        if piece[0] in "[{]}\n#":
            depth += (piece in "[{") - (piece in "]}")
            dots = 0
        elif piece[0] not in "\"'":
            first, *others = re.split("[=,]", piece)
            for dots in (dots + first.count("."), *[part.count(".") for part in others]):  # noqa: B020 - goes on
                if dots >= DEEPEST:
                    raise TooDeepError(line + text.count("\n", start, match.start()))
        position = match.end()
    return len(text)
