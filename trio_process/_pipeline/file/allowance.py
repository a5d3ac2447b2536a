"""`Allowance`: how much a file may make of few words, together with the files that it includes."""

from __future__ import annotations

from typing import Final, final

from ..._core import checks
from .value_types import Report

FILES: Final = "included files"
COMBINATIONS: Final = "combinations of matrices"
DEPENDENCIES: Final = "dependencies on combinations of matrices"
CHARACTERS: Final = "characters in texts with variables"

MOST: Final = {FILES: 1000, COMBINATIONS: checks.MOST, DEPENDENCIES: 10**6, CHARACTERS: 10**8}
"""What multiplies: a matrix by the length of its lists, an `after` by two matrices, an include by those of the included file.

A few lines could otherwise take hours and all memory, in which nothing reacts to Ctrl-C. Each is far above what any file
needs, and takes a few seconds.
"""

DEEPEST: Final = 20
"""How deep includes may be nested."""


@final
class Allowance:
    """What is left for one file, shared with the files that it includes."""

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left = dict(MOST)

    def take(self, what: str, count: int, report: Report, *where: str | int) -> bool:
        """Return whether that much more may be made; the first time that it may not, report it."""
        left = self._left[what]
        if left >= 0:
            self._left[what] = left - count
            if left < count:
                report(f"a file can't have more than {MOST[what]} {what}, those of its includes counted", *where)
        return left >= count
