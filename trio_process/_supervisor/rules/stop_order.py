"""The order of stops: what depends on a unit is stopped before it, what doesn't beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..entry import Entry
    from ..replica import Replica

Neighbours = Callable[[str], frozenset[str]]


def nearest_running(name: str, neighbours: Neighbours, entries: Mapping[str, Entry]) -> Iterator[Replica]:
    """Yield what runs next to a unit in one direction of the graph, seen through what doesn't run.

    A unit that has completed stands between two others, but nothing of it holds up a stop: with ``db ← migrate ← web``,
    `web` is stopped before `db` although `migrate` has long ended. What is behind a unit that runs is its business.

    Args:
        name: Where to begin; not yielded itself.
        neighbours: The dependents of a name, or its needs.
        entries: The units.
    """
    seen = {name}
    waiting = [name]
    while waiting:
        for other in neighbours(waiting.pop()):
            if other in seen:
                continue
            seen.add(other)
            entry = entries.get(other)
            running = (
                [] if entry is None else [replica for replica in entry.replicas.values() if replica.run is not None]
            )
            if running:
                yield from running
            else:
                waiting.append(other)
