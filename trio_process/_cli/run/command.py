"""`trio-process run`: the tasks of a pipeline file."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NoReturn

import click
import trio
from rich.console import Console, RenderableType

from ..._core import ProcessError
from ..._pipeline import PipelineFile, RunAllResult, RunSpec, read_pipeline, to_dot, to_mermaid
from ..duration import Duration
from ..output import OutputLost, complain, show, without_output, write, writing
from .board import Board
from .drive import Settings, drive
from .last_run import failed_last_time, remember
from .listing import dry_run, list_tasks
from .live import LiveView
from .plain import PlainView
from .render import account, as_text, terminal
from .reports import parse_reports, write_reports
from .select import find_file, give_arguments, select, with_needs
from .summary import find

FAILED: Final = 1
USAGE: Final = 2
_PLAIN_WIDTH: Final = 120
_EXTRA: Final = "trio_process.arguments"
_GRAPHS: Final = {"mermaid": to_mermaid, "dot": to_dot}


class _RunCommand(click.Command):
    """A command that keeps the arguments after `--` apart: they are those of the tasks."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        cut = args.index("--") if "--" in args else len(args)
        ctx.meta[_EXTRA] = tuple(args[cut + 1 :])
        return super().parse_args(ctx, args[:cut])

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return [*super().collect_usage_pieces(ctx), "[-- ARG...]"]


@click.command(cls=_RunCommand)
@click.argument("tasks", nargs=-1, metavar="[TASK]...")
@click.option("-f", "--file", metavar="FILE", help="The pipeline file; else the nearest one is searched upwards.")
@click.option("-j", "--jobs", type=click.IntRange(min=1), metavar="N", help="How many tasks run at the same time.")
@click.option(
    "--schedule",
    type=click.Choice(["eager", "waves"]),
    default="eager",
    show_default=True,
    help="Start a task when its own dependencies have ended, or wave by wave.",
)
@click.option(
    "--on-failure",
    type=click.Choice(["continue", "no-new", "kill"]),
    default="continue",
    show_default=True,
    help="After a failure: run what does not depend on it, start nothing new, or stop what runs.",
)
@click.option("--timeout", type=Duration(), metavar="S", help="How long the whole may take: seconds, or 10m.")
@click.option("--dry-run", "dry", is_flag=True, help="Print what would be run, wave by wave.")
@click.option("--list", "listing", is_flag=True, help="Print the tasks of the file.")
@click.option(
    "--graph",
    is_flag=False,
    flag_value="mermaid",
    metavar="[mermaid|dot]",
    help="Print the graph, for Mermaid or (--graph=dot) Graphviz.",
)
@click.option("--only-failed", is_flag=True, help="Run what did not pass last time, with what it needs.")
@click.option(
    "--report", "reports", multiple=True, metavar="KIND=FILE,...", help="Write reports: junit=F, json=F, trace=F."
)
def run(
    tasks: tuple[str, ...],
    file: str | None,
    jobs: int | None,
    schedule: str,
    on_failure: str,
    timeout: float | None,
    dry: bool,  # noqa: FBT001 - as above
    listing: bool,  # noqa: FBT001
    graph: str | None,
    only_failed: bool,  # noqa: FBT001
    reports: tuple[str, ...],
) -> None:
    """Run the tasks of a pipeline file, all or the named ones, with what they need.

    The exit status is 0 if all went as it should, 1 if not, 2 for a bad file or usage, and 128 plus the number of a signal
    that ended the run early: 130 after Ctrl-C.
    """
    if graph is not None and graph not in _GRAPHS:  # click takes the task in `--graph TASK` for the option's value
        tasks, graph = (graph, *tasks), "mermaid"
    try:
        wanted = parse_reports(reports)
        found = read_pipeline(file if file is not None else find_file(Path()))
        found = give_arguments(found, tasks, click.get_current_context().meta[_EXTRA])
        names = select(found, tasks)
        if only_failed:
            failed = set(failed_last_time(found))
            names = [name for name in names if name in failed]
        specs = with_needs(found, names)
    except ProcessError as error:
        _refuse(str(error))
    if only_failed and not specs:
        show("nothing failed last time")
    elif listing:
        show(list_tasks(found))
    elif graph is not None:
        show(_GRAPHS[graph](specs))
    elif dry:
        show(dry_run(specs, found.directory))
    else:
        settings = Settings(
            jobs=jobs if jobs is not None else _default_jobs(found),
            schedule=schedule,
            on_failure=on_failure,
            timeout=timeout,
        )
        sys.exit(_run(found, specs, settings, wanted))


def _run(file: PipelineFile, specs: Sequence[RunSpec], settings: Settings, reports: Sequence[tuple[str, Path]]) -> int:
    """Run a pipeline, tell what came of it, and return the exit status."""
    console = terminal() if wants_live_view(os.environ) else None
    try:
        whole, number, board = trio.run(_drive, specs, settings, console)
        # before it is told: what is lost with the terminal should not be lost for the next run
        remember(file, whole)
        faults = write_reports(reports, whole)
        width = _PLAIN_WIDTH if console is None else console.width
        findings = find(whole, board.culprit, interrupted=bool(number))
        _tell(account(whole, findings, width, board.interrupted), console)
    except OutputLost as error:
        return without_output(error)
    for fault in faults:
        complain(f"trio-process: {fault}")
    if number:
        return 128 + number
    return FAILED if faults or not whole.acceptable else 0


async def _drive(
    specs: Sequence[RunSpec], settings: Settings, console: Console | None
) -> tuple[RunAllResult, int, Board]:
    board = Board(specs, trio.current_time)
    view = PlainView(board, write) if console is None else LiveView(board, console)
    whole, number = await drive(specs, settings, board, view, lossless=console is None)
    return whole, number, board


def wants_live_view(environ: Mapping[str, str]) -> bool:
    """Whether to show the live view: on a terminal that can, unless `NO_COLOR` or `CI` is set (https://no-color.org)."""
    if environ.get("NO_COLOR") or environ.get("CI", "").lower() not in {"", "0", "false"}:
        return False
    return sys.stdout.isatty() and environ.get("TERM", "") not in {"", "dumb", "unknown"}


def _default_jobs(file: PipelineFile) -> int | None:
    """Return how many tasks run at once unless told: two more than processors, as ninja; of a Procfile all."""
    if file.procfile:
        return None
    ours = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1  # macOS has none
    return ours + 2


def _tell(parts: Sequence[RenderableType], console: Console | None) -> None:
    if console is None:
        write("\n" + as_text(parts, _PLAIN_WIDTH))
        return
    with writing():
        console.print()
        for part in parts:
            console.print(part)


def _refuse(text: str) -> NoReturn:
    complain(f"trio-process: {text}")
    sys.exit(USAGE)
