"""Keep the colours of the output of one task or service from leaking into the lines of others (SGR, ECMA-48 8.3.117)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, final

RESET: Final = "\x1b[0m"

_SGR: Final = re.compile(r"\x1b\[([0-9;:]*)m")
_EXTENDED: Final = {"38": "foreground", "48": "background", "58": "underline"}
_LENGTHS: Final = {"5": 3, "2": 5}  # 38;5;N and 38;2;R;G;B
_KINDS: Final = {
    **dict.fromkeys(("1", "2", "22"), "weight"),
    **dict.fromkeys(("3", "23"), "slant"),
    **dict.fromkeys(("4", "21", "24"), "underlined"),
    **dict.fromkeys(("5", "6", "25"), "blink"),
    **dict.fromkeys(("7", "27"), "inverse"),
    **dict.fromkeys(("8", "28"), "hidden"),
    **dict.fromkeys(("9", "29"), "struck"),
    **dict.fromkeys(("53", "55"), "overlined"),
    **dict.fromkeys([str(code) for code in (*range(30, 38), 39, *range(90, 98))], "foreground"),
    **dict.fromkeys([str(code) for code in (*range(40, 48), 49, *range(100, 108))], "background"),
    "59": "underline",
}
_ENDS: Final = frozenset({"22", "23", "24", "25", "27", "28", "29", "39", "49", "55", "59"})


@final
class Colour:
    """The colours and attributes that a task has set and not reset."""

    __slots__ = ("_set",)

    def __init__(self) -> None:
        self._set: dict[str, str] = {}

    def __bool__(self) -> bool:
        """Return whether any are set now."""
        return bool(self._set)

    def feed(self, line: str) -> str:
        """Return a line that starts with the task's current colours, and ends without any."""
        if "\x1b[" not in line and not self._set:
            return line
        front = self._sequence()
        for found in _SGR.finditer(line):
            self._apply(found[1])
        if not front and not _SGR.search(line):
            return line
        return f"{front}{line}" if line.endswith(RESET) else f"{front}{line}{RESET}"

    def _sequence(self) -> str:
        return f"\x1b[{';'.join(self._set.values())}m" if self._set else ""

    def _apply(self, parameters: str) -> None:
        for code, whole in _codes(parameters):
            kind = _EXTENDED.get(code) or _KINDS.get(code)
            if code in {"", "0"}:
                self._set.clear()
            elif kind is None:
                continue  # a code that hardly any terminal supports
            elif code in _ENDS or whole == "4:0":
                self._set.pop(kind, None)
            else:
                self._set[kind] = whole


def _codes(parameters: str) -> Iterator[tuple[str, str]]:
    """Yield each code of a sequence separately, with its parameters: ``38;5;9`` is a single code."""
    parts = parameters.split(";")
    place = 0
    while place < len(parts):
        code = parts[place].split(":")[0]
        length = 1
        if parts[place] in _EXTENDED:
            length = _LENGTHS.get(parts[place + 1] if place + 1 < len(parts) else "", 1)
        yield code.lstrip("0") or ("0" if code else ""), ";".join(parts[place : place + length])
        place += length
