"""The conditions that a unit waits for: whether they hold, may still be met, or can't be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ..._core import ProcessError
from .members import Group, Member, Needing
from .state_machine import Outlook
from .states import HOLDS_IN, HOPELESS_IN, RUNNING, UnitCondition

Entries = Mapping[str, Group[Member]]


def outlook_of(spec: Needing, entries: Entries) -> Outlook:
    """Return whether all conditions of a unit hold now, may still be met, or one of them can't be."""
    outlook = Outlook.HOLD
    for name, condition in spec.after.items():
        for other in _replicas(name, entries):
            if holds(other, condition):
                continue
            if _is_hopeless(other, condition):
                return Outlook.HOPELESS
            outlook = Outlook.PENDING
    return outlook


def missing(spec: Needing, entries: Entries) -> tuple[str, ...]:
    """Return the names of the units that a unit waits for."""
    return tuple(
        [
            name
            for name, condition in spec.after.items()
            if not all([holds(other, condition) for other in _replicas(name, entries)])
        ]
    )


def unmet_error(spec: Needing, entries: Entries) -> ProcessError:
    """Return the error of a unit whose condition can't be met."""
    for name, condition in spec.after.items():
        for other in _replicas(name, entries):
            if not holds(other, condition) and _is_hopeless(other, condition):
                error = ProcessError(f"{spec.name} is after {name} ({condition}), but {other.name} is {other.state}")
                error.__cause__ = other.error
                return error
    raise AssertionError("asked for a condition that can't come, and all of them can")


def holds(other: Member, condition: UnitCondition) -> bool:
    """Return whether a condition holds now, and no pending request would end that."""
    if other.wishes.pending or other.state not in HOLDS_IN[condition]:
        return False
    return condition is not UnitCondition.STARTED or other.state not in RUNNING or other.has_started


def _is_hopeless(other: Member, condition: UnitCondition) -> bool:
    return not other.wishes.pending and other.state in HOPELESS_IN[condition]


def _replicas(name: str, entries: Entries) -> Iterator[Member]:
    entry = entries.get(name)
    return entry.active() if entry is not None else iter(())
