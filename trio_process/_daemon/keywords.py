"""The fields of `DaemonOptions` as typed keywords, for type checkers and editors; a test compares them with the class.

Only type checkers import this: nothing here is needed at run time.
"""

import os
from collections.abc import Iterable
from typing import TypedDict

from .._core import RestartPolicy
from .health import HealthCheck
from .registry import DaemonEntry, Registry


class DaemonKeywords(TypedDict, total=False):
    """The keywords of `Daemon`: the fields of `DaemonOptions`."""

    pid_file: str | os.PathLike[str] | None
    shutdown_timeout: float
    drain: float
    health_addr: str | None
    health_checks: Iterable[HealthCheck]
    registry: Registry | None
    registry_entry: DaemonEntry | None
    ready: bool
    restart: RestartPolicy
    signals: bool
