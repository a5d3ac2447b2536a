"""Resolve the names in `after` to the tasks of a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import final

import attrs

from ..plan import Suggestions
from ..spec import RunSpec
from .allowance import DEPENDENCIES, Allowance
from .commands import with_arguments
from .value_types import Report, quoted


@final
@attrs.frozen
class Task:
    """One spec of a file.

    Attributes:
        spec: The spec.
        table: The name of the table that it was made from; a table with a matrix yields several tasks.
        description: Its description.
        is_manual: Whether a `run` without names leaves it out.
        takes_arguments: Whether it takes the arguments after ``--``.
    """

    spec: RunSpec
    table: str
    description: str = ""
    is_manual: bool = False
    takes_arguments: bool = True

    def with_arguments(self, extra: Sequence[str]) -> Task:
        """Return the task with further arguments: appended to `run`, or as ``"$@"`` in `shell`."""
        return attrs.evolve(self, spec=attrs.evolve(self.spec, args=with_arguments(self.spec.args, extra)))

    def in_file(self, prefix: str) -> Task:
        """Return the task as seen by a file that includes this one under a name."""
        spec = attrs.evolve(
            self.spec,
            name=f"{prefix}:{self.spec.name}",
            after=[f"{prefix}:{name}" for name in self.spec.after],
            uses=[f"{prefix}:{name}" for name in self.spec.uses],
        )
        return attrs.evolve(self, spec=spec, table=f"{prefix}:{self.table}")


@final
@attrs.frozen(kw_only=True)
class UnresolvedTask:
    """A task whose `after` is not resolved yet; `spec` is None if it has faults, as other tasks may refer to it anyway."""

    name: str
    table: str
    spec: RunSpec | None
    description: str
    is_manual: bool
    takes_arguments: bool
    after: Sequence[tuple[int, str]]


def resolve(
    unresolved: Sequence[UnresolvedTask],
    tables: Mapping[str, object],
    included: Sequence[Task],
    report_for: Callable[[str], Report],
    allowance: Allowance,
) -> list[Task]:
    """Return the tasks with their resolved dependencies, after the tasks of included files.

    Args:
        unresolved: The tasks.
        tables: The names of the tables; a table with a matrix stands for all of its tasks.
        included: The tasks of included files.
        report_for: Returns the function that records the faults of a table: a name that is unknown, repeated, taken, or
            its own.
        allowance: How many dependencies there may be.
    """
    members: dict[str, dict[str, None]] = {name: {} for name in tables}
    makers: dict[str, str] = {task.spec.name: task.table for task in included}
    theirs = {*makers, *makers.values()}
    for task in unresolved:
        taken = makers.setdefault(task.name, task.table)
        if {task.name, task.table} & theirs:
            report_for(task.table)(f"the name {task.name!r} is taken by a task of an included file")
        elif task.name != task.table:  # a table without a matrix has a unique name: TOML refuses duplicate tables
            taken = task.name if task.name in tables else taken
            if taken != task.table or task.name in members[task.table]:
                report_for(task.table)(f"makes a task {task.name!r}, as tasks.{taken} does")
        members[task.table][task.name] = None
    for other in included:
        members.setdefault(other.table, {})[other.spec.name] = None
    known = _Known(members, makers, allowance)
    resolved: list[Task] = list(included)
    for task in unresolved:
        after = known.look_up(task, report_for(task.table))
        if task.spec is not None:
            spec = attrs.evolve(task.spec, after=after) if after else task.spec
            resolved.append(Task(spec, task.table, task.description, task.is_manual, task.takes_arguments))
    return resolved


def resolve_names(names: Sequence[str], tasks: Sequence[Task], report: Report) -> tuple[str, ...]:
    """Return the tasks that names of tasks or tables refer to."""
    members: dict[str, list[str]] = {}
    for task in tasks:
        members.setdefault(task.table, []).append(task.spec.name)
    known = members | {task.spec.name: [task.spec.name] for task in tasks}
    suggestions = Suggestions(known)
    for index, name in enumerate(names):
        if name not in known:
            report(f"no task is named {quoted(name)}{suggestions.nearest(name)}", index)
    return tuple(dict.fromkeys(found for name in dict.fromkeys(names) for found in known.get(name, ())))


@final
class _Known:
    """The names that `after` may contain: tasks, and tables, which stand for all of their tasks."""

    def __init__(
        self, members: Mapping[str, Mapping[str, None]], makers: Mapping[str, str], allowance: Allowance
    ) -> None:
        self._members = members
        self._makers = makers
        self._allowance = allowance
        self._suggestions = Suggestions({*members, *makers})

    def look_up(self, task: UnresolvedTask, report: Report) -> tuple[str, ...]:
        """Return the names of the tasks that a task waits for."""
        names: dict[str, None] = {}
        given: set[str] = set()
        for index, name in task.after:
            if name in given:
                report(f"{quoted(name)} stands in this list twice", "after", index)
            elif name in (task.table, task.name):
                report("a task can't wait for itself", "after", index)
            elif name in self._members or name in self._makers:
                found = self._members.get(name) or {name: None}
                if len(found) == 1 or self._allowance.take(DEPENDENCIES, len(found), report, "after", index):
                    names |= found
            else:
                report(f"no task is named {quoted(name)}{self._suggestions.nearest(name)}", "after", index)
            given.add(name)
        return tuple(names)
