"""Parse durations in the usual notation: ``1h30m``, ``2.5s``, ``600``."""

from __future__ import annotations

import math
import re
from typing import Final

LARGEST: Final = 10**9
"""The largest number accepted, in seconds or any other unit: a larger one is a typing error, and floats stay exact below it."""

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
        return _in_range(float(text))
    if not re.fullmatch(DURATION_PATTERN, text):
        return None
    return _in_range(math.fsum(float(number) * _UNITS[unit] for number, unit in re.findall(_PART, text)))


def _in_range(number: float) -> float | None:
    """Return a number that is neither negative nor implausibly large; else None."""
    return number if 0 <= number <= LARGEST else None
