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

    def with_names_of(self, newer: Graph) -> Graph:
        """Return a copy with the names that only a newer graph has; no cycle results, as no edge leads to them from the others."""
        return Graph(
            {**newer._needs, **{name: needs for name, needs in self._needs.items() if needs or name in newer._needs}}
        )

    def names(self) -> tuple[str, ...]:
        """Return all names that have, or have had, dependencies."""
        return tuple(self._needs)

    def set_needs(self, name: str, needs: frozenset[str]) -> None:
        """Replace the direct dependencies of a unit."""
        old, self._needs[name] = self.needs(name), needs
        for need in old - needs:
            self._dependents[need] -= {name}
        for need in needs - old:
            self._dependents[need] = self.dependents(need) | {name}

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
