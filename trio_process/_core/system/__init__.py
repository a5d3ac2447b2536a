"""Facts from the operating system: processes and their identity, files and locks, forks, and which files to trust."""

from .files import (
    NO_LOCKS,
    TEMPORARY,
    Draft,
    is_at,
    is_locked,
    make_directories,
    open_regular,
    own_descriptor,
    remedy,
    try_lock,
    unlock,
    write_atomically,
)
from .forks import close_in_forks, end_fork, forget_descriptor
from .identity import Liveness, ProcessIdentity, Viewpoint, parse_start, read_tag
from .pids import MAX_PID, START_SLACK, ProcStat, is_alive, lives_since, parse_pid, read_stat, read_uids, started_at
from .trust import distrust, distrust_temporary_home, home_directory, is_temporary_home, user_name

__all__ = [
    "MAX_PID",
    "NO_LOCKS",
    "START_SLACK",
    "TEMPORARY",
    "Draft",
    "Liveness",
    "ProcStat",
    "ProcessIdentity",
    "Viewpoint",
    "close_in_forks",
    "distrust",
    "distrust_temporary_home",
    "end_fork",
    "forget_descriptor",
    "home_directory",
    "is_alive",
    "is_at",
    "is_locked",
    "is_temporary_home",
    "lives_since",
    "make_directories",
    "open_regular",
    "own_descriptor",
    "parse_pid",
    "parse_start",
    "read_stat",
    "read_tag",
    "read_uids",
    "remedy",
    "started_at",
    "try_lock",
    "unlock",
    "user_name",
    "write_atomically",
]
