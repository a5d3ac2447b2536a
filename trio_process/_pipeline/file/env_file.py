"""Files of `NAME=value` lines, as docker compose, Taskfile and just read them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

_LINE: Final = re.compile(r"(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_.-]*)[ \t]*=[ \t]*(.*)", re.DOTALL)
_DOUBLE: Final = re.compile(r'"((?:[^"\\]|\\.)*)"[ \t]*(?:#.*)?')
_SINGLE: Final = re.compile(r"'([^']*)'[ \t]*(?:#.*)?")
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "\\": "\\", "$": "$"}
LARGEST: Final = 2**20
"""The most bytes an env file may have; more is a wrong path, such as /dev/zero."""


def read_env_file(path: Path) -> tuple[dict[str, str], list[str]]:
    r"""Return the variables of a file, and what is wrong with it.

    Blank lines and lines that begin with `#` are skipped, and so is `export` in front of a name. A value in single quotes is
    taken as it is, one in double quotes with `\n`, `\t`, `\r`, `\"`, `\\` and `\$`; one without quotes ends at ` #`.
    Nothing is expanded.
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
    variables: dict[str, str] = {}
    faults: list[str] = []
    for number, raw in enumerate(text.replace("\r\n", "\n").split("\n"), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        value = None if match is None or "\0" in line else _value(match[2])
        if match is None or value is None:
            faults.append(f"{str(path)!r}, line {number}: expected NAME=value, the quotes closed in the same line")
        else:
            variables[match[1]] = value
    return variables, faults


def _value(text: str) -> str | None:
    if text.startswith('"'):
        match = _DOUBLE.fullmatch(text)
        return match and re.sub(r"\\(.)", lambda escape: _ESCAPES.get(escape[1], escape[0]), match[1])
    if text.startswith("'"):
        match = _SINGLE.fullmatch(text)
        return match and match[1]
    return re.split(r"(?:^|[ \t])#", text, maxsplit=1)[0].rstrip()
