"""Format the output of ``--list`` and ``--dry-run``."""

from __future__ import annotations

from collections.abc import Sequence

from ..._core import dumps, in_seconds, shown_cwd
from ..._pipeline import PipelineFile, RunSpec, make_plan
from ..text import cell_ljust, cells, listed, one_line, typed


def list_tasks(file: PipelineFile) -> str:
    """Return a line per task of a file: its name, and its description or command."""
    tables: dict[str, list[str]] = {}
    about: dict[str, str] = {}
    for task in file.tasks:
        tables.setdefault(task.table, []).append(task.spec.name)
        about.setdefault(task.table, one_line(task.description) or typed(task.spec))
    names = {table: one_line(table) for table in tables}
    width = max(map(cells, names.values()))
    lines = []
    for table, members in tables.items():
        several = f"  ({listed(members)})" if members != [table] else ""
        lines.append(f"{cell_ljust(names[table], width)}  {about[table]}{several}")
    return "\n".join(lines)


def tasks_as_json(file: PipelineFile) -> str:
    """Return the tasks of a file as JSON, one object per task."""
    tasks = [
        {
            "name": task.spec.name,
            "table": task.table,
            "description": task.description,
            "command": typed(task.spec),
            "dir": shown_cwd(task.spec.options),
            "after": list(task.spec.after),
            "when": task.spec.when,
            "allowFailure": task.spec.allow_failure,
            "interactive": task.spec.interactive,
            "manual": task.is_manual,
            "uses": list(task.spec.uses),
            "inputs": list(task.spec.inputs),
            "outputs": list(task.spec.outputs),
        }
        for task in file.tasks
    ]
    return dumps({"file": str(file.path), "tasks": tasks}, indent=2)


def dry_run(specs: Sequence[RunSpec], directory: str) -> str:
    """Return the commands that a run would start, wave by wave; only the names of variables, as values may be secret."""
    width = max([cells(one_line(spec.name)) for spec in specs], default=0)
    lines = []
    for number, wave in enumerate(make_plan(specs).waves):
        lines.append(f"wave {number}")
        for spec in (specs[place] for place in wave):
            lines.append(f"  {cell_ljust(one_line(spec.name), width)}  {typed(spec)}")
            details = _details(spec, directory)
            if details:
                lines.append(f"  {'':{width}}    {'; '.join(details)}")
    return "\n".join(lines)


def _details(spec: RunSpec, directory: str) -> list[str]:
    details = [f"after {listed(spec.after)}"] if spec.after else []
    if shown_cwd(spec.options) not in (None, directory):
        details.append(f"in {one_line(shown_cwd(spec.options) or '')}")
    if spec.env:
        details.append(f"with {listed(spec.env)}")
    if spec.timeout is not None:
        details.append(f"timeout {in_seconds(spec.timeout)}")
    if spec.retries:
        details.append("1 retry" if spec.retries == 1 else f"{spec.retries} retries")
    if spec.allow_failure:
        details.append("may fail")
    return details
