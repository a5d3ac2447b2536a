"""The directory of a registry: made with safe permissions, trusted or refused, and locked for a change of names."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, final

from ..._core import (
    RegistryError,
    distrust,
    distrust_temporary_home,
    home_directory,
    is_temporary_home,
    logger,
    make_directories,
    try_lock,
    unlock,
    user_name,
)

LOCK_WAIT: Final = 10.0
"""Seconds to wait for the directory's lock, which others hold for a fraction of a millisecond."""

_ROOT: Final = 0


@final
class RegistryDirectory:
    """A directory that entries are read from and written to, if no other user could have put them there.

    Args:
        path: The directory, absolute.
        core: Its parent directory, which is checked, too; None if the caller chose the path. Otherwise this package chose
            it, and may narrow permissions that a umask has left too wide.
        temporary_home: The parent of that, if it stands for a home; another user can create one with its name first.
    """

    __slots__ = ("_core", "_temporary_home", "path")

    def __init__(self, path: Path, *, core: Path | None = None, temporary_home: Path | None = None) -> None:
        self.path: Final = path
        self._core = core
        self._temporary_home = temporary_home

    @classmethod
    def default(cls) -> RegistryDirectory:
        """Return the directory that go-process uses too: ``.core/daemons`` in the home directory."""
        home = home_directory()
        core = home / ".core"
        return cls(core / "daemons", core=core, temporary_home=home if is_temporary_home(home) else None)

    @property
    def advice(self) -> str:
        """What to do if an entry can't be written or removed."""
        if self._core is not None:
            return "make the directory writable, or set HOME to a directory that this user can write to"
        return "make the directory writable, or use another Registry(directory)"

    def is_replaceable(self, status: os.stat_result) -> bool:
        """Whether a file in the directory can be replaced by this user: with the sticky bit only its owner can."""
        user = os.geteuid()
        if user in (_ROOT, status.st_uid):
            return True
        own = self.path.stat()
        return own.st_uid == user or not own.st_mode & stat.S_ISVTX

    def exists(self) -> bool:
        """Return whether the directory is there.

        Raises:
            RegistryError: It is there, and can't be trusted or read.
        """
        try:
            if self._temporary_home is not None and (why := distrust_temporary_home(self._temporary_home)):
                raise RegistryError(
                    f"{self._temporary_home} can't be used as a home directory: {why}; set HOME to a directory of your own"
                )
            if self._core is not None:
                self._check(self._core)
            self._check(self.path)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise RegistryError(f"the registry {self.path} can't be read: {error.strerror or error}") from error
        return True

    def make(self) -> None:
        """Make the directory, if it is missing.

        Raises:
            OSError: It could not be made.
            RegistryError: It is there, and can't be trusted.
        """
        if not self.exists():
            if self._temporary_home is not None:
                make_directories(self._temporary_home, 0o700)
            make_directories(self.path)
            self.exists()  # another user may have been quicker

    @contextmanager
    def locked(self, wait: float | None = None) -> Iterator[None]:
        """Hold the lock under which names are given and removed.

        Args:
            wait: Seconds to wait for it; None for `LOCK_WAIT`.
        """
        wait = LOCK_WAIT if wait is None else wait
        descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            until, pause = time.monotonic() + wait, 0.0002
            while not _lock(descriptor):
                if time.monotonic() >= until:
                    raise RegistryError(
                        f"the registry {self.path} was locked by another process for {wait} s: look for one that was "
                        "stopped (state T) while it wrote an entry"
                    )
                time.sleep(pause)  # not a blocking flock: that has no time limit
                pause = min(2 * pause, 0.01)
            yield
        finally:
            unlock(descriptor)

    def _check(self, path: Path) -> None:
        link = path.lstat()
        status = path.stat() if stat.S_ISLNK(link.st_mode) else link
        if link.st_uid not in (_ROOT, os.geteuid()):
            status = link  # the owner of a link decides where it leads
        why = distrust(status)
        if why is None:
            return
        if status.st_uid not in (_ROOT, os.geteuid()):
            advice = f"{'set HOME to' if self._core is not None else 'use'} a directory of {user_name(os.geteuid())}, or be that user"
        elif self._core is not None and status.st_uid == os.geteuid():
            self._narrow(path, status)
            return
        else:
            advice = f"run chmod go-w {path}"
        raise RegistryError(f"the registry {self.path} can't be trusted, because of {path}: {why}; {advice}")

    def _narrow(self, path: Path, status: os.stat_result) -> None:
        before = stat.S_IMODE(status.st_mode)
        narrower = before & ~(stat.S_IWGRP | stat.S_IWOTH)
        path.chmod(narrower)
        logger.warning(
            "the mode of %s was %04o, and is %04o now: what others can write is not believed", path, before, narrower
        )


def _lock(descriptor: int) -> bool:
    try:
        return try_lock(descriptor)
    except OSError:
        return True  # NFS locks no directories: removing compares the file that was judged anyway
