"""Who belongs to a child, and is it gone: process group, marker, cgroup, sweep, guardian."""

from .cgroup import Cgroups
from .descendants import Lineage, Target, state_of
from .guardian import Guardian
from .limit_mark import LimitMarks, inherited_limit_mark, limit_mark_of
from .strategies import CgroupContainment, Containment, MarkerContainment
from .strays import StrayReaper
from .sweep import Sweeper

__all__ = [
    "CgroupContainment",
    "Cgroups",
    "Containment",
    "Guardian",
    "LimitMarks",
    "Lineage",
    "MarkerContainment",
    "StrayReaper",
    "Sweeper",
    "Target",
    "inherited_limit_mark",
    "limit_mark_of",
    "state_of",
]
