"""Manage the files that the command line keeps for one daemon: its PID file, its log, its state, and its spec."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, final

import attrs

from ..._core import DaemonError, remedy, write_atomically
from ..._daemon import DaemonEntry, file_names
from ..state import check_owner, make_private, state_directory

REAPING: Final = 5.0
"""The maximum time in seconds that the shutdown of a resident takes beyond the grace period of its command."""

_NAME_MAX: Final = 200  # leaves room for the suffixes


def _words(command: Iterable[str]) -> tuple[str, ...]:
    return tuple(command)


@final
@attrs.frozen(kw_only=True)
class DaemonSpec:
    """The spec by which a daemon is started; kept in a file, so that `restart` can start it the same way."""

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
        """Return the content of the spec's file."""
        return json.dumps(attrs.asdict(self), indent=2).encode() + b"\n"


@final
@attrs.frozen(kw_only=True)
class ResidentState:
    """The report of a daemon's supervisor process about its command.

    Args:
        resident: The PID of the supervisor process.
        command: The PID of the command, None while it waits for a restart.
        restarts: How often the command was restarted.
        killed: Whether the command was stopped and needed SIGKILL because it did not end within its grace period.
    """

    resident: int
    command: int | None = None
    restarts: int = 0
    killed: bool = False


@final
class StateFiles:
    """The files of one daemon, below ``$XDG_STATE_HOME/trio-process`` (XDG Base Directory Specification).

    Raises:
        OptionError: `code` or `daemon` can't be a key of the registry.
    """

    def __init__(self, code: str, daemon: str) -> None:
        DaemonEntry(code, daemon)  # Registry defines the rules for keys
        self.directory: Final = state_directory()
        name = file_names(code, daemon, _NAME_MAX)[-1].removesuffix(".json")  # a name that no other key can have
        # users read and type this path; where characters are replaced, the digest keeps names distinct
        self._name = "".join(char if char.isprintable() else "_" for char in name)
        self.pid_file: Final = self.directory / f"{self._name}.pid"
        self.log_file: Final = self.directory / f"{self._name}.log"
        self.spec_file: Final = self.directory / f"{self._name}.order.json"
        self.state_file: Final = self.directory / f"{self._name}.state.json"
        self._key = f"{code}/{daemon}"

    def hand_over(self, spec: DaemonSpec) -> Path:
        """Write a spec for a resident to read; return its file. The resident keeps the file once it is the running instance.

        Raises:
            DaemonError: The file can't be written, or others can write to the directory.
        """
        path = self.directory / f"{self._name}.{os.getpid()}.order.json"
        try:
            make_private(self.directory)
            write_atomically(path, spec.encoded(), mode=0o600)
        except OSError as error:
            advice = remedy(error, "set XDG_STATE_HOME to a directory that this user can write to")
            raise DaemonError(f"{path} could not be written: {error.strerror or error}; {advice}") from error
        return path

    def keep(self, spec: DaemonSpec) -> None:
        """Store how the daemon was started, for `restart`."""
        write_atomically(self.spec_file, spec.encoded(), mode=0o600)

    def spec(self) -> DaemonSpec:
        """Return how the daemon was last started.

        Raises:
            DaemonError: It was never started, or the file can't be read.
        """
        try:
            found = read_spec(self.spec_file)
            check_owner(self.directory)
        except FileNotFoundError:
            raise DaemonError(
                f"{self._key} was never started here; start it with: trio-process daemon start … -- COMMAND"
            ) from None
        except (OSError, ValueError, TypeError) as error:
            raise DaemonError(f"{self.spec_file} can't be read ({error}); start the daemon again") from error
        return found

    def report(self, state: ResidentState) -> None:
        """Store the state of the command, for `status`.

        Raises:
            OSError: It could not be written.
        """
        write_atomically(self.state_file, json.dumps(attrs.asdict(state)).encode() + b"\n", mode=0o600)

    def state(self, resident: int) -> ResidentState | None:
        """Return the state of the command of a resident, or None if that resident has not reported it."""
        try:
            found = ResidentState(**json.loads(self.state_file.read_bytes()))
            check_owner(self.directory)
        except (OSError, ValueError, TypeError, DaemonError):
            return None
        return found if found.resident == resident else None


def read_spec(path: Path) -> DaemonSpec:
    """Return the spec in a file."""
    found: dict[str, Any] = json.loads(path.read_bytes())
    return DaemonSpec(**found)


def described(entry: DaemonEntry) -> dict[str, Any]:
    """Return an entry as in the registry's file, with its age in seconds: 0 for a start in the future, None if unknown."""
    started = entry.started
    # Go's zero time means no time
    known = started is not None and started.year > 1
    age = max(0.0, (datetime.now(UTC) - started).total_seconds()) if started is not None and known else None
    return {**entry.to_dict(), "age": age if age is None else round(age, 1)}
