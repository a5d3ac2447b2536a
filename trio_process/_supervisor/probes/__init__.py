"""How it is found out whether a unit is ready, or still alive: the kinds of questions, and who asks them."""

from .asker import Asker
from .kinds import LineKind, Place
from .probe import Probe

__all__ = ["Asker", "LineKind", "Place", "Probe"]
