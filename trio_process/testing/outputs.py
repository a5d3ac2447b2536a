"""`FakeOutputs`: where a scripted process writes to: pipes of the real size, files, or nowhere."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final, final

from .._core import RunOptions, Stdio, Stream
from .._process import CHUNK, PIPE_CAPACITY, HandleOwner

_NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
_LOG_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC


@final
class FakeOutputs:
    """The outputs of one scripted process.

    Raises:
        OSError: A file can't be opened; nothing is left open then.
    """

    def __init__(self, options: RunOptions) -> None:
        self._pipes: dict[Stream, bytearray] = {}
        self._paused: set[Stream] = set()
        self._files: list[int] = []
        self._log: int | None = None  # what is detached writes to it, and it is followed
        try:
            if options.detach and options.log_file is not None:
                self._log = self._open(options.log_file, _LOG_FILE)
            stdout = self._target(Stream.STDOUT, options.stdout, options)
            stderr = stdout if options.stderr is Stdio.STDOUT else self._target(Stream.STDERR, options.stderr, options)
        except BaseException:
            self.close_files()
            raise
        self._targets = {Stream.STDOUT: stdout, Stream.STDERR: stderr}

    def _target(self, stream: Stream, target: Any, options: RunOptions) -> Stream | int | None:
        """Return where a stream goes: a pipe to us, a descriptor, or nowhere."""
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
        """How many pipes there are to read from."""
        return len(self._pipes)

    @property
    def blocked(self) -> bool:
        """Whether a write waits for room in its pipe."""
        return any(len(pipe) > PIPE_CAPACITY for pipe in self._pipes.values())

    def write(self, stream: Stream, data: bytes, owner: HandleOwner) -> None:
        """Write, and let the owner have what is not held back."""
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
        """Let the owner have what is in a pipe."""
        pipe = self._pipes.get(stream)
        while pipe and (even_if_paused or stream not in self._paused):
            data = bytes(pipe[:CHUNK])
            del pipe[:CHUNK]
            owner.received(stream, data)

    def read_rest(self, owner: HandleOwner, *, ended: bool) -> list[Stream]:
        """Let the owner have everything; return the streams that are at their end."""
        for stream in list(self._pipes):
            self.hand_over(stream, owner, even_if_paused=True)
        return list(self._pipes) if ended else []

    def pause(self, stream: Stream) -> None:
        """Let a pipe fill."""
        self._paused.add(stream)

    def resume(self, stream: Stream) -> None:
        """Hold back no more."""
        self._paused.discard(stream)

    def cut(self) -> None:
        """Throw away what its process had not got into a pipe yet when it died."""
        for pipe in self._pipes.values():
            del pipe[PIPE_CAPACITY:]

    def close_pipe(self, stream: Stream) -> None:
        """Read no more of a stream; twice is fine."""
        self._pipes.pop(stream, None)

    def close_pipes(self) -> None:
        """Read no more."""
        self._pipes.clear()

    def close_files(self) -> None:
        """Close the process's own files; twice is fine."""
        while self._files:
            os.close(self._files.pop())
