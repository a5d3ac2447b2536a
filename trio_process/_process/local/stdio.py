"""The standard streams of a child: which descriptors are opened for them, and which side closes each."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, final

from ..._core import RunOptions, Stdio, Stream, joins_outputs, memory_file, own_descriptor
from ..output import open_at_end

PIPE_CAPACITY: Final = 65536
"""What a pipe holds at least before a writer waits, in bytes (pipe(7), "Pipe capacity")."""


Ends = tuple[int | None, int | None, int | None]
"""The child's ends of stdin, stdout and stderr: descriptors, None where it inherits ours."""


@final
class OutputEnds:
    """Our ends of the pipes of a child's stdout and stderr, by stream; a dict of the two would take 220 bytes of each child."""

    __slots__ = ("_stderr", "_stdout")

    def __init__(self) -> None:
        self._stdout = self._stderr = -1

    def __setitem__(self, stream: Stream, descriptor: int) -> None:
        if stream is Stream.STDOUT:
            self._stdout = descriptor
        else:
            self._stderr = descriptor

    def get(self, stream: Stream) -> int | None:
        """Return the descriptor, None if there is none."""
        descriptor = self._stdout if stream is Stream.STDOUT else self._stderr
        return None if descriptor < 0 else descriptor

    def pop(self, stream: Stream) -> int:
        """Forget a descriptor, and return it."""
        descriptor = self.get(stream)
        assert descriptor is not None, "it is closed once"
        self[stream] = -1
        return descriptor

    def items(self) -> list[tuple[Stream, int]]:
        """Return the descriptors with their streams."""
        pairs = ((Stream.STDOUT, self._stdout), (Stream.STDERR, self._stderr))
        return [(stream, descriptor) for stream, descriptor in pairs if descriptor >= 0]

    def __iter__(self) -> Iterator[Stream]:
        return iter([stream for stream, _ in self.items()])

    def values(self) -> list[int]:
        """Return the descriptors."""
        return [descriptor for _, descriptor in self.items()]

    def __len__(self) -> int:
        return (self._stdout >= 0) + (self._stderr >= 0)


@final
class Descriptors:
    """The descriptors that one spawn opens; each is closed by its owner, this process or the child.

    Args:
        null: The null device, which all spawns share.

    Attributes:
        stdin, outputs, log, launch: Our ends.
        passed: The descriptors that the child inherits besides its standard streams.
        is_opening: Whether an error comes from opening descriptors, and not from the fork or the exec.
    """

    def __init__(self, null: int) -> None:
        self._null = null
        self._theirs: list[int] = []
        self.stdin: int | None = None
        self.outputs = OutputEnds()
        self.log: int | None = None
        self.launch: int | None = None
        self.passed: tuple[int, ...] = ()
        self.is_opening = False

    def open(self, options: RunOptions) -> Ends:
        """Open the files and pipes of a child's standard streams.

        Raises:
            OSError: A file or pipe can't be opened; the caller closes those already opened.
        """
        self.is_opening = True
        ends = self._open_detached(options) if options.detach else self._open_attached(options)
        self.is_opening = False
        return ends

    def _open_attached(self, options: RunOptions) -> Ends:
        stdin = self._open_stdin(options)
        stdout = self._open_output(options.stdout, Stream.STDOUT)
        stderr = stdout if joins_outputs(options) else self._open_output(options.stderr, Stream.STDERR)
        if options.stderr is Stdio.STDOUT and stdout is None:
            stderr = 1
        return stdin, stdout, stderr

    def _open_detached(self, options: RunOptions) -> Ends:
        """Open a file or the null device: a pipe to this program would kill the process with SIGPIPE after our end."""
        if options.log_file is None:
            target = self._null
        else:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            target = self._own(os.open(options.log_file, flags, 0o644))
            self.log = open_at_end(options.log_file)
        stdout = target if options.stdout is Stdio.PIPE else self._open_output(options.stdout, Stream.STDOUT)
        if joins_outputs(options):
            return self._null, stdout, stdout
        stderr = target if options.stderr is Stdio.PIPE else self._open_output(options.stderr, Stream.STDERR)
        return self._null, stdout, stderr

    def open_launch(self) -> int:
        """Open the pipe for the launcher's report; return the launcher's end."""
        self.launch, theirs = os.pipe()
        self.passed = (theirs,)
        return self._own(theirs)

    def _open_stdin(self, options: RunOptions) -> int | None:  # noqa: PLR0911 - a case for each kind of source
        source = options.stdin
        if isinstance(source, Stdio):
            if source is Stdio.PIPE:
                theirs, self.stdin = os.pipe()
                return self._own(theirs)
            return self._null if source is Stdio.NULL else None
        if source is None:
            return self._null
        if isinstance(source, str):
            return self._hold(source.encode(options.encoding))
        if isinstance(source, bytes):
            return self._hold(source)
        if isinstance(source, Path):
            return self._own(open_path(source, os.O_RDONLY))
        return source.fileno()

    def _hold(self, data: bytes) -> int:
        """Return a descriptor to read `data` from: a pipe if it can hold all of it, else an unnamed file."""
        if len(data) <= PIPE_CAPACITY:
            theirs, ours = os.pipe()
            self._own(theirs)
            try:
                os.set_blocking(ours, False)
                if os.write(ours, data) == len(data) if data else True:
                    return theirs
            except BlockingIOError:
                pass  # pipe(7): a user with very many pipes gets smaller ones
            finally:
                os.close(ours)
        held = self._own(memory_file("trio-process stdin"))  # needs no directory
        written = 0
        while written < len(data):
            written += os.write(held, memoryview(data)[written:])
        os.lseek(held, 0, os.SEEK_SET)
        return held

    def _open_output(self, target: Any, stream: Stream) -> int | None:
        if isinstance(target, Stdio):
            if target is Stdio.PIPE:
                self.outputs[stream], theirs = os.pipe()
                return self._own(theirs)
            return self._null if target is Stdio.NULL else None
        if isinstance(target, Path):
            return self._own(open_path(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC))
        return int(target.fileno())

    def _own(self, descriptor: int) -> int:
        self._theirs.append(descriptor)
        return descriptor

    def unblock_ours(self) -> None:
        """Make our ends of the pipes non-blocking; after the spawn, while the child starts, this costs no time."""
        for descriptor in self.outputs.values():
            os.set_blocking(descriptor, False)
        if self.stdin is not None:
            os.set_blocking(self.stdin, False)

    def close_theirs(self) -> None:
        """Close the child's ends, of which it has its own copies by now."""
        while self._theirs:
            os.close(self._theirs.pop())

    def close_ours(self) -> None:
        """Close our ends, after a spawn that failed."""
        for descriptor in (self.stdin, self.log, self.launch, *self.outputs.values()):
            if descriptor is not None:
                os.close(descriptor)
        self.stdin = self.log = self.launch = None
        self.outputs = OutputEnds()


def open_path(path: Path, flags: int) -> int:
    """Open the file for a standard stream of a child.

    A path that names one of our descriptors duplicates that. A FIFO is refused, because opening it would block until
    another process opens its other end (fifo(7)).
    """
    own = own_descriptor(path)
    if own is not None:
        try:
            return os.dup(own)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from None
    try:
        descriptor = os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK, 0o666)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        descriptor = -1  # a FIFO without a reader
    if descriptor < 0 or stat.S_ISFIFO(os.fstat(descriptor).st_mode):
        if descriptor >= 0:
            os.close(descriptor)
        why = "it is a FIFO, and opening one waits for its other side; open it yourself, and give the open file"
        raise OSError(errno.EINVAL, why, str(path))
    os.set_blocking(descriptor, True)
    return descriptor
