"""The guardian: a small shell that kills our children when this process dies of SIGKILL.

It learns of our death by the end of a pipe, and then reads the live groups from a table: a file in memory that both hold.
Lines through the pipe would wake it twice for each child; in the table, a group is one write(2) that nothing waits for.

There is no window between a spawn and its entry in the table: our end of the pipe is close-on-exec, so a child between
fork and exec holds a copy, and the guardian can't see the end before the child has exec'd, with our marker in its
environment, by which it is found.
"""

from __future__ import annotations

import errno
import os
import signal
from contextlib import suppress
from subprocess import DEVNULL, Popen
from typing import Final, final

from ..._core import P_PIDFD, close_in_forks, forget_descriptor, logger, memory_file, pidfd_send_signal
from ..reactor import Reactor
from ..reap import open_pidfd

# One shell and, at the end, a few tools: no interpreter of ours to load (10 MB). Its stdin is the table, its stdout the pipe:
# for dash(1), the number of a descriptor has one digit. The groups are killed without a fork: none is possible before if our
# children are as many as there may be. A shell that can't fork ends, and starts itself again; it finds the table read.
# During an exec a process has no environment to be recognized by, so one scan that finds none is not enough. A zombie is no
# reason for another scan, as PID 1 may reap late or never; it is killed all the same, as it may be a leader with live threads.
_SCRIPT: Final = r"""
tries=${4:-0}
trap '' HUP INT QUIT TERM TSTP TTIN TTOU PIPE USR1 USR2 ALRM
trap '[ "$tries" -gt 2000 ] || exec /bin/sh -c "$trio_process_script" "$0" "$1" "$2" "$3" "$((tries + 1))"' EXIT
read -r end <&1
while read -r begin group end; do
    [ "$begin$end" != +. ] || kill -s KILL -- "-$group" 2>/dev/null
done
[ -z "$2" ] || echo 1 > "$2/cgroup.kill"
round=0 quiet=0
while [ "$round" -lt 50 ] && [ "$quiet" -lt 2 ]; do
    round=$((round + 1)) quiet=$((quiet + 1))
    found=$(
        grep -lasF -- "$1" /proc/[0-9]*/environ
        grep -ls -- "^Max realtime timeout  *$3[0-9]" /proc/[0-9]*/limits
        echo end
    )
    [ "${found%end}" != "$found" ] || exit
    for path in ${found%end}; do
        pid=${path#/proc/} pid=${pid%/*} stat=
        read -r stat < "/proc/$pid/stat"
        case ${stat##*) } in Z*) ;; *) quiet=0 ;; esac
        kill -s KILL "$pid" 2>/dev/null
    done
done
while [ -n "$2" ] && [ -d "$2" ] && [ "$round" -lt 100 ]; do
    rmdir "$2"/*/ "$2" || sleep 0.01
    round=$((round + 1))
done
trap - EXIT
"""

# A line of the table. It is within a page, so that no signal can cut its write, and what else may cut it (RLIMIT_FSIZE) takes
# away its end: the group of a PID that has lost digits would be another one, and that of 1 is every process there is.
_LINE: Final = b"+%12d .\n"
_BLANK: Final = b"%16s" % b"\n"


@final
class Guardian:
    """One helper per service, started before the first child.

    It is in a session of its own and ignores the terminal's signals; it holds no descriptors but its pipe and the table.

    Args:
        token: The marker of our children in their environment.
        limit: The digits that their resource limits begin with; see `limit_mark`.
        reactor: Watches it: a guardian that is killed is replaced.
        cgroup: The directory of the cgroup that our children are in, or empty.
    """

    def __init__(self, token: str, limit: int, reactor: Reactor, cgroup: str = "") -> None:
        self._token = token
        self._limit = limit
        self._cgroup = cgroup
        self._reactor = reactor
        self._table = -1  # one line for each group, blank while it is free
        self._lines: dict[int, int] = {}  # the line of each group
        self._free: list[int] = []
        self._pipe = -1
        self._pidfd = -1
        self.pid: int | None = None
        self._start()

    def _start(self) -> None:
        """Start a shell, and give it a table of the groups that live now."""
        # nothing else of ours. The script is a variable, because ps(1) and `systemctl status` show arguments.
        environment = {"PATH": os.environ.get("PATH", os.defpath), "trio_process_script": _SCRIPT}
        words = ["trio-process-guardian", self._token, self._cgroup, str(self._limit)]
        theirs, self._pipe = os.pipe()
        close_in_forks(self._pipe)  # a fork that lives on would keep it from seeing our end
        try:
            self._table = memory_file("trio-process-groups")
            self._lines, self._free = {group: line for line, group in enumerate(self._lines)}, []
            for group, line in self._lines.items():
                self._write(line, _LINE % group)
            child = Popen(
                ["/bin/sh", "-c", 'eval "$trio_process_script"', *words],
                stdin=self._table,
                stdout=theirs,
                stderr=DEVNULL,
                cwd="/",
                env=environment,
                start_new_session=True,
            )
            child.returncode = 0  # it is ours to reap, not Popen's
            self._pidfd = open_pidfd(child.pid)
            self._reactor.watch(self._pidfd, self._replace)
        except BaseException:
            self._end()
            raise
        finally:
            os.close(theirs)
        self.pid = child.pid

    def _replace(self) -> None:
        """Start another guardian, because this one was killed."""
        logger.warning("the guardian (PID %s) has died; another one takes its place", self.pid)
        self._end()
        self._restart()

    def _restart(self) -> None:
        try:
            self._start()
        except OSError as error:
            logger.error("no guardian could be started (%s): SIGKILL of this process would leave its children", error)

    def add(self, group: int) -> None:
        """Guard a group."""
        line = self._lines.get(group)  # something else may have reaped the last process with this PID
        if line is None:
            line = self._lines[group] = self._free.pop() if self._free else len(self._lines)
        if self._pipe < 0:
            self._restart()  # no other one could be started when the last one died
            return
        try:
            self._write(line, _LINE % group)
        except OSError as error:
            del self._lines[group]
            self._free.append(line)
            logger.error("the guardian has no room for a group (%s): SIGKILL of this process would leave it", error)

    def discard(self, group: int) -> None:
        """Release a group, before its leader is reaped and its id may be reused."""
        line = self._lines.pop(group, None)
        if line is None or self._pipe < 0:
            return
        try:
            self._write(line, _BLANK)
        except OSError as error:
            logger.warning("the guardian's table can't be written (%s); another one takes its place", error)
            self._end()
            self._restart()
        else:
            self._free.append(line)

    def _write(self, line: int, text: bytes) -> None:
        written = os.pwrite(self._table, text, line * len(text))
        if written < len(text):
            os.pwrite(self._table, _BLANK[:written], line * len(text))
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))

    def _end(self) -> None:
        if self._pidfd >= 0:
            self._reactor.forget(self._pidfd)
            with suppress(ProcessLookupError):  # it has died, and the application has reaped it
                pidfd_send_signal(self._pidfd, signal.SIGKILL)  # before its pipe ends: there is nothing for it to do
            with suppress(ChildProcessError):  # a handler or a thread of the application has reaped it
                os.waitid(P_PIDFD, self._pidfd, os.WEXITED)  # SIGKILL ends even a stopped one at once
        forget_descriptor(self._pipe)
        for descriptor in (self._pidfd, self._pipe, self._table):
            if descriptor >= 0:
                os.close(descriptor)
        self._pidfd = self._pipe = self._table = -1
        self.pid = None

    def close(self) -> None:
        """End it: all of its groups have ended."""
        self._end()
