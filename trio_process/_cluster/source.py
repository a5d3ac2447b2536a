"""The stdin that a remote process was given: read here, by the client, and streamed."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from pathlib import Path
from typing import Final, final

import trio

from .._core import RunOptions, Stdio
from .._process import file_was_closed, not_encodable, open_path

_PART: Final = 2**18


@final
class Source:
    """Input from memory, or from a descriptor that it owns."""

    def __init__(self, data: bytes = b"", descriptor: int = -1) -> None:
        self._data = data
        self._descriptor = descriptor
        self._waits = descriptor >= 0 and not stat.S_ISREG(os.fstat(descriptor).st_mode)

    async def read(self) -> bytes:
        """Return the next part, empty at the end.

        Raises:
            OSError: It can't be read.
        """
        await trio.lowlevel.checkpoint()
        if self._descriptor < 0:
            data, self._data = self._data, b""
            return data
        if self._waits:
            # without O_NONBLOCK, which would be seen by all who share the open file (open(2))
            try:
                await trio.lowlevel.wait_readable(self._descriptor)
            except PermissionError:
                self._waits = False  # epoll_ctl(2): a device that is always ready, such as /dev/null
        return os.read(self._descriptor, _PART)

    def close(self) -> None:
        """Close the descriptor; can be repeated."""
        self._data = b""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            trio.lowlevel.notify_closing(descriptor)
            os.close(descriptor)


def open_source(options: RunOptions) -> Source | None:
    """Open the input of a process; None for no input, or only later input.

    Raises:
        OSError: It can't be opened.
        OptionError: A text can't be encoded, or a file is closed.
    """
    given = options.stdin
    if isinstance(given, Stdio) or given is None:
        return None
    if isinstance(given, str):
        try:
            return Source(given.encode(options.encoding))
        except UnicodeEncodeError as error:
            raise not_encodable(options, error) from None
    if isinstance(given, bytes):
        return Source(given)
    try:
        descriptor = open_path(given, os.O_RDONLY) if isinstance(given, Path) else os.dup(given.fileno())
    except ValueError as error:  # I/O operation on closed file
        raise file_was_closed(options, error) from None
    try:
        _check_readable(descriptor, str(given) if isinstance(given, Path) else None)
        return Source(descriptor=descriptor)
    except BaseException:
        os.close(descriptor)
        raise


def _check_readable(descriptor: int, path: str | None) -> None:
    """Refuse input that can't be read: here only we would see the error, not the process."""
    if stat.S_ISDIR(os.fstat(descriptor).st_mode):
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY:
        raise OSError(errno.EBADF, "it is not open for reading", path)
