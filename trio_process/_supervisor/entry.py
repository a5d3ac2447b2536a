"""`Entry`: one spec of the roster, with its replicas and holders."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from operator import attrgetter
from typing import Final, Protocol, final

from .._core import UnitFailedError
from .replicas import Replica
from .spec import UnitSpec

_number: Final = attrgetter("number")


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
        place, known = self._find(number)
        return self.replicas[place] if known else None

    def put(self, replica: Replica) -> None:
        """Add a replica, in the place of an earlier one with its number."""
        place, known = self._find(replica.number)
        self.replicas = (*self.replicas[:place], replica, *self.replicas[place + known :])

    def discard(self, replica: Replica) -> None:
        """Remove a replica, unless another one has its number now."""
        place, _ = self._find(replica.number)
        if self.replicas[place : place + 1] == (replica,):
            self.replicas = self.replicas[:place] + self.replicas[place + 1 :]

    def _find(self, number: int) -> tuple[int, bool]:
        """Return the place of a number in the order, and whether a replica has it."""
        place = bisect_left(self.replicas, number, key=_number)
        return place, self.replicas[place : place + 1] != () and self.replicas[place].number == number
