"""``trio-process up | down | ps | logs | start | stop | restart | scale | reload | attach | ui``."""

from __future__ import annotations

import json
import math
import re
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import click
import trio
from click.shell_completion import CompletionItem

from ..._control import ControlClient, ControlError
from ..._core import OptionError, PipelineError, ProcessError, checks
from ..._pipeline import read_pipeline
from ..find import NAMES, find_file
from ..instance import NOT_RUNNING, Instance, NotRunningError, instance_of
from ..output import OutputLost, print_error, report, show, without_output, write
from ..state import explain
from ..text import Duration, Name, Whole, clock
from .down import take_down
from .follow import attach_to, follow_logs, parse_since
from .pages import open_page
from .requests import ServiceRequests
from .up import bring_up
from .view import table

USAGE: Final = 2
_FAILED: Final = 1
_INTERRUPTED: Final = 128 + signal.SIGINT
_REDRAW: Final = 1.0  # seconds
_CLEAR: Final = "\x1b[H\x1b[2J"

# -OO drops docstrings, so each command's help is a separate text
_DOWN_HELP: Final = "Stop all services of a file, in order. If none is running, do nothing."
_PS_HELP: Final = "List the services of the running instance."
_LOGS_HELP: Final = "Print the output of the services."
_SCALE_HELP: Final = "Change the number of replicas of services."
_RELOAD_HELP: Final = (
    "Apply the changes in the file to the services. Stop removed ones, restart changed ones, start new ones."
)
_ATTACH_HELP: Final = """Show the output of the services until Ctrl-C, which stops none of them.

With a SERVICE, show only its output, and pass typed lines to its stdin."""
_UP_HELP: Final = """Start the services of a file, and show their output.

With names, start only these and their dependencies. Ctrl-C stops the services in order. If they are already running, start
the named ones and attach."""
_UI_HELP: Final = "Open the page of the services in a browser. If none is running, it shows the running daemons."


@contextmanager
def reported() -> Iterator[None]:
    """Turn every error into one line and the corresponding exit status."""
    try:
        yield
    except* NotRunningError as group:
        _end(NOT_RUNNING, group)
    except* (PipelineError, OptionError) as group:
        _end(USAGE, group)
    except* (ProcessError, OSError, TimeoutError) as group:
        _end(_FAILED, group)
    except* OutputLost as group:
        error = _leaf(group)
        assert isinstance(error, OutputLost)
        sys.exit(without_output(error))
    except* KeyboardInterrupt:
        sys.exit(_INTERRUPTED)


def _leaf(group: BaseExceptionGroup[Any]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _end(status: int, group: BaseExceptionGroup[Any]) -> None:
    error = _leaf(group)
    if isinstance(error, PipelineError):
        for fault in error.faults:
            print_error(f"trio-process: {fault}")
    else:
        assert isinstance(error, ProcessError | OSError), "the callers handle nothing else"
        print_error(f"trio-process: {explain(error)}")
    sys.exit(status)


def _complete(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the services of the file, for shell completion."""
    del parameter
    try:
        names = [entry.name for entry in read_pipeline(context.params.get("file") or find_file(Path())).services]
    except ProcessError:
        return []
    return [CompletionItem(name) for name in sorted(names) if name.startswith(incomplete)]


_file = click.option(
    "-f",
    "--file",
    type=click.Path(path_type=Path),
    help="The file of the services [default: the nearest one in this or a parent directory].",
)
_timeout = click.option("--timeout", type=Duration(), metavar="S", help="Wait at most this long: seconds, or e.g. 10m.")


def _names(*, required: bool = False) -> Callable[[Any], Any]:
    return click.argument(
        "names",
        nargs=-1,
        type=Name(),
        required=required,
        metavar="SERVICE..." if required else "[SERVICE]...",
        shell_complete=_complete,
        callback=_not_empty,
    )


def _not_empty(context: click.Context, parameter: click.Parameter, names: tuple[str, ...]) -> tuple[str, ...]:
    """Refuse an empty name, which the path of a request can't contain."""
    del context, parameter
    if "" in names:
        print_error("trio-process: the name of a service is empty")
        sys.exit(USAGE)
    return names


def _instance(file: Path | None) -> Instance:
    """Return the instance of a file. A running instance is found by the path of its file even if the file was deleted."""
    try:
        path = file if file is not None else find_file(Path())
    except PipelineError as error:
        try:
            here = Path.cwd()
        except OSError:  # the file is gone
            raise error from None
        places = [place / name for place in (here, *here.parents) for name in NAMES]
        running = [found for place in places if (found := Instance(place)).pid()]
        if running:
            return running[0]
        raise
    instance = instance_of(path)
    if not path.is_file() and not instance.pid():
        raise PipelineError([f"can't read {str(path)!r}: No such file"])
    return instance


def _run(function: Callable[..., Awaitable[Any]], *args: Any) -> Any:
    return trio.run(partial(function, *args))


def _request(file: Path | None, function: Callable[[ControlClient], Awaitable[Any]]) -> Any:
    """Call a function with a client of the running instance of a file, and return its result."""
    instance = _instance(file)

    async def main() -> Any:
        return await function(await instance.reach())

    return trio.run(main)


@click.command(help=_UP_HELP)
@_names()
@_file
@click.option("-d", "--detach", is_flag=True, help="Leave the services running in the background.")
@click.option("--wait", is_flag=True, help="With -d: return when all services are ready; status 1 if one isn't.")
@_timeout
@click.option("--listen", metavar="ADDR", default="", help="Serve the API and the page at this address, too.")
def up(names: tuple[str, ...], file: Path | None, detach: bool, wait: bool, timeout: float | None, listen: str) -> None:  # noqa: FBT001 - flags of the command line
    """Start the services of a file, and show their output.

    With names, start only these and their dependencies. Ctrl-C stops the services in order. If they are already running,
    start the named ones and attach.
    """
    with reported():
        sys.exit(_run(bring_up, _instance(file), names, detach, wait, timeout, listen))


@click.command(help=_DOWN_HELP)
@_file
@_timeout
def down(file: Path | None, timeout: float | None) -> None:
    """Stop all services of a file, in order. If none is running, do nothing."""
    with reported():
        sys.exit(_run(take_down, _instance(file), timeout))


@click.command(help=_PS_HELP)
@_file
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--watch", is_flag=True, help="Print again every second, until Ctrl-C.")
def ps(file: Path | None, as_json: bool, watch: bool) -> None:  # noqa: FBT001 - as above
    """List the services of the running instance."""
    with reported():
        while True:
            rows = _request(file, lambda client: client.get("/services"))
            text = json.dumps(rows, indent=2) if as_json else table(rows, _cells, _HEAD)
            if not watch:
                show(text)
                return
            write((_CLEAR if sys.stdout.isatty() and not as_json else "") + text + "\n")
            time.sleep(_REDRAW)  # the program's only thread has no other work


_HEAD: Final = ["SERVICE", "STATE", "SINCE", "PID", "RESTARTS", ""]


def _cells(row: dict[str, Any]) -> list[str]:
    since = datetime.fromisoformat(row["since"])
    ago = clock(max(0.0, (datetime.now(since.tzinfo) - since).total_seconds()))
    why = row["error"] or (f"waits for {', '.join(row['waitingFor'])}" if row["waitingFor"] else "")
    pid = str(row["pid"]) if row["pid"] and row["state"] in ("starting", "ready", "unready", "stopping") else "-"
    return [row["name"], row["state"], ago, pid, str(row["restarts"]), why.partition("\n")[0]]


@click.command(help=_LOGS_HELP)
@_names()
@click.option("--file", type=click.Path(path_type=Path), help="The file of the services.")  # here, -f is another option
@click.option(
    "-f", "--follow", is_flag=True, help="Print new lines as they arrive, until Ctrl-C or the end of the instance."
)
@click.option(
    "-n", "--lines", type=Whole(0), metavar="N", default=50, show_default=True, help="How many lines to begin with."
)
@click.option(
    "--since",
    metavar="T",
    help="Only lines written in the last 10m, 2h and so on, or since a time such as 2026-11-29T12:00:00.",
)
@click.option("--grep", metavar="TEXT", default="", help="Only lines that contain this text.")
def logs(
    names: tuple[str, ...],
    file: Path | None,
    follow: bool,  # noqa: FBT001 - as above
    lines: int,
    since: str | None,
    grep: str,
) -> None:
    """Print the output of the services."""
    with reported():
        moment = -math.inf if since is None else parse_since(since)
        _request(file, lambda client: follow_logs(client, names, lines, moment, grep, follow))


def _requesting(word: str, text: str, done: str) -> click.Command:
    @click.command(word, help=text)
    @_names(required=True)
    @_file
    @_timeout
    def command(names: tuple[str, ...], file: Path | None, timeout: float | None) -> None:
        with reported():
            failures = _request(file, lambda client: ServiceRequests(client, timeout).each(word, names, done))
            sys.exit(_FAILED if failures else 0)

    return command


start = _requesting("start", "Start services and their dependencies. Return when they are ready.", "ready")
stop = _requesting(
    "stop", "Stop services, and first those that depend on them. Return when they are stopped.", "stopped"
)
restart = _requesting("restart", "Restart services. Return when they are ready again.", "ready")


@click.command(help=_SCALE_HELP)
@click.argument("counts", nargs=-1, type=Name(), required=True, metavar="SERVICE=N...")
@_file
@_timeout
def scale(counts: tuple[str, ...], file: Path | None, timeout: float | None) -> None:
    """Change the number of replicas of services."""
    with reported():
        wanted: dict[str, int] = {}
        for count in counts:
            found = re.fullmatch(r"(.+)=([0-9]+)", count, re.ASCII)
            if found is None:
                raise OptionError(f"write SERVICE=N, as in web=3; got {count!r}")
            wanted[found[1]] = checks.written(f"the number of replicas of {found[1]!r}", found[2], most=checks.MOST)
        failures = _request(file, lambda client: ServiceRequests(client, timeout).scale(wanted))
        sys.exit(_FAILED if failures else 0)


@click.command(help=_RELOAD_HELP)
@_file
@click.option("--dry-run", is_flag=True, help="Print what would change, and change nothing.")
def reload(file: Path | None, dry_run: bool) -> None:  # noqa: FBT001 - as above
    """Apply the changes in the file to the services. Stop removed ones, restart changed ones, start new ones."""
    with reported():
        try:
            plan = _request(file, lambda client: client.post("/reload", dryRun=dry_run))
        except ControlError as error:
            if error.code != "invalid_request":
                raise
            print_error(f"trio-process: {error}")
            sys.exit(USAGE)
        report(described(plan, dry_run=dry_run))


def described(plan: dict[str, Any], *, dry_run: bool) -> str:
    """Return a plan of a reload as text."""
    words = ("would stop", "would restart or change", "would start") if dry_run else ("stopped", "changed", "started")
    changed = [f"{name} ({', '.join(fields)})" for name, fields in plan["changed"].items()]
    lines = [
        f"{word} {', '.join(names)}"
        for word, names in zip(words, (plan["removed"], changed, plan["added"]), strict=True)
        if names
    ]
    return "\n".join(lines) or "nothing has changed"


@click.command(help=_ATTACH_HELP)
@click.argument("name", required=False, type=Name(), metavar="[SERVICE]", shell_complete=_complete)
@_file
def attach(name: str | None, file: Path | None) -> None:
    """Show the output of the services, or of one, which then gets the typed lines, until Ctrl-C."""
    with reported():
        _request(file, lambda client: attach_to(client, name))


@click.command(help=_UI_HELP)
@_file
@click.option("--no-browser", is_flag=True, help="Only print the URL of the page.")
def ui(file: Path | None, no_browser: bool) -> None:  # noqa: FBT001 - as above
    """Open the page of the services in a browser. If none is running, it shows the running daemons."""
    with reported():
        _run(open_page, _found(file), no_browser)


def _found(file: Path | None) -> Instance | None:
    if file is not None:
        return _instance(file)
    try:
        return _instance(None)
    except PipelineError:
        return None
