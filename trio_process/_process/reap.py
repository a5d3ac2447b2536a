"""The end of a child: watch, signal, reap. No other file waits for children or signals them.

The leader is left unreaped (`WNOWAIT`) until its group has been swept: while it is a zombie, neither its PID nor its
group's id can be given to another process, so a signal only reaches its target.
"""

from __future__ import annotations

import fcntl
import os
import resource
import select
import signal
import struct
import threading
from contextlib import suppress
from typing import Final

from .._core import P_PIDFD, ProcessError, ResourceUsage, logger, pidfd_open, pidfd_send_signal, read_stat
from .backend import ExitInfo


def open_pidfd(pid: int) -> int:
    """Return a pidfd of a child just started; -1 if it has ended and another part of this program has reaped it already.

    Raises:
        OSError: There can be no pidfd, so the child can't be watched; its group is killed, and it is reaped.
    """
    try:
        return pidfd_open(pid)
    except ProcessLookupError:
        return -1  # a handler of SIGCHLD, or a thread in waitpid(-1): from here on the number may be another process's
    except OSError:
        with suppress(ProcessLookupError, ChildProcessError):  # it has ended, and was reaped as above
            kill_group(pid)
            os.kill(pid, signal.SIGKILL)  # should it have left its group already
            os.waitpid(pid, 0)
        raise


def has_exited(pidfd: int, within: float = 0.0) -> bool:
    """Return whether the child has ended, or does so within some seconds; it is left unreaped (pidfd_open(2))."""
    # not waitid, which knows only children: an adopted process isn't one; not epoll, which takes a descriptor
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(1000 * within))


def reap(pid: int, pidfd: int) -> ExitInfo:
    """Reap a child that has ended; for a child that isn't ours to reap, return the facts that the kernel still has."""
    reaped = 0
    if pidfd >= 0:
        try:
            reaped, status, used = os.wait4(pid, os.WNOHANG)
        except ChildProcessError:
            pass  # adopted, or reaped by another part of this program
    if not reaped:
        code = exit_code_of(pid, pidfd) if pidfd >= 0 else None
        if code is None:
            logger.error("PID %d was reaped by another process or library; its exit code is lost: given as 255", pid)
            code = 255
        return ExitInfo(code, ResourceUsage())
    usage = ResourceUsage(
        user=used.ru_utime,
        system=used.ru_stime,
        max_rss=used.ru_maxrss * 1024 if _is_its_own(used.ru_maxrss) else None,
        core_dumped=os.WCOREDUMP(status),
    )
    return ExitInfo(os.waitstatus_to_exitcode(status), usage)


_own_peak = 0  # of our memory, in kilobytes, when last asked for; it never shrinks


def _is_its_own(peak: int) -> bool:
    """Return whether a child's peak of memory, in kilobytes, is the child's and not ours.

    At exec the kernel carries the peak of the spawning process over, so that a figure which is not above our own says
    nothing of the child (getrusage(2): `ru_maxrss`).
    """
    global _own_peak  # noqa: PLW0603 - one process, one peak
    if peak <= _own_peak:
        return False
    _own_peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak > _own_peak


# _IOWR(0xFF, 11, struct pidfd_info), of 64 bytes as in Linux 6.13 (linux/pidfd.h)
_PIDFD_GET_INFO: Final = 0xC040FF0B
_PIDFD_INFO_EXIT: Final = 1 << 3
_INFO: Final = struct.Struct("=QQ11Ii")


def exit_code_of(pid: int, pidfd: int) -> int | None:
    """Return the exit code of a process that is not ours to reap, None where the kernel doesn't say (before 6.15)."""
    request = bytearray(_INFO.pack(_PIDFD_INFO_EXIT, *[0] * 13))
    try:
        fcntl.ioctl(pidfd, _PIDFD_GET_INFO, request)
    except OSError:
        return None
    mask, *_, status = _INFO.unpack(request)
    if mask & _PIDFD_INFO_EXIT:
        return os.waitstatus_to_exitcode(status)
    return None if (stat := read_stat(pid)) is None or stat.status is None else os.waitstatus_to_exitcode(stat.status)


_deferred: set[int] = set()


def defer_reap(pid: int) -> None:
    """Note a detached child whose service was left: it is ours to reap, if it ends while we live."""
    _deferred.add(pid)


def deferred() -> set[int]:
    """Return the PIDs noted by `defer_reap`."""
    return set(_deferred)


def reap_deferred() -> None:
    """Reap those of them that have ended."""
    for pid in tuple(_deferred):
        try:
            ended = os.waitpid(pid, os.WNOHANG)[0]
        except ChildProcessError:
            ended = pid
        if ended:
            _deferred.discard(pid)


def send(pid: int, pidfd: int, number: int, *, group: bool) -> None:
    """Send a signal to the group of a leader, or to the leader alone; do nothing without a pidfd."""
    if pidfd < 0:
        return
    if group:
        signal_group(pid, pidfd, number)
    else:
        signal_leader(pidfd, number)


def request_stop(pid: int, pidfd: int, number: int, *, group: bool) -> None:
    """Send the stop signal between two SIGCONT.

    One always follows, as with systemd: a process that is stopped by then, or by a signal still on its way, could not
    act otherwise.

    One comes first unless the leader itself is stopped. A leader that dies of the stop signal at once would leave an
    orphaned group; if a member is stopped at that moment, the kernel sends SIGHUP to the group (_exit(2)), and the member
    dies of that instead of handling the stop signal. A stopped leader can't die before the SIGCONT that follows, which
    wakes the whole group at once.
    """
    stat = read_stat(pid) if group else None
    if stat is not None and stat.state != "T":
        send(pid, pidfd, signal.SIGCONT, group=group)
    send(pid, pidfd, number, group=group)
    send(pid, pidfd, signal.SIGCONT, group=group)


def signal_group(pid: int, pidfd: int, number: int) -> None:
    """Signal the group of a leader that is still unreaped; a leader that has left its group gets the signal too."""
    if _is_reaped(pidfd) or not _reach_group(pid, number):
        signal_leader(pidfd, number)


def _is_reaped(pidfd: int) -> bool:
    """Return whether something else has reaped the process, so that its group's id may be another group's."""
    try:
        os.waitid(P_PIDFD, pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return has_exited(pidfd)  # else it is adopted, and runs
    return False


def _reach_group(pid: int, number: int) -> bool:
    """Signal the group of an unreaped leader; return whether any process is still in it."""
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        return False
    except PermissionError:
        # some member runs as another user, by set-user-ID; the members that may be signalled have been (kill(2))
        logger.warning("a member of process group %d may not be signalled by this user", pid)
    return True


def signal_leader(pidfd: int, number: int) -> None:
    """Signal one child, unless it has ended (pidfd_send_signal(2))."""
    try:
        pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        pass  # it has ended in between: there is nothing to signal


def kill_group(pid: int) -> None:
    """Kill the rest of the group of an unreaped leader; escapees are killed one by one."""
    _reach_group(pid, signal.SIGKILL)


def restore_sigchld_default(*, silently: bool = False) -> None:
    """Set SIGCHLD back to its default where it is ignored: by an ancestor, or by another part of this program since.

    With SIGCHLD ignored, the kernel reaps children by itself, and their exit codes are lost (wait(2), "NOTES").

    Args:
        silently: Leave out the log record; what an ancestor has set is not this program's mistake.

    Raises:
        ProcessError: Only the main thread can change it, and this is another one.
    """
    if signal.getsignal(signal.SIGCHLD) is not signal.SIG_IGN:
        return
    if threading.current_thread() is not threading.main_thread():
        raise ProcessError(
            "SIGCHLD is ignored in this process, so exit codes would be lost; only the main thread can change that: "
            "call signal.signal(signal.SIGCHLD, signal.SIG_DFL) there"
        )
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if not silently:
        logger.warning("SIGCHLD was set to be ignored, so exit codes would be lost; it is back at its default")
