"""The faults of a list of specs, found before anything is started."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from .._core import OptionError, checks, nearest
from .rules import UnitCondition
from .spec import UnitSpec


def checked(units: Iterable[UnitSpec]) -> dict[str, UnitSpec]:
    """Return the specs by name, in their order.

    Raises:
        OptionError: There are faults; the message names all of them.
    """
    specs: dict[str, UnitSpec] = {}
    faults: list[str] = []
    for spec in checks.items("units", units, "UnitSpec"):
        if not isinstance(spec, UnitSpec):
            faults.append(f"units must be a list of UnitSpec, got {checks.brief(spec)}")
        elif spec.name in specs:
            faults.append(f"the name {spec.name!r} is used twice")
        else:
            specs[spec.name] = spec
    faults += [fault for spec in specs.values() for fault in _faults_of(spec, specs)]
    faults += [f"units wait for each other: {' → '.join(cycle)}" for cycle in _cycles(specs)]
    if len(faults) == 1:
        raise OptionError(faults[0], option="units")
    if faults:
        listed = "".join(f"\n  {fault}" for fault in faults)
        raise OptionError(f"{len(faults)} faults:{listed}", option="units")
    return specs


def _faults_of(spec: UnitSpec, specs: Mapping[str, UnitSpec]) -> Iterator[str]:
    for name, condition in spec.after.items():
        if name == spec.name:
            yield f"{spec.name!r} waits for itself; remove it from its `after`"
            continue
        if name not in specs:
            yield f"{spec.name!r} is after {name!r}, but there is no such unit{nearest(name, specs)}"
            continue
        other = specs[name]
        if spec.enabled and not other.enabled:
            yield f"{spec.name!r} is enabled and needs {name!r}, which is not; enable that, or disable this"
        if never_holds(condition, other):
            yield f"{spec.name!r} waits until {name!r} has completed, but that is always restarted and never completes"


def never_holds(condition: UnitCondition, other: UnitSpec) -> bool:
    """Return whether a condition can't hold, whatever happens to the other unit."""
    return condition is UnitCondition.COMPLETED and other._ends_only_by_failure


def _cycles(specs: Mapping[str, UnitSpec]) -> Iterator[list[str]]:
    """Yield each cycle that a depth-first search finds, from its first name back to that name."""
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
