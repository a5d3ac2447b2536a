"""`Grouping`: what is restarted together with a unit, by the supervisor's strategy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol, final

from .entry import Entry
from .replica import Replica
from .rules import Graph, Strategy, UnitState


class Units(Protocol):
    """The units, and who needs whom."""

    @property
    def entries(self) -> Mapping[str, Entry]:
        """The units, by name."""

    @property
    def graph(self) -> Graph:
        """Who needs whom."""


@final
class Grouping:
    """The restarts of several units as one: all are stopped before any of them starts again.

    Args:
        units: The units.
        strategy: What is restarted together.
    """

    __slots__ = ("_strategy", "_to_stop", "_units")

    def __init__(self, units: Units, strategy: Strategy) -> None:
        self._units = units
        self._strategy = strategy
        self._to_stop: set[Replica] = set()

    def restart_with(self, origin: Replica) -> None:
        """Restart what is restarted together with a unit that is."""
        match self._strategy:
            case Strategy.ONE_FOR_ONE:
                return
            case Strategy.ONE_FOR_ALL:
                names: Iterable[str] = self._units.entries
            case Strategy.REST_FOR_ONE:
                names = self._units.graph.all_dependents(origin.spec.name)
        for name in names:
            for replica in self._units.entries[name].replicas.values():
                if replica is not origin and replica.ask_grouped():
                    self._to_stop.add(replica)

    def may_start(self, replica: Replica) -> bool:
        """Return whether all that is restarted together with a unit is stopped."""
        if not self._to_stop:
            return True
        if self._strategy is Strategy.ONE_FOR_ALL:
            return False
        dependents = self._units.graph.all_dependents(replica.spec.name)
        return dependents.isdisjoint([other.spec.name for other in self._to_stop])

    def is_stopped(self, replica: Replica) -> None:
        """Let those start that waited until a unit is stopped; or until it is not to be stopped any more."""
        replica.wishes.grouped = False
        if replica not in self._to_stop:
            return
        self._to_stop.discard(replica)
        if self._strategy is Strategy.REST_FOR_ONE:
            self._wake_waiting(self._units.graph.all_needs([replica.spec.name]))
        elif not self._to_stop:
            self._wake_waiting(self._units.entries)

    def _wake_waiting(self, names: Iterable[str]) -> None:
        for name in names:
            entry = self._units.entries.get(name)
            for replica in entry.replicas.values() if entry is not None else ():
                if replica.state is UnitState.WAITING:
                    replica.bell.ring()
