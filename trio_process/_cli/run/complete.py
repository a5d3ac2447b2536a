"""Complete the names of tasks in a shell."""

from __future__ import annotations

from pathlib import Path

import click
from click.shell_completion import CompletionItem

from ..._core import ProcessError
from ..._pipeline import read_pipeline
from ..find import find_file


def complete_tasks(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the tasks, and the tables that stand for several tasks, for shell completion."""
    del parameter
    try:
        given = context.params.get("file")
        tasks = read_pipeline(given if given is not None else find_file(Path())).tasks
    except ProcessError:
        return []
    about = {task.table: task.description for task in reversed(tasks)} | {
        task.spec.name: task.description for task in tasks
    }
    return [
        CompletionItem(name, help=about[name] or None)
        for name in sorted(about)
        if name.startswith(incomplete) and name.isprintable()
    ]
