"""`trio-process daemon`: start, stop, restart, status and logs of commands that know nothing of us."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeVar, final

import click
import trio

from ..._core import DaemonError, OptionError, ProcessError, in_seconds
from ..._daemon import default_registry
from ..output import OutputLost, complain, show, tell, without_output
from ..text import one_line
from .files import Order, Place, described
from .logs import print_log
from .readiness import check_tcp, check_url
from .start import Interrupted, launch
from .stop import stop_daemon

NOT_RUNNING: Final = 3
"""The exit status of `status` for a daemon that is not running (LSB Core, "Init Script Actions")."""

_SIGNALLED: Final = 128
_F = TypeVar("_F", bound=Callable[..., Any])


@final
class _Seconds(click.FloatRange):
    """A number of seconds, 0 or more."""

    def __init__(self) -> None:
        super().__init__(min=0)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Refuse what is not a number, too."""
        found: float = super().convert(value, param, ctx)
        if math.isnan(found):
            self.fail(f"{value!r} is no number of seconds.", param, ctx)
        return found


@click.group()
def daemon() -> None:
    """Run commands in the background: one instance each, with a PID file, a log and an entry in the registry."""


def _key(command: _F) -> _F:
    return click.argument("code")(click.argument("daemon")(command))


def _patience(command: _F) -> _F:
    return click.option("--timeout", type=_Seconds(), default=30.0, show_default=True, help="Seconds before SIGKILL.")(
        command
    )


def _checked(rule: Callable[[str], str]) -> Callable[[click.Context, click.Parameter, str], str]:
    def check(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
        try:
            return rule(value) if value else ""
        except OptionError as error:
            raise click.BadParameter(str(error)) from None

    return check


@contextmanager
def _said() -> Iterator[None]:
    """Turn what goes wrong into one line on stderr and an exit status: 1, or 128+N after a signal."""
    try:
        yield
    except (ProcessError, OSError) as error:
        lines = [one_line(line) for line in f"trio-process daemon: {error}".split("\n")]
        raise SystemExit("\n".join(lines)) from None
    except OutputLost as error:
        raise SystemExit(without_output(error)) from None


@daemon.command()
@click.option(
    "--health-url",
    metavar="URL",
    default="",
    callback=_checked(check_url),
    help="Healthy when this URL answers with a success.",
)
@click.option("--ready-line", metavar="TEXT", default="", help="Healthy when it has written a line with this text.")
@click.option(
    "--tcp",
    metavar="[HOST]:PORT",
    default="",
    callback=_checked(check_tcp),
    help="Healthy when somebody accepts there.",
)
@click.option("--settle", type=_Seconds(), default=1.0, show_default=True, help="Else: alive that long, in seconds.")
@click.option("--timeout", type=_Seconds(), default=30.0, show_default=True, help="How long to wait for that.")
@click.option("--grace", type=_Seconds(), default=5.0, show_default=True, help="Between SIGTERM and SIGKILL.")
@click.option("--restart", type=click.Choice(["never", "on-failure", "always"]), default="never", show_default=True)
@_key
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def start(code: str, daemon: str, command: Sequence[str], **options: Any) -> None:
    """Start COMMAND in the background as the daemon DAEMON of CODE, and wait until it is healthy."""
    with _said():
        try:
            directory = os.getcwd()
        except FileNotFoundError:
            raise DaemonError("the current directory was removed; change to one that is there") from None
        _start(Order(code=code, daemon=daemon, command=command, directory=directory, **options))


def _start(order: Order) -> None:
    place = Place(order.code, order.daemon)
    begun = time.monotonic()
    try:
        entry, pid = trio.run(launch, order, place)
    except Interrupted as interrupted:
        complain(f"{one_line(f'{order.code}/{order.daemon}')} was interrupted, and stopped again")
        raise SystemExit(_SIGNALLED + interrupted.number) from None
    after = in_seconds(time.monotonic() - begun)
    key = one_line(f"{order.code}/{order.daemon}")
    tell(f"started {key}: PID {entry.pid}, its command PID {pid}, healthy after {after}\nlog: {place.log_file}")


@daemon.command()
@_patience
@_key
def stop(code: str, daemon: str, timeout: float) -> None:
    """Stop a daemon: SIGTERM, wait, SIGKILL; say what happened."""
    with _said():
        tell(one_line(stop_daemon(code, daemon, timeout)))


@daemon.command()
@_patience
@_key
def restart(code: str, daemon: str, timeout: float) -> None:
    """Stop a daemon, and start it as it was started last."""
    with _said():
        order = Place(code, daemon).order()
        tell(one_line(stop_daemon(code, daemon, timeout)))
        _start(order)


@daemon.command()
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@_key
def status(code: str, daemon: str, as_json: bool) -> None:  # noqa: FBT001 - a flag of the command line
    """Print whether a daemon runs; the exit status is 0 if it does, 3 if not."""
    with _said():
        entry = default_registry().get(code, daemon)
    if as_json:
        known: dict[str, Any] = {"code": code, "daemon": daemon} if entry is None else described(entry)
        show(json.dumps({**known, "running": entry is not None}))
    elif entry is None:
        tell(one_line(f"{code}/{daemon} is not running"))
    else:
        lines = [f"{one_line(name):8} {one_line(str(value))}" for name, value in described(entry).items()]
        tell("\n".join([*lines, f"{'log':8} {Place(code, daemon).log_file}"]))
    raise SystemExit(0 if entry is not None else NOT_RUNNING)


@daemon.command()
@click.option("-f", "--follow", is_flag=True, help="Go on printing what is written, until Ctrl-C or its end.")
@click.option(
    "-n", "--lines", type=click.IntRange(min=0), default=50, show_default=True, help="How many lines at first."
)
@_key
def logs(code: str, daemon: str, follow: bool, lines: int) -> None:  # noqa: FBT001 - a flag of the command line
    """Print the last lines of a daemon's log."""
    with _said():
        print_log(code, daemon, lines=lines, follow=follow)
