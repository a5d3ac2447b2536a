"""`ReloadPlan`: the changes of a reload, computed without side effects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, final

import attrs

from .._core import checks, json_ready
from .spec import UnitSpec, same

NOT_A_RESTART: Final = frozenset({"replicas", "ready", "live"})
"""The fields that are changed while the unit runs on."""


@final
@attrs.frozen(kw_only=True)
class ReloadPlan:
    """The changes of a reload.

    Attributes:
        added: The names of new units.
        changed: The fields that differ, for each unit that has changed.
        removed: The names of removed units.
        kept: The names of unchanged units.
    """

    added: tuple[str, ...] = ()
    changed: Mapping[str, tuple[str, ...]] = attrs.field(factory=dict, eq=checks.frozen_items)
    removed: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the plan, ready for JSON."""
        return json_ready(self)


def compare(old: Mapping[str, UnitSpec], new: Mapping[str, UnitSpec]) -> ReloadPlan:
    """Return the changes between two lists of specs."""
    changed = {name: fields for name in new if name in old and (fields := differing(old[name], new[name]))}
    return ReloadPlan(
        added=tuple([name for name in new if name not in old]),
        changed=changed,
        removed=tuple([name for name in old if name not in new]),
        kept=tuple([name for name in new if name in old and name not in changed]),
    )


def restarts(old: UnitSpec, new: UnitSpec) -> bool:
    """Return whether two specs differ in fields that can't be changed while the unit runs."""
    return not NOT_A_RESTART.issuperset(differing(old, new))


def differing(old: UnitSpec, new: UnitSpec) -> tuple[str, ...]:
    """Return the names of the fields in which two specs differ."""
    return tuple(
        [
            field.name
            for field in attrs.fields(UnitSpec)
            if field.init and not same(getattr(old, field.name), getattr(new, field.name))
        ]
    )
