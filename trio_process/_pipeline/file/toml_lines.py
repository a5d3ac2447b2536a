"""Which line of a TOML file each key stands on; `tomllib` does not tell.

It walks over a text that `tomllib` has accepted, so that it need not check anything, and only has to know where values end
(https://toml.io/en/v1.0.0). Keys inside inline tables have no line of their own; callers take that of the key around them.
"""

from __future__ import annotations

import re
import tomllib
from typing import Final

_KEY_PART: Final = re.compile(r"""[ \t]*("(?:[^"\\]|\\.)*"|'[^']*'|[A-Za-z0-9_-]+)[ \t]*""")
# a string of any of the four forms, a comment, a bracket, the end of a line, or a run of all else
_PIECE: Final = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}(?!")'
    r"|'''.*?'{3,5}(?!')"
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'[^'\n]*'"
    r"|\#[^\n]*"
    r"|[\[{]|[\]}]|\n|[^\[\]{}\n\"'\#]+",
    re.DOTALL,
)


def key_lines(text: str) -> dict[tuple[str | int, ...], int]:
    """Return the line, from 1, of each key and table of a valid TOML text; what it can't follow is left out."""
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
            keys, position = _dotted(text, position + (2 if array else 1))
            if not keys:
                return found
            table = _resolve(keys, sizes)
            if array:
                sizes[table] = sizes.get(table, -1) + 1
                table = (*table, sizes[table])
            _note(found, table, line)
            position = _line_end(text, position)
        else:
            keys, position = _dotted(text, position)
            if not keys:
                return found
            _note(found, table + keys, line)
            end = _value_end(text, position)
            line += text.count("\n", position, end)
            position = end
    return found


def _note(found: dict[tuple[str | int, ...], int], path: tuple[str | int, ...], line: int) -> None:
    for cut in range(1, len(path)):
        found.setdefault(path[:cut], line)
    found[path] = line


def _resolve(keys: tuple[str | int, ...], sizes: dict[tuple[str | int, ...], int]) -> tuple[str | int, ...]:
    """Return a header's path with the index of the last element of each array of tables on the way."""
    path: tuple[str | int, ...] = ()
    for key in keys[:-1]:
        path = (*path, key)
        if path in sizes:
            path = (*path, sizes[path])
    return (*path, keys[-1])


def _dotted(text: str, position: int) -> tuple[tuple[str | int, ...], int]:
    keys: list[str | int] = []
    while match := _KEY_PART.match(text, position):
        part = match[1]
        keys.append(tomllib.loads(f"x = {part}")["x"] if part[0] in "\"'" else part)
        position = match.end()
        if not text.startswith(".", position):
            break
        position += 1
    return tuple(keys), position


def _line_end(text: str, position: int) -> int:
    end = text.find("\n", position)
    return len(text) if end < 0 else end


def _value_end(text: str, position: int) -> int:
    """Return where a value ends: at the first end of a line outside strings and brackets."""
    depth = 0
    while match := _PIECE.match(text, position):
        piece = match[0]
        if piece == "\n" and not depth:
            return position
        depth += (piece in "[{") - (piece in "]}")
        position = match.end()
    return len(text)
