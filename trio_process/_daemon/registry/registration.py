"""`Registration`: an entry that its process holds with a lock."""

from __future__ import annotations

import os
from typing import final

from ..._core import is_at, unlock
from .directory import RegistryDirectory
from .entry import DaemonEntry
from .store import look_at, paths_of, registry_error, write_entry


@final
class Registration:
    """An entry that this process holds with a lock until it is withdrawn.

    Args:
        place: The directory that it is written to.
        entry: The entry; `pid` None stands for this process, `started` None for now.

    Raises:
        RegistryError: The entry could not be written.
    """

    __slots__ = ("_data", "_fd", "_owner", "_path", "_place", "entry")

    def __init__(self, place: RegistryDirectory, entry: DaemonEntry) -> None:
        self._place = place
        self.entry, self._path, self._data, self._fd = write_entry(self._place, entry, lock=True)
        self._owner = os.getpid()

    def renew(self) -> bool:
        """Write the entry again if its key has none any more; return whether it was written.

        Raises:
            RegistryError: It could not be written.
        """
        if is_at(self._path, self._fd):
            return False
        paths = paths_of(self._place, self.entry.code, self.entry.daemon)
        if self._place.exists() and any(
            found is not None and found.is_for(self.entry.code, self.entry.daemon) for _, found in look_at(paths)
        ):
            return False  # another one took over the key
        before = self._fd
        _, self._path, self._data, self._fd = write_entry(self._place, self.entry, lock=True)
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
            raise registry_error(self._place, "removed", self.entry.code, self.entry.daemon, error) from error
        finally:
            unlock(self._fd)
