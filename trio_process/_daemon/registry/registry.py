"""`Registry`: which daemons run, in a directory of small files that go-process reads and writes too.

Every change of what a name in the directory stands for (rename, remove) is made under a `flock` on the directory itself,
by us. So a reader that finds a dead entry can remove it without hitting a live one that took its name in between.
go-process does not lock; against it the removal checks that the file is still the one that was judged.

A reader believes only what no other user could have written (`directory`, `entry_file`), and removes only what it can
judge (`Viewpoint`). What it can't judge is hidden, and stays.
"""

from __future__ import annotations

import os
from builtins import list as list_  # the contract's method of that name hides it inside the class
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, final

import attrs

from ..._core import (
    NO_LOCKS,
    TEMPORARY,
    Draft,
    RegistryError,
    Viewpoint,
    checks,
    is_at,
    logger,
    note_failure,
    unlock,
)
from .directory import RegistryDirectory
from .entry import DaemonEntry, encode
from .entry_file import Found, look
from .naming import SUFFIX, check_key, file_names


@final
class Registry:
    """The daemons that run, in a directory of one JSON file each, shared with go-process.

    Synchronous: call it from a thread where a slow disk matters. Any number of processes may use it at once.

    Args:
        directory: Where the files are; made absolute at once, as a daemon may change its directory. It is made when the
            first entry is written. It must belong to this user or root, and not be writable by others, unless it has the
            sticky bit: entries that others wrote are skipped there.

    Raises:
        OptionError: The path is empty, or holds a NUL character.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     registry = Registry(directory)
    ...     with registry.registered(DaemonEntry("myapp", "server")):
    ...         [entry.code for entry in registry.list()]
    ['myapp']
    """

    __slots__ = ("_place", "directory")

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.directory: Final = Path(os.fsdecode(checks.path("directory", directory))).absolute()
        self._place = RegistryDirectory(self.directory)

    def register(self, entry: DaemonEntry) -> DaemonEntry:
        """Write an entry, in the place of an earlier one of its key; it lives as long as its process.

        Args:
            entry: `pid` None stands for this process, `started` None for now.

        Returns:
            The entry as written.

        Raises:
            RegistryError: It could not be written; an earlier one is untouched.
        """
        return _write(self._place, entry, lock=False)[0]

    @contextmanager
    def registered(self, entry: DaemonEntry) -> Iterator[DaemonEntry]:
        """Keep an entry while the block runs, with a lock on it that proves life whatever its PID says.

        The lock goes with this process, SIGKILL or not, and is seen from other PID namespaces too. A child that was
        forked without exec keeps it, and so the entry, after our death. The entry is removed only if it is still ours.

        Args:
            entry: `pid` None stands for this process, `started` None for now.

        Yields:
            The entry as written.

        Raises:
            RegistryError: It could not be written, or not be removed.
        """
        registration = Registration(self, entry)
        try:
            yield registration.entry
        except BaseException as error:
            try:
                registration.withdraw()
            except RegistryError as failure:
                note_failure(error, failure)
            raise
        registration.withdraw()

    def unregister(self, code: str, daemon: str) -> None:
        """Remove the entry of this key; one that is missing is fine.

        Raises:
            OptionError: `code` or `daemon` can't be a key.
            RegistryError: It could not be removed.
        """
        paths = _paths(self._place, code, daemon)
        if not self._place.exists():
            return
        try:
            with self._place.locked():
                for path, found in _look_at(paths):
                    if found is not None and found.is_for(code, daemon):
                        path.unlink(missing_ok=True)
        except FileNotFoundError:
            pass  # the directory was removed in between
        except OSError as error:
            raise _error(self._place, "removed", code, daemon, error) from error

    def get(self, code: str, daemon: str) -> DaemonEntry | None:
        """Return the entry of this key if its daemon runs, else None; a dead one is removed.

        Raises:
            OptionError: `code` or `daemon` can't be a key.
            RegistryError: The entry can't be read, or the directory can't be trusted. (One that is missing is None.)
        """
        found = self._find(code, daemon)
        return found.entry() if found is not None and found.alive else None

    def list(self) -> list_[DaemonEntry]:
        """Return the entries whose daemons run, the earliest start first; dead ones are removed.

        Raises:
            RegistryError: The directory can't be read or trusted. (One that is missing has no entries.)
        """
        if not self._place.exists():
            return []
        try:
            names = os.listdir(self.directory)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise RegistryError(f"the registry {self.directory} can't be read: {error.strerror or error}") from error
        entries: list_[DaemonEntry] = []
        stale: list_[Found] = []
        directory, viewpoint = str(self.directory), Viewpoint()
        for name in names:
            if not name.endswith(SUFFIX) and not name.startswith(TEMPORARY):
                continue
            try:
                found = look(f"{directory}/{name}", viewpoint)  # no Path: it would take as long as reading the file
            except OSError:
                continue  # not ours to read
            if found is None:
                continue
            if found.prunable:
                stale.append(found)
            elif found.alive and name.endswith(SUFFIX) and (entry := found.entry()) is not None:
                entries.append(entry)
        _prune(self._place, stale)
        entries.sort(key=_start)
        return entries

    def _find(self, code: str, daemon: str) -> Found | None:
        """Return the file of this key: of a daemon that runs, else one that can't be judged from here, else None."""
        paths = _paths(self._place, code, daemon)
        if not self._place.exists():
            return None
        try:
            found = [found for _, found in _look_at(paths) if found is not None]
        except OSError as error:
            raise RegistryError(
                f"the entry of {code!r} and {daemon!r} can't be read in {self.directory}: {error.strerror or error}"
            ) from error
        _prune(self._place, [other for other in found if other.prunable])
        ours = [one for one in found if one.is_for(code, daemon)]
        return next((one for one in ours if one.alive), next((one for one in ours if one.hidden), None))

    def __repr__(self) -> str:
        return f"Registry({str(self.directory)!r})"


@final
class Registration:
    """An entry that this process holds by a lock until it is withdrawn.

    Args:
        registry: Where it is written.
        entry: What is written; `pid` None stands for this process, `started` None for now.

    Raises:
        RegistryError: It could not be written.
    """

    __slots__ = ("_data", "_fd", "_owner", "_path", "_place", "entry")

    def __init__(self, registry: Registry, entry: DaemonEntry) -> None:
        self._place = registry._place
        self.entry, self._path, self._data, self._fd = _write(self._place, entry, lock=True)
        self._owner = os.getpid()

    def renew(self) -> bool:
        """Write the entry again if there is none of its key any more; return whether that was so.

        Raises:
            RegistryError: It could not be written.
        """
        if is_at(self._path, self._fd):
            return False
        paths = _paths(self._place, self.entry.code, self.entry.daemon)
        if self._place.exists() and any(
            found is not None and found.is_for(self.entry.code, self.entry.daemon) for _, found in _look_at(paths)
        ):
            return False  # another one took over the key
        before = self._fd
        _, self._path, self._data, self._fd = _write(self._place, self.entry, lock=True)
        unlock(before)
        return True

    def withdraw(self) -> None:
        """Remove the entry, if it is still ours.

        Raises:
            RegistryError: It could not be removed.
        """
        if os.getpid() != self._owner:
            os.close(self._fd)  # in a forked child: the entry is the parent's, and so is the lock
            return
        try:
            with self._place.locked():
                # go-process writes in place: the file can be the same, and the entry another one
                if is_at(self._path, self._fd) and os.pread(self._fd, len(self._data) + 1, 0) == self._data:
                    self._path.unlink(missing_ok=True)
        except FileNotFoundError:
            pass  # the whole directory was removed
        except OSError as error:
            raise _error(self._place, "removed", self.entry.code, self.entry.daemon, error) from error
        finally:
            unlock(self._fd)


def default_registry() -> Registry:
    """Return the registry of this user, which go-process uses too: `~/.core/daemons`.

    The home is an absolute `HOME`; without it (some services run so) the one of the passwd entry; else a directory of
    this user alone in the temporary directory.

    >>> default_registry().directory.name
    'daemons'
    """
    place = RegistryDirectory.default()
    registry = Registry(place.path)
    registry._place = place
    return registry


def _paths(place: RegistryDirectory, code: str, daemon: str) -> list_[Path]:
    check_key("code", code)
    check_key("daemon", daemon)
    try:
        limit = os.pathconf(place.path, "PC_NAME_MAX")
    except OSError:
        limit = 255  # no directory yet: nothing will be found in it
    return [place.path / name for name in file_names(code, daemon, limit)]


def _write(place: RegistryDirectory, entry: DaemonEntry, *, lock: bool) -> tuple[DaemonEntry, Path, bytes, int]:
    """Write an entry; return it as written, its file, the content, and the descriptor of its lock (-1 without)."""
    pid = entry.pid or os.getpid()
    entry = attrs.evolve(entry, pid=pid, started=entry.started or datetime.now(UTC))
    data = encode(entry, Viewpoint().identify(pid))
    try:
        place.make()
        # all that can take long, or fail on a full disk, comes before the lock
        with Draft(place.path, data, lock=lock) as draft, place.locked():
            path = _free_path(place, entry)
            draft.replace(path)
            return entry, path, data, draft.keep() if lock else -1
    except OSError as error:
        raise _error(place, "written", entry.code, entry.daemon, error) from error


def _free_path(place: RegistryDirectory, entry: DaemonEntry) -> Path:
    """Return where an entry goes: where its key has one, so that no reader finds it gone while it moves; or free."""
    free: list_[Path] = []
    for path, found in _look_at(_paths(place, entry.code, entry.daemon)):
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


def _prune(place: RegistryDirectory, stale: Sequence[Found]) -> None:
    """Remove files that were judged dead, if they are still the same ones; what can't be removed now stays."""
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


def _error(place: RegistryDirectory, what: str, code: str, daemon: str, error: OSError) -> RegistryError:
    advice = (
        "its file system has no locks (flock): use a directory on a local disk"
        if error.errno in NO_LOCKS
        else place.advice
    )
    return RegistryError(
        f"the entry of {code!r} and {daemon!r} could not be {what} in {place.path}: {error.strerror or error}; {advice}"
    )


def _look_at(paths: Iterable[Path]) -> Iterator[tuple[Path, Found | None]]:
    viewpoint = Viewpoint()
    return ((path, look(str(path), viewpoint)) for path in paths)


def _start(entry: DaemonEntry) -> datetime:
    assert entry.started is not None, "every entry that was read has a start"
    return entry.started
