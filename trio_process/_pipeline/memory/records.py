"""Define the records of a memory: their kinds, how many entries each holds, and which are outdated.

Digests of files and ends of specs are batched, because tens of thousands of lines take long to read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import islice
from typing import Any, Final

BATCH: Final = 500
"""The maximum number of entries per record."""

_MANY: Final = ("files", "ends")
"""The kinds of records that hold several entries."""


def batches(kind: str, entries: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield records that hold entries.

    Args:
        kind: ``"files"`` or ``"ends"``.
        entries: The entries by their names.
    """
    left = iter(entries.items())
    while batch := dict(islice(left, BATCH)):
        yield {kind: batch}


def size_of(record: Mapping[str, Any]) -> int:
    """Return how many entries a record holds."""
    for kind in _MANY:
        if kind in record:
            return len(record[kind])
    return 1


def without_outdated(records: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the records without the entries that later records replace."""
    first: dict[str, Any] | None = None
    run: dict[str, Any] | None = None
    made: dict[str, dict[str, Any]] = {}
    entries: dict[str, dict[str, Any]] = {kind: {} for kind in _MANY}
    for record in records:
        if "memory" in record:
            first = record
        elif "made" in record:
            made[str(record["made"])] = record
        elif "run" in record:
            run = record
            entries["ends"] = {}
        else:
            for kind in _MANY:
                with suppress(TypeError, ValueError):  # from another version
                    entries[kind] |= record.get(kind, {})
    yield from filter(None, (first, run))
    yield from made.values()
    for kind in _MANY:
        yield from batches(kind, entries[kind])
