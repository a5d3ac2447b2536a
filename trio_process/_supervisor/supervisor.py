"""`Supervisor`: units that are kept running, for the length of a block."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Self, TypedDict, Unpack, final

import trio

from .._core import Block, OptionError, ProcessError, checks, member
from .._pipeline import read_pipeline
from .._process import Service, ServiceOptions
from . import requests
from .faults import checked
from .file import make_units, only
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
        units: The specs.
        service: What starts the processes, a `FakeService` too; it must outlive the supervisor. None for one of its own,
            with a guardian, so that nothing survives even a SIGKILL of this program.
        strategy: What is restarted together with a unit that is restarted.
        shutdown_timeout: Seconds that leaving may take before every grace ends.

    Raises:
        OptionError: An option is invalid; or, on entering, the specs have faults, and the message names all of them.

    Entering starts what is enabled, and doesn't wait for it. Leaving, for any reason, stops all units in reverse
    dependency order, independent ones side by side, under one deadline: `shutdown_timeout`, or what an enclosing `Daemon`
    has left. A cancellation from outside reaches the units as that stop, and in no other way. The end of an `essential`
    unit cancels the body; if it failed or was skipped, the block ends with `UnitFailedError`.

    It handles no signals: enter it inside a `Daemon`, which does so before the first unit starts.

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
            raise OptionError(f"units must be a list of UnitSpec, got {units!r}; Supervisor.from_file reads a file")
        if service is not None and not isinstance(service, Service):
            raise OptionError(f"service must be a Service or None, got {service!r}")
        self._specs = tuple(units)
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
            path: What `load_services` reads.
            **options: The keywords of `Supervisor`.

        Raises:
            PipelineError: The file has faults; the text has all of them.
        """
        return cls._of_file(path, (), options)

    @classmethod
    def _of_file(cls, path: str | os.PathLike[str], names: Sequence[str], options: SupervisorKeywords) -> Self:
        file = read_pipeline(path)
        if file.strategy is not None:
            options.setdefault("strategy", file.strategy.replace("-", "_"))
        supervisor = cls(only(make_units(file), names), **options)
        supervisor._path = Path(path)
        supervisor._names = tuple(names)
        return supervisor

    # what there is

    @property
    def path(self) -> Path | None:
        """The file that it was made from; None if it was made from specs."""
        return self._path

    @property
    def service(self) -> Service:
        """What starts the processes, and on whose bus the events are."""
        return self._service

    @property
    def units(self) -> tuple[Unit, ...]:
        """All units, each replica by itself, in the order of the specs; none before the supervisor is entered."""
        if self._roster is None:
            return ()
        return tuple([replica.unit for replica in self._roster.replicas()])

    def __getitem__(self, name: str) -> Unit:
        """Return the unit of that name, `web`, or of a further replica, ``web.2``.

        Raises:
            ProcessNotFoundError: There is none.
        """
        return self._known().replica(name).unit

    # what is asked of it

    async def wait_ready(self, *names: str, timeout: float | None = None) -> None:  # noqa: ASYNC109 - its error says what each waits for
        """Wait until units are ready or have completed.

        Args:
            *names: Which ones; none means all that are wanted.
            timeout: Seconds; None for ever.

        Raises:
            TimeoutError: They are not in time; the text says what each of them waits for.
            UnitFailedError: One can't become ready.
            ProcessError: Nobody wants one of them.
        """
        await requests.wait_ready(self._known(), names, timeout)

    async def wait(self, *, check: bool = True) -> None:
        """Wait until nothing runs or will run.

        Args:
            check: Raise for the first unit that has failed.

        Raises:
            UnitFailedError: One has failed.
        """
        await requests.wait(self._known(), check=check)

    async def start(self, name: str) -> None:
        """Start a unit and what it needs, and return when it is ready; one that has ended gets a new restart budget.

        Raises:
            UnitFailedError: It can't be ready, or is stopped meanwhile.
            StopFailedError: What SIGKILL did not end of its last run is still alive.
            ProcessNotFoundError: There is no such unit.
        """
        await requests.start(self._open(), name)

    async def stop(self, name: str) -> None:
        """Stop a unit, and before it those that depend on it, and return when they are stopped; they stay so.

        Raises:
            StopFailedError: SIGKILL did not end it.
            ProcessNotFoundError: There is no such unit.
        """
        await requests.stop(self._open(), name)

    async def restart(self, name: str) -> None:
        """Restart a unit and return when it is ready again; one that is asked for during a restart is that restart.

        Raises:
            UnitFailedError: It can't be ready, or is stopped meanwhile.
            StopFailedError: What SIGKILL did not end of its last run is still alive.
            ProcessNotFoundError: There is no such unit.
        """
        await requests.restart(self._open(), name)

    async def scale(self, name: str, replicas: int) -> None:
        """Run another number of replicas of a unit, the highest one being taken away first.

        Args:
            name: The unit.
            replicas: How many; 0 is fine.

        Raises:
            UnitFailedError: One can't be ready.
            OptionError: It is no such number, or the replicas would share an address.
            ProcessNotFoundError: There is no such unit.
        """
        await requests.scale(self._open(), name, replicas)

    def hold(self, name: str) -> AbstractAsyncContextManager[Unit]:
        """Return the block that needs a unit: started if need be, ready inside, stopped by the last that leaves.

        Holds are counted, and may be nested or be in any task. What something else wants is not stopped.

        Raises:
            UnitFailedError: On entering: it can't be ready. Later: it has ended for good or was stopped; the body was
                cancelled then.
            ProcessNotFoundError: There is no such unit.
        """
        roster = self._open()
        return Hold(roster, roster.entry(name)).block()

    def plan(self, units: Iterable[UnitSpec]) -> ReloadPlan:
        """Return what `reload` would change.

        Raises:
            OptionError: The specs have faults, or a unit that is held would be removed.
        """
        return requests.plan(self._open(), units)

    async def reload(self, units: Iterable[UnitSpec]) -> ReloadPlan:
        """Go by other specs: stop what is removed, restart what has changed, start what is added.

        It returns when what was removed is gone, and the others are ready or have failed. A reload during another one
        waits for that. Another number of replicas, or another probe, restarts nothing.

        Raises:
            OptionError: The specs have faults, or a unit that is held would be removed; nothing is changed.
        """
        async with self._reloading:
            return await requests.reload(self._open(), units)

    def _known(self) -> Roster:
        if self._roster is None:
            raise ProcessError("this Supervisor is not entered; use it as `async with Supervisor(...) as supervisor:`")
        return self._roster

    def _open(self) -> Roster:
        roster = self._known()
        if roster.closing:
            raise ProcessError("this Supervisor is being left, or was: nothing can be asked of it any more")
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
    """Return a supervisor of a file that starts the named services and what they need; without names all that are enabled.

    Raises:
        PipelineError: The file has faults.
        OptionError: The services have faults together, or there is none of that name.
    """
    supervisor = Supervisor._of_file(path, names, {})
    checked(supervisor._specs)
    return supervisor


def reread(supervisor: Supervisor) -> list[UnitSpec]:
    """Return the units that the file of a supervisor has now; named ones are started, as before.

    Raises:
        PipelineError: The file has faults.
        ProcessError: The supervisor was not made from a file.
    """
    if supervisor._path is None:
        raise ProcessError("this supervisor was not made from a file (Supervisor.from_file), so there is none to read")
    return only(make_units(read_pipeline(supervisor._path)), supervisor._names)


def held(supervisor: Supervisor) -> tuple[str, ...]:
    """Return the names of the units that somebody holds."""
    return requests.held(supervisor._known())


async def wait_unheld(supervisor: Supervisor) -> None:
    """Wait until nobody holds a unit."""
    await requests.wait_unheld(supervisor._known())
