"""Parse durations in the usual notation: ``1h30m``, ``2.5s``, ``600``."""

from __future__ import annotations

import math
import re
from typing import Final

from ..._core import checks

_NUMBER: Final = r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)"
DURATION_PATTERN: Final = rf"(?:{_NUMBER}(?:ms|s|m|h|d))+"
"""A regular expression for durations with units."""

_PART: Final = rf"({_NUMBER})(ms|s|m|h|d)"  # not compiled here: that takes time, and is rarely needed
_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_duration(text: str) -> float | None:
    """Return the seconds that ``"600"`` or ``"1h30m"`` stand for, or None.

    >>> parse_duration("1m30s")
    90.0
    """
    if re.fullmatch(_NUMBER, text, re.ASCII):
        return float(text)
    if not re.fullmatch(DURATION_PATTERN, text):
        return None
    parts = [float(number) * _UNITS[unit] for number, unit in re.findall(_PART, text)]
    return math.fsum(parts) if max(parts) <= checks.LONGEST else math.inf  # the sum of large ones may overflow
