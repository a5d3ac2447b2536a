"""`log_file`: all output of a process, in whole lines, rotated by size; problems with the disk never block the child."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, final

from ..._core import ProcessStartError, RunOptions, Stream, logger, own_descriptor, shown_command, shown_path
from .lines import LineBuffer

_LONGEST_WAIT_FOR_NEWLINE: Final = 2**20
_MOST_HELD: Final = 2**20  # bytes kept while the disk takes none


@final
class LogFile:
    """Appends the output of one process to a file.

    A line is written when it is complete. While the disk is full or the file is gone, up to 1 MiB is buffered, and written
    as soon as that is possible; more is dropped, counted, and reported in a log record.

    Args:
        path: The file; it is appended to.
        max_bytes: Rotate before it grows over this size; 0 never does.
        keep: How many rotated files are kept; ``path.1`` is the newest.

    Raises:
        OSError: The file can't be opened.
    """

    def __init__(self, path: Path, max_bytes: int = 0, keep: int = 3) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._limit = max_bytes  # a rotation that fails is tried again after as many bytes
        self._keep = keep
        self._partial = {stream: LineBuffer(_LONGEST_WAIT_FOR_NEWLINE) for stream in Stream}
        self._waiting = b""  # whole lines that the disk has not taken
        self._torn = False  # the disk took a part of the line that is waiting first
        self.lost = 0  # bytes
        self._in_trouble = False
        self._not_rotated: OSError | None = None
        self._descriptor = -1
        self._size = 0
        self._open()
        if own_descriptor(path) is not None:
            self._limit = 0  # there is no file that could be rotated

    def _open(self) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        own = own_descriptor(self._path)
        mode = 0o644  # whatever the umask
        self._descriptor = os.open(self._path, flags, mode) if own is None else os.dup(own)
        self._size = os.fstat(self._descriptor).st_size

    def write(self, stream: Stream, data: bytes) -> None:
        """Take in a chunk; never raises and never waits for a newline for ever."""
        lines = self._partial[stream].feed(data)
        if lines:
            self._append(lines)

    def finish(self) -> None:
        """Write the unfinished last line, and close the file."""
        for partial in self._partial.values():
            rest = partial.finish()
            if rest:
                self._append(rest)
        if self._waiting:
            self._append(b"")  # the disk may have room again
            self.lost += len(self._waiting)
        if self.lost:
            logger.error("the log file %s lacks %d bytes that could not be written", self._path, self.lost)
        self._close()

    def _append(self, lines: bytes) -> None:
        if self._waiting:
            if len(self._waiting) + len(lines) > _MOST_HELD:
                self.lost += len(lines)
                lines = b""
            lines = self._waiting + lines
        done = 0
        error: OSError | None = None
        try:
            self._reopen_if_deleted()
            while done < len(lines):
                part = lines[done : done + self._next_part(lines, done)]  # usually all of it, and then not a copy
                written = os.write(self._descriptor, part)
                self._torn = part[written - 1 : written] != b"\n"
                self._size += written
                done += written
        except OSError as raised:
            error = raised
        self._waiting = lines[done:]
        self._report(error)

    def _report(self, error: OSError | None) -> None:
        """Log changes, now that all is written or waiting: the records may be written into this very file."""
        was_in_trouble, self._in_trouble = self._in_trouble, error is not None
        not_rotated, self._not_rotated = self._not_rotated, None
        if not_rotated is not None:
            logger.warning(
                "the log file %s can't be rotated (%s), and so grows over log_max_bytes", self._path, not_rotated
            )
        if error is not None and not was_in_trouble:
            logger.warning("the log file %s can't be written (%s); the process goes on", self._path, error)
        elif error is None and was_in_trouble:
            logger.warning("the log file %s can be written again; %d bytes are missing", self._path, self.lost)

    def _reopen_if_deleted(self) -> None:
        if self._descriptor < 0 or os.fstat(self._descriptor).st_nlink == 0:
            self._close()
            self._open()

    def _next_part(self, lines: bytes, start: int) -> int:
        """Return how much to write next: the lines that fit into this file, after a rotation if none does."""
        rest = len(lines) - start
        if not self._max_bytes or self._torn:
            return rest
        first = (lines.find(b"\n", start) + 1 or start) - start
        if self._size and self._size + first > self._limit:
            self._rotate()
        fitting = lines.rfind(b"\n", start, start + max(0, self._limit - self._size)) + 1
        return (fitting - start if fitting else first) or rest

    def _rotate(self) -> None:
        try:
            self._rename()
        except OSError as error:
            self._not_rotated = error
            self._limit = self._size + self._max_bytes
        else:
            self._limit = self._max_bytes
            self._close()
            self._open()

    def _rename(self) -> None:
        free = 1  # a later number is not in the way; looking at all of them would take long if many are kept
        while free < self._keep and self._name(free).exists():
            free += 1
        for number in range(free - 1, 0, -1):
            self._name(number).replace(self._name(number + 1))
        if self._keep:
            self._path.replace(self._name(1))
        else:
            self._path.unlink()

    def _name(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def open_log(options: RunOptions) -> LogFile:
    """Open the log file of a process; if it can't be opened, the start fails."""
    assert options.log_file is not None
    try:
        return LogFile(options.log_file, options.log_max_bytes, options.log_keep)
    except OSError as error:
        path = shown_path(options, options.log_file)
        text = f"can't start `{shown_command(options)}`: its log_file {path!r}: {error.strerror}"
        raise ProcessStartError(text) from error
