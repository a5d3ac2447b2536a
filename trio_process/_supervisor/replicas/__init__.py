"""One replica of a unit: its state, the task that keeps it running, and its ties to the other units."""

from .keeper import Keeper
from .replica import Replica
from .tasks import Tasks

__all__ = [
    "Keeper",
    "Replica",
    "Tasks",
]
