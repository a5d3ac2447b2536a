"""The dependency graph of the units."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, final

from .members import Needing

Edges = Mapping[str, frozenset[str]]
_NONE: Final[frozenset[str]] = frozenset()


@final
class Graph:
    """The dependencies, by the names of the specs.

    Args:
        edges: The dependencies of each name.
    """

    __slots__ = ("_dependents", "_needs")

    def __init__(self, edges: Edges) -> None:
        self._needs = dict(edges)
        dependents: dict[str, set[str]] = {}
        for name, needs in edges.items():
            for need in needs:
                dependents.setdefault(need, set()).add(name)
        self._dependents = {name: frozenset(found) for name, found in dependents.items()}

    @classmethod
    def of(cls, specs: Iterable[Needing]) -> Graph:
        """Return the graph of some specs."""
        return cls({spec.name: frozenset(spec.after) if spec.after else _NONE for spec in specs})

    def with_edges_of(self, other: Graph) -> Graph:
        """Return a graph with the edges of both, for the time while units of both are running."""
        names = self._needs.keys() | other._needs.keys()
        return Graph({name: self.needs(name) | other.needs(name) for name in names})

    def needs(self, name: str) -> frozenset[str]:
        """Return the direct dependencies of a unit."""
        return self._needs.get(name, _NONE)

    def dependents(self, name: str) -> frozenset[str]:
        """Return the direct dependents of a unit."""
        return self._dependents.get(name, _NONE)

    def all_needs(self, names: Iterable[str]) -> set[str]:
        """Return some units with all their direct and indirect dependencies."""
        return _reached(names, self._needs)

    def all_dependents(self, name: str) -> set[str]:
        """Return all direct and indirect dependents of a unit."""
        return _reached([name], self._dependents) - {name}


def _reached(names: Iterable[str], edges: Edges) -> set[str]:
    found = set(names)
    waiting = list(found)
    while waiting:
        for other in edges.get(waiting.pop(), _NONE):
            if other not in found:
                found.add(other)
                waiting.append(other)
    return found
