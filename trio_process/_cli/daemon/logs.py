"""Print a daemon's log, and additions to it."""

from __future__ import annotations

import os
import select
import sys
from typing import BinaryIO, Final

from ..._core import DaemonError
from ..._daemon import default_registry, find_daemon
from ..output import writing
from .files import StateFiles

_PAUSE: Final = 100  # milliseconds; poll(2) doesn't report the growth of a file


def print_log(code: str, daemon: str, *, lines: int, follow: bool) -> None:
    """Print the last lines; with `follow`, also new lines until the daemon ends or our reader leaves.

    Raises:
        DaemonError: The log doesn't exist.
        OutputLost: The output can't be written, or no longer has a reader.
    """
    files = StateFiles(code, daemon)
    try:
        file = files.log_file.open("rb")
    except FileNotFoundError:
        raise DaemonError(f"{code}/{daemon} has no log yet ({files.log_file})") from None
    with file:
        kept = file.readlines()  # at newlines only: a progress bar with carriage returns is one line
        _print(b"".join(kept[-lines:] if lines else []))
        if follow:
            _follow(code, daemon, files, file)


def _follow(code: str, daemon: str, files: StateFiles, file: BinaryIO) -> None:
    reader = select.poll()
    reader.register(sys.stdout.fileno(), 0)  # only its errors: POLLERR when the last reader has left
    while True:
        # checked before the log is read to its end, or lines written in between would be missed
        runs = find_daemon(default_registry(), code, daemon, files.pid_file)[1] is not None
        newer = _newer(file, files)
        _print(file.read())
        if newer is not None:
            file.close()
            file = newer
        elif not runs or reader.poll(_PAUSE):
            return


def _newer(file: BinaryIO, files: StateFiles) -> BinaryIO | None:
    """Return the new log file if this one was rotated; a file that was emptied is read from its beginning."""
    status = os.fstat(file.fileno())
    if status.st_size < file.tell():
        file.seek(0)
    try:
        newer = files.log_file.open("rb")
    except FileNotFoundError:
        return None  # deleted: there is nothing newer to read
    if os.path.samestat(os.fstat(newer.fileno()), status):
        newer.close()
        return None
    return newer


def _print(data: bytes) -> None:
    with writing():
        left = memoryview(data)
        while left:  # unbuffered (PYTHONUNBUFFERED), a write may be partial
            left = left[sys.stdout.buffer.write(left) :]
        sys.stdout.buffer.flush()
