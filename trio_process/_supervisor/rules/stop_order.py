"""The order of stops: the dependents of a unit are stopped before it, independent units at the same time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Generic, TypeVar, final

from .graph import Graph
from .members import Group, Member

_MemberT = TypeVar("_MemberT", bound=Member)

Neighbours = Callable[[str], frozenset[str]]


@final
class StopOrder(Generic[_MemberT]):
    """The nearest running units of a unit, looking past units that are not running.

    A unit that has completed may stand between two others, and doesn't delay a stop: with ``db ← migrate ← web``, `web` is
    stopped before `db` although `migrate` has long ended. The search ends at running units.

    The dependencies of a running unit are those that it was started with. A reload that reverses a dependency would
    otherwise make two units wait for each other's stop.

    Args:
        graph: The dependencies, owned by this object.
        entries: The units by name; read on every call.
    """

    __slots__ = ("_dependents", "_graph", "_needs")

    def __init__(self, graph: Graph, entries: Mapping[str, Group[_MemberT]]) -> None:
        self._graph = graph
        self._dependents = _Direction(graph.dependents, graph.needs, entries)
        self._needs = _Direction(graph.needs, graph.dependents, entries)

    @property
    def graph(self) -> Graph:
        """The dependencies, as of the last start of each unit."""
        return self._graph

    def set_needs(self, name: str, needs: frozenset[str]) -> None:
        """Replace the dependencies of a unit."""
        if needs != self._graph.needs(name):
            self._graph.set_needs(name, needs)
            self._dependents.forget()
            self._needs.forget()

    def running_dependents(self, name: str) -> Iterator[_MemberT]:
        """Yield the nearest running replicas that depend on a unit."""
        return self._dependents.nearest(name)

    def running_needs(self, name: str) -> Iterator[_MemberT]:
        """Yield the nearest running replicas that a unit depends on."""
        return self._needs.nearest(name)

    def runs(self, name: str) -> None:
        """Called when a unit has started running."""
        self._dependents.runs(name)
        self._needs.runs(name)


@final
class _Direction(Generic[_MemberT]):
    """The search in one direction of the graph.

    Args:
        onward: The neighbours in that direction.
        back: Those in the other one.
        entries: The units by name.
    """

    __slots__ = ("_back", "_entries", "_onward", "_quiet")

    def __init__(self, onward: Neighbours, back: Neighbours, entries: Mapping[str, Group[_MemberT]]) -> None:
        self._onward = onward
        self._back = back
        self._entries = entries
        # names that don't run, nor anything behind them; without it, each stop in a long chain would walk to its end
        self._quiet: set[str] = set()

    def nearest(self, name: str) -> Iterator[_MemberT]:
        seen = {name}
        waiting = [name]
        found = False
        while waiting:
            for other in self._onward(waiting.pop()):
                if other in seen or other in self._quiet:
                    continue
                seen.add(other)
                entry = self._entries.get(other)
                running = [] if entry is None else [replica for replica in entry.replicas if replica.is_running]
                if running:
                    found = True
                    yield from running
                else:
                    waiting.append(other)
        if not found:
            seen.discard(name)
            self._quiet |= seen

    def forget(self) -> None:
        self._quiet.clear()

    def runs(self, name: str) -> None:
        waiting = [name]
        while waiting:
            here = waiting.pop()
            self._quiet.discard(here)
            waiting += [other for other in self._back(here) if other in self._quiet]
