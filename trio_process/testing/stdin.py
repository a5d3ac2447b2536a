"""`FakeStdin`: the input of a scripted process: a pipe of the real size."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import final

import trio

from .._core import RunOptions, StdinNotAvailableError, Stdio
from .._process import PIPE_CAPACITY
from .behaviour import Expect, Read, ReadBytes
from .call import Call


class MismatchError(Exception):
    """The input was not what a step expects."""


@final
class FakeStdin:
    """The stdin of a scripted process.

    Args:
        call: Receives a copy of everything that is written.
        wake: Called when there is more to read.

    Raises:
        OSError: The file given as stdin can't be read.
    """

    def __init__(self, call: Call, wake: Callable[[], object]) -> None:
        options = call.options
        self._call = call
        self._encoding = options.encoding
        self._wake = wake
        self._pipe = bytearray(_given(options))
        self._read = bytearray()  # taken from the pipe by the program, as its buffered input does, but not used yet
        self._ended = options.stdin is not Stdio.PIPE
        self._room = trio.lowlevel.ParkingLot()
        self._writing = trio.Lock()
        self._refused = False
        self.closed: bool = self._ended
        call.stdin = bytes(self._pipe)

    async def write(self, data: bytes, refusal: Callable[[], Exception]) -> None:
        """Write all of it. A full pipe makes the writer wait; concurrent writers are serialized."""
        async with self._writing:
            rest = memoryview(data)
            while rest:
                if self._refused:
                    raise StdinNotAvailableError("the child has closed its stdin")
                if self.closed:
                    raise refusal()
                room = PIPE_CAPACITY - len(self._pipe)
                if room <= 0:
                    await self._room.park()
                    continue
                self._pipe += rest[:room]
                self._call.stdin += rest[:room]
                rest = rest[room:]
                self._wake()

    def close(self) -> None:
        """Let the script read end of file after the rest, and wake the writers; can be repeated."""
        if not self.closed:
            self.closed = self._ended = True
            self._room.unpark_all()
            self._wake()

    def refuse(self) -> None:
        """Make writers fail, as if the program had closed its end of the pipe."""
        self._refused = True
        self._room.unpark_all()

    def take(self, step: Expect | Read | ReadBytes) -> bytes | None:
        """Return the input for a step, or None if not all of it has arrived.

        Raises:
            MismatchError: The input is not the expected one.
        """
        self._read += self._pipe
        self._pipe.clear()
        self._room.unpark_all()
        match step:
            case Expect(data):
                return self._take_expected(data.encode(self._encoding) if isinstance(data, str) else data)
            case ReadBytes(count):
                size = count if len(self._read) >= count else None
            case Read.LINE:
                size = self._read.find(b"\n") + 1 or None
            case Read.ALL:
                size = None
        if size is None and self._ended:
            size = len(self._read)
        return None if size is None else self._cut(size)

    def _take_expected(self, wanted: bytes) -> bytes | None:
        start = bytes(self._read[: len(wanted)])
        if start == wanted:
            return self._cut(len(wanted))
        if wanted.startswith(start) and not self._ended:
            return None
        end = ", and no more" if self._ended else ""
        raise MismatchError(f"expected {wanted!r} on stdin, got {bytes(self._read)!r}{end}")

    def _cut(self, size: int) -> bytes:
        taken = bytes(self._read[:size])
        del self._read[:size]
        return taken


def _given(options: RunOptions) -> bytes:
    """Return the input that is available from the start."""
    source = options.stdin
    if isinstance(source, Stdio) or source is None:
        return b""
    if isinstance(source, str):
        return source.encode(options.encoding)
    if isinstance(source, bytes):
        return source
    return source.read_bytes() if isinstance(source, Path) else source.read()
