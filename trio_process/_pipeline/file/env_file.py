"""Read files of ``NAME=value`` lines as docker compose, Taskfile and just do."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

_NAME: Final = re.compile(r"[ \t]*(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_.-]*)[ \t]*=[ \t]*")
_SKIPPED: Final = re.compile(r"[ \t]*(?:#[^\n]*)?(?:\n|$)")
_DOUBLE: Final = re.compile(r'"((?:[^"\\]|\\.)*)"[ \t]*(?:#[^\n]*)?(?:\n|$)', re.DOTALL)
_SINGLE: Final = re.compile(r"'([^'\n]*)'[ \t]*(?:#[^\n]*)?(?:\n|$)")
_PLAIN: Final = re.compile(r"[^\n]*")
_COMMENT: Final = re.compile(r"(?:^|[ \t])#")
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "\\": "\\", "$": "$"}
LARGEST: Final = 2**20
"""The maximum size of an env file, in bytes; a larger file is a wrong path, such as /dev/zero."""


def read_env_file(path: Path) -> tuple[dict[str, str], list[str]]:
    r"""Return the variables and the faults of a file.

    Blank lines and lines that begin with ``#`` are skipped, and so is `export` in front of a name. A value in single
    quotes is taken literally. A value in double quotes may span lines and contain the escapes ``\n``, ``\t``, ``\r``,
    ``\"``, ``\\`` and ``\$``. A value without quotes ends at a space followed by ``#``. Nothing is expanded.
    """
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
        text = data.decode("utf-8-sig")
    except OSError as error:
        return {}, [f"can't read the env file {str(path)!r}: {error.strerror or error}"]
    except UnicodeDecodeError as error:
        return {}, [f"the env file {str(path)!r} is not UTF-8 (byte {error.start})"]
    if len(data) > LARGEST:
        return {}, [f"the env file {str(path)!r} has more than {LARGEST} bytes"]
    return _parse(text.replace("\r\n", "\n"), str(path))


def _parse(text: str, path: str) -> tuple[dict[str, str], list[str]]:
    variables: dict[str, str] = {}
    faults: list[str] = []
    position, line = 0, 1
    while position < len(text):
        skipped = _SKIPPED.match(text, position)
        if skipped is not None:
            position, line = skipped.end(), line + 1
            continue
        name = _NAME.match(text, position)
        value, end = (None, position) if name is None else _value(text, name.end())
        if name is None or value is None or "\0" in value:
            faults.append(
                f"{path!r}, line {line}: expected NAME=value, the quotes closed (single ones in the same line)"
            )
            end = text.find("\n", position)
            end = len(text) if end < 0 else end + 1
        else:
            variables[name[1]] = value
        line += text.count("\n", position, end)
        position = end
    return variables, faults


def _value(text: str, position: int) -> tuple[str | None, int]:
    """Return the value that begins at a position (None if its quotes aren't closed) and the start of the next line."""
    if text.startswith('"', position):
        match = _DOUBLE.match(text, position)
        if match is None:
            return None, position
        return re.sub(r"\\(.)", lambda found: _ESCAPES.get(found[1], found[0]), match[1], flags=re.DOTALL), match.end()
    if text.startswith("'", position):
        match = _SINGLE.match(text, position)
        return (None, position) if match is None else (match[1], match.end())
    match = _PLAIN.match(text, position)
    assert match is not None, "it matches the empty text too"
    return _COMMENT.split(match[0], maxsplit=1)[0].rstrip(), match.end() + 1
