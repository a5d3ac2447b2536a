"""Implement ``--report``: parse the option, and write the files."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from ..._core import OptionError, nearest
from ..._pipeline import RunAllResult

WRITERS: Final[dict[str, Callable[[RunAllResult], str]]] = {
    "junit": RunAllResult.to_junit,
    "json": lambda result: json.dumps(result.to_dict(), indent=2) + "\n",
    "trace": RunAllResult.to_chrome_trace,
}


def parse_reports(values: Iterable[str]) -> list[tuple[str, Path]]:
    """Return the kinds and paths in ``junit=F,json=F,trace=F``.

    Raises:
        OptionError: The value has another form, or a file could not be written.
    """
    found: list[tuple[str, Path]] = []
    taken: dict[str, str] = {}
    for part in (part for value in values for part in value.split(",")):
        kind, equals, name = part.partition("=")
        if kind not in WRITERS:
            hint = nearest(kind, WRITERS) or f"; known: {', '.join(WRITERS)}"
            raise OptionError(f"unknown kind of report {kind!r}{hint}")
        if not equals or not name:
            raise OptionError(f"{kind!r} needs a file: {kind}=FILE")
        path = Path(name)
        if os.path.isdir(path):  # path.is_dir() raises for a name that is too long; the write reports that
            raise OptionError(f"{name!r} is a directory; give a file")
        other = taken.setdefault(os.path.realpath(path), kind)
        if other != kind or (kind, path) in found:
            raise OptionError(f"the {other} and the {kind} report have the same file {name!r}; give each its own")
        found.append((kind, path))
    return found


def write_reports(reports: Iterable[tuple[str, Path]], result: RunAllResult) -> list[str]:
    """Write the reports, creating directories; return an error text for each that can't be written."""
    faults: list[str] = []
    for kind, path in reports:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # not atomically: the path may be /dev/stdout or a pipe
            path.write_text(WRITERS[kind](result), encoding="utf-8", errors="backslashreplace")
        except OSError as error:
            faults.append(f"can't write the {kind} report {str(path)!r}: {error.strerror or error}")
    return faults
