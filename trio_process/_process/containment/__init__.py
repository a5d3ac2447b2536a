"""Which processes belong to a child, and whether they are gone: group, marker, cgroup, guardian."""

from .cgroup import Cell, Cells
from .descendants import MARKER, Left, Lineage, Wanted, state_of
from .guardian import Guardian
from .sweep import STUCK_AFTER, Sweep, Sweeper

__all__ = [
    "MARKER",
    "STUCK_AFTER",
    "Cell",
    "Cells",
    "Guardian",
    "Left",
    "Lineage",
    "Sweep",
    "Sweeper",
    "Wanted",
    "state_of",
]
