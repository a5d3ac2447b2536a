"""Protocols for the rules: a spec, a replica, and the group of replicas of a spec, as pure functions see them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol, TypeVar

from .states import UnitCondition, UnitState


class Needing(Protocol):
    """A spec: its name, and the conditions of others that it waits for."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def after(self) -> Mapping[str, UnitCondition]:
        """The conditions, by name."""


class Wish(Protocol):
    """What was asked of a replica."""

    @property
    def pending(self) -> bool:
        """Whether its state is about to change."""


class Member(Protocol):
    """A replica."""

    @property
    def name(self) -> str:
        """Its name, with its number."""

    @property
    def state(self) -> UnitState:
        """Its state."""

    @property
    def error(self) -> BaseException | None:
        """Why it has failed."""

    @property
    def wishes(self) -> Wish:
        """What was asked of it."""

    @property
    def has_started(self) -> bool:
        """Whether something of it runs, not only is about to."""

    @property
    def is_running(self) -> bool:
        """Whether something of it runs, or is being started or stopped."""


MemberT_co = TypeVar("MemberT_co", bound=Member, covariant=True)


class Group(Protocol[MemberT_co]):
    """The replicas of one spec."""

    def active(self) -> Iterator[MemberT_co]:
        """Yield the replicas that count: not those that are being retired."""

    @property
    def replicas(self) -> Sequence[MemberT_co]:
        """All replicas, in the order of their numbers."""
