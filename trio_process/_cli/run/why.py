"""``trio-process why``: explain why a task ran, or did not, and whether it would run now."""

from __future__ import annotations

import sys

import click

from ..._core import ProcessError
from ..find import read_file
from ..output import print_error, show
from ..text import Name
from .complete import complete_tasks
from .last_run import DIRECTORY
from .remembered import explain, open_memory

_USAGE = 2


@click.command(help="Explain why tasks ran or did not, and whether they would run now.")
@click.argument("tasks", nargs=-1, type=Name(), required=True, metavar="TASK...", shell_complete=complete_tasks)
@click.option(
    "-f",
    "--file",
    metavar="FILE",
    type=click.Path(),
    help="The pipeline file [default: the nearest one in this or a parent directory].",
)
def why(tasks: tuple[str, ...], file: str | None) -> None:
    """Explain why tasks ran or did not, and whether they would run now."""
    try:
        found = read_file(file, keep_in=DIRECTORY)
        show(explain(found, tasks, open_memory(found)))
    except ProcessError as error:
        print_error(f"trio-process: {error}")
        sys.exit(_USAGE)
