"""How the descendants of one child are recognized: `MarkerContainment` or `CgroupContainment`."""

from __future__ import annotations

from typing import Protocol, final

import attrs

from ..._core import ResourceUsage
from .cgroup import Cgroup


class Containment(Protocol):
    """How the descendants of one child are recognized, in addition to the process group."""

    @property
    def token(self) -> str:
        """The value of the marker in their environment, empty for none."""

    @property
    def limit(self) -> int:
        """The value of the resource limit that marks them, 0 for none."""

    @property
    def cgroup(self) -> str:
        """The directory of the cgroup that the child is started in, empty for none."""

    @property
    def populated(self) -> bool | None:
        """Whether a descendant is alive; None if that can't be known without a scan."""

    def members(self) -> list[int]:
        """Return the PIDs of descendants that are known without reading their environment."""

    def kill(self) -> None:
        """Kill all descendants that can be killed at once."""

    def usage(self, usage: ResourceUsage) -> ResourceUsage:
        """Return the usage of the child, with figures of its descendants if they are known."""

    def close(self) -> None:
        """Release its resources, once no descendant is alive."""


@final
class MarkerContainment:
    """Descendants are recognized by a marker in their environment, and by a resource limit.

    Args:
        token: The value of the marker; empty for a detached or adopted process, whose descendants are left alone.
        limit: The value of the resource limit, 0 for none; see `limit_mark`.
    """

    __slots__ = ("limit", "token")

    cgroup = ""
    populated = None

    def __init__(self, token: str, limit: int = 0) -> None:
        self.token = token
        self.limit = limit

    def members(self) -> list[int]:
        """Return none: each environment must be read."""
        return []

    def kill(self) -> None:
        """Do nothing: they are killed one by one."""

    def usage(self, usage: ResourceUsage) -> ResourceUsage:
        """Return the child's own figures."""
        return usage

    def close(self) -> None:
        """Do nothing."""


@final
class CgroupContainment:
    """Descendants are in a cgroup of their own, and also carry the marker, for the guardian.

    Args:
        token: The value of the marker.
        limit: The value of the resource limit.
        group: The cgroup.
    """

    __slots__ = ("_group", "limit", "token")

    def __init__(self, token: str, limit: int, group: Cgroup) -> None:
        self.token = token
        self.limit = limit
        self._group = group

    @property
    def cgroup(self) -> str:
        """The directory of the cgroup."""
        return self._group.path

    @property
    def populated(self) -> bool:
        """Whether a process is in the cgroup."""
        return self._group.populated

    def members(self) -> list[int]:
        """Return the PIDs of the processes in the cgroup."""
        return self._group.members()

    def kill(self) -> None:
        """Kill all processes in the cgroup at once."""
        self._group.kill()

    def usage(self, usage: ResourceUsage) -> ResourceUsage:
        """Return the usage with the peak memory of all, and whether the kernel killed one because memory ran out."""
        return attrs.evolve(usage, max_rss=self._group.peak or usage.max_rss, oom_killed=self._group.oom_killed)

    def close(self) -> None:
        """Remove the cgroup."""
        self._group.remove()
