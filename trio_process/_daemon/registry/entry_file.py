"""A file of the registry: its content, whether it is trusted, whether its daemon is alive, and whether it may be removed."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, Final, NamedTuple

from ..._core import Liveness, ProcessIdentity, Viewpoint, distrust, is_locked, logger, open_regular
from .entry import MAX_SIZE, DaemonEntry, decode, from_fields, identity_of
from .naming import SUFFIX

PRUNE_AFTER: Final = 60.0
"""Seconds after which a file that can't be read as an entry, or a left-over temporary one, is removed."""

_MOST_WARNED: Final = 1000


class Found(NamedTuple):
    """The state of one file of the directory.

    Attributes:
        path: Its path.
        status: The status of the file when it was judged.
        liveness: Whether its daemon is running: UNKNOWN if that can't be judged from here, or another user wrote the file.
        fields: Its content, None if that is not an entry.
        locked: Whether a process holds its lock, which proves that the daemon is alive.
        distrusted: Why it is not trusted; empty if it is.
    """

    path: str
    status: os.stat_result
    liveness: Liveness
    fields: dict[str, Any] | None
    locked: bool = False
    distrusted: str = ""

    def is_for(self, code: str, daemon: str) -> bool:
        """Whether it is the entry of this key."""
        return self.fields is not None and (self.fields["code"], self.fields["daemon"]) == (code, daemon)

    @property
    def alive(self) -> bool:
        """Whether its daemon is running."""
        return self.liveness is Liveness.ALIVE

    @property
    def hidden(self) -> bool:
        """Whether it is an entry that can't be judged from here: it is neither shown nor removed."""
        return self.liveness is Liveness.UNKNOWN and self.fields is not None

    @property
    def identity(self) -> ProcessIdentity | None:
        """The identity of its process, None if go-process wrote it."""
        return None if self.fields is None else identity_of(self.fields)

    @property
    def prunable(self) -> bool:
        """Whether it may be removed: a dead entry at once; an unreadable or temporary file when it is too old to be in progress."""
        if self.distrusted:
            return False
        if self.fields is not None and self.path.endswith(SUFFIX):
            return self.liveness is Liveness.DEAD
        return time.time() - self.status.st_mtime > PRUNE_AFTER

    def entry(self) -> DaemonEntry | None:
        """Return the entry, or None if a value is not valid: the file belongs to a live daemon, and is not removed."""
        assert self.fields is not None, "a file that is not an entry is not alive"
        try:
            return from_fields(self.fields, self.status.st_mtime)
        except ValueError as error:
            _warn_once(self.path, self.status, f"is not shown: {error}")
            return None

    def remove_if_same(self) -> None:
        """Remove it, unless another file has its name by now, or it was written again."""
        path = Path(self.path)
        if _version(path.stat()) == _version(self.status):
            path.unlink()


def look(path: str, viewpoint: Viewpoint) -> Found | None:
    """Return the state of a file; None if it is gone, or is not a regular file.

    Raises:
        OSError: The file can't be read, so nothing is known about it.
    """
    try:
        # a link could lead out of the directory, and so to a file with another owner
        opened = open_regular(path, follow=False)
    except (FileNotFoundError, NotADirectoryError):
        return None  # removed in between, say: others may do that at any time
    except PermissionError:
        status = os.lstat(path)
        why = distrust(status)
        if why is None:
            raise
        return Found(path, status, Liveness.UNKNOWN, fields=None, distrusted=why)
    if opened is None:
        return None
    descriptor, status = opened
    try:
        return _judge(path, descriptor, status, viewpoint)
    finally:
        os.close(descriptor)


def _judge(path: str, descriptor: int, status: os.stat_result, viewpoint: Viewpoint) -> Found:
    distrusted = distrust(status) or ""
    if distrusted and path.endswith(SUFFIX):
        _warn_once(path, status, f"is skipped, as others could have written it: {distrusted}")
    data = os.read(descriptor, min(status.st_size, MAX_SIZE) + 1)
    try:
        if len(data) > MAX_SIZE:
            raise ValueError("too large")  # noqa: TRY301 - the same fault as one that `decode` finds
        fields = decode(data)
    except ValueError:
        return Found(path, status, Liveness.UNKNOWN, fields=None, distrusted=distrusted)
    if distrusted:
        return Found(path, status, Liveness.UNKNOWN, fields, distrusted=distrusted)
    # the lock comes first: it is exact, and where there is one the process is not looked at
    locked = is_locked(descriptor)
    liveness = Liveness.ALIVE if locked else viewpoint.judge(fields["pid"], identity_of(fields))
    return Found(path, status, liveness, fields, locked)


def _version(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size


_warned: dict[tuple[str, tuple[int, int, int, int]], None] = {}


def _warn_once(path: str, status: os.stat_result, why: str) -> None:
    """Log a warning about a file, once in this process until the file changes: `list` may be asked every second."""
    key = path, _version(status)
    if key not in _warned:
        if len(_warned) >= _MOST_WARNED:
            _warned.clear()
        _warned[key] = None
        logger.warning("%s %s", path, why)
