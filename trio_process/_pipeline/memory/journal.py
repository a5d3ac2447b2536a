"""Store records in a file that survives SIGKILL at any moment: each is a line with a checksum, appended in one write.

A line cut short by a crash or a full disk fails its checksum and is left out. Concurrent writers are serialized by
flock(2). A program that rewrites the file to drop outdated records renames a new file into place; the others detect
that by the inode before they write again.

A power cut may lose the records that were not synced (fsync(2)) yet, but no earlier ones.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple, final

from ..._core import dumps, is_at, loads, open_regular, write_atomically

_FAULTS: Final = (ValueError, KeyError, TypeError, RecursionError)
_SEAL: Final = 4096
"""The number of bytes that identify the beginning of a journal: its last ones."""


class Mark(NamedTuple):
    """The end of a part of a journal that was read.

    Attributes:
        end: The number of bytes before it.
        seal: The last of these bytes, by which the part is recognized: every record contains a time or a digest.
    """

    end: int
    seal: bytes


@final
class Journal:
    """The records of one file, oldest first.

    Args:
        path: The file; it and its directory are created when the first record is written.
    """

    __slots__ = ("_path",)

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    def data(self) -> bytes:
        """Return the content of the file, empty if there is none.

        Raises:
            OSError: The file can't be read.
        """
        try:
            descriptor = self._open_to_read()
        except FileNotFoundError:
            return b""
        with open(descriptor, "rb") as file:
            return file.read()

    def read(self) -> Iterator[dict[str, Any]]:
        """Yield the intact records; none if there is no file.

        Raises:
            OSError: The file can't be read.
        """
        return parse(self.data())

    def read_after(self, mark: Mark) -> bytes | None:
        """Return the first line, and everything after a mark; None if the file is no longer the one that was marked.

        Raises:
            OSError: The file can't be read.
        """
        descriptor = self._open_to_read()
        try:
            size = os.fstat(descriptor).st_size
            if size < mark.end or os.pread(descriptor, len(mark.seal), mark.end - len(mark.seal)) != mark.seal:
                return None
            first, newline, _ = os.pread(descriptor, _SEAL, 0).partition(b"\n")
            return first + newline + os.pread(descriptor, size - mark.end, mark.end)
        finally:
            os.close(descriptor)

    def append(self, records: Iterable[dict[str, Any]], *, sync: bool = False) -> tuple[int, Mark]:
        """Append records in a single write.

        Args:
            records: The records.
            sync: Whether to return only when they are on the disk.

        Returns:
            The size of the file before, and the mark of its new end.

        Raises:
            OSError: The file can't be written.
        """
        data = b"".join(map(_format, records))
        while True:
            descriptor = self._open()
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                if not is_at(self._path, descriptor):
                    continue  # it has been rewritten in between
                size = os.fstat(descriptor).st_size
                if size and os.pread(descriptor, 1, size - 1) != b"\n":
                    data = b"\n" + data  # a line cut short by a crash must not spoil the next record
                written = os.write(descriptor, data)
                if sync:
                    os.fsync(descriptor)
                begin = max(0, size + written - _SEAL)
                return size, Mark(size + written, os.pread(descriptor, size + written - begin, begin))
            finally:
                os.close(descriptor)

    def rewrite(self, change: Callable[[Iterable[dict[str, Any]]], Iterable[dict[str, Any]]]) -> None:
        """Replace the records of the file by the result of `change`; other writers wait.

        Raises:
            OSError: The file can't be written; the old one is untouched.
        """
        descriptor = self._open()
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if is_at(self._path, descriptor):  # else another program has just rewritten it
                data = b"".join(map(_format, change(self.read())))
                write_atomically(self._path, data)
        finally:
            os.close(descriptor)

    def _open_to_read(self) -> int:
        opened = open_regular(self._path)
        if opened is None:
            raise self._irregular()
        return opened[0]

    def _open(self) -> int:
        try:
            descriptor = self._open_or_create()
        except FileNotFoundError:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = self._open_or_create()
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise self._irregular()
        return descriptor

    def _open_or_create(self) -> int:
        return os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def _irregular(self) -> OSError:
        return OSError(errno.EINVAL, "not a regular file", str(self._path))  # a FIFO would block us


def end_of(data: bytes) -> Mark:
    """Return the mark of the end of the content of a journal."""
    return Mark(len(data), data[-_SEAL:])


def parse(data: bytes) -> Iterator[dict[str, Any]]:
    """Yield the intact records of the content of a journal."""
    for line in data.split(b"\n"):
        record = _parse(line)
        if record is not None:
            yield record


def _format(record: dict[str, Any]) -> bytes:
    text = dumps(record).encode()
    return b"%08x %b\n" % (zlib.crc32(text), text)


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        if int(line[:8], 16) != zlib.crc32(line[9:]):
            return None
        record = loads(line[9:])
    except _FAULTS:
        return None
    return record if isinstance(record, dict) else None
