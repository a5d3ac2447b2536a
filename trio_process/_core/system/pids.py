"""PIDs: how they are parsed, and what the kernel says about a process.

A PID proves little: ``int("١٢٣")`` is 123, signal 0 reaches zombies, threads and (as PID 0) our own group, and the kernel
reuses the number of a dead process. So a PID is parsed strictly here; whether it still means the process that it meant
when it was written down is the question of `identity`.
"""

from __future__ import annotations

import errno
import math
import os
import select
import sys
import time
from contextlib import suppress
from typing import Final, NamedTuple

from .calls import pidfd_open

MAX_PID: Final = 2**31 - 1
"""The largest `pid_t`; `os.kill` raises OverflowError above it. (Linux itself stops at 2**22, proc_sys_kernel(5).)"""

START_SLACK: Final = 2.0
"""Seconds a process may begin after the moment it must have existed at: file times are as coarse as 2 s (FAT)."""

_SPACES = b" \t\n\r\v\f"
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_KERNEL_THREAD: Final = 0x00200000  # PF_KTHREAD (linux/sched.h)


class ProcStat(NamedTuple):
    """What ``/proc/PID/stat`` says (proc_pid_stat(5)).

    Attributes:
        state: One letter: `R`, `S`, `D`, `T`, `t`, `Z`, `X`, `I`.
        parent: The parent's PID.
        group: The process group.
        session: The session.
        threads: How many threads it has; a zombie that has more than one is a live process without its main thread.
        started: Clock ticks from the boot to its start. PID and this together are unique until the next boot.
        command: The name of its program, cut to 15 bytes.
        status: The wait status of a zombie; None or 0 if it isn't one, or may not be inspected (ptrace(2), "access mode").
        environment: Where its environment begins and ends in memory; zeros during an exec, and for a process that may not
            be inspected.
        kernel: Whether it is a thread of the kernel.
    """

    state: str
    parent: int
    group: int
    session: int
    threads: int
    started: int
    command: str
    status: int | None
    environment: tuple[int, int]
    kernel: bool

    @property
    def dead(self) -> bool:
        """Whether it has exited, reaped or not."""
        return self.state == "X" or (self.state == "Z" and self.threads <= 1)


def parse_pid(text: str | bytes) -> int:
    r"""Return the PID in `text`, or 0 if it isn't a valid PID.

    A PID is ASCII digits, 1 to `MAX_PID`. White space around it and leading zeros are allowed (FHS 3.0, section 3.15.2); a
    sign, an underscore, digits of other scripts and further lines are not.

    >>> parse_pid("4711\n"), parse_pid("+4711"), parse_pid("0")
    (4711, 0, 0)
    """
    if isinstance(text, str):
        if not text.isascii():
            return 0
        text = text.encode("ascii")
    digits = text.strip(_SPACES)
    # bytes.isdigit accepts ASCII digits only; the length is checked first, as int() of a million digits is slow
    if not digits.isdigit() or len(digits := digits.lstrip(b"0")) > len(str(MAX_PID)):
        return 0
    pid = int(digits or b"0")
    return pid if pid <= MAX_PID else 0


def is_alive(pid: int) -> bool:
    """Whether a process with this PID is running: false for a zombie or a thread, true for another user's process.

    >>> is_alive(os.getpid()), is_alive(0), is_alive(2**40)
    (True, False, False)
    """
    if not 0 < pid <= MAX_PID:
        return False
    if sys.platform != "linux":
        return _alive_by_signal(pid)  # without a /proc a zombie looks like a live process
    # A pidfd needs no permission, ignores hidepid, refuses the id of a thread and becomes readable at the exit, so that a
    # zombie is recognized: signal 0 and /proc/PID/stat get these wrong, or need three system calls (pidfd_open(2)).
    try:
        descriptor = pidfd_open(pid)
    except OSError as error:
        if error.errno in {errno.ESRCH, errno.ENOENT, errno.EINVAL}:  # the latter two: a thread (new and old kernels)
            return False
        return _alive_by_signal(pid)  # no descriptor left, or a kernel or sandbox without pidfds
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return not poll.poll(0)
    finally:
        os.close(descriptor)


def started_at(pid: int) -> float | None:
    """Return when a process began, in seconds since the epoch, or None where that can't be known (without a /proc).

    It is computed from the boot time, so a step of the wall clock shifts it, too.
    """
    if not 0 < pid <= MAX_PID:
        return None
    stat = read_stat(pid)
    if stat is None:
        return None
    booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)  # finer than btime in /proc/stat: whole seconds
    return booted + stat.started / _TICKS


def lives_since(pid: int, moment: float, *, slack: float = START_SLACK) -> bool:
    """Whether `pid` is alive and began no later than `moment`; else its number was given to another process.

    Both are read from the wall clock, so a clock that was stepped makes a live process look like another one: this is
    good enough to refuse something, and never to delete a file or to start a program a second time (see `identity`).

    Where the start can't be known (hidepid, proc(5)) it counts as the same process.

    Args:
        pid: The process.
        moment: When it is known to have existed, in seconds since the epoch: a file's modification time, say.
        slack: Seconds by which the two clocks may differ.
    """
    return _began(pid) <= moment + slack


def read_stat(pid: int) -> ProcStat | None:
    """Return the content of ``/proc/PID/stat``, or None if there is no such process or no ``/proc``."""
    try:
        descriptor = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
        try:
            data = os.read(descriptor, 4096)
        finally:
            os.close(descriptor)
    except OSError:
        return None  # gone (ENOENT, ESRCH), hidden (hidepid), or no descriptor left
    # the command may hold spaces, parentheses and newlines, so count from the last parenthesis
    fields = data[data.rfind(b")") + 2 :].split()
    return ProcStat(
        state=fields[0].decode("ascii"),
        parent=int(fields[1]),
        group=int(fields[2]),
        session=int(fields[3]),
        threads=int(fields[17]),
        started=int(fields[19]),
        status=int(fields[49]) if len(fields) > 49 and fields[0] == b"Z" else None,
        command=os.fsdecode(data[data.find(b"(") + 1 : data.rfind(b")")]),
        environment=(int(fields[47]), int(fields[48])) if len(fields) > 49 else (0, 0),
        kernel=bool(int(fields[6]) & _KERNEL_THREAD),
    )


def read_uids(pid: int) -> frozenset[int] | None:
    """Return the real, effective, saved and file system UID of a process (proc_pid_status(5)); None if they are hidden."""
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            for line in file:
                if line.startswith(b"Uid:"):
                    return frozenset(map(int, line.split()[1:]))
    except OSError:
        pass  # it has just ended, or is hidden (hidepid, proc(5)), or there is no /proc
    return None


def _began(pid: int) -> float:
    """Return when `pid` began, `inf` if it is not alive, ``-inf`` if its start is hidden."""
    if not is_alive(pid):
        return math.inf
    began = started_at(pid)
    return -math.inf if began is None else began


def _alive_by_signal(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # another user's: it exists
    stat = read_stat(pid)
    return stat is None or not stat.dead


def stopped_by(pid: int) -> int:
    """Return the signal that has stopped a child, 0 if it is running; other waiters can still get the status (waitid(2))."""
    with suppress(ChildProcessError):
        found = os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOHANG | os.WNOWAIT)
        return 0 if found is None else found.si_status
    return 0
