"""The guardian: a small shell that kills our children when this process dies of SIGKILL.

It reads the live groups from a pipe, and learns of our death by end of file on it. There is no window between a spawn and
the line that reports it: our end of the pipe is close-on-exec, so a child between fork and exec holds a copy, and the
guardian can't see end of file before the child has exec'd, with our marker in its environment, by which it is found.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from subprocess import DEVNULL, Popen
from typing import Final, final

from ..._core import close_in_forks, forget_descriptor, logger
from ..reactor import Reactor
from ..reap import open_pidfd

# One shell and, at the end, a grep: no interpreter of ours to load (10 MB), and nothing it needs is ever swapped in then.
# During an exec a process has no environment to be recognized by, so one scan that finds none is not enough.
_SCRIPT: Final = r"""
unset trio_process_script
trap '' HUP INT QUIT TERM TSTP TTIN TTOU PIPE USR1 USR2 ALRM
while read -r line; do
    case $line in
        +*) eval "group_${line#+}=1" ;;
        -*) unset "group_${line#-}" ;;
    esac
done
for name in $(set | sed -n 's/^group_\([0-9][0-9]*\)=.*/\1/p'); do
    kill -s KILL -- "-$name" 2>/dev/null
done
[ -z "$2" ] || echo 1 > "$2/cgroup.kill"
round=0 quiet=0
while [ "$round" -lt 50 ] && [ "$quiet" -lt 2 ]; do
    round=$((round + 1)) quiet=$((quiet + 1))
    found=$(grep -lasF -- "$1" /proc/[0-9]*/environ; grep -ls -- "^Max realtime timeout  *$3[0-9]" /proc/[0-9]*/limits)
    [ -z "$found" ] || quiet=0
    for path in $found; do
        pid=${path#/proc/}
        kill -s KILL "${pid%/*}" 2>/dev/null
    done
done
while [ -n "$2" ] && [ -d "$2" ] && [ "$round" -lt 100 ]; do
    rmdir "$2"/*/ "$2" || sleep 0.01
    round=$((round + 1))
done
"""


@final
class Guardian:
    """One helper per service, started before the first child.

    It is in a session of its own and ignores the terminal's signals; it holds none of our descriptors except its pipe.

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
        self._groups: set[int] = set()
        self._pipe = -1
        self._pidfd = -1
        self.pid: int | None = None
        self._start()

    def _start(self) -> None:
        # nothing else of ours: a variable `group_4711` would make it kill that group. The script is a variable, because
        # ps(1) and `systemctl status` show arguments.
        environment = {"PATH": os.environ.get("PATH", os.defpath), "trio_process_script": _SCRIPT}
        words = ["trio-process-guardian", self._token, self._cgroup, str(self._limit)]
        theirs, ours = os.pipe()
        try:
            os.set_blocking(ours, False)
            child = Popen(
                ["/bin/sh", "-c", 'eval "$trio_process_script"', *words],
                stdin=theirs,
                stdout=DEVNULL,
                stderr=DEVNULL,
                cwd="/",
                env=environment,
                start_new_session=True,
            )
            child.returncode = 0  # it is ours to reap, not Popen's
            self._pidfd = open_pidfd(child.pid)
        except BaseException:
            os.close(ours)
            raise
        finally:
            os.close(theirs)
        self.pid = child.pid
        self._pipe = ours
        close_in_forks(ours)  # a fork that lives on would keep it from seeing our end
        self._reactor.watch(self._pidfd, self._replace)
        self._tell("".join(f"+{group}\n" for group in self._groups))

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
        self._groups.add(group)
        if self._pipe < 0:
            self._restart()  # no other one could be started when the last one died
        else:
            self._tell(f"+{group}\n")

    def discard(self, group: int) -> None:
        """Release a group, before its leader is reaped and its id may be reused."""
        self._groups.discard(group)
        self._tell(f"-{group}\n")

    def _tell(self, text: str) -> None:
        if self._pipe < 0 or not text:
            return
        try:
            if os.write(self._pipe, text.encode()) == len(text):
                return
        except BrokenPipeError:
            return  # it has just died, and the next one gets all groups
        except BlockingIOError:
            pass
        # It is stopped, or starved, and its pipe full: a lost line would leave it with a stale group, so it is replaced.
        self._replace()

    def _end(self) -> None:
        if self._pidfd < 0:
            return
        self._reactor.forget(self._pidfd)
        with suppress(ProcessLookupError):  # it has died, and the application has reaped it
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)  # before its pipe ends: there is nothing for it to do
        forget_descriptor(self._pipe)
        os.close(self._pipe)
        assert self.pid is not None
        with suppress(ChildProcessError):  # a handler or a thread of the application has reaped it
            os.waitpid(self.pid, 0)  # SIGKILL ends even a stopped one at once
        os.close(self._pidfd)
        self._pipe = self._pidfd = -1
        self.pid = None

    def close(self) -> None:
        """End it: all of its groups have ended."""
        self._end()
