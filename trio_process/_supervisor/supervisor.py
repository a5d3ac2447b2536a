"""`Supervisor`: keeps units running inside a block."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Self, TypedDict, Unpack, final

import trio

from .._core import Block, ProcessError, bad_option, checks, member, uninterrupted
from .._process import Service, ServiceOptions
from . import requests
from .faults import checked
from .file import make_units, only, read_services
from .hold import Hold
from .reload import ReloadPlan
from .roster import Roster
from .rules import Strategy
from .spec import UnitSpec
from .stay import open_roster
from .unit import Unit


class SupervisorKeywords(TypedDict, total=False):
    """The keywords of `Supervisor`."""

    service: Service | None
    strategy: Strategy | str
    shutdown_timeout: float


@final
class Supervisor(Block):
    """Keeps units running: commands and async functions, in the order of their dependencies.

    Args:
        units: The specs of the units.
        service: The service that starts the processes, which may be a `FakeService`; it must outlive the supervisor. None
            for its own, with a guardian, so that no process survives even a SIGKILL of this program.
        strategy: Which units are restarted together with a unit that is restarted.
        shutdown_timeout: Seconds that leaving the block may take before all grace periods end.

    Raises:
        OptionError: An option is invalid; or, on entering, the specs have faults, and the message names all of them.

    Entering starts the enabled units, and doesn't wait for them. Leaving, for any reason, stops all units in reverse
    dependency order, independent ones concurrently, under one deadline: `shutdown_timeout`, or the time that an enclosing
    `Daemon` has left. A cancellation from outside causes the same ordered stop. The end of an `essential` unit cancels
    the body; if the unit failed or was skipped, the block raises `UnitFailedError`.

    A supervisor handles no signals: enter it inside a `Daemon`, which handles them before the first unit starts.

    >>> async def main() -> None:
    ...     async with Supervisor([UnitSpec(name="web", command="sleep", args=["60"])]) as supervisor:
    ...         await supervisor.wait_ready(timeout=30)
    ...         assert supervisor["web"].ready
    """

    def __init__(
        self,
        units: Iterable[UnitSpec],
        *,
        service: Service | None = None,
        strategy: Strategy | str = Strategy.ONE_FOR_ONE,
        shutdown_timeout: float = 30.0,
    ) -> None:
        super().__init__()
        if isinstance(units, str):
            raise bad_option(
                "units", f"must be a list of UnitSpec, got {checks.brief(units)}; Supervisor.from_file reads a file"
            )
        if service is not None and not isinstance(service, Service):
            raise bad_option("service", f"must be a Service or None, got {checks.brief(service)}")
        self._specs = tuple(checks.items("units", units, "UnitSpec"))
        self._strategy = member(Strategy, strategy, "strategy")
        self._shutdown_timeout = checks.seconds("shutdown_timeout", shutdown_timeout)
        self._service = service if service is not None else Service(options=ServiceOptions(guardian=True))
        self._owns_service = service is None
        self._roster: Roster | None = None
        self._reloading = trio.Lock()
        self._path: Path | None = None
        self._names: tuple[str, ...] = ()

    @classmethod
    def from_file(cls, path: str | os.PathLike[str], **options: Unpack[SupervisorKeywords]) -> Self:
        """Return a supervisor of the services in a file.

        Args:
            path: The file, as for `load_services`.
            **options: The keywords of `Supervisor`.

        Raises:
            PipelineError: The file has faults; the message has all of them.
        """
        return cls._of_file(path, (), options)

    @classmethod
    def _of_file(cls, path: str | os.PathLike[str], names: Sequence[str], options: SupervisorKeywords) -> Self:
        file = read_services(path)
        if file.strategy is not None:
            options.setdefault("strategy", file.strategy.replace("-", "_"))
        supervisor = cls(only(make_units(file), names), **options)
        supervisor._path = Path(path)
        supervisor._names = tuple(names)
        return supervisor

    # facts

    @property
    def path(self) -> Path | None:
        """The file that it was created from; None if it was created from specs."""
        return self._path

    @property
    def service(self) -> Service:
        """The service that starts the processes, and that publishes the events."""
        return self._service

    @property
    def units(self) -> tuple[Unit, ...]:
        """All units, one for each replica, in the order of the specs; empty before the supervisor is entered."""
        if self._roster is None:
            return ()
        return tuple([replica.unit for replica in self._roster.replicas()])

    def __getitem__(self, name: str) -> Unit:
        """Return the unit with this name, `web`, or a further replica, ``web.2``.

        Raises:
            ProcessNotFoundError: No unit has this name.
        """
        return self._seen().replica(name).unit

    # requests

    async def wait_ready(self, *names: str, timeout: float | None = None) -> None:  # noqa: ASYNC109 - its error says what each waits for
        """Wait until units are ready or have completed.

        Args:
            *names: The units; none means all that are wanted.
            timeout: Seconds; None for no limit.

        Raises:
            TimeoutError: They were not ready in time; the message says what each of them waits for.
            UnitFailedError: One of them can't become ready.
            ProcessError: One of them is not wanted, so it would never start.
        """
        await requests.wait_ready(self._known(), names, timeout)

    async def wait(self, *, check: bool = True) -> None:
        """Wait until no unit runs or will run.

        Args:
            check: Raise for the first unit that failed.

        Raises:
            UnitFailedError: With `check`, a unit has failed.
        """
        await requests.wait(self._known(), check=check)

    async def start(self, name: str) -> None:
        """Start a unit and its dependencies, and return when it is ready; if it had ended, its restart budget is reset.

        Raises:
            UnitFailedError: It can't become ready, or was stopped during the call.
            StopFailedError: A process of its last run, which SIGKILL did not end, is still alive.
            ProcessNotFoundError: No unit has this name.
        """
        await requests.start(self._open(), name)

    async def stop(self, name: str) -> None:
        """Stop the units that depend on a unit, then the unit, and return when all are stopped; they stay stopped.

        Raises:
            StopFailedError: SIGKILL did not end it.
            ProcessNotFoundError: No unit has this name.
        """
        await requests.stop(self._open(), name)

    async def restart(self, name: str) -> None:
        """Restart a unit and return when it is ready again; a call during a restart joins that restart.

        Raises:
            UnitFailedError: It can't become ready, or was stopped during the call.
            StopFailedError: A process of its last run, which SIGKILL did not end, is still alive.
            ProcessNotFoundError: No unit has this name.
        """
        await requests.restart(self._open(), name)

    async def scale(self, name: str, replicas: int) -> None:
        """Change the number of replicas of a unit; the highest ones are removed first.

        Args:
            name: The unit.
            replicas: The new number, 0 to 10,000.

        Raises:
            UnitFailedError: A replica can't become ready.
            OptionError: The number is not valid, or the replicas would share an address.
            ProcessNotFoundError: No unit has this name.
        """
        await requests.scale(self._open(), name, replicas)

    def hold(self, name: str) -> AbstractAsyncContextManager[Unit]:
        """Return a context manager that keeps a unit running: it is ready inside the block.

        Entering starts the unit if necessary. Leaving the last of its holds stops it and its dependencies, except those
        that are wanted for another reason, and waits until they are stopped. Holds are counted, may be nested, and may
        be taken in any task.

        Raises:
            UnitFailedError: On entering, the unit can't become ready. Inside, it ended for good or was stopped, and the
                body was cancelled.
            ProcessNotFoundError: No unit has this name.
        """
        self._open().entry(name)
        return self._holding(name)

    @uninterrupted
    async def _holding(self, name: str) -> AsyncIterator[Unit]:
        roster = self._open()  # it may have been left, and the unit removed, since `hold` was called
        async with Hold(roster, roster.entry(name)).block() as unit:
            yield unit

    def plan(self, units: Iterable[UnitSpec]) -> ReloadPlan:
        """Return what `reload` would change.

        Raises:
            OptionError: The specs have faults, or a unit that is held would be removed.
        """
        return requests.plan(self._open(), units)

    async def reload(self, units: Iterable[UnitSpec]) -> ReloadPlan:
        """Switch to other specs: stop removed units, restart changed ones, start new ones.

        It returns when the removed units are gone, and the others are ready, have failed, or wait for one that has. A
        reload during another one waits for that, unless only ends of units that run are awaited there. A change of
        `replicas` or of a probe restarts nothing.

        Raises:
            OptionError: The specs have faults, or a unit that is held would be removed; nothing is changed.
        """
        async with self._reloading:
            plan, waiting = await requests.reload(self._open(), units)
        await requests.wait_come_up(self._known(), waiting)
        return plan

    def _known(self) -> Roster:
        self._check_run()
        return self._seen()

    def _seen(self) -> Roster:
        """Return the roster to a caller that only reads it, which may be in a thread: a health check, for example."""
        if self._roster is None:
            raise ProcessError("this Supervisor is not entered; use it as `async with Supervisor(...) as supervisor:`")
        return self._roster

    def _open(self) -> Roster:
        roster = self._known()
        if roster.closing:
            raise ProcessError("this Supervisor is closing or closed; it takes no more requests")
        return roster

    # the block

    def _refuse_entry(self) -> None:
        if self._roster is not None or self._entered is not None:
            raise ProcessError("a Supervisor is entered once; make another one")

    @asynccontextmanager
    async def _block(self) -> AsyncIterator[None]:
        async with open_roster(
            checked(self._specs),
            self._service,
            owned=self._owns_service,
            strategy=self._strategy,
            shutdown_timeout=self._shutdown_timeout,
        ) as self._roster:
            yield


def supervisor_of(path: str | os.PathLike[str], names: Sequence[str] = ()) -> Supervisor:
    """Return a supervisor of a file that starts the named services and their dependencies; without names, the enabled ones.

    Raises:
        PipelineError: The file has faults.
        OptionError: The services have faults together, or none has that name.
    """
    supervisor = Supervisor._of_file(path, names, {})
    checked(supervisor._specs)
    return supervisor


def names_of(supervisor: Supervisor) -> list[str]:
    """Return the names that the units of a supervisor have when it is entered, one for each replica."""
    return [
        spec.name if number == 1 else f"{spec.name}.{number}"
        for spec in supervisor._specs
        for number in range(1, spec.replicas + 1)
    ]


def reread(supervisor: Supervisor) -> list[UnitSpec]:
    """Return the units that are now in the file of a supervisor, enabled by the same names as before.

    Raises:
        PipelineError: The file has faults.
        ProcessError: The supervisor was not created from a file.
    """
    if supervisor._path is None:
        raise ProcessError("this supervisor was not made from a file (Supervisor.from_file), so there is none to read")
    return only(make_units(read_services(supervisor._path)), supervisor._names)


def owner_of(supervisor: Supervisor, process_id: str) -> tuple[str, int] | None:
    """Return the unit, and the number of its replica, that a process belongs to; None if it belongs to no unit.

    Args:
        supervisor: The supervisor.
        process_id: The id of the process in the service, which may have ended.
    """
    if supervisor._roster is None:
        return None
    name = supervisor._roster.owners.get(process_id)
    if name is None:
        for replica in supervisor._roster.replicas():
            if replica.process is not None and replica.process.id == process_id:
                return replica.spec.name, replica.number
        return None
    base, _, digits = name.rpartition(".")  # no unit's own name ends like that
    return (base, int(digits)) if base and digits.isascii() and digits.isdecimal() else (name, 1)


def held(supervisor: Supervisor) -> tuple[str, ...]:
    """Return the names of the units that have holders."""
    return requests.held(supervisor._known())


async def wait_unheld(supervisor: Supervisor) -> None:
    """Wait until no unit has a holder."""
    await requests.wait_unheld(supervisor._known())
