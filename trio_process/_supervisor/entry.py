"""`Entry`: one spec of the roster, with its replicas and holders."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, final

from .._core import UnitFailedError
from .replicas import Replica
from .spec import UnitSpec


class Holder(Protocol):
    """A holder of a unit."""

    def end(self, failure: UnitFailedError) -> None:
        """End the hold: the unit has ended for good, or is stopped."""


@final
class Entry:
    """One spec, its replicas by number, and whether it is wanted.

    Attributes:
        asked: It was enabled or started, and not stopped since.
        holds: Its holders.
        replicas: Its replicas in the order of their numbers, including those that are being retired, until nothing of them runs.
        first: The first replica; still here after it is gone from `replicas`.
        removed: It was removed by a reload, and remains only until nothing of it runs.
    """

    __slots__ = ("asked", "first", "holds", "removed", "replicas", "spec")

    def __init__(self, spec: UnitSpec) -> None:
        self.spec: UnitSpec = spec
        self.asked: bool = spec.enabled
        self.holds: tuple[Holder, ...] = ()
        self.removed: bool = False
        self.first: Replica | None = None
        self.replicas: tuple[Replica, ...] = ()  # a dict for one would take 220 bytes of each unit

    @property
    def is_wanted_itself(self) -> bool:
        """Whether it is wanted by itself, not because another unit needs it."""
        return self.asked or bool(self.holds)

    def active(self) -> Iterator[Replica]:
        """Yield the replicas, except those that are being retired."""
        return (replica for replica in self.replicas if not replica.wishes.retired)

    def replica(self, number: int) -> Replica | None:
        """Return the replica with that number, None if there is none."""
        return next((replica for replica in self.replicas if replica.number == number), None)

    def put(self, replica: Replica) -> None:
        """Add a replica, in the place of an earlier one with its number."""
        others = [other for other in self.replicas if other.number != replica.number]
        self.replicas = tuple(sorted([*others, replica], key=lambda each: each.number))

    def discard(self, replica: Replica) -> None:
        """Remove a replica, unless another one has its number now."""
        self.replicas = tuple([other for other in self.replicas if other is not replica])
