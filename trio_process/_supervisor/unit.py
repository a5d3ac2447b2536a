"""`Unit` and `UnitInfo`: the public side of one replica of a unit."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Protocol, final

import attrs

from .._core import Unique, json_ready
from .._process import ManagedProcess
from .rules import UnitState
from .spec import UnitSpec
from .unit_lines import UnitLines


class Source(Protocol):
    """The replica behind a unit."""

    @property
    def name(self) -> str:
        """Its name, with its number."""

    @property
    def number(self) -> int:
        """Its number, from 1."""

    @property
    def spec(self) -> UnitSpec:
        """The spec that it was made from."""

    @property
    def state(self) -> UnitState:
        """Its state."""

    @property
    def process(self) -> ManagedProcess | None:
        """The process of its current run, or else of the last one."""

    @property
    def generation(self) -> int:
        """The number of its run."""

    @property
    def restarts(self) -> int:
        """How often it was restarted after it ended by itself."""

    @property
    def error(self) -> BaseException | None:
        """Why it has failed."""

    @property
    def since(self) -> datetime:
        """When it entered its state."""

    @property
    def next_start(self) -> datetime | None:
        """When it is started again."""

    def waiting_for(self) -> tuple[str, ...]:
        """Return the names of the units that it waits for."""

    def lines(self) -> UnitLines:
        """Return the lines of its runs."""

    async def wait(self, states: Iterable[UnitState | str], timeout: float | None) -> UnitState:  # noqa: ASYNC109 - as `Unit.wait`
        """Wait until it is in one of some states."""


@final
@attrs.frozen(kw_only=True)
class UnitInfo:
    """A snapshot of a unit.

    Attributes:
        name: Its name; with the number for further replicas, ``web.2``.
        service: The name of its spec, `web`.
        replica: Its number, from 1.
        state: Its state.
        ready: Whether it is ready.
        process_id: The id of its process in the service, None while there is none.
        pid: Its PID, None while there is none.
        generation: The number of its run, from 1; 0 before the first one.
        restarts: How often it was restarted after it ended by itself.
        error: Why it failed, None if it didn't.
        since: When it entered its state.
        waiting_for: The names of the units that it waits for.
        next_start: When it is restarted, in `BACKOFF`.
    """

    name: str
    service: str
    replica: int
    state: UnitState
    ready: bool
    process_id: str | None
    pid: int | None
    generation: int
    restarts: int
    error: str | None
    since: datetime
    waiting_for: tuple[str, ...]
    next_start: datetime | None

    def to_dict(self) -> dict[str, Any]:
        """Return the snapshot, ready for JSON."""
        return {"id": self.name, **json_ready(self)}


@final
class Unit(Unique):
    """One replica of a unit of a `Supervisor`; ``supervisor["web"]`` is one."""

    __slots__ = ("__weakref__", "_replica")

    def __init__(self, replica: Source) -> None:
        self._replica = replica

    def __repr__(self) -> str:
        return f"<Unit {self.name!r}: {self.state}>"

    @property
    def name(self) -> str:
        """Its name, which is also the label of its process; with the number for further replicas, ``web.2``."""
        return self._replica.name

    @property
    def replica(self) -> int:
        """Its number, from 1."""
        return self._replica.number

    @property
    def spec(self) -> UnitSpec:
        """The spec that it was made from."""
        return self._replica.spec

    @property
    def state(self) -> UnitState:
        """Its state."""
        return self._replica.state

    @property
    def ready(self) -> bool:
        """Whether it is ready."""
        return self._replica.state is UnitState.READY

    @property
    def process(self) -> ManagedProcess | None:
        """Its process, or that of its previous run while it is not running; None before its first run, and for an async function."""
        return self._replica.process

    @property
    def generation(self) -> int:
        """The number of its run, from 1; 0 before the first one."""
        return self._replica.generation

    @property
    def restarts(self) -> int:
        """How often it was restarted after it ended by itself, since it was last started on request."""
        return self._replica.restarts

    @property
    def error(self) -> BaseException | None:
        """Why it failed: the last failure, or a `RestartLimitError`; None once it is ready again, or has completed."""
        return self._replica.error

    @property
    def since(self) -> datetime:
        """When it entered its state, timezone-aware."""
        return self._replica.since

    @property
    def waiting_for(self) -> tuple[str, ...]:
        """The names of the units whose condition doesn't hold, while it is `WAITING` or `SKIPPED`."""
        return self._replica.waiting_for()

    @property
    def next_start(self) -> datetime | None:
        """When it is restarted, in `BACKOFF`, timezone-aware."""
        return self._replica.next_start

    async def wait(self, *states: UnitState | str, timeout: float | None = None) -> UnitState:  # noqa: ASYNC109 - its error says where it stands
        """Wait until it is in one of these states, or has been since the call, and return that state.

        Args:
            *states: The states; none means until it neither runs nor will run.
            timeout: Seconds; None for no limit.

        Raises:
            TimeoutError: It was in none of them in time.
            ProcessError: It never will be, because the supervisor was left or the unit was removed.
        """
        return await self._replica.wait(states, timeout)

    def info(self) -> UnitInfo:
        """Return a frozen snapshot."""
        process = self.process
        running = process if process is not None and process.is_running else None
        return UnitInfo(
            name=self.name,
            service=self.spec.name,
            replica=self.replica,
            state=self.state,
            ready=self.ready,
            process_id=None if running is None else running.id,
            pid=None if running is None else running.pid,
            generation=self.generation,
            restarts=self.restarts,
            error=None if self.error is None else f"{type(self.error).__name__}: {self.error}",
            since=self.since,
            waiting_for=self.waiting_for,
            next_start=self.next_start,
        )

    def lines(self) -> UnitLines:
        """Return an async iterator over the lines of this run, from the first captured one, and of all later runs.

        It ends when the unit is removed or the supervisor is left, and never delays the process.
        """
        return self._replica.lines()
