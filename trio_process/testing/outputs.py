"""`FakeOutputs`: the streams that a scripted process writes to: pipes of the real size, files, or nothing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final, final

from .._core import RunOptions, Stdio, Stream, joins_outputs
from .._process import CHUNK, PIPE_CAPACITY, HandleOwner

_NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
_LOG_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC


@final
class FakeOutputs:
    """The outputs of one scripted process.

    Raises:
        OSError: A file can't be opened; none is left open.
    """

    def __init__(self, options: RunOptions) -> None:
        self._pipes: dict[Stream, bytearray] = {}
        self._paused: set[Stream] = set()
        self._files: list[int] = []
        self._log: int | None = None  # a detached process writes to it, and it is followed
        try:
            if options.detach and options.log_file is not None:
                self._log = self._open(options.log_file, _LOG_FILE)
            stdout = self._target(Stream.STDOUT, options.stdout, options)
            stderr = stdout if joins_outputs(options) else self._target(Stream.STDERR, options.stderr, options)
        except BaseException:
            self.close_files()
            raise
        self._targets = {Stream.STDOUT: stdout, Stream.STDERR: stderr}

    def _target(self, stream: Stream, target: Any, options: RunOptions) -> Stream | int | None:
        """Return the target of a stream: a pipe to us, a descriptor, or None."""
        if target is Stdio.PIPE and options.detach:
            return self._log
        if target is Stdio.PIPE:
            self._pipes[stream] = bytearray()
            return stream
        if target is Stdio.INHERIT:
            return 1 if stream is Stream.STDOUT else 2
        if isinstance(target, Stdio):
            return None
        if isinstance(target, Path):
            return self._open(target, _NEW_FILE)
        self._files.append(os.dup(target.fileno()))
        return self._files[-1]

    def _open(self, path: Path, flags: int) -> int:
        self._files.append(os.open(path, flags, 0o666))
        return self._files[-1]

    @property
    def open_streams(self) -> int:
        """The number of pipes to read from."""
        return len(self._pipes)

    @property
    def blocked(self) -> bool:
        """Whether a write is waiting for room in its pipe."""
        return any(len(pipe) > PIPE_CAPACITY for pipe in self._pipes.values())

    def write(self, stream: Stream, data: bytes, owner: HandleOwner) -> None:
        """Write, and deliver the data to the owner, unless the stream is paused."""
        target = self._targets[stream]
        if isinstance(target, Stream):
            if target in self._pipes:
                self._pipes[target] += data
                self.hand_over(target, owner)
        elif target is not None:
            os.write(target, data)
            if target == self._log:
                owner.received(Stream.STDOUT, data)

    def hand_over(self, stream: Stream, owner: HandleOwner, *, even_if_paused: bool = False) -> None:
        """Deliver the contents of a pipe to the owner."""
        pipe = self._pipes.get(stream)
        while pipe and (even_if_paused or stream not in self._paused):
            data = bytes(pipe[:CHUNK])
            del pipe[:CHUNK]
            owner.received(stream, data)

    def read_rest(self, owner: HandleOwner, *, ended: bool) -> list[Stream]:
        """Deliver everything to the owner; return the streams that are at end of file."""
        for stream in list(self._pipes):
            self.hand_over(stream, owner, even_if_paused=True)
        return list(self._pipes) if ended else []

    def pause(self, stream: Stream) -> None:
        """Stop reading a pipe, so that it fills."""
        self._paused.add(stream)

    def resume(self, stream: Stream) -> None:
        """Resume reading a pipe."""
        self._paused.discard(stream)

    def cut(self) -> None:
        """Discard the data that its process had not yet written to a pipe when it died."""
        for pipe in self._pipes.values():
            del pipe[PIPE_CAPACITY:]

    def close_pipe(self, stream: Stream) -> None:
        """Stop reading a stream; can be repeated."""
        self._pipes.pop(stream, None)

    def close_pipes(self) -> None:
        """Stop reading."""
        self._pipes.clear()

    def close_files(self) -> None:
        """Close the process's own files; can be repeated."""
        while self._files:
            os.close(self._files.pop())
