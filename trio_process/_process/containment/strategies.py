"""How the descendants of one child are held together: `MarkerContainment`, or `CgroupContainment`."""

from __future__ import annotations

from typing import Protocol, final

import attrs

from ..._core import ResourceUsage
from .cgroup import Cgroup


class Containment(Protocol):
    """How the descendants of one child are recognized, beside the process group."""

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
        """Whether a descendant is alive; None where that can't be known without looking at processes."""

    def members(self) -> list[int]:
        """Return the PIDs that are known to be descendants without looking at their environment."""

    def kill(self) -> None:
        """Kill all that can be killed at once."""

    def usage(self, usage: ResourceUsage) -> ResourceUsage:
        """Return the usage of the child, with what is known beside its own figures."""

    def close(self) -> None:
        """Release what it holds, once no descendant is alive."""


@final
class MarkerContainment:
    """Descendants are known by a marker in their environment, and by a resource limit.

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
        """Return none: each environment has to be looked at."""
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
    """Descendants are in a cgroup of their own, and bear the marker as well, for the guardian.

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
        """Whether anything lives in the cgroup."""
        return self._group.populated

    def members(self) -> list[int]:
        """Return the PIDs that live in the cgroup."""
        return self._group.members()

    def kill(self) -> None:
        """Kill all that lives in the cgroup, at once."""
        self._group.kill()

    def usage(self, usage: ResourceUsage) -> ResourceUsage:
        """Return the usage with the peak of memory of all, and whether the kernel killed one for want of it."""
        return attrs.evolve(usage, max_rss=self._group.peak or usage.max_rss, oom_killed=self._group.oom_killed)

    def close(self) -> None:
        """Remove the cgroup."""
        self._group.remove()
