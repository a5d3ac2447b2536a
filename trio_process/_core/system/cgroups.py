"""Find and read the cgroups that this process is in, in the unified hierarchy (cgroups(7)).

The kernel gives the path of a cgroup as seen from the root of the hierarchy, or of the cgroup namespace. A container may
see only a part of the hierarchy, and it need not be mounted at ``/sys/fs/cgroup``: beside the old hierarchies it is at
``unified`` below. So the directory follows from both the path and the mount.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Final

_OURS: Final = "/proc/self/cgroup"
_MOUNTS: Final = "/proc/self/mountinfo"


def own_cgroups() -> list[str]:
    """Return the directories of the cgroup of this process and of those above it; none if there is no such file system."""
    inside = next((line[3:] for line in _lines(_OURS) if line.startswith("0::")), None)
    if inside is None:
        return []
    for root, place in _mounts():
        if not f"{inside}/".startswith(f"{root}/"):
            continue  # only another part is mounted here
        names = [name for name in inside[len(root) :].split("/") if name]
        if ".." not in names:  # else it is outside of our cgroup namespace
            return [os.path.join(place, *names[:count]) for count in range(len(names), -1, -1)]
    return []


def read_cgroup(directory: str, name: str) -> str:
    """Return the content of a file of a cgroup, stripped; empty without its controller, or if it is gone."""
    try:
        with open(os.path.join(directory, name)) as file:
            return file.read().strip()
    except OSError:
        return ""


def _mounts() -> Iterator[tuple[str, str]]:
    """Yield the root and the place of each mount of the hierarchy (proc_pid_mountinfo(5)); the root of all is empty."""
    for line in _lines(_MOUNTS):
        mount, _, file_system = line.partition(" - ")
        if file_system.startswith("cgroup2 "):
            _, _, _, root, place, *_ = map(_unescaped, mount.split(" "))
            yield root.rstrip("/"), place


def _lines(path: str) -> list[str]:
    try:
        with open(path, errors="surrogateescape") as file:
            return file.read().split("\n")
    except OSError:
        return []


def _unescaped(path: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), path)
