"""Procfiles: one `name: command` per line (https://devcenter.heroku.com/articles/procfile)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from ..spec import RunSpec
from .faults import Faults

_LINE: Final = re.compile(r"([A-Za-z0-9_-]+)[ \t]*:[ \t]*(.*)", re.DOTALL)


def is_procfile(path: Path) -> bool:
    """Whether a file's name says that it is a Procfile: `Procfile`, `Procfile.dev`, `dev.procfile`."""
    name = path.name.lower()
    return name == "procfile" or name.startswith("procfile.") or name.endswith(".procfile")


def read_procfile(text: str, directory: str, faults: Faults) -> list[RunSpec]:
    """Return a spec per line; each command is run by `sh -c`, as foreman does."""
    specs: list[RunSpec] = []
    lines: dict[str, int] = {}
    for number, raw in enumerate(text.replace("\r\n", "\n").split("\n"), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        if match is None or "\0" in line:
            faults.add((), "expected `name: command`, the name of letters, digits, '_' and '-'", line=number)
        elif not match[2]:
            faults.add((match[1],), "expected a command after the colon", line=number)
        elif match[1] in lines:
            faults.add((match[1],), f"this name is taken by line {lines[match[1]]}", line=number)
        else:
            lines[match[1]] = number
            specs.append(RunSpec(name=match[1], command="sh", args=("-c", match[2]), cwd=directory))
    if not specs and not faults:
        faults.add((), "the file is empty; a Procfile has lines such as `web: python server.py`")
    return specs
