"""Define the records of a memory: their kinds, what they say together, and which are outdated.

| key | says |
| --- | --- |
| `memory` | the version, the salt of the digests, and the place of the file; always the first |
| `made` | the fingerprint of a spec when it last passed, or that it was forced since |
| `files` | digests of files, with size, time and inode |
| `run` | a run has begun: the requested tasks and their arguments |
| `ends` | how specs ended in that run |
| `unchanged`, `unchanged_but` | the specs that were up to date in that run: these, or all that have passed but these |

Digests of files and ends of specs are batched, because tens of thousands of lines take long to read.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cache
from itertools import islice
from typing import Any, Final, final

from .fingerprint import Fingerprint

BATCH: Final = 500
"""The maximum number of entries per record."""

_MANY: Final = ("files", "ends")
"""The kinds of records that hold several entries."""

_UNCHANGED: Final = ("unchanged", "unchanged_but")

End = tuple[str, str, str]
"""How a spec ended: its state, the digest of its command, and why it ran or didn't."""

CachedDigest = tuple[int, int, int, str]
"""The size, the time in nanoseconds and the inode of a file, and the digest of its content then."""


@final
class Records:
    """What the records of a memory say, the later ones over the earlier ones.

    Attributes:
        made: The last `made` record of each spec.
        cached: The digest of each file.
        run: The requested tasks of the last run and their arguments, or None.
        ends: How each spec ended in it.
        count: The number of records.
        entries: The number of entries in them.
    """

    __slots__ = ("cached", "count", "ends", "entries", "made", "run")

    def __init__(self) -> None:
        self.made: dict[str, dict[str, Any]] = {}
        self.cached: dict[str, CachedDigest] = {}
        self.run: tuple[tuple[str, ...], tuple[str, ...]] | None = None
        self.ends: dict[str, End] = {}
        self.count = 0
        self.entries = 0

    def take(self, record: dict[str, Any]) -> None:
        """Apply a record.

        Raises:
            ValueError, KeyError, TypeError, AttributeError: Another version has written it; nothing was applied.
        """
        self.count += 1
        self.entries += size_of(record)
        if "made" in record:
            if not record.get("forced"):
                _check_made(record)
            self.made[record["made"]] = record
        elif "ends" in record:
            self.ends |= {name: (state, command, why) for name, (state, command, why) in record["ends"].items()}
        elif "files" in record:
            self.cached |= {
                path: (size, changed, inode, digest) for path, (size, changed, inode, digest) in record["files"].items()
            }
        elif "run" in record:
            self.run = (tuple(map(str, record["run"])), tuple(map(str, record["arguments"])))
            self.ends.clear()
        elif "unchanged" in record:
            self._take_unchanged(record["unchanged"])
        elif "unchanged_but" in record:
            but = frozenset(record["unchanged_but"])
            self._take_unchanged([name for name in self.made if name not in but])

    def _take_unchanged(self, names: Iterable[str]) -> None:
        for name in names:
            made = self.made.get(name)
            if made is not None and not made.get("forced"):
                self.ends[name] = ("up_to_date", made["from"]["command"], since(made["at"]))

    def are_mostly_outdated(self, slack: int) -> bool:
        """Return whether the file should be rewritten.

        Args:
            slack: The number of outdated entries, beyond the number of current ones, that are acceptable.
        """
        made, several = len(self.made), len(self.ends) + len(self.cached)
        return (
            self.entries > slack + 2 * (made + several)
            or self.count > slack + 2 * (made + several // BATCH)  # many small records take long to read
        )

    def count_anew(self) -> None:
        """Adjust the counts after the file was rewritten."""
        made, several = len(self.made), len(self.ends) + len(self.cached)
        self.count, self.entries = made + several // BATCH, made + several


def _check_made(record: Mapping[str, Any]) -> None:
    """Raise TypeError if the record of a success is none that we write."""
    made = Fingerprint(**record["from"])
    tables = (made.env, made.inputs, made.results, record["outputs"])
    if any(type(table) is not dict for table in tables) or type(record["at"]) not in (int, float):
        raise TypeError("not a record of this version")


def batches(kind: str, entries: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield records that hold entries.

    Args:
        kind: ``"files"`` or ``"ends"``.
        entries: The entries by their names.
    """
    left = iter(entries.items())
    while batch := dict(islice(left, BATCH)):
        yield {kind: batch}


def unchanged(names: Collection[str], known: Collection[str]) -> dict[str, list[str]]:
    """Return the record of specs that were up to date: short if these are few, or almost all.

    Args:
        names: The specs.
        known: All specs that have passed.
    """
    others = [name for name in known if name not in names]
    if len(others) < len(names) and len(others) + len(names) == len(known):
        return {"unchanged_but": others}
    return {"unchanged": list(names)}


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
    same: list[dict[str, Any]] = []
    entries: dict[str, dict[str, Any]] = {kind: {} for kind in _MANY}
    for record in records:
        if "memory" in record:
            first = record
        elif "made" in record:
            made[str(record["made"])] = record
        elif "run" in record:
            run = record
            same.clear()
            entries["ends"] = {}
        elif any(kind in record for kind in _UNCHANGED):
            same.append(record)
        else:
            for kind in _MANY:
                with suppress(TypeError, ValueError):  # from another version
                    entries[kind] |= record.get(kind, {})
    yield from filter(None, (first, run))
    yield from made.values()
    yield from same
    for kind in _MANY:
        yield from batches(kind, entries[kind])


def since(at: float) -> str:
    """Return in words how long something has been up to date.

    Args:
        at: When it last passed, in seconds since the epoch.
    """
    return _since(int(at))


@cache
def _since(at: int) -> str:
    try:
        return time.strftime("up to date since %Y-%m-%d %H:%M:%S", time.localtime(at))
    except (OverflowError, OSError):  # a clock that was wrong by thousands of years
        return "up to date"
