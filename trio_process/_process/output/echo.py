"""`echo`: a process's output on our own stdout and stderr, whole lines, byte for byte."""

from __future__ import annotations

import errno
import os
import select
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Final, final

import trio

from ..._core import RoomWaiters, Stream, logger, reopened
from .lines import LineBuffer

_FULL: Final = 2**20  # bytes kept for a slow terminal before the child waits
_LONGEST_WAIT_FOR_NEWLINE: Final = 2**16
_PIPE_BUF: Final = 4096  # pipe(7): what a writable pipe takes at least without waiting
_SECOND_LOOK: Final = 0.01

_turns: Final = trio.lowlevel.RunVar[dict[tuple[int, int], trio.Lock]]("trio_process echo turns")
_by_chunks: Final = trio.lowlevel.RunVar[bool]("trio_process echo by chunks", default=False)


def echo_chunks() -> None:
    """Make `echo` pass on each chunk as it arrives, in this whole run of Trio: for a program that has no other output."""
    _by_chunks.set(True)


@final
class Echo:
    """Buffers output until our own stdout or stderr takes it; while the buffer is full, the child waits.

    Attributes:
        flushed: Set once everything is written.
    """

    def __init__(self) -> None:
        self._lines: deque[tuple[Stream, bytes]] = deque()
        self._partial = {stream: LineBuffer(_LONGEST_WAIT_FOR_NEWLINE) for stream in Stream}
        self._by_chunks = _by_chunks.get()
        self._size = 0
        self._ended = False
        self._broken: set[Stream] = set()
        self._more = trio.Event()
        self._room = RoomWaiters()
        self.flushed: trio.Event = trio.Event()
        self._scope = trio.CancelScope(shield=True)

    @property
    def full(self) -> bool:
        """Whether the child should wait."""
        return self._size >= _FULL and not self.flushed.is_set()

    def when_room(self, callback: Callable[[], object]) -> None:
        """Call `callback` once, as soon as the buffer is no longer full."""
        self._room.add(callback)

    def forget(self, callback: Callable[[], object]) -> None:
        """Don't call `callback` any more."""
        self._room.discard(callback)

    def hold_up_notice(self, process: str, seconds: float) -> None:
        """Return None: a pager or a stopped terminal is not worth a log record, which may go to the same full pipe."""

    def write(self, stream: Stream, data: bytes) -> None:
        """Take in a chunk; a line is passed on when it is complete, or very long."""
        self._pass_on(stream, data if self._by_chunks else self._partial[stream].feed(data))

    def _pass_on(self, stream: Stream, data: bytes) -> None:
        if data and stream not in self._broken:
            self._lines.append((stream, data))
            self._size += len(data)
            self._more.set()

    def finish(self) -> None:
        """Pass on the unfinished last line."""
        for stream, partial in self._partial.items():
            self._pass_on(stream, partial.finish())
        self._ended = True
        self._more.set()

    def give_up_at(self, deadline: float) -> None:
        """Wait for a slow reader until `deadline` at most; after that the rest is discarded."""
        self._scope.deadline = min(self._scope.deadline, deadline)

    async def run(self) -> None:
        """Write until the process has ended and everything is written; only `give_up_at` ends it before."""
        with self._scope:
            await self._run()

    async def _run(self) -> None:
        try:
            while self._lines or not self._ended:
                if not self._lines:
                    self._more = trio.Event()
                    await self._more.wait()
                    continue
                stream, data = self._lines.popleft()
                if stream not in self._broken:
                    await self._write(stream, data)
                self._size -= len(data)
                if not self.full:
                    self._room.run()
        finally:
            self.flushed.set()
            self._room.run()

    async def _write(self, stream: Stream, data: bytes) -> None:
        file = sys.stdout if stream is Stream.STDOUT else sys.stderr
        try:
            descriptor = _descriptor(file)
            if descriptor is not None:
                await _write_all(descriptor, data)
            elif file is not None:
                file.write(data.decode("utf-8", "replace"))
                file.flush()
        except (BrokenPipeError, ConnectionResetError):
            self._broken.add(stream)  # the reader has left, as `| head` does, and wants no more
        except Exception as error:  # noqa: BLE001 - a full disk, a closed file, whatever a custom stdout raises
            self._broken.add(stream)
            if getattr(error, "errno", None) == errno.EIO and _descriptor_is_hung_up(file):
                return  # so has the reader of a terminal
            text = "%s of this program accepts no more output of processes: %s"
            logger.warning(text, stream, error, extra={"output_lost": True})  # for the exit status of the command line


def _descriptor_is_hung_up(file: IO[str] | None) -> bool:
    """Return whether a text file is a terminal that has hung up."""
    descriptor = _descriptor(file)
    if descriptor is None:
        return False
    poll = select.poll()
    poll.register(descriptor, 0)
    return any(event & select.POLLHUP for _, event in poll.poll(0))


def _descriptor(file: IO[str] | None) -> int | None:
    """Return the descriptor of a text file, after flushing its buffer to keep the order; None for a file in memory."""
    if file is None:
        return None
    try:
        descriptor = file.fileno()
    except (OSError, ValueError, AttributeError):
        return None
    file.flush()
    return descriptor


def _turn(descriptor: int) -> trio.Lock:
    """Return the lock of the file behind a descriptor, so that several processes write whole chunks of lines."""
    status = os.fstat(descriptor)
    try:
        turns = _turns.get()
    except LookupError:
        turns = {}
        _turns.set(turns)
    return turns.setdefault((status.st_dev, status.st_ino), trio.Lock())


async def _write_all(descriptor: int, data: bytes) -> None:
    """Write without blocking the thread: at a time, only as much as a writable pipe is sure to take."""
    rest = memoryview(data)
    with _own(descriptor) as own:
        async with _turn(own):
            while rest:
                try:
                    await trio.lowlevel.wait_writable(own)
                except PermissionError:
                    # a regular file can't be waited for (epoll_ctl(2), EPERM) and is always writable
                    rest = rest[os.write(own, rest) :]
                    continue
                try:
                    rest = rest[os.write(own, rest[:_PIPE_BUF]) :]
                except BlockingIOError:
                    await trio.sleep(_SECOND_LOOK)  # it said that it has room, and had none for a whole character


@contextmanager
def _own(descriptor: int) -> Iterator[int]:
    """Yield a duplicate of the descriptor: the program may close its own meanwhile, or have a task that waits for it."""
    try:
        own = reopened(descriptor) if os.isatty(descriptor) else os.dup(descriptor)
    except OSError as error:
        if error.errno not in (errno.EMFILE, errno.ENFILE):
            raise
        yield descriptor
        return
    try:
        yield own
    finally:
        os.close(own)
