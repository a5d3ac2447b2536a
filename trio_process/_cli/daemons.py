"""``trio-process daemons``: list the registry."""

from __future__ import annotations

import io
import json
import sys

import click
from rich.console import Console
from rich.table import Table

from .._core import RegistryError, in_seconds
from .._daemon import default_registry
from .daemon import described
from .output import show
from .text import one_line


@click.command(help="List the running daemons, the oldest first. This includes those of go-process.")
@click.option("--json", "as_json", is_flag=True, help="Print them as JSON.")
def daemons(as_json: bool) -> None:  # noqa: FBT001 - a flag of the command line
    """List the running daemons, the oldest first. This includes those of go-process."""
    try:
        entries = [described(entry) for entry in default_registry().list()]
    except RegistryError as error:
        raise SystemExit(f"trio-process daemons: {error}") from None
    if as_json:
        show(json.dumps(entries, indent=2))
        return
    if not entries:
        show("no daemon is running")
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("CODE", "DAEMON", "PID", "AGE", "HEALTH", "PROJECT"):
        table.add_column(column, justify="right" if column in {"PID", "AGE"} else "left", overflow="fold")
    for entry in entries:
        age = "-" if entry["age"] is None else in_seconds(round(entry["age"])) if entry["age"] >= 1 else "0 s"
        cells = [
            entry["code"],
            entry["daemon"],
            str(entry["pid"]),
            age,
            entry.get("health", ""),
            entry.get("project", ""),
        ]
        table.add_row(*[one_line(cell) for cell in cells])
    # not console.capture(), which also writes an empty text to stdout
    drawn = io.StringIO()
    console = Console(file=drawn, force_terminal=sys.stdout.isatty() or None, highlight=False, markup=False)
    console.print(table, soft_wrap=not console.is_terminal)
    show(drawn.getvalue().removesuffix("\n"))
