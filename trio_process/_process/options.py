"""`ServiceOptions`, how a service keeps its processes, and `ServiceStatistics`, counts of them."""

from __future__ import annotations

from typing import Final, final

import attrs

from .._core import bad_option, checks, refuse_unknown, short_repr
from .output import DEFAULT_BUFFER_SIZE

CONTAINMENTS: Final = ("auto", "marker", "cgroup")
STRAYS: Final = ("leave", "descendants", "all")


@final
@refuse_unknown()
@attrs.frozen(kw_only=True, repr=False)
class ServiceOptions:
    """How a service keeps its processes.

    Args:
        buffer_size: Bytes kept per process and stream; `math.inf` keeps everything.
        grace_period: Seconds between the stop signal and SIGKILL.
        drain_grace: Seconds without output after an exit until reading ends, although another process still holds a
            pipe.
        drain_limit: Seconds after an exit until reading ends in any case.
        retain: How many finished processes are remembered.
        retain_bytes: How many bytes of output the finished processes may hold together. The oldest lose their output
            first, then their record. A process that a task waits for keeps its output, and so does the last one to end.
        guardian: Kill the remaining processes if this program dies of SIGKILL.
        containment: How to find descendants that have left the group: ``"marker"``, by a variable in their environment;
            ``"cgroup"``, which also finds descendants that have emptied their environment, but takes 20 ms per start;
            ``"auto"`` is the marker. If this program is alone in a delegated cgroup (``Delegate=yes`` of systemd), it
            moves into one below, ``trio-process-main``, so that the kernel counts the memory of each process: then the
            usage has `oom_killed` and the peak of memory.
        strays: Which orphans to reap, of those that the kernel gives to this process if it is PID 1 or a subreaper.
            ``"leave"``: none. ``"descendants"``: those of this service's processes; orphans of children that other code
            has started look like such children, and are left. ``"all"``: all children that the service has not started,
            which takes the exit status of their children away from `subprocess` and other libraries. They are reaped
            within a second of their end.

    Raises:
        OptionError: An option is invalid.
    """

    buffer_size: int | float = DEFAULT_BUFFER_SIZE
    grace_period: float = 5.0
    drain_grace: float = 0.1
    drain_limit: float = 2.0
    retain: int = 1000
    retain_bytes: int | float = 64 * 2**20
    guardian: bool = False
    containment: str = "auto"
    strays: str = "leave"

    __repr__ = short_repr

    def __attrs_post_init__(self) -> None:
        for option in ("buffer_size", "retain", "retain_bytes"):
            object.__setattr__(self, option, checks.whole(option, getattr(self, option), infinite=True))
        for option in ("grace_period", "drain_grace", "drain_limit"):
            object.__setattr__(self, option, checks.seconds(option, getattr(self, option)))
        checks.flag("guardian", self.guardian)
        if self.containment not in CONTAINMENTS:
            raise bad_option(
                "containment", f"must be one of {', '.join(CONTAINMENTS)}, got {checks.brief(self.containment)}"
            )
        if self.strays not in STRAYS:
            raise bad_option("strays", f"must be one of {', '.join(STRAYS)}, got {checks.brief(self.strays)}")


@final
@attrs.frozen(kw_only=True)
class ServiceStatistics:
    """A snapshot of the counters of a service.

    Attributes:
        running: How many processes are running.
        started: How many have been started.
        failed: How many could not be started.
        finished: How many have ended.
        remembered: How many that have ended are still listed.
        remembered_bytes: The size of their captured output, in bytes.
        containment: How descendants are found: ``"marker"`` or ``"cgroup"``.
        guardian_pid: The PID of the guardian; None without one.
    """

    running: int
    started: int
    failed: int
    finished: int
    remembered: int
    remembered_bytes: int
    containment: str
    guardian_pid: int | None
