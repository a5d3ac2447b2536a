"""The dependency graph of the units: its faults, and who depends on whom."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final, final

from .._core import OptionError, nearest
from .spec import UnitSpec
from .states import UnitCondition

Edges = Mapping[str, frozenset[str]]
_NONE: Final[frozenset[str]] = frozenset()


@final
class Graph:
    """Who depends on whom, by the names of the specs.

    Args:
        edges: For each name, what it depends on.
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
    def of(cls, specs: Iterable[UnitSpec]) -> Graph:
        """Return the graph of some specs."""
        return cls({spec.name: frozenset(spec.after) if spec.after else _NONE for spec in specs})

    def with_edges_of(self, other: Graph) -> Graph:
        """Return a graph with the edges of both, for the time in which units of both run."""
        names = self._needs.keys() | other._needs.keys()
        return Graph({name: self.needs(name) | other.needs(name) for name in names})

    def needs(self, name: str) -> frozenset[str]:
        """Return what a unit depends on itself."""
        return self._needs.get(name, _NONE)

    def dependents(self, name: str) -> frozenset[str]:
        """Return what depends on a unit itself."""
        return self._dependents.get(name, _NONE)

    def all_needs(self, names: Iterable[str]) -> set[str]:
        """Return some units and all that they depend on, however indirectly."""
        return _reached(names, self._needs)

    def all_dependents(self, name: str) -> set[str]:
        """Return all that depend on a unit, however indirectly."""
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


def checked(units: Iterable[UnitSpec]) -> dict[str, UnitSpec]:
    """Return the specs by name, in their order.

    Raises:
        OptionError: There are faults; the text has all of them.
    """
    if isinstance(units, (str, bytes, Mapping)) or not isinstance(units, Iterable):
        raise OptionError(f"units must be a list of UnitSpec, got {units!r}")
    specs: dict[str, UnitSpec] = {}
    faults: list[str] = []
    for spec in units:
        if not isinstance(spec, UnitSpec):
            faults.append(f"units must be a list of UnitSpec, got {spec!r}")
        elif spec.name in specs:
            faults.append(f"the name {spec.name!r} is used twice")
        else:
            specs[spec.name] = spec
    faults += [fault for spec in specs.values() for fault in _faults_of(spec, specs)]
    faults += [f"units wait for each other: {' → '.join(cycle)}" for cycle in _cycles(specs)]
    if len(faults) == 1:
        raise OptionError(faults[0])
    if faults:
        listed = "".join(f"\n  {fault}" for fault in faults)
        raise OptionError(f"{len(faults)} faults:{listed}")
    return specs


def _faults_of(spec: UnitSpec, specs: Mapping[str, UnitSpec]) -> Iterator[str]:
    for name, condition in spec.after.items():
        if name == spec.name:
            yield f"{spec.name!r} waits for itself; remove it from its `after`"
            continue
        if name not in specs:
            yield f"{spec.name!r} is after {name!r}, which is not there{nearest(name, specs)}"
            continue
        other = specs[name]
        if spec.enabled and not other.enabled:
            yield f"{spec.name!r} is enabled and needs {name!r}, which is not; enable that, or disable this"
        if condition is UnitCondition.COMPLETED and other.ends_only_by_failure:
            yield f"{spec.name!r} waits until {name!r} has completed, but that is always restarted and never completes"


def _cycles(specs: Mapping[str, UnitSpec]) -> Iterator[list[str]]:
    """Yield each cycle that a search in depth meets, from its first name back to it."""
    done: set[str] = set()
    for start in specs:
        path: list[str] = []
        on_path: set[str] = set()
        branches = [iter([start])]
        while branches:
            name = next(branches[-1], None)
            if name is None:
                branches.pop()
                if path:
                    done.add(path[-1])
                    on_path.discard(path.pop())
            elif name in on_path:
                yield [*path[path.index(name) :], name]
            elif name not in done:
                path.append(name)
                on_path.add(name)
                branches.append(iter([other for other in specs[name].after if other in specs and other != name]))
