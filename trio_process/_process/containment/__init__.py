"""Find out which processes belong to a child, and whether they are gone.

A child may start other processes, and leave them behind: in its process group, or in a session of their own. When it ends,
each of them is asked to end, killed, and waited for, and no other process is touched. No single way recognizes all of
them, so four are used together; each misses something.

Process group
    The child leads a group, and its descendants are in it unless they leave. One killpg(2) reaches them all, and it is
    safe while the leader is an unreaped zombie, since the id can't be reused then. It misses a descendant that has called
    setsid(2) or setpgid(2): every daemon, `setsid`, an interactive shell's jobs.

Marker (`MarkerContainment`)
    A variable in the environment of the child, inherited over fork and exec, whatever session a descendant is in. It is
    read from ``/proc/PID/environ``. It misses a process whose environment is empty (``env -i``), hidden (a program that is not
    dumpable, as ssh-agent) or overwritten (a process title). During an exec there is none for a moment, so a process
    without an environment is scanned again before it counts as a stranger.

Limit mark
    A resource limit with an odd value, inherited like the marker, and readable in ``/proc/PID/limits`` in all of these cases.
    It misses a program that sets this limit itself.

Cgroup (`CgroupContainment`)
    The kernel keeps the list, and `cgroup.kill` kills all of it at once; a descendant needs a privilege to leave. It takes a
    delegated cgroup v2 and up to 20 ms a start, so it is used on request only.

The PID window (`Lineage`)
    A scan of all of ``/proc`` costs milliseconds, and most commands leave nothing behind. PIDs are handed out in ascending
    order, so a descendant has a PID after that of its ancestor. If each PID handed out since the start of the child went to
    another child of ours, there is nothing to scan; if only a few others were handed out, those few are scanned, as far as
    their session may be that of a descendant. The end of a short command then mostly needs no scan. It is not relied on for
    a child older than two seconds, because a busy machine may have used all PIDs once by then.

The sweep (`Sweeper`)
    One scan serves all children of a service that end at the same time. Escapees get the stop signal once, the rest of the
    grace period, then SIGKILL through a pidfd whose identity is checked again; after that they are scanned for until they
    are gone. A process that is still there `STUCK_AFTER` seconds after SIGKILL is reported as a `Survivor`.

The guardian
    None of this runs after SIGKILL of this program. The guardian is a small shell that waits for the end of a pipe, reads
    the ids of live groups from a table in memory, and kills these groups and marked processes.

None of them sees a descendant without group, environment and limit mark, outside of a cgroup; nor a process that a
descendant has asked another program to start (systemd-run, at, docker), which doesn't descend from anything here.
"""

from .cgroup import Cgroups
from .descendants import Lineage, Target
from .guardian import Guardian
from .limit_mark import InheritedLimitMark, LimitMarks, limit_mark_of
from .strategies import CgroupContainment, Containment, MarkerContainment
from .strays import StrayReaper
from .sweep import Sweeper

__all__ = [
    "CgroupContainment",
    "Cgroups",
    "Containment",
    "Guardian",
    "InheritedLimitMark",
    "LimitMarks",
    "Lineage",
    "MarkerContainment",
    "StrayReaper",
    "Sweeper",
    "Target",
    "limit_mark_of",
]
