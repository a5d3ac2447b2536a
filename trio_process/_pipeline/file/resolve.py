"""The names of a file's tasks, and what `after` means by them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, final

import attrs

from ..._core import nearest
from ..spec import RunSpec
from .value_types import Report, quoted

MAX_COMPARED: Final = 100_000
"""How many pairs of names are compared to find the nearest, in all: 2 to 6 µs each."""


@final
@attrs.frozen
class Task:
    """One spec of a file, the name of the table that it was made from, and its description."""

    spec: RunSpec
    table: str
    description: str = ""


@final
@attrs.frozen(kw_only=True)
class Draft:
    """A task whose `after` is not looked up yet; `spec` is None if it has faults, its name may be meant all the same."""

    name: str
    table: str
    spec: RunSpec | None
    description: str
    after: Sequence[tuple[int, str]]


def link(drafts: Sequence[Draft], tables: Mapping[str, object], report_for: Callable[[str], Report]) -> list[Task]:
    """Return the tasks with what each one waits for.

    Args:
        drafts: The tasks.
        tables: The names of the tables; one with a matrix means all of its tasks.
        report_for: Returns what notes the faults of a table: a name that is unknown, doubled, taken, or its own.
    """
    members: dict[str, list[str]] = {name: [] for name in tables}
    makers: dict[str, str] = {}
    for draft in drafts:
        taken = makers.setdefault(draft.name, draft.table)
        if draft.name != draft.table:  # one without a matrix has a name of its own: TOML has no table twice
            taken = draft.name if draft.name in tables else taken
            if taken != draft.table or draft.name in members[draft.table]:
                report_for(draft.table)(f"makes a task {draft.name!r}, as tasks.{taken} does")
        members[draft.table].append(draft.name)
    known = _Known(members, makers)
    linked: list[Task] = []
    for draft in drafts:
        after = known.look_up(draft, report_for(draft.table))
        if draft.spec is not None:
            spec = attrs.evolve(draft.spec, after=after) if after else draft.spec
            linked.append(Task(spec, draft.table, draft.description))
    return linked


@final
class _Known:
    """The names that `after` may hold: of tables, which mean all of their tasks, and of tasks."""

    def __init__(self, members: Mapping[str, list[str]], makers: Mapping[str, str]) -> None:
        self._members = members
        self._makers = makers
        self._compared = 0

    def look_up(self, draft: Draft, report: Report) -> tuple[str, ...]:
        """Return the names of the tasks that a task waits for."""
        names: dict[str, None] = {}
        given: set[str] = set()
        for index, name in draft.after:
            if name in given:
                report(f"{quoted(name)} stands in this list twice", "after", index)
            elif name in (draft.table, draft.name):
                report("a task can't wait for itself", "after", index)
            elif name in self._members or name in self._makers:
                names |= dict.fromkeys(self._members.get(name) or [name])
            else:
                report(f"no task is named {quoted(name)}{self._nearest(name)}", "after", index)
            given.add(name)
        return tuple(names)

    def _nearest(self, name: str) -> str:
        choices = {*self._members, *self._makers}
        self._compared += len(choices)
        return nearest(name, choices) if self._compared <= MAX_COMPARED else ""
