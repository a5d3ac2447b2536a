"""`PIDFile` and `read_pid`: a program runs once.

The protocol, which every step below is part of: whoever holds the `flock` on the file that has the name *now* runs.

1. The file appears under its name whole and locked already (flock(2), link(2)), so that nobody meets a half of it.
2. After taking a lock one looks whether the file still has the name: it may have been removed while one opened it.
3. A file is removed only by who holds its lock, and while holding it. Unlock-then-remove deletes the next one's file.

The lock goes with its holder, SIGKILL or not, so that a file left behind is stale at once. A program that only writes its
PID has no lock; it counts as running if its process is alive and began no later than the file was written.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self, final

from .._core import (
    AlreadyRunningError,
    DaemonError,
    Draft,
    checks,
    is_at,
    lives_since,
    logger,
    note_failure,
    open_regular,
    parse_pid,
    try_lock,
    unlock,
)

REREAD_FOR: Final = 0.1
"""Seconds in which a loser looks again for the holder's PID: another program may lock first and write then."""

_MAX_LENGTH: Final = 256


@final
class PIDFile:
    """A file with our PID, which one process at a time can hold: who comes second is refused.

    Synchronous and quick. The process that takes it is the one that counts: fork into the background first. A child that
    is forked without exec shares the lock, and keeps it after our death; a program that is started (exec) does not.

    Args:
        path: The file; made absolute, as a daemon may change its directory. Missing parent directories are made. A
            symbolic link is refused: in a directory that others can write to it could lead anywhere.

    Raises:
        OptionError: The path is empty, or holds a NUL character.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as directory, PIDFile(directory + "/myapp.pid") as pid_file:
    ...     read_pid(pid_file.path) == (os.getpid(), True)
    True
    """

    __slots__ = ("_fd", "_owner", "path")

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path: Final = _as_path(path).absolute()
        self._fd: int | None = None
        self._owner = 0

    @property
    def held(self) -> bool:
        """Whether this object of this process holds it; a forked child does not."""
        return self._fd is not None and self._owner == os.getpid()

    def acquire(self) -> None:
        """Take the file, or raise; nobody else can take it before `release`, or before we are dead.

        Raises:
            AlreadyRunningError: Another process holds it, or this one does already; `.pid` is the holder's.
            DaemonError: It could not be written, or something that is no PID file is at the path.
        """
        if self.held:
            raise AlreadyRunningError(os.getpid(), self.path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._fd = _claim(self.path)
        except OSError as error:
            raise DaemonError(
                f"the PID file {self.path} could not be made: {error.strerror or error}; "
                "choose a pid_file in a directory that this user can write to"
            ) from error
        self._owner = os.getpid()

    def release(self) -> None:
        """Remove the file, if it is still ours, and let the next one start; does nothing if it is not held.

        Where it can't be removed (after a change to a user that may not write to the directory, say) it is emptied, which
        is as good for the next starter, and a warning is logged.

        Raises:
            DaemonError: It could neither be removed nor emptied: it names us until we are dead.
        """
        if self._fd is None:
            return
        descriptor, self._fd = self._fd, None
        if self._owner != os.getpid():
            os.close(descriptor)  # in a forked child: the file is the parent's, and so is the lock
            return
        try:
            if is_at(self.path, descriptor):
                _remove(self.path, descriptor)
        except OSError as error:
            raise DaemonError(
                f"the PID file {self.path} could not be removed: {error.strerror or error}; it names PID {os.getpid()} "
                "until that process has ended"
            ) from error
        finally:
            unlock(descriptor)

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.release()
        except DaemonError as failure:
            if error is None:
                raise
            note_failure(error, failure)

    def __repr__(self) -> str:
        return f"PIDFile({str(self.path)!r}{', held' if self.held else ''})"


def read_pid(path: str | os.PathLike[str]) -> tuple[int, bool]:
    """Return the PID in a file and whether its process is alive, without taking the file.

    Args:
        path: A PID file, written by whomever.

    Returns:
        `(0, False)` if it is missing, unreadable or no PID; `(pid, False)` if the process is dead, a zombie, or began
        after the file was written (its number was given to another one); else `(pid, True)`, for another user's too.

    Raises:
        OptionError: The path is empty, or holds a NUL character.

    >>> read_pid("/nowhere/myapp.pid")
    (0, False)
    """
    try:
        opened = open_regular(_as_path(path))
    except OSError:
        return 0, False  # missing, or nothing that we may read: there is no PID to be had
    if opened is None:
        return 0, False
    descriptor, status = opened
    try:
        pid = _read(descriptor)
    except OSError:
        return 0, False  # a disk or a network that does not answer
    finally:
        os.close(descriptor)
    return pid, lives_since(pid, status.st_mtime)


def _claim(path: Path) -> int:
    """Return the locked descriptor of a new file at `path`, or raise what is in the way."""
    content = b"%d\n" % os.getpid()
    until = time.monotonic() + REREAD_FOR
    while True:
        pid, settled = _clear(path)
        if not pid and settled:
            try:
                with Draft(path.parent, content, lock=True) as draft:
                    draft.create(path)
                    return draft.keep()
            except FileExistsError:
                continue  # another starter was quicker: look who
        if settled or time.monotonic() > until:
            raise AlreadyRunningError(pid, path)
        time.sleep(0.002)


def _clear(path: Path) -> tuple[int, bool]:
    """Remove a stale file.

    Returns:
        `(0, True)`: nothing is there now. `(pid, True)`: that process runs. `(pid or 0, False)`: somebody holds the
        lock, but the file does not name a living process: it is about to be written, or removed.
    """
    try:
        opened = open_regular(path, follow=False, write=True)
    except FileNotFoundError:
        return 0, True
    if opened is None:
        raise DaemonError(
            f"the PID file {path} is not a regular file (a symbolic link, directory, FIFO, socket or device is refused): "
            "remove it, or choose another pid_file"
        )
    descriptor, status = opened
    try:
        locked = try_lock(descriptor)
        if locked and not is_at(path, descriptor):
            return 0, True  # removed before the lock was ours: the next attempt meets what has the name now
        pid = _read(descriptor)
        # Our own PID, but not our lock: from an earlier life, as PID 1 of a container that was started again, say; or
        # another PIDFile of this process has it, which shows in that the lock stays
        running = pid != os.getpid() and lives_since(pid, status.st_mtime)
        if not locked or running:
            return pid, running
        path.unlink()
        return 0, True
    finally:
        unlock(descriptor)


def _remove(path: Path, descriptor: int) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        os.truncate(descriptor, 0)  # the descriptor can do what the user no longer may
        logger.warning("the PID file %s could not be removed, and was emptied: %s", path, error.strerror)


def _read(descriptor: int) -> int:
    data = os.pread(descriptor, _MAX_LENGTH, 0)
    return parse_pid(data) if len(data) < _MAX_LENGTH else 0


def _as_path(path: str | os.PathLike[str]) -> Path:
    return Path(os.fsdecode(checks.path("path", path)))
