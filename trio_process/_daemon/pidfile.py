"""`PIDFile` and `read_pid`: only one instance of a program runs.

The protocol: the running instance is the process that holds the `flock` on the file that has the name *now*. Every step
serves this:

1. The file appears under its name complete and locked (flock(2), link(2)), so that no reader sees half of it.
2. After taking a lock, a starter checks that the file still has the name: it may have been removed before the lock.
3. A file is removed only by the holder of its lock, while it holds it. Unlock-then-remove deletes the next holder's file.

The lock ends with its holder, even on SIGKILL, so one of our files without a lock is stale, whatever process has its PID
now. Our files are recognized by the identity beside their content (`tag_file`); nothing depends on a clock.

A program that only writes its PID has no lock. Its file counts as long as the PID is alive and could have written it:
the process belongs to the owner of the file, or root owns the file. Such a program writes in two steps, first an empty
file and then the PID, so an empty file is read again for a moment before it counts as stale. One gap remains: a program
that writes in place, without a lock, and one with this class can both win if they start within microseconds.

Where the identity can't be stored (no extended attributes), a file of this package is judged like that of another
program.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self, final

from .._core import (
    NO_LOCKS,
    AlreadyRunningError,
    DaemonError,
    Draft,
    Liveness,
    ProcessIdentity,
    Viewpoint,
    checks,
    is_alive,
    is_at,
    is_locked,
    logger,
    make_directories,
    note_failure,
    open_regular,
    parse_pid,
    read_tag,
    read_uids,
    remedy,
    try_lock,
    unlock,
)

REREAD_FOR: Final = 1.0
"""Seconds in which a locked file is read again for the holder's PID.

Another program may lock first and write then, and a starter locks a stale file while it removes it; on a busy machine,
either may have to wait for a processor.
"""

EMPTY_FOR: Final = 0.075
"""Seconds after which an unlocked file without a PID is stale; a program that writes in place fills it sooner."""

_LONGEST_TEXT: Final = 64  # a PID has 10 digits at most; longer files serve another purpose
_LONGEST_TORN: Final = 4096  # a power failure leaves one block of NULs of a small file
_LONGEST_READ: Final = 256  # white space around a PID is fine
_CONTROLS: Final = frozenset({*range(0x20), 0x7F} - set(b" \t\n\r\v\f"))
_PAUSE: Final = 0.002
_ROOT: Final = 0


@final
class PIDFile:
    """A file with this process's PID that only one process at a time can hold: a second instance is refused.

    Synchronous and quick. The lock belongs to the process that takes it, so fork into the background first. A child
    that is forked without exec shares the lock, and keeps it after the death of its parent; a program that is started
    by exec does not.

    Args:
        path: The file; made absolute, because a daemon may change its directory. Missing parent directories are created.
            A symbolic link is refused: in a directory that others can write to, it could lead anywhere.

    Raises:
        OptionError: The path is empty, or holds a NUL character.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as directory, PIDFile(directory + "/myapp.pid") as pid_file:
    ...     read_pid(pid_file.path) == (os.getpid(), True)
    True
    """

    __slots__ = ("_fd", "_owner", "path")

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path: Final[Path] = _as_path(path).absolute()
        self._fd: int | None = None
        self._owner = 0

    @property
    def held(self) -> bool:
        """Whether this object holds the file, in this process; a forked child does not."""
        return self._fd is not None and self._owner == os.getpid()

    def acquire(self) -> None:
        """Take the file, or raise; no other process can take it until `release`, or until this process is dead.

        Raises:
            AlreadyRunningError: Another process, or already this one, holds the file; ``.pid`` is the PID of the holder.
            DaemonError: The file could not be written, or the file at the path is not a PID file.
        """
        if self.held:
            raise AlreadyRunningError(os.getpid(), self.path)
        try:
            make_directories(self.path.parent)
            self._fd = _claim(self.path)
        except OSError as error:
            advice = (
                "its file system has no locks (flock): choose a pid_file on a local disk"
                if error.errno in NO_LOCKS
                else remedy(error, "choose a pid_file in a directory that this user can write to")
            )
            raise DaemonError(
                f"the PID file {self.path} could not be made: {error.strerror or error}; {advice}"
            ) from error
        self._owner = os.getpid()

    def release(self) -> None:
        """Remove the file, so that the next instance can start; do nothing if it is not held.

        If it can't be removed (because the user has changed, say, and may not write to the directory) it is emptied, which
        also lets the next instance start, and a warning is logged. A file that another program has written in the
        meantime is left alone.

        Raises:
            DaemonError: The file could neither be removed nor emptied: it names this process until it is dead.
        """
        if self._fd is None:
            return
        descriptor, self._fd = self._fd, None
        if self._owner != os.getpid():
            os.close(descriptor)  # in a forked child: the file is the parent's, and so is the lock
            return
        try:
            # a program that writes in place leaves the inode, and so the lock, as they are: only the content changes
            if is_at(self.path, descriptor) and os.pread(descriptor, _LONGEST_TEXT, 0) == _content():
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

    def __reduce__(self) -> tuple[type[PIDFile], tuple[Path]]:
        # not held: it would close the descriptor of the original, or another file's that has the number by then
        return PIDFile, (self.path,)

    def __repr__(self) -> str:
        return f"PIDFile({str(self.path)!r}{', held' if self.held else ''})"


class PIDFileState(NamedTuple):
    """The content of a PID file, and whether to believe it.

    Attributes:
        pid: The PID in it, 0 if there is none.
        alive: Whether its program is running.
        locked: Whether a process holds its lock.
        settled: Whether the PID is known to be the running program's; a locked file may be about to be written or removed.
        identity: The identity beside its content, None if another program wrote it.
        status: The file when it was read.
    """

    pid: int
    alive: bool
    locked: bool
    settled: bool
    identity: ProcessIdentity | None
    status: os.stat_result


def read_pid(path: str | os.PathLike[str]) -> tuple[int, bool]:
    """Return the PID in a file and whether its process is alive, without taking the file.

    The process of a locked file is alive. A file that another program wrote counts if its process is alive and belongs to
    the owner of the file, or if root owns the file. The time of the file doesn't matter, because clocks are stepped.

    Args:
        path: A PID file, of this package or another program.

    Returns:
        ``(0, False)`` if the file is missing, unreadable or not a PID file; ``(pid, False)`` if the process is dead or a
        zombie, or only has the PID of a former holder; else ``(pid, True)``, even for the process of another user.

    Raises:
        OptionError: The path is empty, or holds a NUL character.

    >>> read_pid("/nowhere/myapp.pid")
    (0, False)
    """
    state = look_at_pid_file(_as_path(path))
    return (0, False) if state is None else (state.pid, state.alive)


def look_at_pid_file(path: Path) -> PIDFileState | None:
    """Return the state of a PID file; None if it is missing or unreadable."""
    state = _look(path)
    if state is not None and state.locked and not state.settled:
        time.sleep(_PAUSE)  # a starter locks a stale file for a moment to remove it
        state = _look(path)
    return state


def _look(path: Path) -> PIDFileState | None:
    try:
        opened = open_regular(path)
    except OSError:
        return None
    if opened is None:
        return None
    descriptor, status = opened
    try:
        return _judge(descriptor, status, locked=is_locked(descriptor))
    except OSError:
        return None  # a disk or a network that does not answer
    finally:
        os.close(descriptor)


def _claim(path: Path) -> int:
    """Return the locked descriptor of a new file at `path`, or raise an error that names the obstacle."""
    began = time.monotonic()
    while True:
        waited = time.monotonic() - began
        obstacle = _clear(path, patient=waited < EMPTY_FOR)
        if obstacle is None:
            try:
                with Draft(path.parent, _content(), lock=True, tag=os.getpid()) as draft:
                    draft.create(path)
                    return draft.keep()
            except FileExistsError:
                continue  # another starter was quicker: look which
        if obstacle.settled or (obstacle.locked and waited > REREAD_FOR):
            raise AlreadyRunningError(obstacle.pid, path, foreign=not obstacle.locked)
        time.sleep(_PAUSE)


def _clear(path: Path, *, patient: bool) -> PIDFileState | None:
    """Remove a stale file.

    Args:
        path: The PID file.
        patient: Whether to allow for a file that has no PID yet.

    Returns:
        None if there is no file now. Otherwise the obstacle: a running program if its state is settled, or a file that
        is about to be written or removed.
    """
    try:
        opened = open_regular(path, follow=False, write=True)
    except FileNotFoundError:
        return None
    if opened is None:
        raise DaemonError(
            f"the PID file {path} is not a regular file (a symbolic link, directory, FIFO, socket or device is refused): "
            "remove it, or choose another pid_file"
        )
    descriptor, _ = opened
    try:
        locked = try_lock(descriptor)
        if locked and not is_at(path, descriptor):
            return None  # removed before the lock was ours: the next attempt meets the file that has the name now
        if not _is_pid_file(descriptor):
            raise DaemonError(
                f"{path} is not a PID file, and is left unchanged: a PID file is empty or one short line; check which "
                "option has this path, or choose another pid_file"
            )
        # a reader holds a shared lock for a moment, and is not a holder; look again: the file may just have been written
        state = _judge(descriptor, os.fstat(descriptor), locked=not locked and is_locked(descriptor))
        if state.pid == os.getpid() and not state.locked:
            # our own PID, but not our lock: from an earlier life, as PID 1 of a container that was started again, say
            state = state._replace(alive=False, settled=False)
        if state.alive or not locked or (not state.pid and patient):
            return state
        path.unlink()
        return None
    finally:
        unlock(descriptor)


def _judge(descriptor: int, status: os.stat_result, *, locked: bool) -> PIDFileState:
    """Return whether the program of an open file is running, by the rules in the docstring of this module."""
    data = os.pread(descriptor, _LONGEST_READ, 0)
    pid = parse_pid(data) if len(data) < _LONGEST_READ else 0
    if not pid:
        return PIDFileState(0, alive=False, locked=locked, settled=False, identity=None, status=status)
    identity = read_tag(descriptor, pid, status.st_mtime_ns)
    if locked:
        settled = Viewpoint().judge(pid, identity) is Liveness.ALIVE
        return PIDFileState(pid, alive=True, locked=True, settled=settled, identity=identity, status=status)
    alive = identity is None and _could_have_written(pid, status)
    return PIDFileState(pid, alive=alive, locked=False, settled=alive, identity=identity, status=status)


def _could_have_written(pid: int, status: os.stat_result) -> bool:
    """Whether a process is alive and may have written a file."""
    if not is_alive(pid):
        return False
    users = read_uids(pid)
    return status.st_uid == _ROOT or users is None or status.st_uid in users


def _is_pid_file(descriptor: int) -> bool:
    """Whether a file may be replaced: it is empty, a torn file of NULs, or a short text."""
    data = os.pread(descriptor, _LONGEST_TORN + 1, 0)
    if len(data) <= _LONGEST_TORN and not data.strip(b"\0"):
        return True
    # any encoding will do: every control character but white space is left to programs, images and databases
    return len(data) <= _LONGEST_TEXT and not _CONTROLS.intersection(data.lstrip(b"\0"))


def _remove(path: Path, descriptor: int) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        os.truncate(descriptor, 0)  # the descriptor can do what the user no longer may
        logger.warning("the PID file %s could not be removed, and was emptied: %s", path, error.strerror)


def _content() -> bytes:
    return b"%d\n" % os.getpid()


def _as_path(path: str | os.PathLike[str]) -> Path:
    return checks.file_path("path", path)
