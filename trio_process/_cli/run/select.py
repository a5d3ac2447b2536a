"""Select the tasks of a pipeline file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import attrs

from ..._core import PipelineError, nearest
from ..._pipeline import PipelineFile, RunSpec


def select(file: PipelineFile, names: Sequence[str]) -> list[str]:
    """Return the tasks that names stand for: tasks, or tables with several tasks.

    Without names, these are the file's `default`, or else all tasks that are not manual.

    Raises:
        PipelineError: Some names are unknown; the message lists all of them.
    """
    if not names:
        if file.default is not None:
            return list(file.default)
        return [task.spec.name for task in file.tasks if not task.is_manual]
    tables: dict[str, list[str]] = {}
    for task in file.tasks:
        tables.setdefault(task.table, []).append(task.spec.name)
    known = {task.spec.name: [task.spec.name] for task in file.tasks} | tables
    faults = [f"{file.path}: no task is named {name!r}{nearest(name, known)}" for name in names if name not in known]
    if faults:
        raise PipelineError(faults)
    return list(dict.fromkeys(name for given in names for name in known[given]))


def give_arguments(file: PipelineFile, names: Sequence[str], extra: Sequence[str]) -> PipelineFile:
    """Return the file with further arguments for the named tasks.

    Raises:
        PipelineError: No task is named, or one refuses arguments.
    """
    if not extra:
        return file
    if not names:
        raise PipelineError(
            [f"name the tasks that get the arguments {' '.join(extra)!r}: trio-process run TASK -- ..."]
        )
    chosen = set(select(file, names))
    faults = [
        f"{file.path}: the task {task.spec.name!r} takes no arguments (`arguments = false`)"
        for task in file.tasks
        if task.spec.name in chosen and not task.takes_arguments
    ]
    if faults:
        raise PipelineError(faults)
    tasks = [task.with_arguments(extra) if task.spec.name in chosen else task for task in file.tasks]
    return attrs.evolve(file, tasks=tuple(tasks))


def with_needs(file: PipelineFile, names: Iterable[str]) -> list[RunSpec]:
    """Return the specs of tasks and of all their dependencies, in the order of the file."""
    specs = {spec.name: spec for spec in file.specs}
    wanted = dict.fromkeys(names)
    waiting = list(wanted)
    while waiting:
        for name in specs[waiting.pop()].after:
            if name not in wanted:
                wanted[name] = None
                waiting.append(name)
    return [spec for spec in file.specs if spec.name in wanted]
