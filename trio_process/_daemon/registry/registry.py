"""`Registry`: which daemons run, in a directory of small files that go-process reads and writes too.

A reader trusts only files that no other user could have written (`directory`, `entry_file`), and removes only entries
that it can judge (`Viewpoint`). It hides the others, and leaves them alone.
"""

from __future__ import annotations

import builtins
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Final, final

from ..._core import TEMPORARY, RegistryError, Viewpoint, checks, note_failure
from .directory import RegistryDirectory
from .entry import DaemonEntry
from .entry_file import Found, look
from .naming import SUFFIX, check_key
from .registration import Registration
from .store import look_at, paths_of, prune, registry_error, write_entry


@final
class Registry:
    """The running daemons, one JSON file each in a directory that is shared with go-process.

    Synchronous: call it in a thread if a slow disk matters. Any number of processes may use it at the same time.

    Args:
        directory: The directory of the files; made absolute at once, because a daemon may change its directory. It is
            created when the first entry is written. It must belong to this user or root, and must not be writable by
            others, unless it has the sticky bit: then entries that others wrote are skipped.

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
        self.directory: Final[Path] = checks.file_path("directory", directory).absolute()
        self._place = RegistryDirectory(self.directory)

    def register(self, entry: DaemonEntry) -> DaemonEntry:
        """Write an entry, replacing an earlier one with its key; it is valid as long as its process is alive.

        Args:
            entry: `pid` None stands for this process, `started` None for now.

        Returns:
            The entry as written.

        Raises:
            OptionError: `entry` is not a `DaemonEntry`.
            RegistryError: The entry could not be written; an earlier one is unchanged.
        """
        return write_entry(self._place, entry, lock=False)[0]

    @contextmanager
    def registered(self, entry: DaemonEntry) -> Iterator[DaemonEntry]:
        """Keep an entry inside the block, with a lock on it that proves that this process is alive, whatever its PID.

        The lock ends with this process, even on SIGKILL, and is visible in other PID namespaces. A child that was
        forked without exec keeps it, and so the entry, after the death of its parent. The entry is removed only if no
        other process has replaced it.

        Args:
            entry: `pid` None stands for this process, `started` None for now.

        Yields:
            The entry as written.

        Raises:
            OptionError: `entry` is not a `DaemonEntry`.
            RegistryError: The entry could not be written or removed.
        """
        registration = Registration(self._place, entry)
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
        """Remove the entry with this key, if there is one.

        Raises:
            OptionError: `code` or `daemon` can't be a key.
            RegistryError: The entry could not be removed.
        """
        check_key("code", code)
        check_key("daemon", daemon)
        paths = paths_of(self._place, code, daemon)
        if not self._place.exists():
            return
        try:
            with self._place.locked():
                for path, found in look_at(paths):
                    if found is not None and found.is_for(code, daemon):
                        path.unlink(missing_ok=True)
        except FileNotFoundError:
            pass  # the directory was removed in between
        except OSError as error:
            raise registry_error(self._place, "removed", code, daemon, error) from error

    def get(self, code: str, daemon: str) -> DaemonEntry | None:
        """Return the entry with this key if its daemon is running, else None; a dead entry is removed.

        Raises:
            OptionError: `code` or `daemon` can't be a key.
            RegistryError: The entry can't be read, or the directory can't be trusted. (A missing one is not an error.)
        """
        found = self._find(code, daemon)
        return found.entry() if found is not None and found.alive else None

    def list(self) -> builtins.list[DaemonEntry]:
        """Return the entries of running daemons, the earliest start first; dead ones are removed.

        Raises:
            RegistryError: The directory can't be read or trusted. (A missing one has no entries.)
        """
        if not self._place.exists():
            return []
        try:
            names = os.listdir(self.directory)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise RegistryError(f"the registry {self.directory} can't be read: {error.strerror or error}") from error
        entries: builtins.list[DaemonEntry] = []
        stale: builtins.list[Found] = []
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
        prune(self._place, stale)
        entries.sort(key=_start)
        return entries

    def _find(self, code: str, daemon: str) -> Found | None:
        """Return the file with this key: that of a running daemon, else one that can't be judged from here, else None."""
        check_key("code", code)
        check_key("daemon", daemon)
        paths = paths_of(self._place, code, daemon)
        if not self._place.exists():
            return None
        try:
            found = [found for _, found in look_at(paths) if found is not None]
        except OSError as error:
            raise RegistryError(
                f"the entry of {code!r} and {daemon!r} can't be read in {self.directory}: {error.strerror or error}"
            ) from error
        prune(self._place, [other for other in found if other.prunable])
        ours = [one for one in found if one.is_for(code, daemon)]
        return next((one for one in ours if one.alive), next((one for one in ours if one.hidden), None))

    def __repr__(self) -> str:
        return f"Registry({str(self.directory)!r})"


def default_registry() -> Registry:
    """Return the registry of this user, ``~/.core/daemons``, which go-process uses, too.

    The home directory is an absolute `HOME`; without it, as in some services, that of the passwd entry; else a directory
    in the temporary directory that belongs to this user alone.

    >>> default_registry().directory.name
    'daemons'
    """
    place = RegistryDirectory.default()
    registry = Registry(place.path)
    registry._place = place
    return registry


def hold_entry(registry: Registry, entry: DaemonEntry) -> Registration:
    """Write an entry with a lock, as `Registry.registered` does, and return the `Registration`, which can write it again.

    Raises:
        RegistryError: The entry could not be written.
    """
    return Registration(registry._place, entry)


def _start(entry: DaemonEntry) -> datetime:
    assert entry.started is not None, "every entry that was read has a start"
    return entry.started
