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
        replicas: Its replicas by number, including those that are being retired, until nothing of them runs.
        first: The first replica; still here after it is gone from `replicas`.
        removed: It was removed by a reload, and remains only until nothing of it runs.
    """

    __slots__ = ("asked", "first", "holds", "removed", "replicas", "spec")

    def __init__(self, spec: UnitSpec) -> None:
        self.spec: UnitSpec = spec
        self.asked: bool = spec.enabled
        self.holds: list[Holder] = []
        self.removed: bool = False
        self.first: Replica | None = None
        self.replicas: dict[int, Replica] = {}

    @property
    def is_wanted_itself(self) -> bool:
        """Whether it is wanted by itself, not because another unit needs it."""
        return self.asked or bool(self.holds)

    def active(self) -> Iterator[Replica]:
        """Yield the replicas, except those that are being retired."""
        return (replica for _, replica in sorted(self.replicas.items()) if not replica.wishes.retired)
