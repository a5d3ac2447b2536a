"""`trio-process daemon`: start, stop, restart, status and logs of commands that know nothing of us."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import click
import trio

from .._core import DaemonError, ProcessError, in_seconds, is_alive, last_lines
from .._daemon import DaemonEntry, default_registry
from .._process import Service
from .await_health import wait_until_healthy
from .place import Order, Place

NOT_RUNNING: Final = 3
"""The exit status of `status` for a daemon that is not running (LSB Core, "Init Script Actions")."""

_SHOWN_LINES: Final = 20
_STUCK_AFTER: Final = 5.0
_FOLLOW_PAUSE: Final = 0.1
_F = TypeVar("_F", bound=Callable[..., Any])


@click.group()
def daemon() -> None:
    """Run commands in the background: one instance each, with a PID file, a log and an entry in the registry."""


def _key(command: _F) -> _F:
    return click.argument("code")(click.argument("daemon")(command))


@contextmanager
def _said() -> Iterator[None]:
    """Turn what goes wrong into one line on stderr and exit status 1."""
    try:
        yield
    except (ProcessError, OSError) as error:
        raise SystemExit(f"trio-process daemon: {error}") from None


@daemon.command()
@click.option("--health-url", metavar="URL", default="", help="Healthy when this URL answers with a success.")
@click.option("--ready-line", metavar="TEXT", default="", help="Healthy when it has written a line with this text.")
@click.option("--tcp", metavar="[HOST]:PORT", default="", help="Healthy when somebody accepts there.")
@click.option(
    "--settle", type=click.FloatRange(min=0), default=1.0, show_default=True, help="Else: alive that long, in seconds."
)
@click.option(
    "--timeout", type=click.FloatRange(min=0), default=30.0, show_default=True, help="How long to wait for that."
)
@click.option(
    "--grace", type=click.FloatRange(min=0), default=5.0, show_default=True, help="Between SIGTERM and SIGKILL."
)
@click.option("--restart", type=click.Choice(["never", "on-failure", "always"]), default="never", show_default=True)
@_key
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def start(code: str, daemon: str, command: Sequence[str], **options: Any) -> None:
    """Start COMMAND in the background as the daemon DAEMON of CODE, and wait until it is healthy."""
    with _said():
        if options["tcp"] and not options["tcp"].rpartition(":")[2].isdecimal():
            raise DaemonError(f"--tcp takes HOST:PORT or :PORT, got {options['tcp']!r}")
        order = Order(code=code, daemon=daemon, command=command, directory=os.getcwd(), **options)
        _start(order)


def _start(order: Order) -> None:
    place = Place(order.code, order.daemon).keep(order)
    begun = time.monotonic()
    entry, pid = trio.run(_launch, order, place)
    after = in_seconds(time.monotonic() - begun)
    click.echo(f"started {order.code}/{order.daemon}: PID {entry.pid}, its command PID {pid}, healthy after {after}")
    click.echo(f"log: {place.log_file}")


async def _launch(order: Order, place: Place) -> tuple[DaemonEntry, int]:
    written = place.log_file.stat().st_size if place.log_file.exists() else 0
    reading, writing = os.pipe()
    async with trio.lowlevel.FdStream(reading) as said, Service() as service:
        with os.fdopen(writing, "wb") as theirs:
            resident = await service.start(
                sys.executable,
                "-m",
                "trio_process._cli.resident",
                place.order_file,
                detach=True,
                stdout=theirs,
                log_file=place.log_file,
            )
        try:
            pid = await wait_until_healthy(order, resident, said)
        except DaemonError as error:
            if resident.is_running:
                await resident.stop(order.grace + _STUCK_AFTER)
            raise DaemonError(f"{order.code}/{order.daemon} did not start: {error}{_quoted(place, written)}") from error
        except BaseException:
            await resident.stop()
            raise
        entry = default_registry().get(order.code, order.daemon)
        return entry or DaemonEntry(order.code, order.daemon, pid=resident.pid), pid


def _quoted(place: Place, begin: int) -> str:
    """Return what this start has written to the log."""
    try:
        lines = last_lines(place.log_file.read_bytes()[begin:].decode(errors="replace"), _SHOWN_LINES)
    except OSError:
        return ""
    return "".join(f"\n  {line}" for line in lines)


@daemon.command()
@click.option(
    "--timeout", type=click.FloatRange(min=0), default=30.0, show_default=True, help="Seconds before SIGKILL."
)
@_key
def stop(code: str, daemon: str, timeout: float) -> None:
    """Stop a daemon: SIGTERM, wait, SIGKILL; say what happened."""
    with _said():
        click.echo(_stop(code, daemon, timeout))


def _stop(code: str, daemon: str, timeout: float) -> str:
    entry = default_registry().get(code, daemon)
    if entry is None or entry.pid is None:
        return f"{code}/{daemon} is not running"
    begun = time.monotonic()
    try:
        pidfd = os.pidfd_open(entry.pid)
    except ProcessLookupError:
        return f"{code}/{daemon} is not running"
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGTERM)
        if trio.run(_ended, pidfd, timeout):
            return f"stopped {code}/{daemon} (PID {entry.pid}) after {in_seconds(time.monotonic() - begun)}"
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        if not trio.run(_ended, pidfd, _STUCK_AFTER):
            raise DaemonError(f"{code}/{daemon} (PID {entry.pid}) does not die of SIGKILL: it waits for the kernel")
        default_registry().get(code, daemon)  # which prunes what it could not take away itself
    except ProcessLookupError:
        return f"{code}/{daemon} (PID {entry.pid}) ended by itself"
    finally:
        os.close(pidfd)
    return f"killed {code}/{daemon} (PID {entry.pid}): it had not stopped within {timeout:g} s of SIGTERM"


async def _ended(pidfd: int, timeout: float) -> bool:  # noqa: ASYNC109 - the caller's question is a bool
    with trio.move_on_after(timeout) as scope:
        await trio.lowlevel.wait_readable(pidfd)
    return not scope.cancelled_caught


@daemon.command()
@click.option(
    "--timeout", type=click.FloatRange(min=0), default=30.0, show_default=True, help="Seconds before SIGKILL."
)
@_key
def restart(code: str, daemon: str, timeout: float) -> None:
    """Stop a daemon, and start it as it was started last."""
    with _said():
        order = Place(code, daemon).order()
        click.echo(_stop(code, daemon, timeout))
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
        click.echo(json.dumps({**known, "running": entry is not None}))
    elif entry is None:
        click.echo(f"{code}/{daemon} is not running")
    else:
        for name, value in described(entry).items():
            click.echo(f"{name:8} {value}")
        click.echo(f"{'log':8} {Place(code, daemon).log_file}")
    raise SystemExit(0 if entry is not None else NOT_RUNNING)


def described(entry: DaemonEntry) -> dict[str, Any]:
    """Return an entry as the registry's file has it, with the age in seconds."""
    age = (datetime.now(UTC) - entry.started).total_seconds() if entry.started is not None else None
    return {**entry.to_dict(), "age": age if age is None else round(age, 1)}


@daemon.command()
@click.option("-f", "--follow", is_flag=True, help="Go on printing what is written, until Ctrl-C or its end.")
@click.option(
    "-n", "--lines", type=click.IntRange(min=0), default=50, show_default=True, help="How many lines at first."
)
@_key
def logs(code: str, daemon: str, follow: bool, lines: int) -> None:  # noqa: FBT001 - a flag of the command line
    """Print the last lines of a daemon's log."""
    place = Place(code, daemon)
    with _said():
        try:
            file = place.log_file.open("rb")
        except FileNotFoundError:
            raise DaemonError(f"{code}/{daemon} has no log yet ({place.log_file})") from None
        with file:
            out = sys.stdout.buffer
            data = file.read()
            out.write(b"".join(data.splitlines(keepends=True)[-lines:] if lines else []))
            out.flush()
            try:
                while follow:
                    data = file.read()
                    out.write(data)
                    out.flush()
                    if not data:
                        if not _same(file.fileno(), place):
                            file.close()
                            file = place.log_file.open("rb")  # it was rotated
                            continue
                        if not _runs(code, daemon):
                            break
                        time.sleep(_FOLLOW_PAUSE)
            except (KeyboardInterrupt, BrokenPipeError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # nobody reads what Python would still flush


def _same(descriptor: int, place: Place) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), place.log_file.stat())
    except FileNotFoundError:
        return True  # deleted: there is nothing newer to read


def _runs(code: str, daemon: str) -> bool:
    entry = default_registry().get(code, daemon)
    return entry is not None and entry.pid is not None and is_alive(entry.pid)
