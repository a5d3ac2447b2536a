"""`UnitChanged`: the event for every change of a unit's state."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar, final

import attrs

from .._core import json_ready
from .rules import UnitState


@final
@attrs.frozen
class UnitChanged:
    """A unit has changed its state; published on the bus of the supervisor's service, and never dropped.

    Attributes:
        name: The name of the unit; with the number for further replicas, ``web.2``.
        replica: Its number, from 1.
        old: The state before.
        new: The state now.
        reason: The reason, for people.
        generation: The number of its run, from 1; 0 before the first one.
        at: The time, timezone-aware.
        never_dropped: True: it is delivered whatever the `Overflow` of a subscription.
    """

    never_dropped: ClassVar[bool] = True

    name: str
    replica: int
    old: UnitState
    new: UnitState
    reason: str
    generation: int
    at: datetime

    def to_dict(self) -> dict[str, Any]:
        """Return the event, ready for JSON."""
        return json_ready(self)
