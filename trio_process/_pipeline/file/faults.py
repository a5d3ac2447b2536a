"""Collect the faults of a file with their locations, so that all of them are reported at once."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final, final

from ..._core import OptionError, PipelineError, escape_controls
from .value_types import Report

Path = tuple[str | int, ...]
"""The location of a value in a file: keys, and indices of lists."""

_KEYS_OF: Final = {"command": ("run", "shell"), "args": ("run", "shell"), "cwd": ("dir",)}
"""The keys of options that are spelled differently in a file."""
_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")


def key_path(path: Path) -> str:
    """Return a path in TOML notation, with indices in brackets.

    >>> key_path(("tasks", "unit tests", "run", 0))
    'tasks."unit tests".run[0]'
    """
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + (part if _BARE.fullmatch(part) else json.dumps(part, ensure_ascii=False))
    return text


def key_of(error: OptionError, known: Collection[str]) -> tuple[str, ...]:
    """Return the key of the option that an error is about, if that key is a known one, to report the error there."""
    option = error.option or ""
    keys = _KEYS_OF.get(option, (option.replace("_", "-"),))
    return tuple([key for key in keys if key in known][:1])


@final
class Faults:
    """The faults of one file.

    Args:
        file: The file's name, as shown to the user.
        find_lines: Returns the line of each key of the file that has a line of its own; called for the first fault.
    """

    __slots__ = ("_file", "_find_lines", "_found", "_lines")

    def __init__(self, file: str, find_lines: Callable[[], Mapping[Path, int]] = dict) -> None:
        self._file = file
        self._find_lines = find_lines
        self._lines: Mapping[Path, int] | None = None
        self._found: dict[str, int] = {}

    def __bool__(self) -> bool:
        return bool(self._found)

    def add(self, path: Path, text: str, *, line: int | None = None) -> None:
        """Record a fault; its line is that of the innermost key of `path` that has one."""
        if line is None:
            if self._lines is None:
                self._lines = self._find_lines()
            line = next((self._lines[path[:cut]] for cut in range(len(path), 0, -1) if path[:cut] in self._lines), None)
        place = self._file if line is None else f"{self._file}:{line}"
        where = f"{key_path(path)}: " if path else ""
        self._found.setdefault(escape_controls(f"{place}: {where}{text}").replace("\n", "\\n"), line or 0)

    def at(self, *path: str | int) -> Report:
        """Return a function that records faults at `path` and below."""

        def report(text: str, *below: str | int) -> None:
            self.add((*path, *below), text)

        return report

    def raise_if_any(self, others: Sequence[str] = ()) -> None:
        """Raise one `PipelineError` with every fault in line order, followed by the faults of other files."""
        if self._found or others:
            raise PipelineError([*sorted(self._found, key=self._found.__getitem__), *dict.fromkeys(others)])
