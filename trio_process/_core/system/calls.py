"""System calls that some Pythons lack: those that are built on an old system to run on any, as uv's were before August 2026.

CPython leaves out a function if the headers or the C library of the machine on which it is built don't have the system
call. The kernel on which it runs may have it all the same.
"""

from __future__ import annotations

import os
import signal
from typing import Final

P_PIDFD: Final[int] = getattr(os, "P_PIDFD", 3)
"""The kind of id that is a pidfd (waitid(2))."""

# the same on every architecture that CPython supports (syscall(2))
_PIDFD_SEND_SIGNAL: Final = 424
_PIDFD_OPEN: Final = 434


def pidfd_open(pid: int) -> int:
    """Return a descriptor of a process, closed on exec (pidfd_open(2))."""
    if hasattr(os, "pidfd_open"):
        return os.pidfd_open(pid)
    return _call(_PIDFD_OPEN, pid, 0)


def pidfd_send_signal(pidfd: int, number: int) -> None:
    """Signal the process of a descriptor (pidfd_send_signal(2))."""
    if hasattr(signal, "pidfd_send_signal"):
        signal.pidfd_send_signal(pidfd, number)
    else:
        _call(_PIDFD_SEND_SIGNAL, pidfd, number, 0, 0)


def ask_to_end(pidfd: int) -> None:
    """Send SIGTERM, and SIGCONT, which lets a suspended process act on it, as systemd does (systemd.kill(5))."""
    pidfd_send_signal(pidfd, signal.SIGTERM)
    pidfd_send_signal(pidfd, signal.SIGCONT)


def memory_file(name: str) -> int:
    """Return a descriptor of an unnamed file, closed on exec: in memory (memfd_create(2)), or else in the temporary directory."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create(name, os.MFD_CLOEXEC)
    import tempfile  # noqa: PLC0415 - few need it

    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _call(number: int, *args: int) -> int:
    import ctypes  # noqa: PLC0415 - takes 10 ms, and few need it

    found: int = ctypes.CDLL(None, use_errno=True).syscall(*map(ctypes.c_long, (number, *args)))
    if found < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return found
