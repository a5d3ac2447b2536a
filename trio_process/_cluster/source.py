"""The stdin that a remote process was given: read here, by the client, and streamed."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final, final

import trio

from .._core import RunOptions, Stdio
from .._process import open_path

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
            await trio.lowlevel.wait_readable(self._descriptor)
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
    """
    given = options.stdin
    if isinstance(given, Stdio) or given is None:
        return None
    if isinstance(given, str):
        return Source(given.encode(options.encoding))
    if isinstance(given, bytes):
        return Source(given)
    if isinstance(given, Path):
        return Source(descriptor=open_path(given, os.O_RDONLY))
    return Source(descriptor=os.dup(given.fileno()))
