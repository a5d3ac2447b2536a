"""`Entry`: one spec of the roster, with its replicas and those who hold it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, final

from .._core import UnitFailedError
from .replica import Replica
from .spec import UnitSpec


class Holder(Protocol):
    """Somebody who needs a unit."""

    def end(self, failure: UnitFailedError) -> None:
        """End the need: the unit has ended for good, or is stopped."""


@final
class Entry:
    """One spec, its replicas by number, and what is wanted of it.

    Attributes:
        asked: It was enabled or started, and not stopped since.
        holds: Those who hold it.
        replicas: By number; those that are being retired are among them until nothing of them runs.
        removed: It was removed by a reload, and is only there until nothing of it runs.
    """

    __slots__ = ("asked", "holds", "removed", "replicas", "spec")

    def __init__(self, spec: UnitSpec) -> None:
        self.spec: UnitSpec = spec
        self.asked: bool = spec.enabled
        self.holds: list[Holder] = []
        self.removed: bool = False
        self.replicas: dict[int, Replica] = {}

    @property
    def is_wanted_itself(self) -> bool:
        """Whether it is wanted for its own sake, not because another unit needs it."""
        return self.asked or bool(self.holds)

    def active(self) -> Iterator[Replica]:
        """Yield the replicas that count: not those that are being retired."""
        return (replica for _, replica in sorted(self.replicas.items()) if not replica.wishes.retired)
