"""Locate the state directory of the command line: ``$XDG_STATE_HOME/trio-process`` (XDG Base Directory Specification)."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Final

from .._core import (
    DaemonError,
    ProcessError,
    distrust_temporary_home,
    home_directory,
    is_temporary_home,
    make_directories,
    remedy,
    user_name,
)

_ADVICE: Final = "set XDG_STATE_HOME to a directory that this user can write to"
_PID_FILE: Final = re.compile("choose (a|another) pid_file")
_ANOTHER: Final = ", or choose another pid_file"  # of `AlreadyRunningError`: a second instance is not what is wanted
_PRIVATE: Final = 0o700
_ROOT: Final = 0


def state_directory() -> Path:
    """Return the path of the directory, which need not exist."""
    given = os.environ.get("XDG_STATE_HOME", "")
    if os.path.isabs(given):  # "if a relative path is encountered, consider it invalid and ignore it"
        return Path(given) / "trio-process"
    return home_directory() / ".local" / "state" / "trio-process"


def explain(error: ProcessError | OSError) -> str:
    """Return the text of an error of the part of this package that keeps files in the directory, for the command line."""
    if isinstance(error, ProcessError):
        return _PID_FILE.sub(r"set XDG_STATE_HOME to \1 place", str(error).removesuffix(_ANOTHER))
    named = "" if error.filename is None else os.fsdecode(error.filename)
    advice = remedy(error, _ADVICE if named.startswith(str(state_directory())) else "")
    return f"{named}{': ' if named else ''}{error.strerror or error}{'; ' if advice else ''}{advice}"


def make_private(directory: Path) -> None:
    """Create the directory, accessible only to this user.

    Raises:
        DaemonError: It, or the directory used as the home, belongs to another user, or others can write to it.
        OSError: It can't be created.
    """
    for home in directory.parents:
        if is_temporary_home(home):
            if why := distrust_temporary_home(home):
                raise DaemonError(
                    f"{home} can't be used as a home directory: {why}; set XDG_STATE_HOME to one of your own"
                )
            make_directories(home, _PRIVATE)
    make_directories(directory, _PRIVATE)
    check_owner(directory)


def check_owner(directory: Path) -> None:
    """Refuse a directory of another user, who could decide which commands are run.

    Raises:
        DaemonError: It belongs to another user, or others can write to it.
    """
    status = directory.stat()
    if status.st_uid not in (_ROOT, os.geteuid()):
        raise DaemonError(
            f"{directory} belongs to another user, {user_name(status.st_uid)}; set XDG_STATE_HOME to a directory of "
            "your own"
        )
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        if status.st_uid != os.geteuid():
            raise DaemonError(f"others can write to {directory}; run chmod go-w {directory}")
        directory.chmod(_PRIVATE)
