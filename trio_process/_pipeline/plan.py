"""The plan of a pipeline, pure: its faults, its waves, what can't run and why, and who falls with whom.

Specs are known by their place in the input, so that nothing here hashes a name twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

from .._core import nearest
from .spec import RunSpec

MAX_COMPARED: Final = 100_000
"""How many pairs of names are compared to find the nearest, in all: 2 to 6 µs each, while the event loop waits."""

MAX_DRAWN: Final = 100
"""How many specs of a cycle are named: each member's error tells the cycle, so that n of n would be n squared."""


class Plan(NamedTuple):
    """What follows from the specs alone.

    Attributes:
        waves: The specs that can run, in layers: each needs only specs of earlier ones. Input order within a wave.
        wave: The wave of each spec, None for one that can't run.
        needs: How many others each spec waits for.
        dependents: Which specs wait for each.
        chain: The number of specs on the longest chain that begins with each: what is left when it begins.
        broken: Why a spec can't run, for those that can't: what is missing, or the cycle.
    """

    waves: Sequence[Sequence[int]]
    wave: Sequence[int | None]
    needs: Sequence[int]
    dependents: Sequence[Sequence[int]]
    chain: Sequence[int]
    broken: dict[int, str]

    def cascade(self, failed: int, waits: Callable[[int], bool]) -> Iterator[tuple[int, int]]:
        """Yield every spec that falls with `failed`, and through which of its dependencies.

        Args:
            failed: The spec that did not end well.
            waits: Whether a spec is still undecided; it must become False for each that was yielded.
        """
        fallen = [failed]
        for index in fallen:
            for dependent in self.dependents[index]:
                if waits(dependent):
                    yield dependent, index
                    fallen.append(dependent)


def find_faults(specs: Sequence[RunSpec]) -> list[str]:
    """Return what is wrong with names and dependencies, such that nothing may run."""
    faults: list[str] = []
    places: dict[str, int] = {}
    for place, spec in enumerate(specs, 1):
        if not spec.name:
            faults.append(f"spec {place} has an empty name")
        elif spec.name in places:
            faults.append(f"the name {spec.name!r} is used twice: by spec {places[spec.name]} and by spec {place}")
        else:
            places[spec.name] = place
        faults += _dependency_faults(spec, place)
    return faults


def _dependency_faults(spec: RunSpec, place: int) -> Iterator[str]:
    called = repr(spec.name) if spec.name else f"spec {place}"
    seen: set[str] = set()
    for name in spec.after:
        if not name:
            yield f"{called}: after holds an empty name"
        elif name in seen:
            yield f"{called}: after names {name!r} twice"
        elif name == spec.name:
            yield f"{called}: it can't come after itself"
        seen.add(name)


def make_plan(specs: Sequence[RunSpec]) -> Plan:
    """Return the plan of specs without faults; takes time and memory in proportion to the specs and dependencies."""
    index = {spec.name: place for place, spec in enumerate(specs)}
    dependents: list[list[int]] = [[] for _ in specs]
    for place, spec in enumerate(specs):
        for name in spec.after:
            if name in index:
                dependents[index[name]].append(place)
    needs = [len(spec.after) for spec in specs]
    waves = _waves(needs, dependents)
    wave: list[int | None] = [None] * len(specs)
    for number, members in enumerate(waves):
        for place in members:
            wave[place] = number
    chain = [1] * len(specs)
    for members in reversed(waves):
        for place in members:
            chain[place] = 1 + max([chain[d] for d in dependents[place] if wave[d] is not None], default=0)
    return Plan(waves, wave, needs, dependents, chain, _Accounts(specs, index, wave).of_all())


def flat_plan(count: int, *, in_order: bool) -> Plan:
    """Return the plan that ignores dependencies: one after the other, or all in one wave."""
    wave = list(range(count)) if in_order else [0] * count
    waves = [[place] for place in wave] if in_order else [list(range(count))]
    return Plan(waves, wave, [0] * count, [()] * count, [1] * count, {})


def _waves(needs: Sequence[int], dependents: Sequence[Sequence[int]]) -> list[list[int]]:
    """Peel layers off the graph (Kahn 1962): a spec with a missing dependency, or behind a cycle, is never reached."""
    left = list(needs)
    waves: list[list[int]] = []
    layer = [place for place, count in enumerate(left) if not count]
    while layer:
        waves.append(layer)
        found: list[int] = []
        for place in layer:
            for dependent in dependents[place]:
                left[dependent] -= 1
                if not left[dependent]:
                    found.append(dependent)
        layer = sorted(found)
    return waves


class _Accounts:
    """Tells of each spec that can't run why: in one walk along the first dependency that can't run either."""

    def __init__(self, specs: Sequence[RunSpec], index: dict[str, int], wave: Sequence[int | None]) -> None:
        self._specs = specs
        self._index = index
        self._broken = [place for place, number in enumerate(wave) if number is None]
        self._wave = wave
        self._account: dict[int, str] = {}
        self._root: dict[int, str] = {}
        self._nearest: dict[str, str] = {}

    def of_all(self) -> dict[int, str]:
        for place in self._broken:
            self._walk(place)
        return {place: self._account[place] for place in self._broken}

    def _walk(self, start: int) -> None:
        path: dict[int, None] = {}  # in order, and with a quick look-up
        place: int | None = start
        while place is not None and place not in self._account and place not in path:
            path[place] = None
            place = self._first_broken(place)
        on_cycle: list[int] = []
        if place is not None and place in path:
            trail = list(path)
            on_cycle = trail[trail.index(place) :]
            self._tell_cycle(on_cycle)
        for member in reversed([p for p in path if p not in self._account]):
            self._tell(member)

    def _first_broken(self, place: int) -> int | None:
        for name in self._specs[place].after:
            found = self._index.get(name)
            if found is not None and self._wave[found] is None:
                return found
        return None

    def _tell_cycle(self, members: list[int]) -> None:
        first = members.index(min(members))  # every member names the same cycle, whichever it was found from
        members = members[first:] + members[:first]
        root = f"the cycle {self._drawn(members)}"
        account = f"it is part of {root}"
        for place in members:
            own = self._missing(place)
            self._root[place] = root
            self._account[place] = "; ".join([*own, account]) if own else account

    def _tell(self, place: int) -> None:
        own = self._missing(place)
        through = self._first_broken(place)
        if own:
            self._account[place] = "; ".join(own)
            # the first only: many may need this one, and each tells its root in full
            more = f" (and {len(own) - 1} more)" if len(own) > 1 else ""
            self._root[place] = f"{self._specs[place].name!r}: {own[0]}{more}"
        else:
            assert through is not None, "a spec without a wave has a dependency that is missing or has none either"
            self._root[place] = self._root[through]
            self._account[place] = f"it needs {self._specs[through].name!r}, which can't run: {self._root[place]}"

    def _drawn(self, members: list[int]) -> str:
        names = [self._specs[place].name for place in (*members, members[0])]
        if len(names) > MAX_DRAWN:
            names[MAX_DRAWN // 2 : -MAX_DRAWN // 2] = [f"… {len(names) - MAX_DRAWN} more …"]
        return " → ".join(names)

    def _missing(self, place: int) -> list[str]:
        names = [name for name in self._specs[place].after if name not in self._index]
        return [f"it needs {name!r}, and there is no such spec{self._suggestion(name)}" for name in names]

    def _suggestion(self, name: str) -> str:
        if name not in self._nearest:
            affordable = (len(self._nearest) + 1) * len(self._index) <= MAX_COMPARED
            self._nearest[name] = nearest(name, self._index) if affordable else ""
        return self._nearest[name]
