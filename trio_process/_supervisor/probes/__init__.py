"""Probes, which find out whether a unit is ready or still alive: their kinds, and how they are run."""

from .asker import Asker
from .kinds import LineKind, Place
from .probe import FROM_THEN_ON, UNTIL_READY, Probe

__all__ = ["FROM_THEN_ON", "UNTIL_READY", "Asker", "LineKind", "Place", "Probe"]
