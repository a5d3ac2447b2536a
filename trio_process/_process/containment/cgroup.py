"""Containment by cgroup: each child has its own, which no descendant can leave without a privilege.

A marker in the environment can't see a descendant that both emptied its environment and left the group. A cgroup can
(cgroups(7)); moving a process into one takes the kernel 0.8 to 12 ms, more than a whole short run, so it is used
on request only.
"""

from __future__ import annotations

import os
from typing import Final, final

from ..._core import ProcessError

_MOUNTS: Final = "/proc/self/mountinfo"
_OURS: Final = "/proc/self/cgroup"


@final
class Cgroups:
    """The cgroup of a service, below our own, and in it one for each child.

    Raises:
        ProcessError: A cgroup can't be created here.
    """

    def __init__(self, name: str) -> None:
        own = _own_directory()
        self.path = os.path.join(own, f"trio-process-{name}")
        try:
            os.mkdir(self.path)
        except OSError as error:
            raise ProcessError(
                f"containment='cgroup': no cgroup can be made in {own} ({error.strerror}); have one delegated "
                "(systemd-run --user --scope -p Delegate=yes), or use containment='marker'"
            ) from error
        if not os.path.exists(os.path.join(self.path, "cgroup.kill")):
            os.rmdir(self.path)
            raise ProcessError("containment='cgroup' needs cgroup.kill (Linux 5.14); use containment='marker'")

    def make(self, name: str) -> Cgroup:
        """Create a cgroup for a child; may raise an OSError."""
        path = os.path.join(self.path, name)
        os.mkdir(path)
        return Cgroup(path)

    def close(self) -> None:
        """Remove it, unless a process that could not be killed is still in it."""
        _remove(self.path)


@final
class Cgroup:
    """The cgroup of one child and its descendants."""

    __slots__ = ("path",)

    def __init__(self, path: str) -> None:
        self.path = path

    @property
    def populated(self) -> bool:
        """Whether a live process is in it; zombies don't count."""
        return "populated 1" in _read(self.path, "cgroup.events")

    def members(self) -> list[int]:
        """Return the PIDs of the processes in it, and in cgroups that a descendant has created below it."""
        return [int(pid) for path, _, _ in os.walk(self.path) for pid in _read(path, "cgroup.procs").split()]

    def kill(self) -> None:
        """Kill all processes in it, at once: no fork escapes (cgroups(7), "cgroup.kill")."""
        try:
            with open(os.path.join(self.path, "cgroup.kill"), "w") as file:
                file.write("1")
        except OSError:
            pass  # it is checked again, and survivors are named

    @property
    def peak(self) -> int | None:
        """Its peak memory, in bytes; None without the memory controller."""
        peak = _read(self.path, "memory.peak").strip()
        return int(peak) if peak.isdigit() else None

    @property
    def oom_killed(self) -> bool:
        """Whether the kernel has killed a process in it because memory ran out."""
        events = dict(line.split() for line in _read(self.path, "memory.events").splitlines())
        return int(events.get("oom_kill", 0)) > 0

    def remove(self) -> None:
        """Remove it, when no process is in it any more."""
        _remove(self.path)


def _own_directory() -> str:
    """Return the directory of the cgroup that this process is in."""
    inside = next((line[3:] for line in _read("", _OURS).splitlines() if line.startswith("0::")), None)
    mounted = [fields for line in _read("", _MOUNTS).splitlines() if (fields := line.split()) and "cgroup2" in fields]
    if inside is None or not mounted:
        raise ProcessError("containment='cgroup': there is no cgroup v2 file system here; use containment='marker'")
    root, place = mounted[0][3], mounted[0][4]  # proc_pid_mountinfo(5)
    return os.path.normpath(os.path.join(place, os.path.relpath(inside, root)))


def _read(path: str, name: str) -> str:
    try:
        with open(os.path.join(path, name)) as file:
            return file.read()
    except OSError:
        return ""  # no such controller, or gone in between


def _remove(path: str) -> None:
    for directory, _, _ in os.walk(path, topdown=False):
        try:
            os.rmdir(directory)
        except OSError:
            pass  # something lives in it still, and was named
