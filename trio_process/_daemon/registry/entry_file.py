"""A file of the registry: what it holds, whether its daemon lives, and whether it may go."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, Final, NamedTuple

from ..._core import Census, logger, open_regular, try_lock
from .entry import MAX_SIZE, DaemonEntry, decode, from_fields
from .naming import SUFFIX

PRUNE_AFTER: Final = 60.0
"""Seconds after which a file that can't be read as an entry, or a left-over temporary one, is removed."""


class Found(NamedTuple):
    """What a file of the directory turned out to be.

    Attributes:
        path: Where it is.
        status: As it was when it was judged.
        alive: Whether its daemon runs.
        fields: Its content, None if that is no entry.
        locked: Whether that is known by its lock.
    """

    path: str
    status: os.stat_result
    alive: bool
    fields: dict[str, Any] | None
    locked: bool = False

    def is_for(self, code: str, daemon: str) -> bool:
        """Whether it is the entry of this key."""
        return self.fields is not None and (self.fields["code"], self.fields["daemon"]) == (code, daemon)

    @property
    def prunable(self) -> bool:
        """Whether it may go: a dead entry at once; what can't be read, or is temporary, when nobody can be at it."""
        if self.fields is not None and self.path.endswith(SUFFIX):
            return not self.alive
        return time.time() - self.status.st_mtime > PRUNE_AFTER

    def entry(self) -> DaemonEntry | None:
        """Return the entry, or None if it has a value that none can have: it is a living daemon's, and stays."""
        assert self.fields is not None, "a file that is no entry is not alive"
        try:
            return from_fields(self.fields, self.status.st_mtime)
        except ValueError as error:
            logger.warning("%s is not shown: %s", self.path, error)
            return None

    def remove_if_same(self) -> None:
        """Remove it, unless another file has its name by now, or it was written again."""
        path = Path(self.path)
        if _identity(path.stat()) == _identity(self.status):
            path.unlink()


def look(path: str, census: Census) -> Found | None:
    """Return what a file is; None if it is gone, or is not regular.

    Raises:
        OSError: It can't be read, and may be anything.
    """
    try:
        opened = open_regular(path)
    except (FileNotFoundError, NotADirectoryError):
        return None  # removed in between, say: others may do that at any time
    if opened is None:
        return None
    descriptor, status = opened
    try:
        return _judge(path, descriptor, status, census)
    finally:
        os.close(descriptor)


def _judge(path: str, descriptor: int, status: os.stat_result, census: Census) -> Found:
    data = os.read(descriptor, min(status.st_size, MAX_SIZE) + 1)
    try:
        if len(data) > MAX_SIZE:
            raise ValueError("too large")  # noqa: TRY301 - the same fault as one that `decode` finds
        fields = decode(data)
    except ValueError:
        return Found(path, status, alive=False, fields=None)
    # the lock comes first: it is exact, and where there is one the process is not looked at
    locked = _is_locked(descriptor)
    return Found(path, status, locked or census.lives_since(fields["pid"], status.st_mtime), fields, locked)


def _is_locked(descriptor: int) -> bool:
    try:
        return not try_lock(descriptor, shared=True)
    except OSError:
        return False  # a file system without locks: the PID has to do


def _identity(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size
