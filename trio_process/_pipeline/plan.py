"""Plan a pipeline, without I/O: its faults, its waves, and which specs can't run and why.

Specs are identified by their index in the input, so no name is hashed twice here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Sequence
from typing import Final, NamedTuple, final

from .._core import nearest
from .spec import RunSpec

MAX_COMPARED: Final = 100_000
"""The total number of name pairs that are compared to find the nearest: 2 to 6 µs each, while the event loop waits."""

MAX_DRAWN: Final = 100
"""The number of specs of a cycle that are named: each member's error names the cycle, so n of n would be quadratic."""


class Plan(NamedTuple):
    """The facts that follow from the specs alone.

    Attributes:
        waves: The runnable specs in layers: each needs only specs of earlier layers. Input order within a wave.
        wave: The wave of each spec, None for a spec that can't run.
        needs: For each spec, how many runnable specs must have ended before it starts.
        dependents: For each spec, the specs that wait for it.
        chain: For each spec, the number of specs on the longest chain that starts with it.
        broken: The reason for each spec that can't run: a missing dependency, or the cycle.
        when: For each spec, after which outcomes of its dependencies it starts, as in `RunSpec`.
    """

    waves: Sequence[Sequence[int]]
    wave: Sequence[int | None]
    needs: Sequence[int]
    dependents: Sequence[Sequence[int]]
    chain: Sequence[int]
    broken: dict[int, str]
    when: Sequence[str]


@final
class Suggestions:
    """Search for the nearest of many names, with one budget for all queries, so that ten thousand typos stay cheap.

    Args:
        choices: The names to choose from.
    """

    __slots__ = ("_budget", "_choices", "_known")

    def __init__(self, choices: Collection[str]) -> None:
        self._choices = choices
        self._known: dict[str, str] = {}
        self._budget = MAX_COMPARED

    def nearest(self, name: str) -> str:
        """Return ``"; did you mean 'x'?"`` for the choice closest to `name`; empty if there is none, or no budget left."""
        if name not in self._known:
            self._budget -= len(self._choices)
            self._known[name] = nearest(name, self._choices) if self._budget >= 0 else ""
        return self._known[name]


def find_faults(specs: Sequence[RunSpec]) -> list[str]:
    """Return the faults in names and dependencies that prevent any run."""
    faults: list[str] = []
    places: dict[str, int] = {}
    for place, spec in enumerate(specs, 1):
        if not spec.name:
            faults.append(f"spec {place} has an empty name")
        elif spec.name in places:
            faults.append(f"the name {spec.name!r} is used twice: by spec {places[spec.name]} and by spec {place}")
        else:
            places[spec.name] = place
        if spec.after or spec.when == "failure":
            faults += _dependency_faults(spec, place)
    return faults


def _dependency_faults(spec: RunSpec, place: int) -> Iterator[str]:
    label = repr(spec.name) if spec.name else f"spec {place}"
    seen: set[str] = set()
    for name in spec.after:
        if not name:
            yield f"{label}: after holds an empty name"
        elif name in seen:
            yield f"{label}: after names {name!r} twice"
        elif name == spec.name:
            yield f"{label}: it can't come after itself"
        seen.add(name)
    if spec.when == "failure" and not spec.after:
        yield f"{label}: when='failure' needs `after`: the specs whose failure it handles"


def make_plan(specs: Sequence[RunSpec]) -> Plan:
    """Return the plan of specs without faults, in time and memory linear in the number of specs and dependencies."""
    index = {spec.name: place for place, spec in enumerate(specs)}
    dependents: list[list[int]] = [[] for _ in specs]
    for place, spec in enumerate(specs):
        for name in spec.after:
            if name in index:
                dependents[index[name]].append(place)
    needs = [len(spec.after) for spec in specs]
    waves = _waves(needs, dependents)
    broken: dict[int, str] = {}
    if sum(map(len, waves)) < len(specs):
        dead = _find_dead(specs, index, dependents, waves)
        broken = _Explanations(specs, index, dead).of_all()
        # dead specs have ended before anything starts, and only specs that run after failures wait for them
        needs = _needs_without(dead, specs, index)
        waves = _waves(needs, dependents, dead)
    wave: list[int | None] = [None] * len(specs)
    for number, members in enumerate(waves):
        for place in members:
            wave[place] = number
    chain = [1] * len(specs)
    for members in reversed(waves):
        for place in members:
            chain[place] = 1 + max([chain[d] for d in dependents[place] if wave[d] is not None], default=0)
    return Plan(waves, wave, needs, dependents, chain, broken, [spec.when for spec in specs])


def sequential_plan(specs: Sequence[RunSpec]) -> Plan:
    """Return the plan that runs specs in input order; a spec that handles failures waits for all specs before it."""
    count = len(specs)
    dependents: list[list[int]] = [[] for _ in specs]
    needs = [0] * count
    for place, spec in enumerate(specs):
        if spec.when == "failure":
            needs[place] = place
            for earlier in range(place):
                dependents[earlier].append(place)
    order = list(range(count))
    return Plan([[n] for n in order], order, needs, dependents, [1] * count, {}, [spec.when for spec in specs])


def parallel_plan(count: int) -> Plan:
    """Return the plan that runs all specs concurrently."""
    return Plan([list(range(count))], [0] * count, [0] * count, [()] * count, [1] * count, {}, ["success"] * count)


def _needs_without(dead: Collection[int], specs: Sequence[RunSpec], index: dict[str, int]) -> list[int]:
    """Return how many specs each spec has to wait for; dead specs don't wait, and aren't waited for."""
    return [
        0 if place in dead else sum([index.get(name) not in dead for name in spec.after])
        for place, spec in enumerate(specs)
    ]


def _waves(needs: Sequence[int], dependents: Sequence[Sequence[int]], dead: Collection[int] = ()) -> list[list[int]]:
    """Peel layers off the graph (Kahn 1962): a spec with a missing dependency, or downstream of a cycle, is never reached."""
    pending = list(needs)
    waves: list[list[int]] = []
    layer = [place for place, count in enumerate(needs) if not count and place not in dead]
    while layer:
        waves.append(layer)
        found: list[int] = []
        for place in layer:
            for dependent in dependents[place]:
                pending[dependent] -= 1
                if not pending[dependent]:
                    found.append(dependent)
        layer = sorted(found)
    return waves


def _find_dead(
    specs: Sequence[RunSpec],
    index: dict[str, int],
    dependents: Sequence[Sequence[int]],
    waves: Sequence[Sequence[int]],
) -> set[int]:
    """Return the specs that can't run: with a missing dependency, on a cycle, or requiring the success of such a spec."""
    reached = {place for members in waves for place in members}
    stuck = [place for place in range(len(specs)) if place not in reached]
    dead = {place for place in stuck if any(name not in index for name in specs[place].after)}
    _spread(dead, specs, dependents)
    # specs that run after failures, and wait only for dead specs, are no longer stuck
    needs = _needs_without(dead, specs, index)
    settled = dead | {place for members in _waves(needs, dependents, dead) for place in members}
    on_cycles = _on_cycles([place for place in stuck if place not in settled], specs, index)
    return dead | _spread(on_cycles, specs, dependents)


def _spread(dead: set[int], specs: Sequence[RunSpec], dependents: Sequence[Sequence[int]]) -> set[int]:
    """Add the specs that require the success of a dead spec."""
    pending = list(dead)
    for place in pending:
        for dependent in dependents[place]:
            if dependent not in dead and specs[dependent].when == "success":
                dead.add(dependent)
                pending.append(dependent)
    return dead


def _on_cycles(stuck: Sequence[int], specs: Sequence[RunSpec], index: dict[str, int]) -> set[int]:
    """Return the specs on or between cycles, by repeatedly removing specs on which no stuck spec depends."""
    core = set(stuck)
    waited_for = dict.fromkeys(stuck, 0)
    for place in stuck:
        for name in specs[place].after:
            if index[name] in core:
                waited_for[index[name]] += 1
    leaves = deque(place for place, count in waited_for.items() if not count)
    while leaves:
        place = leaves.popleft()
        core.discard(place)
        for name in specs[place].after:
            needed = index[name]
            if needed in core:
                waited_for[needed] -= 1
                if not waited_for[needed]:
                    leaves.append(needed)
    return core


def cycles(specs: Sequence[RunSpec]) -> list[list[int]]:
    """Return the cycles of specs without other faults, each once and starting with its first member in the input.

    Of several cycles through one spec, the cycle through its first dependency is found; the others are found once that
    one is fixed.
    """
    index = {spec.name: place for place, spec in enumerate(specs)}
    return list(_cycles(specs, index, make_plan(specs).broken))


def _cycles(specs: Sequence[RunSpec], index: dict[str, int], dead: Collection[int]) -> Iterator[list[int]]:
    seen: set[int] = set()
    for start in dead:
        trail: dict[int, None] = {}  # ordered, and with fast lookup
        place: int | None = start
        while place is not None and place not in seen:
            seen.add(place)
            trail[place] = None
            place = _first_dead(specs[place], index, dead)
        if place in trail:
            members = list(trail)
            members = members[members.index(place) :]
            first = members.index(min(members))  # independent of the member it was found from
            yield members[first:] + members[:first]


def _first_dead(spec: RunSpec, index: dict[str, int], dead: Collection[int]) -> int | None:
    return next((found for name in spec.after if (found := index.get(name)) in dead), None)


def format_cycle(names: Sequence[str]) -> str:
    """Return the names of a cycle, at most `MAX_DRAWN` of them, with the first name repeated at the end.

    >>> format_cycle(["a", "b"])
    'a → b → a'
    """
    closed = [*names, names[0]]
    if len(closed) > MAX_DRAWN:
        closed[MAX_DRAWN // 2 : -MAX_DRAWN // 2] = [f"… {len(closed) - MAX_DRAWN} more …"]
    return " → ".join(closed)


@final
class _Explanations:
    """Explanations why specs can't run: their own fault, or their first dependency that can't run."""

    def __init__(self, specs: Sequence[RunSpec], index: dict[str, int], dead: Collection[int]) -> None:
        self._specs = specs
        self._index = index
        self._dead = dead
        self._text: dict[int, str] = {}
        self._root: dict[int, str] = {}
        self._suggestions = Suggestions(index)

    def of_all(self) -> dict[int, str]:
        """Return a text per spec, in the order of the input."""
        for members in _cycles(self._specs, self._index, sorted(self._dead)):
            self._explain_cycle(members)
        for place in self._dead:
            trail: list[int] = []
            current: int | None = place
            while current is not None and current not in self._text:
                trail.append(current)
                current = _first_dead(self._specs[current], self._index, self._dead)
            for member in reversed(trail):
                self._explain(member)
        return {place: self._text[place] for place in sorted(self._dead)}

    def _explain_cycle(self, members: Sequence[int]) -> None:
        root = f"the cycle {format_cycle([self._specs[place].name for place in members])}"
        for place in members:
            self._root[place] = root
            self._text[place] = "; ".join([*self._missing(place), f"it is part of {root}"])

    def _explain(self, place: int) -> None:
        missing = self._missing(place)
        through = _first_dead(self._specs[place], self._index, self._dead)
        if missing:
            self._text[place] = "; ".join(missing)
            # only the first: many specs may depend on this one, and each explanation contains its root cause in full
            more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
            self._root[place] = f"{self._specs[place].name!r}: {missing[0]}{more}"
        else:
            assert through is not None, "a spec that can't run misses a dependency, or needs a spec that can't run"
            self._root[place] = self._root[through]
            self._text[place] = f"it needs {self._specs[through].name!r}, which can't run: {self._root[place]}"

    def _missing(self, place: int) -> list[str]:
        names = [name for name in self._specs[place].after if name not in self._index]
        return [f"it depends on {name!r}, which doesn't exist{self._suggestions.nearest(name)}" for name in names]
