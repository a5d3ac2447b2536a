"""`DaemonOptions`: all options of a daemon, validated when they are created."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import final

import attrs

from .._core import OptionError, RestartPolicy, bad_option, checks, refuse_unknown, short_repr
from .health import HealthCheck, parse_address
from .registry import DaemonEntry, Registry


def _pid_file(value: str | os.PathLike[str] | None) -> Path | None:
    return None if value is None or value == "" else checks.file_path("pid_file", value)


def _health_addr(value: str | None) -> str | None:
    if value is None or value == "":
        return None
    parse_address(value, "health_addr")
    return str(value)


def _health_checks(value: Iterable[HealthCheck]) -> tuple[HealthCheck, ...]:
    try:
        found = tuple(value)
    except TypeError:
        found = None
    if found is None or not all(map(callable, found)):
        raise bad_option("health_checks", f"must be callables without arguments, got {checks.brief(value)}")
    return found


@final
@refuse_unknown()
@attrs.frozen(kw_only=True, repr=False)
class DaemonOptions:
    """The parts of a `Daemon` and their options; None or empty leaves a part out.

    Args:
        pid_file: The file that only one instance at a time can hold.
        shutdown_timeout: Seconds between the stop and the moment by which everything must have ended, including `drain`.
        drain: Seconds that `main` has to end by itself after the stop, before it is cancelled.
        health_addr: The address for ``/health`` and ``/ready``; see `HealthServer`.
        health_checks: The checks that ``/health`` and the watchdog of systemd run.
        registry: The registry to register with; None for `default_registry()` if there is an entry.
        registry_entry: The entry; `pid` and `health` are filled in, and so are `started`, `project` and `binary` if they
            are empty.
        ready: Whether the daemon accepts work from the start.
        restart: When to restart `main`.
        signals: Whether to handle SIGTERM, SIGINT and SIGHUP (in the main thread only).

    Raises:
        OptionError: An option is invalid; the message names it.

    >>> DaemonOptions(health_addr="127.0.0.1:0", drain=2).shutdown_timeout
    30.0
    """

    pid_file: Path | None = attrs.field(default=None, converter=_pid_file)
    shutdown_timeout: float = 30.0
    drain: float = 0.0
    health_addr: str | None = attrs.field(default=None, converter=_health_addr)
    health_checks: tuple[HealthCheck, ...] = attrs.field(default=(), converter=_health_checks)
    registry: Registry | None = None
    registry_entry: DaemonEntry | None = None
    ready: bool = True
    restart: RestartPolicy = attrs.field(factory=RestartPolicy.never)
    signals: bool = True

    __repr__ = short_repr

    def __attrs_post_init__(self) -> None:
        for option in ("shutdown_timeout", "drain"):
            object.__setattr__(self, option, checks.seconds(option, getattr(self, option)))
        for option in ("ready", "signals"):
            checks.flag(option, getattr(self, option))
        _instance("registry", self.registry, Registry, optional=True)
        _instance("registry_entry", self.registry_entry, DaemonEntry, optional=True)
        _instance("restart", self.restart, RestartPolicy, optional=False)
        if self.registry is not None and self.registry_entry is None:
            raise OptionError("a registry without a registry_entry has nothing to announce; give a DaemonEntry, too")


def _instance(option: str, value: object, kind: type, *, optional: bool) -> None:
    if not (isinstance(value, kind) or (optional and value is None)):
        raise bad_option(
            option, f"must be a {kind.__name__}{' or None' if optional else ''}, got {checks.brief(value)}"
        )
