"""Changes in a registry's directory: where an entry is stored, how it is written, and how a dead one is removed.

Every change of what a name in the directory stands for (rename, remove) is made under a `flock` on the directory itself,
by us. So a reader that finds a dead entry can remove it without hitting a live one that took its name in between.
go-process does not lock; against it the removal checks that the file is still the one that was judged.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import attrs

from ..._core import NO_LOCKS, Draft, RegistryError, Viewpoint, bad_option, logger, remedy
from .directory import RegistryDirectory
from .entry import DaemonEntry, encode
from .entry_file import Found, look
from .naming import file_names


def paths_of(place: RegistryDirectory, code: str, daemon: str) -> list[Path]:
    """Return the files that the entry of a valid key may be in, the preferred one first."""
    try:
        limit = os.pathconf(place.path, "PC_NAME_MAX")
    except OSError:
        limit = 255  # no directory yet: nothing will be found in it
    return [place.path / name for name in file_names(code, daemon, limit)]


def write_entry(place: RegistryDirectory, entry: DaemonEntry, *, lock: bool) -> tuple[DaemonEntry, Path, bytes, int]:
    """Write an entry; return it as written, its file, the content, and the descriptor of its lock (-1 without)."""
    if not isinstance(entry, DaemonEntry):
        raise bad_option("entry", f"must be a DaemonEntry, got {entry!r}")
    pid = entry.pid or os.getpid()
    entry = attrs.evolve(entry, pid=pid, started=entry.started or datetime.now(UTC))
    data = encode(entry, Viewpoint().identify(pid))
    try:
        place.make()
        # every step that can take long, or fail on a full disk, comes before the lock
        with Draft(place.path, data, lock=lock) as draft, place.locked():
            path = _free_path(place, entry)
            draft.replace(path)
            return entry, path, data, draft.keep() if lock else -1
    except OSError as error:
        raise registry_error(place, "written", entry.code, entry.daemon, error) from error


def _free_path(place: RegistryDirectory, entry: DaemonEntry) -> Path:
    """Return the path for an entry: that of the existing entry, so that it is never missing for a moment, or a free one."""
    free: list[Path] = []
    for path, found in look_at(paths_of(place, entry.code, entry.daemon)):
        if found is None:
            free.append(path)
        elif place.is_replaceable(found.status):
            if found.is_for(entry.code, entry.daemon):
                return path
            if not found.alive and not found.hidden:
                free.append(path)  # else it is an entry of another key that shares the name
    if not free:
        raise RegistryError(
            f"every file name for {entry.code!r} and {entry.daemon!r} in {place.path} is taken by the entry of another "
            "daemon: choose another code or daemon"
        )
    return free[0]


def prune(place: RegistryDirectory, stale: Sequence[Found]) -> None:
    """Remove files that were judged dead, if they are unchanged; a file that can't be removed now is left."""
    if not stale:
        return
    try:
        with place.locked(wait=0.0):
            for found in stale:
                with suppress(FileNotFoundError):  # another process removed it
                    found.remove_if_same()
    except (OSError, RegistryError) as error:
        # another process is at it, or the directory is not ours to write: the next look finds them again
        logger.debug("stale entries stay in the registry %s: %s", place.path, error)


def registry_error(place: RegistryDirectory, what: str, code: str, daemon: str, error: OSError) -> RegistryError:
    """Return the error of a failed change, with suitable advice."""
    advice = (
        "its file system has no locks (flock): use a directory on a local disk"
        if error.errno in NO_LOCKS
        else remedy(error, place.advice)
    )
    return RegistryError(
        f"the entry of {code!r} and {daemon!r} could not be {what} in {place.path}: {error.strerror or error}; {advice}"
    )


def look_at(paths: Iterable[Path]) -> Iterator[tuple[Path, Found | None]]:
    """Yield each file with its current state."""
    viewpoint = Viewpoint()
    return ((path, look(str(path), viewpoint)) for path in paths)
