"""Which files to trust: not those that other users could have written, as root would kill the processes they name.

A file or directory is trusted if its owner is this user or root, and neither its group nor other users can write to it. A
directory with the sticky bit may be written to by all: files there can only be replaced by their owners (unlink(2)), so
each of them is judged by itself. Access by other means (a parent directory that others can write to, an access list) is
the administrator's decision; the group bits of a file with an access list are its mask (acl(5)), and so are judged too.
"""

from __future__ import annotations

import os
import pwd
import stat
import tempfile
from pathlib import Path
from typing import Final

_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH
_ROOT: Final = 0


def distrust(status: os.stat_result) -> str | None:
    """Return why a file or directory is not to be believed, with its owner and mode; None if it is.

    Args:
        status: What `os.stat` or `os.fstat` says of it.
    """
    mode = stat.S_IMODE(status.st_mode)
    if status.st_uid not in (_ROOT, os.geteuid()):
        return f"it belongs to {user_name(status.st_uid)}, its mode is {mode:04o}"
    sticky = stat.S_ISDIR(status.st_mode) and bool(mode & stat.S_ISVTX)
    if mode & _OTHERS_WRITE and not sticky:
        others = "every user" if mode & stat.S_IWOTH else "its group"
        return f"{others} can write to it: it belongs to {user_name(status.st_uid)}, its mode is {mode:04o}"
    return None


def user_name(uid: int) -> str:
    """Return a user for people: the name, where there is one, and the UID."""
    try:
        return f"{pwd.getpwuid(uid).pw_name} (UID {uid})"
    except KeyError:
        return f"UID {uid}"


def home_directory() -> Path:
    """Return the home of this user: an absolute ``$HOME``; else what passwd(5) says; else a directory of its own in /tmp.

    The last one need not exist; see `is_temporary_home`.
    """
    home = os.environ.get("HOME", "")
    if os.path.isabs(home):
        return Path(home)
    try:
        home = pwd.getpwuid(os.geteuid()).pw_dir
    except KeyError:
        home = ""
    return Path(home) if os.path.isabs(home) else _temporary_home()


def is_temporary_home(path: Path) -> bool:
    """Whether `home_directory` made this path up, as no home is known; others can make a directory of that name first."""
    return path == _temporary_home()


def distrust_temporary_home(path: Path) -> str | None:
    """Return why the directory that stands for a home is not this user's alone; None if it is, or is missing."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return None
    if not stat.S_ISDIR(status.st_mode):
        return "it is not a directory"
    mode = stat.S_IMODE(status.st_mode)
    if status.st_uid != os.geteuid() or mode & (stat.S_IRWXG | stat.S_IRWXO):
        return f"it must belong to {user_name(os.geteuid())} alone: it belongs to {user_name(status.st_uid)}, its mode is {mode:04o}"
    return None


def _temporary_home() -> Path:
    return Path(tempfile.gettempdir(), f"trio-process-{os.geteuid()}").absolute()
