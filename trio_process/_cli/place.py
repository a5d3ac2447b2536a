"""Where the command line keeps what belongs to one daemon: its PID file, its log, and how it was started."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, Self, final

import attrs

from .._core import DaemonError, write_atomically
from .._daemon import file_names

_NAME_MAX: Final = 200  # leaves room for the endings


def _words(command: Iterable[str]) -> tuple[str, ...]:
    return tuple(command)


@final
@attrs.frozen(kw_only=True)
class Order:
    """How a daemon was asked for; kept in a file, so that `restart` can ask again."""

    code: str
    daemon: str
    command: tuple[str, ...] = attrs.field(converter=_words)
    directory: str
    health_url: str = ""
    ready_line: str = ""
    tcp: str = ""
    settle: float = 1.0
    timeout: float = 30.0
    grace: float = 5.0
    restart: str = "never"


@final
class Place:
    """The files of one daemon, below `$XDG_STATE_HOME/trio-process` (XDG Base Directory Specification)."""

    def __init__(self, code: str, daemon: str) -> None:
        home = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
        self.directory = Path(home, "trio-process")
        name = file_names(code, daemon, _NAME_MAX)[-1].removesuffix(".json")  # the one that no other key can have
        self.pid_file = self.directory / f"{name}.pid"
        self.log_file = self.directory / f"{name}.log"
        self.order_file = self.directory / f"{name}.order.json"
        self._key = f"{code}/{daemon}"

    def keep(self, order: Order) -> Self:
        """Write down how the daemon is started."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomically(self.order_file, json.dumps(attrs.asdict(order), indent=2).encode() + b"\n")
        return self

    def order(self) -> Order:
        """Return how the daemon was started last.

        Raises:
            DaemonError: It never was, or what was written down can't be read.
        """
        try:
            found: dict[str, Any] = json.loads(self.order_file.read_bytes())
            return Order(**found)
        except FileNotFoundError:
            raise DaemonError(
                f"{self._key} was never started here; start it with: trio-process daemon start … -- COMMAND"
            ) from None
        except (OSError, ValueError, TypeError) as error:
            raise DaemonError(f"{self.order_file} can't be read ({error}); start the daemon anew") from error
