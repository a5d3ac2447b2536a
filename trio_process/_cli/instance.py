"""Manage the single instance that may run the services of a file: how it is found, and how requests reach it.

An instance belongs to the real path of its file. It holds a lock on a PID file, and serves the control API on a unix
socket next to it, in the state directory of the command line. The lock decides whether the instance is running: the
socket of a dead instance is merely a file.
"""

from __future__ import annotations

import hashlib
import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, final
from urllib.parse import quote

import attrs
import trio

from .._control import ControlClient, ControlError, ControlServer, add_route, serve_on_demand
from .._core import DaemonError, PipelineError, ProcessError, remedy
from .._daemon import PIDFile, default_registry, read_pid
from .._supervisor import Supervisor
from .find import find_file
from .state import check_owner, make_private, state_directory

NOT_RUNNING: Final = 3
_POLL: Final = 0.05  # seconds
_LIMIT: Final = 10.0  # seconds
_ROUTE: Final = "/instance"
_PLACE: Final = "place"
_DIGEST: Final = 16  # characters


class NotRunningError(ProcessError, shown_as=ProcessError):
    """No instance runs the services of a file."""


def _real_path(file: Path) -> Path:
    return Path(os.path.realpath(file))


@final
@attrs.frozen
class Instance:
    """The instance of one file.

    Args:
        file: The pipeline file; the instance belongs to its real path.
    """

    file: Path = attrs.field(converter=_real_path)

    @property
    def pid_file(self) -> Path:
        """The file whose lock proves that the instance runs."""
        return self._path("pid")

    @property
    def log_file(self) -> Path:
        """The log file of a background instance and its services."""
        return self._path("log")

    @property
    def address(self) -> str:
        """The address of its control API."""
        return f"unix:{self._path('sock')}"

    def prepare(self) -> None:
        """Create the directory of its files.

        Raises:
            DaemonError: It can't be created, or can't be trusted.
        """
        directory = state_directory()
        try:
            make_private(directory)
        except OSError as error:
            advice = remedy(error, "set XDG_STATE_HOME to a directory that this user can write to")
            raise DaemonError(f"{directory} could not be made: {error.strerror or error}; {advice}") from error

    def _path(self, ending: str) -> Path:
        digest = hashlib.sha256(os.fsencode(self.file)).hexdigest()[:_DIGEST]
        return state_directory() / f"up-{digest}.{ending}"

    def pid(self) -> int:
        """Return the PID of the instance, or 0 if none is running."""
        pid, alive = read_pid(self.pid_file)
        if alive:
            check_owner(state_directory())
        return pid if alive else 0

    def client(self) -> ControlClient:
        """Return a client of the running instance.

        Raises:
            NotRunningError: No instance is running.
        """
        self._running_pid()
        return ControlClient(self.address)

    def _running_pid(self) -> int:
        pid = self.pid()
        if not pid:
            raise NotRunningError(f"the services of {self.file} are not running; start them with: {self.typed('up')}")
        return pid

    def typed(self, *words: str) -> str:
        """Return a command for these services, as it is typed in this directory."""
        with suppress(PipelineError, OSError):
            if find_file(Path()).samefile(self.file):
                return shlex.join(["trio-process", *words])
        return shlex.join(["trio-process", words[0], "--file", str(self.file), *words[1:]])

    @contextmanager
    def findable(self) -> Iterator[None]:
        """Make the running instance findable by `instance_of` during the block even if its directory is renamed."""
        place = self._path(_PLACE)
        try:
            place.write_text(f"{_identity(self.file)}\n{self.file}", "utf-8", "surrogateescape")
            yield
        finally:
            with suppress(OSError):  # then the file names an instance that isn't running
                place.unlink()

    def claim(self) -> PIDFile:
        """Become the instance, until the file is released.

        Raises:
            AlreadyRunningError: Another process is the instance.
            DaemonError: The directory of its files can't be created, or can't be trusted.
        """
        self.prepare()
        pid_file = PIDFile(self.pid_file)
        pid_file.acquire()
        return pid_file

    async def reach(self, limit: float = _LIMIT) -> ControlClient:
        """Return a client of the running instance, once it responds on its socket.

        Raises:
            NotRunningError: No instance is running.
            ProcessError: It has not responded within `limit` seconds, as a suspended process doesn't.
        """
        client = self.client()
        with trio.move_on_after(limit):
            while not await self.answers():
                await trio.sleep(_POLL)
                client = self.client()
            return client
        pid = self._running_pid()  # it may have ended by now
        raise ProcessError(
            f"the instance (PID {pid}) does not respond; if it is suspended, resume it with: kill -CONT {pid}"
        )

    async def command(self) -> str:
        """Return the command of the running instance, `up` or `run`; `up` if it doesn't answer."""
        try:
            answer = await ControlClient(self.address).get(_ROUTE)
        except (OSError, ControlError):
            return "up"
        return str(answer["command"])

    async def answers(self) -> bool:
        """Whether the instance responds on its socket."""
        try:
            await ControlClient(self.address).get("/services")
        except (OSError, ControlError):
            return False
        return True

    async def wait_until_it_answers(self, has_ended: Any) -> None:
        """Wait until the instance responds.

        Raises:
            DaemonError: It ended first.
        """
        while not await self.answers():
            if has_ended():
                raise DaemonError(f"the services of {self.file} did not start")
            await trio.sleep(_POLL)


def instance_of(file: Path) -> Instance:
    """Return the instance of a file; a running instance is found even if its directory was renamed after its start."""
    instance = Instance(file)
    if instance.pid():
        return instance
    for place in state_directory().glob(f"up-*.{_PLACE}"):
        with suppress(OSError):
            identity, _, path = place.read_text("utf-8", "surrogateescape").partition("\n")
            moved = Instance(Path(path))
            if identity == _identity(instance.file) and moved.pid():
                return moved
    return instance


def _identity(file: Path) -> str:
    """Return the identity of a file that survives renaming its directory: that directory's inode, and the name in it."""
    status = file.parent.stat()
    return f"{status.st_dev} {status.st_ino} {file.name}"


def server_of(instance: Instance, supervisor: Supervisor) -> ControlServer:
    """Return the server at the address of an instance, which imports its HTTP stack when the first client connects."""
    return serve_on_demand(ControlServer(instance.address, supervisor=supervisor, registry=default_registry()))


def announce(server: ControlServer, command: str) -> None:
    """Make a server at the address of an instance report its command, `up` or `run`."""

    async def answer() -> dict[str, Any]:
        return {"success": True, "data": {"command": command}}

    add_route(server, f"/api/process{_ROUTE}", answer)


def segment(name: str) -> str:
    """Return a name quoted as one segment of a path."""
    return quote(name, safe="")
