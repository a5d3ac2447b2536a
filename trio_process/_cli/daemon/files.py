"""Where the command line keeps what belongs to one daemon: its PID file, its log, and how it was started."""

from __future__ import annotations

import json
import os
import pwd
import tempfile
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, final

import attrs

from ..._core import DaemonError, write_atomically
from ..._daemon import DaemonEntry, file_names

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

    def encoded(self) -> bytes:
        """Return the content of its file."""
        return json.dumps(attrs.asdict(self), indent=2).encode() + b"\n"


@final
class Place:
    """The files of one daemon, below `$XDG_STATE_HOME/trio-process` (XDG Base Directory Specification).

    Raises:
        OptionError: `code` or `daemon` can't be a key of the registry.
    """

    def __init__(self, code: str, daemon: str) -> None:
        DaemonEntry(code, daemon)  # the one home of the rules for keys
        self.directory: Final = _state_home() / "trio-process"
        name = file_names(code, daemon, _NAME_MAX)[-1].removesuffix(".json")  # the one that no other key can have
        # a path is printed, and typed: what is replaced, the digest in the name still tells apart
        self._name = "".join(char if char.isprintable() else "_" for char in name)
        self.pid_file: Final = self.directory / f"{self._name}.pid"
        self.log_file: Final = self.directory / f"{self._name}.log"
        self.order_file: Final = self.directory / f"{self._name}.order.json"
        self._key = f"{code}/{daemon}"

    def hand_over(self, order: Order) -> Path:
        """Write an order for a resident to read; return its file. It is kept once that one is who runs."""
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise DaemonError(
                f"the directory {self.directory} could not be made: {error.strerror}; set XDG_STATE_HOME to one that "
                "can be written to"
            ) from error
        self._refuse_strangers()
        path = self.directory / f"{self._name}.{os.getpid()}.order.json"
        write_atomically(path, order.encoded(), mode=0o600)
        return path

    def keep(self, order: Order) -> None:
        """Write down how the daemon is started, for `restart`."""
        write_atomically(self.order_file, order.encoded(), mode=0o600)

    def order(self) -> Order:
        """Return how the daemon was started last.

        Raises:
            DaemonError: It never was, or what was written down can't be read.
        """
        try:
            found = read_order(self.order_file)
            self._refuse_strangers()
        except FileNotFoundError:
            raise DaemonError(
                f"{self._key} was never started here; start it with: trio-process daemon start … -- COMMAND"
            ) from None
        except (OSError, ValueError, TypeError) as error:
            raise DaemonError(f"{self.order_file} can't be read ({error}); start the daemon anew") from error
        return found

    def _refuse_strangers(self) -> None:
        """Keep to a directory of ours: who owns it decides what `restart` runs."""
        if self.directory.stat().st_uid not in (0, os.geteuid()):
            raise DaemonError(
                f"{self.directory} belongs to another user; set XDG_STATE_HOME to a directory of your own"
            )


def read_order(path: Path) -> Order:
    """Return the order in a file."""
    found: dict[str, Any] = json.loads(path.read_bytes())
    return Order(**found)


def _state_home() -> Path:
    told = os.environ.get("XDG_STATE_HOME", "")
    if os.path.isabs(told):  # "if a relative path is encountered, consider it invalid and ignore it"
        return Path(told)
    home = os.environ.get("HOME") or _home_of_user()
    if os.path.isabs(home):
        return Path(home, ".local", "state")
    return Path(tempfile.gettempdir(), f"trio-process-{os.geteuid()}")  # some containers know neither


def _home_of_user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_dir
    except KeyError:
        return ""


def described(entry: DaemonEntry) -> dict[str, Any]:
    """Return an entry as the registry's file has it, with the age in seconds."""
    age = (datetime.now(UTC) - entry.started).total_seconds() if entry.started is not None else None
    return {**entry.to_dict(), "age": age if age is None else round(age, 1)}
