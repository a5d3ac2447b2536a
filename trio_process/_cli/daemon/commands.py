"""``trio-process daemon``: start, stop, restart, reload, status and logs of a command in the background."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import click
import trio

from ..._core import DaemonError, OptionError, ProcessError, in_seconds
from ..._daemon import NotHereError, default_registry, find_daemon
from ..output import OutputLost, print_error, report, show, without_output
from ..state import explain
from ..text import Duration, Whole, one_line
from .files import DaemonSpec, StateFiles, described
from .logs import print_log
from .readiness import check_line, check_tcp, check_url
from .start import Interrupted, check_startable
from .start import start as start_daemon
from .stop import reload_daemon, stop_daemon

NOT_RUNNING: Final = 3
"""The exit status of `status` for a daemon that is not running (LSB Core, "Init Script Actions")."""

_SIGNALLED: Final = 128
_F = TypeVar("_F", bound=Callable[..., Any])


@click.group(
    help="Run commands in the background. Each has one instance, a PID file, a log and an entry in the registry."
)
def daemon() -> None:
    """Run commands in the background. Each has one instance, a PID file, a log and an entry in the registry."""


def _key(command: _F) -> _F:
    return click.argument("code")(click.argument("daemon")(command))


def _with_timeout(command: _F) -> _F:
    return click.option(
        "--timeout",
        type=Duration(),
        default=None,
        help="Seconds before SIGKILL  [default: the grace period of its start plus 10, at least 30]",
    )(command)


def _checked(rule: Callable[[str], str]) -> Callable[[click.Context, click.Parameter, str], str]:
    def check(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
        try:
            return rule(value) if value else ""
        except OptionError as error:
            raise click.BadParameter(str(error)) from None

    return check


@contextmanager
def _errors_reported() -> Iterator[None]:
    """Turn an error into one line on stderr and the exit status 1, or 128+N after a signal."""
    try:
        yield
    except ProcessError as error:
        lines = [one_line(line) for line in f"trio-process daemon: {explain(error)}".split("\n")]
        raise SystemExit("\n".join(lines)) from None
    except OSError as error:
        raise SystemExit(one_line(f"trio-process daemon: {explain(error)}")) from None
    except OutputLost as error:
        raise SystemExit(without_output(error)) from None


@daemon.command(
    help="Start a command in the background, and wait until it is healthy. CODE and DAEMON name it in the registry."
)
@click.option(
    "--health-url",
    metavar="URL",
    default="",
    callback=_checked(check_url),
    help="Healthy when this URL answers with a success.",
)
@click.option(
    "--ready-line",
    metavar="TEXT",
    default="",
    callback=_checked(check_line),
    help="Healthy when the command has written a line with this text.",
)
@click.option(
    "--tcp",
    metavar="[HOST]:PORT",
    default="",
    callback=_checked(check_tcp),
    help="Healthy when this port accepts connections.",
)
@click.option(
    "--settle",
    type=Duration(),
    default=1.0,
    show_default=True,
    help="Otherwise healthy when the command has been running for this many seconds.",
)
@click.option(
    "--timeout", type=Duration(), default=30.0, show_default=True, help="Seconds to wait until it is healthy."
)
@click.option(
    "--grace",
    type=Duration(),
    default=5.0,
    show_default=True,
    help="Seconds between SIGTERM and SIGKILL when the command is stopped.",
)
@click.option(
    "--restart",
    type=click.Choice(["never", "on-failure", "always"]),
    default="never",
    show_default=True,
    help="When to restart the command after it has ended.",
)
@_key
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def start(code: str, daemon: str, command: Sequence[str], **options: Any) -> None:
    """Start COMMAND in the background as the daemon DAEMON of CODE, and wait until it is healthy."""
    settles = not (options["health_url"] or options["ready_line"] or options["tcp"])
    if settles and 0 < options["timeout"] <= options["settle"]:
        limit = in_seconds(options["timeout"])
        raise click.BadParameter(f"must be less than --timeout, which is {limit}", param_hint="'--settle'")
    with _errors_reported():
        try:
            directory = os.getcwd()
        except FileNotFoundError:
            raise DaemonError("the current directory was removed; change to one that is there") from None
        _start(DaemonSpec(code=code, daemon=daemon, command=command, directory=directory, **options))


def _start(spec: DaemonSpec) -> None:
    files = StateFiles(spec.code, spec.daemon)
    began = time.monotonic()
    key = one_line(f"{spec.code}/{spec.daemon}")
    try:
        entry, pid = trio.run(start_daemon, spec, files)
    except Interrupted as interrupted:
        print_error(f"{key} was interrupted, and stopped again")
        raise SystemExit(_SIGNALLED + interrupted.number) from None
    after = in_seconds(time.monotonic() - began)
    report(f"started {key}: PID {entry.pid}, its command PID {pid}, healthy after {after}\nlog: {files.log_file}")


@daemon.command(help="Stop a daemon: SIGTERM, wait, SIGKILL. The exit status is 1 if the daemon had to be killed.")
@_with_timeout
@_key
def stop(code: str, daemon: str, timeout: float | None) -> None:
    """Stop a daemon: SIGTERM, wait, SIGKILL."""
    with _errors_reported():
        stopped = stop_daemon(code, daemon, timeout)
        report(one_line(stopped.text))
    raise SystemExit(1 if stopped.killed else 0)


@daemon.command(
    help="Stop a daemon, and start its last command again. A daemon that can't be started again is left running."
)
@_with_timeout
@_key
def restart(code: str, daemon: str, timeout: float | None) -> None:
    """Stop a daemon, and start its last command again."""
    with _errors_reported():
        files = StateFiles(code, daemon)
        spec = files.spec()
        check_startable(spec, files)
        try:
            report(one_line(stop_daemon(code, daemon, timeout).text))
        except NotHereError as error:  # e.g. after a reboot; a daemon running elsewhere holds the PID file
            report(one_line(str(error)))
        _start(spec)


@daemon.command(help="Send SIGHUP to the command of a daemon.")
@_key
def reload(code: str, daemon: str) -> None:
    """Send SIGHUP to the command of a daemon."""
    with _errors_reported():
        report(one_line(reload_daemon(code, daemon)))


@daemon.command(help="Print whether a daemon is running. The exit status is 0 if it is, 3 if not.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@_key
def status(code: str, daemon: str, as_json: bool) -> None:  # noqa: FBT001 - a flag of the command line
    """Print whether a daemon is running."""
    with _errors_reported():
        files = StateFiles(code, daemon)
        entry, claim, hidden = find_daemon(default_registry(), code, daemon, files.pid_file)
    known: dict[str, Any] = {"code": code, "daemon": daemon}
    if claim is not None:
        known = described(entry) if entry is not None else {**known, "pid": claim.pid}
        state = files.state(claim.pid)
        if state is not None:
            known |= {"command": state.command, "restarts": state.restarts}
    if as_json:
        show(json.dumps({**known, "running": claim is not None, **({"hidden": hidden} if hidden else {})}))
    elif claim is None:
        report(one_line(hidden or f"{code}/{daemon} is not running"))
    else:
        if "command" in known and known["command"] is None:
            known["command"] = "waiting to restart"
        lines = [
            f"{one_line(name):8} {one_line('-' if value is None else str(value))}" for name, value in known.items()
        ]
        report("\n".join([*lines, f"{'log':8} {files.log_file}"]))
    raise SystemExit(0 if claim is not None else NOT_RUNNING)


@daemon.command(help="Print the last lines of a daemon's log.")
@click.option("-f", "--follow", is_flag=True, help="Print new lines as they arrive, until Ctrl-C or the daemon's end.")
@click.option(
    "-n", "--lines", type=Whole(0), metavar="N", default=50, show_default=True, help="How many lines to begin with."
)
@_key
def logs(code: str, daemon: str, follow: bool, lines: int) -> None:  # noqa: FBT001 - a flag of the command line
    """Print the last lines of a daemon's log."""
    with _errors_reported():
        print_log(code, daemon, lines=lines, follow=follow)
