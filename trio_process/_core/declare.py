"""Converters that declare to type checkers which types a field accepts; the values are converted by `RunOptions`.

A spec hands its fields on to a `RunOptions`, which validates them, and reads them back from there.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from .checks import Argument
from .secret import Secret


def arguments(values: Iterable[Argument]) -> tuple[str | bytes | Secret, ...]:
    """Declare `args`."""
    return values  # type: ignore[return-value]


def exit_codes(values: Iterable[int]) -> tuple[int, ...]:
    """Declare `ok_exit_codes`."""
    return values  # type: ignore[return-value]


def signal(value: int | str) -> int:
    """Declare `stop_signal`."""
    return value  # type: ignore[return-value]


def log_file(value: str | bytes | os.PathLike[str] | os.PathLike[bytes] | None) -> Path | None:
    """Declare `log_file`."""
    return value  # type: ignore[return-value]


def limits(values: Mapping[str, int | float | tuple[int | float, int | float]]) -> Mapping[str, int | tuple[int, int]]:
    """Declare `limits`."""
    return values  # type: ignore[return-value]
