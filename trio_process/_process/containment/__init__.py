"""Who belongs to a child, and is it gone: process group, marker, cgroup, sweep, guardian."""

from .cgroup import Cgroups
from .descendants import Lineage, Target, state_of
from .guardian import Guardian
from .limit_mark import LimitMarks, inherited_limit_mark
from .strategies import CgroupContainment, Containment, MarkerContainment
from .sweep import Sweeper

__all__ = [
    "CgroupContainment",
    "Cgroups",
    "Containment",
    "Guardian",
    "LimitMarks",
    "Lineage",
    "MarkerContainment",
    "Sweeper",
    "Target",
    "inherited_limit_mark",
    "state_of",
]
