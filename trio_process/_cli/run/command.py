"""``trio-process run``: the tasks of a pipeline file."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NoReturn

import click

from ..._core import OptionError, ProcessError
from ..._pipeline import to_dot, to_mermaid
from ..find import read_file
from ..output import print_error, show
from ..text import Duration, Name, Whole, one_line
from .complete import complete_tasks
from .last_run import DIRECTORY
from .listing import dry_run, list_tasks, tasks_as_json
from .place import VARIABLE, parse_executor
from .remembered import choose, open_memory
from .reports import parse_reports
from .unchanged import show_unchanged

USAGE: Final = 2
_EXTRA: Final = "trio_process.arguments"
_GRAPHS: Final = {"mermaid": to_mermaid, "dot": to_dot}

_HELP: Final = """Run tasks of a pipeline file, and their dependencies.

Without names, this runs the file's default tasks, or else all that are not manual. The exit status is 0 if every task
passed or was allowed to fail, 1 if one failed, 2 for a bad file or usage, and 128 plus the number of a signal that ended
the run early: 130 after Ctrl-C. The first signal stops the tasks, the second kills them, the third ends trio-process at
once.
"""


class _RunCommand(click.Command):
    """A command that separates the arguments after ``--``, which are passed to the tasks."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        cut = args.index("--") if "--" in args else len(args)
        ctx.meta[_EXTRA] = tuple(args[cut + 1 :])
        return super().parse_args(ctx, args[:cut])

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return [*super().collect_usage_pieces(ctx), "[-- ARG...]"]


@click.command(cls=_RunCommand, help=_HELP)
@click.argument("tasks", nargs=-1, type=Name(), metavar="[TASK]...", shell_complete=complete_tasks)
@click.option(
    "-f",
    "--file",
    metavar="FILE",
    type=click.Path(),
    help="The pipeline file [default: the nearest one in this or a parent directory].",
)
@click.option("-j", "--jobs", type=Whole(1), metavar="N", help="How many tasks run at the same time.")
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
    help="After a failure: run the tasks that don't depend on it, start nothing new, or stop the running tasks.",
)
@click.option(
    "--timeout", type=Duration(), metavar="S", help="Stop the whole run after this long: seconds, or e.g. 10m."
)
@click.option(
    "--output",
    type=click.Choice(["live", "prefix", "group", "raw"]),
    help="How to show the output: a live view, lines prefixed with the task's name, each task in one block when it "
    "has ended, or lines as they arrive [default: live on a terminal, else prefix].",
)
@click.option("--logs", metavar="DIR", type=click.Path(), help="Write the output of each task to DIR/TASK.log.")
@click.option(
    "--executor",
    default="local",
    envvar=VARIABLE,
    metavar="WHERE",
    help="Where to run tasks: local, local:N (agents), ssh:HOST,..., slurm:N[?SRUN OPTIONS], dask:ADDRESS.",
)
@click.option("--listen", metavar="ADDR", help="Show the run on a page: host:port, or unix:/path.")
@click.option("--dry-run", "dry", is_flag=True, help="Print the plan, wave by wave, and run nothing.")
@click.option("--list", "listing", is_flag=True, help="Print the tasks of the file.")
@click.option("--json", "as_json", is_flag=True, help="With --list: print them as JSON.")
@click.option(
    "--graph",
    is_flag=False,
    flag_value="mermaid",
    metavar="[mermaid|dot]",
    help="Print the graph, for Mermaid or (--graph=dot) Graphviz.",
)
@click.option(
    "--only-failed",
    is_flag=True,
    help="Run the tasks, of these or of all, that didn't pass last time, and their dependencies.",
)
@click.option(
    "--resume",
    "resuming",
    is_flag=True,
    help="Continue the last run: leave out tasks that passed in it and are unchanged.",
)
@click.option("--force", is_flag=True, help="Run tasks that are up to date, too.")
@click.option(
    "--watch",
    "watching",
    is_flag=True,
    help="Keep running: when inputs change, run the affected tasks again.",
)
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
    listen: str | None,
    output: str | None,
    logs: str | None,
    executor: str,
    dry: bool,  # noqa: FBT001 - as above
    listing: bool,  # noqa: FBT001
    as_json: bool,  # noqa: FBT001
    graph: str | None,
    only_failed: bool,  # noqa: FBT001
    resuming: bool,  # noqa: FBT001
    force: bool,  # noqa: FBT001
    watching: bool,  # noqa: FBT001
    reports: tuple[str, ...],
) -> None:
    """Run the tasks of a pipeline file."""
    if graph is not None and graph not in _GRAPHS:  # click parses the task in `--graph TASK` as the option's value
        tasks, graph = (graph, *tasks), "mermaid"
    try:
        _check_style(output, listing=listing, as_json=as_json)
        wanted = parse_reports(reports)
        launcher = parse_executor(executor)
        extra = click.get_current_context().meta[_EXTRA]
        with _all_kept():
            found = read_file(file, keep_in=DIRECTORY)
            if not (found.tasks or tasks or as_json):
                show(f"{one_line(str(found.path))} has no tasks; trio-process up starts its services")
                return
            memory = open_memory(found) if resuming or not (listing or graph or dry) else None
            chosen = choose(found, memory, tasks, extra, only_failed=only_failed, resuming=resuming)
        if only_failed and not chosen.specs:
            show("none of these tasks failed last time" if tasks else "no task failed last time")
        elif listing:
            show(tasks_as_json(found) if as_json else list_tasks(found))
        elif graph is not None:
            show(_GRAPHS[graph](chosen.specs))
        elif dry:
            show(dry_run(chosen.specs, found.directory))
        else:
            options = wanted or logs or listen or launcher or timeout is not None
            is_plain = not (options or resuming or force or watching)
            with _all_kept():
                is_done = is_plain and show_unchanged(found, chosen, memory, output)
            if is_done:
                return
            # half of all imports: not needed for a run with nothing to do
            from .drive import RunSettings  # noqa: PLC0415
            from .session import Runs  # noqa: PLC0415

            settings = RunSettings(
                jobs=jobs,
                schedule=schedule,
                on_failure=on_failure,
                timeout=timeout,
                launcher=launcher,
                listen=listen,
            )
            runs = Runs(settings, wanted, output, None if logs is None else Path(logs), is_watching=watching)
            sys.exit(runs.run(found, chosen, memory, force=force))
    except ProcessError as error:
        _refuse(str(error))


def _check_style(output: str | None, *, listing: bool, as_json: bool) -> None:
    if as_json and not listing:
        raise OptionError("--json is for --list; write --list --json, or --report json=FILE")
    if output == "live" and not sys.stdout.isatty():
        raise OptionError("--output live needs a terminal; choose prefix, group or raw")


@contextmanager
def _all_kept() -> Iterator[None]:
    """Pause the garbage collector, which would search the many objects of a large file again and again, and free none."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _refuse(text: str) -> NoReturn:
    print_error(f"trio-process: {text}")
    sys.exit(USAGE)
