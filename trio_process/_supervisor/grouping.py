"""`Grouping`: which units are restarted together, by the supervisor's strategy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol, final

from .entry import Entry
from .replicas import Replica
from .rules import Graph, Strategy, UnitState


class Units(Protocol):
    """The units and their dependencies."""

    @property
    def entries(self) -> Mapping[str, Entry]:
        """The units, by name."""

    @property
    def graph(self) -> Graph:
        """The dependencies."""


@final
class Grouping:
    """Restarts several units together: all are stopped before any of them starts again.

    Args:
        units: The units.
        strategy: Which units are restarted together.
    """

    __slots__ = ("_strategy", "_to_stop", "_units")

    def __init__(self, units: Units, strategy: Strategy) -> None:
        self._units = units
        self._strategy = strategy
        self._to_stop: set[Replica] = set()

    def restart_with(self, origin: Replica) -> None:
        """Restart the units that are restarted together with this one."""
        match self._strategy:
            case Strategy.ONE_FOR_ONE:
                return
            case Strategy.ONE_FOR_ALL:
                names: Iterable[str] = self._units.entries
            case Strategy.REST_FOR_ONE:
                names = self._units.graph.all_dependents(origin.spec.name)
        for name in names:
            for replica in self._units.entries[name].replicas:
                if replica is not origin and replica.ask_grouped():
                    self._to_stop.add(replica)

    def outdate_dependents(self, origin: Replica) -> None:
        """Have the completed dependents of a unit that was stopped run again when they are wanted, as after its restart."""
        if self._strategy is Strategy.ONE_FOR_ONE:
            return
        for name in self._units.graph.all_dependents(origin.spec.name):
            for replica in self._units.entries[name].replicas:
                if replica.state is UnitState.COMPLETED:
                    replica.wishes.outdated = True

    def may_start(self, replica: Replica) -> bool:
        """Return whether all units that are restarted together with this one are stopped."""
        if not self._to_stop:
            return True
        if self._strategy is Strategy.ONE_FOR_ALL:
            return False
        dependents = self._units.graph.all_dependents(replica.spec.name)
        return dependents.isdisjoint([other.spec.name for other in self._to_stop])

    def note_stopped(self, replica: Replica) -> None:
        """Let units start that were waiting until this one is stopped, or no longer to be stopped."""
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
            for replica in entry.replicas if entry is not None else ():
                if replica.state is UnitState.WAITING:
                    replica.bell.ring()
