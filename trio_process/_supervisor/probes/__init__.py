"""Probes, which find out whether a unit is ready or still alive: their kinds, and how they are run."""

from .asker import Asker
from .kinds import LineKind, Place
from .probe import Probe

__all__ = ["Asker", "LineKind", "Place", "Probe"]
