"""`Registry`: which daemons run, in a directory of small files that go-process reads and writes too.

Every change of what a name in the directory stands for (rename, remove) is made under a `flock` on the directory itself,
by us. So a reader that finds a dead entry can remove it without hitting a live one that took its name in between.
go-process does not lock; against it the removal checks that the file is still the one that was judged.
"""

from __future__ import annotations

import os
import tempfile
import time
from builtins import list as list_  # the contract's method of that name hides it inside the class
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, final

import attrs

from ..._core import (
    TEMPORARY,
    Census,
    Draft,
    RegistryError,
    checks,
    is_at,
    logger,
    note_failure,
    try_lock,
    unlock,
)
from .entry import DaemonEntry, encode
from .entry_file import Found, look
from .naming import SUFFIX, check_key, file_names

LOCK_WAIT: Final = 10.0
"""Seconds to wait for the directory's lock, which others hold for a fraction of a millisecond."""


@final
class Registry:
    """The daemons that run, in a directory of one JSON file each, shared with go-process.

    Synchronous: call it from a thread where a slow disk matters. Any number of processes may use it at once.

    Args:
        directory: Where the files are; made when the first entry is written.

    Raises:
        OptionError: The path is empty, or holds a NUL character.

    >>> with tempfile.TemporaryDirectory() as directory:
    ...     registry = Registry(directory)
    ...     with registry.registered(DaemonEntry("myapp", "server")):
    ...         [entry.code for entry in registry.list()]
    ['myapp']
    """

    __slots__ = ("directory",)

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.directory: Final = Path(os.fsdecode(checks.path("directory", directory)))

    def register(self, entry: DaemonEntry) -> DaemonEntry:
        """Write an entry, in the place of an earlier one of its key; it lives as long as its process.

        Args:
            entry: `pid` None stands for this process, `started` None for now.

        Returns:
            The entry as written.

        Raises:
            RegistryError: It could not be written; an earlier one is untouched.
        """
        return self._write(entry, lock=False)[0]

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
        written, path, descriptor = self._write(entry, lock=True)
        owner = os.getpid()
        try:
            yield written
        except BaseException as error:
            try:
                self._withdraw(written, path, descriptor, owner)
            except RegistryError as failure:
                note_failure(error, failure)
            raise
        self._withdraw(written, path, descriptor, owner)

    def unregister(self, code: str, daemon: str) -> None:
        """Remove the entry of this key; one that is missing is fine.

        Raises:
            OptionError: `code` or `daemon` can't be a key.
            RegistryError: It could not be removed.
        """
        paths = self._paths(code, daemon)
        try:
            with self._locked():
                for path, found in _look_at(paths):
                    if found is not None and found.is_for(code, daemon):
                        path.unlink(missing_ok=True)
        except FileNotFoundError:
            pass  # there is no directory, and so no entry
        except OSError as error:
            raise self._error("removed", code, daemon, error) from error

    def get(self, code: str, daemon: str) -> DaemonEntry | None:
        """Return the entry of this key if its daemon runs, else None; a dead one is removed.

        Raises:
            OptionError: `code` or `daemon` can't be a key.
            RegistryError: The entry can't be read. (One that is missing is None.)
        """
        found = self.find(code, daemon)
        return None if found is None else found.entry()

    def list(self) -> list_[DaemonEntry]:
        """Return the entries whose daemons run, the earliest start first; dead ones are removed.

        Raises:
            RegistryError: The directory can't be read. (One that is missing has no entries.)
        """
        try:
            names = os.listdir(self.directory)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise RegistryError(f"the registry {self.directory} can't be read: {error.strerror or error}") from error
        entries: list_[DaemonEntry] = []
        stale: list_[Found] = []
        directory, census = str(self.directory), Census()
        for name in names:
            if not name.endswith(SUFFIX) and not name.startswith(TEMPORARY):
                continue
            try:
                found = look(f"{directory}/{name}", census)  # no Path: it would take as long as reading the file
            except OSError:
                continue  # not ours to read
            if found is None:
                continue
            if found.prunable:
                stale.append(found)
            elif found.alive and name.endswith(SUFFIX) and (entry := found.entry()) is not None:
                entries.append(entry)
        self._prune(stale)
        entries.sort(key=_start)
        return entries

    def find(self, code: str, daemon: str) -> Found | None:
        """Return the file of this key if its daemon runs, else None; for `get`, and not part of the contract."""
        try:
            found = [found for _, found in _look_at(self._paths(code, daemon)) if found is not None]
        except OSError as error:
            raise RegistryError(
                f"the entry of {code!r} and {daemon!r} can't be read in {self.directory}: {error.strerror or error}"
            ) from error
        self._prune([other for other in found if other.prunable])
        return next((one for one in found if one.alive and one.is_for(code, daemon)), None)

    def _paths(self, code: str, daemon: str) -> list_[Path]:
        check_key("code", code)
        check_key("daemon", daemon)
        try:
            limit = os.pathconf(self.directory, "PC_NAME_MAX")
        except OSError:
            limit = 255  # no directory yet: nothing will be found in it
        return [self.directory / name for name in file_names(code, daemon, limit)]

    def _write(self, entry: DaemonEntry, *, lock: bool) -> tuple[DaemonEntry, Path, int]:
        """Write an entry; the descriptor holds its lock, and is -1 without one."""
        entry = attrs.evolve(entry, pid=entry.pid or os.getpid(), started=entry.started or datetime.now(UTC))
        data = encode(entry)
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            # all that can take long, or fail on a full disk, comes before the lock
            with Draft(self.directory, data, lock=lock) as draft, self._locked():
                path = self._place(entry)
                draft.replace(path)
                return entry, path, draft.keep() if lock else -1
        except OSError as error:
            raise self._error("written", entry.code, entry.daemon, error) from error

    def _place(self, entry: DaemonEntry) -> Path:
        """Return where an entry goes: where its key has one, so that no reader finds it gone while it moves; or free."""
        free: list_[Path] = []
        for path, found in _look_at(self._paths(entry.code, entry.daemon)):
            if found is not None and found.is_for(entry.code, entry.daemon):
                return path
            if found is None or not found.alive:
                free.append(path)  # else it is a live entry of another key that shares the name
        if not free:
            raise RegistryError(
                f"every file name for {entry.code!r} and {entry.daemon!r} in {self.directory} is taken by the entry of "
                "another daemon: choose another code or daemon"
            )
        return free[0]

    def _withdraw(self, entry: DaemonEntry, path: Path, descriptor: int, owner: int) -> None:
        if os.getpid() != owner:
            os.close(descriptor)  # in a forked child: the entry is the parent's, and so is the lock
            return
        data = encode(entry)
        try:
            with self._locked():
                # go-process writes in place: the file can be the same, and the entry another one
                if is_at(path, descriptor) and os.pread(descriptor, len(data) + 1, 0) == data:
                    path.unlink(missing_ok=True)
        except FileNotFoundError:
            pass  # the whole directory was removed
        except OSError as error:
            raise self._error("removed", entry.code, entry.daemon, error) from error
        finally:
            unlock(descriptor)

    def _prune(self, stale: Sequence[Found]) -> None:
        """Remove files that were judged dead, if they are still the same ones; what can't be removed now stays."""
        if not stale:
            return
        try:
            with self._locked(wait=0.0):
                for found in stale:
                    with suppress(FileNotFoundError):  # somebody else removed it
                        found.remove_if_same()
        except (OSError, RegistryError) as error:
            # another process is at it, or the directory is not ours to write: the next look finds them again
            logger.debug("stale entries stay in the registry %s: %s", self.directory, error)

    @contextmanager
    def _locked(self, wait: float = LOCK_WAIT) -> Iterator[None]:
        """Hold the lock under which names are given and removed."""
        descriptor = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            until, pause = time.monotonic() + wait, 0.0002
            while not _lock(descriptor):
                if time.monotonic() >= until:
                    raise RegistryError(
                        f"the registry {self.directory} was locked by another process for {wait} s: look for one that "
                        "was stopped (state T) while it wrote an entry"
                    )
                time.sleep(pause)  # not a blocking flock: that has no time limit
                pause = min(2 * pause, 0.01)
            yield
        finally:
            unlock(descriptor)

    def _error(self, what: str, code: str, daemon: str, error: OSError) -> RegistryError:
        return RegistryError(
            f"the entry of {code!r} and {daemon!r} could not be {what} in {self.directory}: {error.strerror or error}; "
            "make the directory writable, or use another Registry(directory)"
        )

    def __repr__(self) -> str:
        return f"Registry({str(self.directory)!r})"


def default_registry() -> Registry:
    """Return the registry of this user, which go-process uses too: `~/.core/daemons`.

    The home is what `HOME` says; without it (some services run so) it is the temporary directory.

    >>> default_registry().directory.name
    'daemons'
    """
    return Registry(Path(os.environ.get("HOME") or tempfile.gettempdir(), ".core", "daemons"))


def _look_at(paths: Iterable[Path]) -> Iterator[tuple[Path, Found | None]]:
    census = Census()
    return ((path, look(str(path), census)) for path in paths)


def _lock(descriptor: int) -> bool:
    try:
        return try_lock(descriptor)
    except OSError:
        return True  # NFS locks no directories: the file that was judged is compared all the same


def _start(entry: DaemonEntry) -> datetime:
    assert entry.started is not None, "every entry that was read has a start"
    return entry.started
