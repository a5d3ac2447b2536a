"""Containment by cgroup: each child has its own, which no descendant can leave without a privilege.

A marker in the environment can't see a descendant that both emptied its environment and left the group. A cgroup can
(cgroups(7)); moving a process into one takes the kernel 0.8 to 12 ms, more than a whole short run, so it is used
on request only.

The kernel counts the memory of a cgroup only if its parent passes the memory controller on, and a cgroup that does so
can't hold processes itself ("no internal processes" in cgroups(7)). So if this process is alone in a cgroup that was
delegated to it, it moves into a cgroup of its own, beside those of its children. Elsewhere memory is not counted: the
controllers of a cgroup that isn't delegated belong to the service manager, and other processes are not ours to move.
"""

from __future__ import annotations

import os
from typing import Final, final

from ..._core import ProcessError, own_cgroups, read_cgroup

_MAIN: Final = "trio-process-main"  # the cgroup that this process moves into
_DELEGATED: Final = ("user.delegate", "trusted.delegate")  # attributes by which systemd marks what it has delegated


@final
class Cgroups:
    """The cgroup of a service, below our own or beside it, and in it one for each child.

    Raises:
        ProcessError: A cgroup can't be created here.
    """

    def __init__(self, name: str) -> None:
        own = own_cgroups()
        if not own:
            raise ProcessError("containment='cgroup': there is no cgroup v2 file system here; use containment='marker'")
        base = base_of(own[0])
        self.path = os.path.join(base, f"trio-process-{name}")
        try:
            os.mkdir(self.path)
        except OSError as error:
            raise ProcessError(
                f"containment='cgroup': no cgroup can be made in {base} ({error.strerror}); have one delegated "
                "(systemd-run --user --scope -p Delegate=yes), or use containment='marker'"
            ) from error
        if not os.path.exists(os.path.join(self.path, "cgroup.kill")):
            os.rmdir(self.path)
            raise ProcessError("containment='cgroup' needs cgroup.kill (Linux 5.14); use containment='marker'")
        if count_memory(base):
            _write(self.path, "cgroup.subtree_control", "+memory")

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
        return "populated 1" in read_cgroup(self.path, "cgroup.events")

    def members(self) -> list[int]:
        """Return the PIDs of the processes in it, and in cgroups that a descendant has created below it."""
        return [int(pid) for path, _, _ in os.walk(self.path) for pid in read_cgroup(path, "cgroup.procs").split()]

    def kill(self) -> None:
        """Kill all processes in it, at once: no fork escapes (cgroups(7), "cgroup.kill")."""
        _write(self.path, "cgroup.kill", "1")  # it is checked again, and survivors are named

    @property
    def peak(self) -> int | None:
        """Its peak memory, in bytes; None without the memory controller."""
        peak = read_cgroup(self.path, "memory.peak")
        return int(peak) if peak.isdigit() else None

    @property
    def oom_killed(self) -> bool | None:
        """Whether the kernel has killed a process in it because memory ran out; None without the memory controller."""
        events = dict(line.split() for line in read_cgroup(self.path, "memory.events").splitlines())
        return int(events["oom_kill"]) > 0 if "oom_kill" in events else None

    def remove(self) -> None:
        """Remove it, when no process is in it any more."""
        _remove(self.path)


def base_of(own: str) -> str:
    """Return the directory that our cgroups go into, given the one of the cgroup that this process is in."""
    parent, name = os.path.split(own)
    return parent if name == _MAIN else own


def is_delegated(path: str) -> bool:
    """Whether we may pass controllers on in a cgroup: systemd has marked it so, or it is a scope of this user's.

    The user's manager marks nothing. In a scope it starts no process itself, as it does in the cgroup of a service for
    ``ExecReload=``, which fails once the controllers are passed on.
    """
    for name in _DELEGATED:
        try:
            if os.getxattr(path, name) == b"1":
                return True
        except OSError:
            pass  # not marked, or only root can see it
    return path.endswith(".scope") and 0 != os.geteuid() == os.stat(path).st_uid


def count_memory(base: str) -> bool:
    """Have the kernel count the memory of each cgroup in this directory; return whether it does."""
    if "memory" in read_cgroup(base, "cgroup.subtree_control").split():
        return True
    if "memory" not in read_cgroup(base, "cgroup.controllers").split() or not is_delegated(base):
        return False
    inside = read_cgroup(base, "cgroup.procs").split()
    if inside:
        own = os.path.join(base, _MAIN)
        if inside != [str(os.getpid())] or not (_make(own) and _write(own, "cgroup.procs", "0")):
            return False
    return _write(base, "cgroup.subtree_control", "+memory")


def _make(path: str) -> bool:
    try:
        os.makedirs(path, exist_ok=True)
    except OSError:
        return False  # too many, or not ours after all
    return True


def _write(path: str, name: str, value: str) -> bool:
    try:
        with open(os.path.join(path, name), "w") as file:
            file.write(value)
    except OSError:
        return False  # not permitted, or gone in between
    return True


def _remove(path: str) -> None:
    for directory, _, _ in os.walk(path, topdown=False):
        try:
            os.rmdir(directory)
        except OSError:
            pass  # something lives in it still, and was named
