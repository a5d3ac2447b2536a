"""Files that appear whole or not at all, and the locks that prove which process made them."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Final, Self, final

from .identity import tag_file

TEMPORARY: Final = ".trio-process-"
"""The prefix of every temporary file; the suffix is ``.tmp``, so that a search for ``*.json`` doesn't find it."""

_NO_ANONYMOUS: Final = {errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT}


_READ_ONLY: Final = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ETXTBSY}

NO_LOCKS: Final = frozenset({errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP})
"""What flock(2) fails with on a file system that has no locks: NFS without its lock service, some FUSE file systems."""

_REMEDIES: Final = {
    errno.ENOSPC: "make room on its file system",
    errno.EDQUOT: "make room: this user's quota of its file system is used up",
    errno.EFBIG: "raise the limit on the size of files (ulimit -f)",
    errno.EMFILE: "close some files, or raise the limit (ulimit -n)",
}


def reopened(terminal: int) -> int:
    """Return a descriptor of the same terminal whose writes don't wait: one that has some room would wait for the rest.

    O_NONBLOCK on the existing descriptor would affect every process that shares it.
    """
    try:
        return os.open(f"/proc/self/fd/{terminal}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:  # it belongs to another user, as after su(1)
        return os.dup(terminal)


def remedy(error: OSError, otherwise: str) -> str:
    """Return what the user can do about a file that could not be written: `otherwise`, unless the error calls for more."""
    return _REMEDIES.get(error.errno or 0, otherwise)


def write_atomically(path: str | os.PathLike[str], data: bytes, *, mode: int = 0o644) -> None:
    """Write a file so that every reader sees the old content or the new one, and a full disk leaves the old one.

    A temporary file in the same directory is written, synced and renamed (rename(2)). A symbolic link at the path is
    replaced, not followed.

    Args:
        path: The file.
        data: Its whole content.
        mode: Its permissions, less the umask.

    Raises:
        OSError: It could not be written; the old file is unchanged, and no temporary file remains.
    """
    target = Path(path)
    try:
        with Draft(target.parent, data, mode=mode) as draft:
            draft.replace(target)
    except OSError as error:
        error.filename, error.filename2 = str(target), None  # none at all if the disk is full, else a temporary name
        raise


def _write(_directory: Path, descriptor: int, data: memoryview) -> int:
    return os.write(descriptor, data)


@final
class Draft:
    """A file that is written and synced, but has no name yet; leaving the block without naming it discards it.

    If the file system supports it, the file has no name at all until then (`O_TMPFILE`, open(2)), so that even SIGKILL
    during the write leaves nothing behind.

    Args:
        directory: Where it will be; a file can only be named within its file system.
        data: Its whole content.
        mode: Its permissions, less the umask.
        lock: Hold an exclusive `flock` on it before another process can see it; see `keep`.
        tag: A process whose identity is written beside the content (`identity.tag_file`); None for no identity.

    Raises:
        OSError: It could not be written; nothing is left behind.
    """

    __slots__ = ("_directory", "_fd", "_name")

    write: ClassVar[Callable[[Path, int, memoryview], int]] = staticmethod(_write)
    """Write to a descriptor of a file in a directory; `testing.FaultyDisk` puts a full disk in its place."""

    def __init__(
        self, directory: Path, data: bytes, *, mode: int = 0o644, lock: bool = False, tag: int | None = None
    ) -> None:
        self._directory = directory
        self._fd, self._name = _open_draft(directory, mode)
        try:
            if lock:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            left = memoryview(data)
            while left:  # near the end of a disk or a limit, a part is written before the error comes
                left = left[Draft.write(directory, self._fd, left) :]
            if tag is not None:
                tag_file(self._fd, tag)
            os.fsync(self._fd)  # before it gets its name: else a power failure may leave a name without the content
        except BaseException:
            self._discard()
            raise

    def replace(self, path: Path) -> None:
        """Name the file `path`, replacing any file of that name."""
        if self._name is None:
            name = _temporary_name(self._directory)
            self._link(name)
            self._name = name
        self._name.rename(path)
        self._name = None

    def create(self, path: Path) -> None:
        """Name the file `path`; raise `FileExistsError` if that name is taken, even by a dangling link."""
        if self._name is None:
            self._link(path)
        else:
            os.link(self._name, path, follow_symlinks=False)
            self._name.unlink()
            self._name = None

    def keep(self) -> int:
        """Hand over the descriptor and its lock, which lasts until it is unlocked or every copy is closed."""
        descriptor, self._fd = self._fd, -1
        return descriptor

    def _link(self, path: Path) -> None:
        # linkat(2) with AT_SYMLINK_FOLLOW, which Python passes only if a directory descriptor is given; with absolute
        # paths its value has no meaning
        os.link(f"/proc/self/fd/{self._fd}", path, src_dir_fd=self._fd, follow_symlinks=True)

    def _discard(self) -> None:
        try:
            if self._name is not None:
                self._name.unlink(missing_ok=True)
                self._name = None
        finally:
            if self._fd >= 0:
                os.close(self.keep())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._discard()


def make_directories(path: Path, mode: int = 0o755) -> None:
    """Make a directory and its missing parents, with at most these permissions whatever the umask is.

    Raises:
        OSError: One could not be made, or a file has its name.
    """
    missing = []
    while not path.is_dir():
        missing.append(path)
        if path.parent == path:
            break
        path = path.parent
    for directory in reversed(missing):
        try:
            directory.mkdir(mode)
        except FileExistsError:
            if not directory.is_dir():  # else another process was quicker
                raise


_OWN: Final = re.compile(r"/(?:dev/(?:(stdin)|(stdout)|(stderr)|fd/(\d{1,9}))|proc/self/fd/(\d{1,9}))")


def own_descriptor(path: str | os.PathLike[str]) -> int | None:
    """Return the descriptor of this process that a path names (``/dev/stdout``, ``/dev/fd/3``, ``/proc/self/fd/3``), else None.

    Such a path is to be duplicated, not opened: opening a socket fails, and a pipe or file would get another position.
    """
    found = _OWN.fullmatch(os.fsdecode(path))
    if found is None:
        return None
    stdin, stdout, stderr, *numbers = found.groups()
    return 0 if stdin else 1 if stdout else 2 if stderr else int(numbers[0] or numbers[1])


def open_regular(
    path: str | os.PathLike[str], *, follow: bool = True, write: bool = False
) -> tuple[int, os.stat_result] | None:
    """Open a regular file without ever blocking; return None for a directory, FIFO, socket or device.

    Args:
        path: The file.
        follow: Whether to follow a symbolic link; otherwise it counts as not regular.
        write: Open it for writing too, if that is allowed: over NFS an exclusive lock needs it (flock(2)).

    Raises:
        OSError: It is missing or unreadable.
    """
    # checked before, as opening a device or a FIFO can have effects; and after, as it can be replaced in between
    if not stat.S_ISREG(os.stat(path, follow_symlinks=follow).st_mode):
        return None
    flags = os.O_CLOEXEC | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW)
    try:
        descriptor = os.open(path, flags | (os.O_RDWR if write else os.O_RDONLY))
    except OSError as error:
        if not write or error.errno not in _READ_ONLY:
            raise
        descriptor = os.open(path, flags | os.O_RDONLY)
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode):
        return descriptor, status
    os.close(descriptor)
    return None


def try_lock(descriptor: int, *, shared: bool = False) -> bool:
    """Take a `flock` if no other lock conflicts; it belongs to the open file, so a forked child shares it."""
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_locked(descriptor: int) -> bool:
    """Whether another holds an exclusive `flock`; asking takes a shared one for a moment. False where there are no locks."""
    try:
        if not try_lock(descriptor, shared=True):
            return True
        fcntl.flock(descriptor, fcntl.LOCK_UN)
    except OSError:
        pass  # a file system without locks
    return False


def unlock(descriptor: int) -> None:
    """Release a `flock` and close the file; closing alone leaves the lock to a forked child that has a copy."""
    with suppress(OSError):  # a file system without locks
        fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)


def is_at(path: Path, descriptor: int) -> bool:
    """Whether this name still belongs to the open file."""
    try:
        return os.path.samestat(path.stat(follow_symlinks=False), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _open_draft(directory: Path, mode: int) -> tuple[int, Path | None]:
    """Open a file without a name, or with a temporary one if the file system needs it."""
    flags = os.O_RDWR | os.O_CLOEXEC  # NFS takes an exclusive lock only on a file open for writing
    if hasattr(os, "O_TMPFILE") and Path("/proc/self/fd").is_dir():
        try:
            return os.open(directory, flags | os.O_TMPFILE, mode), None
        except OSError as error:
            if error.errno not in _NO_ANONYMOUS:
                raise
    name = _temporary_name(directory)
    return os.open(name, flags | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode), name


def _temporary_name(directory: Path) -> Path:
    return directory / f"{TEMPORARY}{os.urandom(8).hex()}.tmp"
