"""`Replica`: one replica of a unit, its state, its pending requests, and its current run."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final, final

import attrs
import trio

from ..._core import StopFailedError, UnitFailedError, checks, in_seconds, member
from ..._process import ManagedProcess
from ..errors import NotReadyError
from ..rules import AT_REST, RUNNING, Machine, Outlook, UnitEvent, UnitState
from ..runs import Run
from ..spec import UnitSpec
from ..unit import Unit
from ..unit_lines import UnitLines
from ..watchers import Watchers
from .bell import Bell
from .team import Team

_ENDS: Final = {
    UnitState.STOPPED: "was stopped",
    UnitState.COMPLETED: "has completed",
    UnitState.FAILED: "has failed",
    UnitState.SKIPPED: "was skipped",
}


@attrs.define
class Wishes:
    """The pending requests to a unit; set by callers and by other units."""

    start: bool = False
    restart: bool = False
    grouped: bool = False
    """Restart together with another unit."""
    restarting: bool = False
    """A restart is under way: until it is ready again, another one that is asked for is this one."""
    outdated: bool = False
    """It has completed, and a unit that it depends on was stopped since: by the strategy, it runs again when it is wanted."""
    retired: bool = False
    """Scaled away, or removed by a reload."""

    @property
    def pending(self) -> bool:
        """Whether the state is about to change, so that it should not be relied on."""
        return self.start or self.restart or self.grouped or self.outdated

    def fulfil(self) -> None:
        """Clear the requests: the unit is starting again, or was stopped."""
        self.start = self.restart = self.grouped = self.outdated = False


@final
class Replica:
    """One replica of a unit.

    Args:
        team: The units that it belongs to.
        spec: Its spec.
        number: Its number, from 1.

    Attributes:
        run: The current run, which may be stopping. There is never a second one: it is set on the way into `STARTING`,
            and cleared only when nothing of it is left.
        survived: The previous run, if a process of it survived SIGKILL.
        gone: Whether its task has ended.
    """

    __slots__ = (
        "bell", "error", "generation", "gone", "machine", "name", "next_start", "number", "run",
        "since", "spec", "survived", "team", "unit", "watchers", "wishes",
    )  # fmt: skip

    def __init__(self, team: Team[Replica], spec: UnitSpec, number: int) -> None:
        self.team: Team[Replica] = team
        self.spec: UnitSpec = spec
        self.number: int = number
        self.name: str = spec.name if number == 1 else f"{spec.name}.{number}"
        self.machine: Machine = Machine(spec.restart)
        self.unit: Unit = Unit(self)
        self.wishes: Wishes = Wishes()
        self.watchers: Watchers = Watchers(self)
        self.bell: Bell = Bell()
        self.run: Run | None = None
        self.survived: Run | None = None
        self.generation: int = 0
        self.error: BaseException | None = None
        self.since: datetime = datetime.now(UTC)
        self.next_start: datetime | None = None
        self.gone: bool = False

    # facts for other units

    @property
    def state(self) -> UnitState:
        """Its state."""
        return self.machine.state

    @property
    def restarts(self) -> int:
        """How often it was restarted after it ended by itself, since it was last requested."""
        return self.machine.restarts

    @property
    def process(self) -> ManagedProcess | None:
        """The process of the current run, or else of the previous one."""
        return self.watchers.process if self.run is None else self.run.process

    @property
    def is_running(self) -> bool:
        """Whether it is running, or is being started or stopped."""
        return self.run is not None

    @property
    def has_started(self) -> bool:
        """Whether it is running, and not only about to start."""
        return self.run is not None and self.run.started_at is not None

    @property
    def is_wanted(self) -> bool:
        """Whether it should run."""
        return not self.wishes.retired and self.team.is_wanted(self.spec.name)

    @property
    def is_to_stop(self) -> bool:
        """Whether it is running, and is being stopped or about to be."""
        if self.run is None:
            return False
        return self.state is UnitState.STOPPING or not self.is_wanted or self.wishes.restart or self.wishes.grouped

    @property
    def is_ready(self) -> bool:
        """Whether it is ready or has completed, and no request to change that is pending."""
        return self.state in (UnitState.READY, UnitState.COMPLETED) and not self.wishes.pending

    @property
    def is_hopeless(self) -> bool:
        """Whether it has failed or was skipped, and nothing in progress may change that."""
        if self.wishes.pending:
            return False
        if self.state is UnitState.SKIPPED:
            return self.team.outlook(self) is Outlook.HOPELESS
        return self.state is UnitState.FAILED

    @property
    def is_over(self) -> bool:
        """Whether it doesn't run, and won't unless it is requested."""
        if self.gone:
            return True
        if self.state not in AT_REST:
            return False
        if not self.is_wanted:
            return True
        return not self.wishes.pending and (self.state in (UnitState.COMPLETED, UnitState.FAILED) or self.is_hopeless)

    @property
    def survivor(self) -> StopFailedError | None:
        """The process of the previous run that SIGKILL did not end, while it is still alive."""
        run = self.survived
        return run.stuck if run is not None and run.is_left() else None

    def waiting_for(self) -> tuple[str, ...]:
        """Return the names of the units that it waits for."""
        return self.team.missing(self) if self.state in (UnitState.WAITING, UnitState.SKIPPED) else ()

    def describe(self) -> str:
        """Return its state and what it waits for, for an error."""
        waiting = self.waiting_for()
        if waiting:
            return f"{self.name} is {self.state}, for " + ", ".join(f"{n} ({self.spec.after[n]})" for n in waiting)
        if self.state is UnitState.BACKOFF:
            return f"{self.name} is in backoff" + (f": {self.error}" if self.error is not None else "")
        if self.run is not None and self.run.reason:
            return f"{self.name} is {self.state} ({self.run.reason})"
        if self.state is UnitState.STARTING and self.spec.ready is not None:
            return f"{self.name} is {self.state}, and waits for {self.spec.ready._describe()}"
        return f"{self.name} is {self.state}"

    def failure(self, what: str = "") -> UnitFailedError:
        """Return the error that reports that it can't become ready."""
        if not what:
            what = _ENDS.get(self.state, f"is {self.state}")
        error = UnitFailedError(
            self.unit, f"unit {self.name!r} {what}" + (f": {self.error}" if self.error is not None else "")
        )
        error.__cause__ = self.error
        return error

    # requests of callers and other units

    def ask_start(self) -> None:
        """Request a start, if being wanted isn't enough: after an end, and during a backoff."""
        if self.state not in RUNNING | {UnitState.WAITING, UnitState.STOPPED}:
            self.wishes.start = True
        self.bell.ring()

    def ask_restart(self, *, of_this_run: bool = False) -> bool:
        """Request a restart; return whether it is a new one, and not one in progress.

        Args:
            of_this_run: Whether a restart in progress that has begun a run doesn't count, as that run has an old spec.
        """
        if self.wishes.restart or self.wishes.grouped:
            return False
        joins = self.state is not UnitState.BACKOFF and not (of_this_run and self.state in RUNNING)
        if self.wishes.restarting and joins:
            return False
        self.wishes.restarting = self.state is not UnitState.STOPPED
        if self.state in RUNNING or self.state is UnitState.STOPPING:
            self.wishes.restart = True
        else:
            self.ask_start()
        self.bell.ring()
        return True

    def ask_grouped(self) -> bool:
        """Request a restart together with another unit; return whether there is anything to stop or to repeat."""
        if self.wishes.grouped or self.wishes.retired:
            return self.wishes.grouped
        if self.state in RUNNING or (self.state is UnitState.COMPLETED and self.is_wanted):
            self.wishes.grouped = self.wishes.restarting = True
            self.bell.ring()
            return True
        return False

    def change_spec(self, spec: UnitSpec) -> None:
        """Switch to another spec: at once for probes, from the next run on for everything else."""
        if spec.restart != self.spec.restart:
            self.machine.set_policy(spec.restart)
        self.spec = spec
        self.bell.ring()

    # actions of its keeper

    def apply(self, event: UnitEvent, reason: str) -> None:
        """Change the state, and publish it. Only its keeper calls this."""
        old = self.machine.apply(event)
        state = self.state
        self.since = datetime.now(UTC)
        self.next_start = None
        if state in (UnitState.WAITING, UnitState.STOPPED) or event is UnitEvent.STUCK:
            self.wishes.fulfil()
        if state in AT_REST or state in (UnitState.READY, UnitState.BACKOFF):
            self.wishes.restarting = False
        if state in (UnitState.READY, UnitState.COMPLETED):
            self.error = None
        if self.run is not None and state not in RUNNING and state is not UnitState.STOPPING:
            self.survived = self.run if self.run.stuck is not None else None
            self.run = None
        if state is UnitState.STARTING:
            self.generation += 1
        self.watchers.entered(state)
        self.team.changed(self, old, reason)

    # for the users of its unit

    def lines(self) -> UnitLines:
        """Return the lines of the current run, or else of the previous one, and of all later runs."""
        self.team.service._check_run()
        return self.watchers.lines()

    async def wait(self, states: Iterable[UnitState | str], timeout: float | None) -> UnitState:  # noqa: ASYNC109 - its error says where it stands
        """Wait until it is in one of some states, or has been since the call."""
        self.team.service._check_run()
        wanted = frozenset([member(UnitState, state, "states") for state in states])
        limit = float("inf") if timeout is None else checks.seconds("timeout", timeout)
        found: UnitState | None = None
        if wanted:
            found = await self.watchers.wait(wanted, limit)
        else:
            with trio.move_on_after(limit):
                found = await self.team.until(lambda: self.state if self.is_over else None)
            if found is None and self.is_over:  # also if the time is over: this is known
                found = self.state
        if found is None:
            what = " or ".join(sorted(wanted)) or "at rest"
            raise NotReadyError(f"unit {self.describe()}; it was not {what} within {in_seconds(limit)}")
        return found
