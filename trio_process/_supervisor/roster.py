"""`Roster`: all units of a supervisor, which of them are wanted, and which are woken by a change of another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import Final, TypeVar, final

import trio

from .._core import ProcessError, ProcessNotFoundError, ShutdownDeadline, checks, enter_deadline, nearest
from .._process import ManagedProcess, Service
from .entry import Entry
from .events import UnitChanged
from .grouping import Grouping
from .replicas import Keeper, Replica, Tasks
from .rules import (
    AT_REST,
    RUNNING,
    Graph,
    Outlook,
    StopOrder,
    Strategy,
    UnitState,
    missing,
    outlook_of,
    unmet_error,
)
from .runs import Exits
from .spec import UnitSpec

_T = TypeVar("_T")
_OWNERS: Final = 1000  # processes whose unit is remembered after their end


@final
class Roster:
    """The units of one stay in a supervisor's block.

    Args:
        specs: By name, checked.
        service: The service that starts the processes.
        strategy: Which units are restarted together.
        deadline: When every grace period ends.
        nursery: The nursery of the units' tasks.
        end_body: Called when the supervisor's block is to end: with the essential replica that has ended, or with an
            exception that is not an `Exception`.

    Attributes:
        tasks: Starts the tasks of keepers.
        graph: The dependencies.
        closing: Whether the block is being left, so that no unit is wanted any more.
        failed: The replicas that have failed, in that order.
        owners: The name of the replica that each of the last processes belongs to, by its id.
    """

    def __init__(
        self,
        specs: dict[str, UnitSpec],
        service: Service,
        strategy: Strategy,
        deadline: ShutdownDeadline,
        nursery: trio.Nursery,
        end_body: Callable[[Replica | BaseException], None],
    ) -> None:
        self.service = service
        self.deadline = deadline
        self.nursery = nursery
        self.exits: Exits = Exits(service)
        self.entries: dict[str, Entry] = {}
        self.graph: Graph = Graph.of(specs.values())
        self.closing: bool = False
        self.failed: list[Replica] = []
        self.owners: dict[str, str] = {}
        self.grouping: Grouping = Grouping(self, strategy)
        leave = enter_deadline(deadline)  # for the tasks of the units, and the tasks that their functions start
        self.tasks: Tasks = Tasks(nursery)
        leave()
        self._stop_order = StopOrder(Graph.of(specs.values()), self.entries)
        self._has_switched = False  # to other dependencies, so that those of the stop order may be of different ages
        self._end_body = end_body
        self._wanted: set[str] = set()
        self._alive = 0  # replicas that are not gone
        self._changed = trio.Event()
        self._setbacks = 0
        for spec in specs.values():
            self.entries[spec.name] = Entry(spec)

    # lookup

    def replicas(self) -> Iterator[Replica]:
        """Yield all replicas, including those that are being retired."""
        return (replica for entry in self.entries.values() for replica in entry.replicas)

    def entry(self, name: str) -> Entry:
        """Return the entry of that name.

        Raises:
            ProcessNotFoundError: No unit has this name.
        """
        found = self.entries.get(name)
        if found is None or found.removed:
            raise ProcessNotFoundError(f"there is no unit {name!r}{nearest(str(name), self.entries)}")
        return found

    def replica(self, name: str) -> Replica:
        """Return the replica of that name, `web` or ``web.2``.

        Raises:
            ProcessNotFoundError: No unit has this name.
        """
        entry, number = self.entries.get(name), 1
        if entry is None:
            base, _, digits = str(name).rpartition(".")
            if digits.isascii() and digits.isdecimal() and len(digits) <= len(str(checks.MOST)):
                entry, number = self.entries.get(base), int(digits)
        found = None if entry is None else entry.replica(number)
        if found is None or found.name != name:
            raise ProcessNotFoundError(
                f"there is no unit {name!r}{nearest(str(name), [replica.name for replica in self.replicas()])}"
            )
        return found

    def first(self, entry: Entry) -> Replica:
        """Return the first replica, or the last one that there was, for errors that concern all of them."""
        assert entry.first is not None, "every entry is populated"
        return entry.first

    def populate(self, entry: Entry) -> None:
        """Adjust the replicas to the spec: start new ones, bring back those that were to go, retire surplus ones."""
        wanted = 0 if entry.removed else entry.spec.replicas
        for number in range(1, max(wanted, 1) + 1):
            replica = entry.replica(number)
            if replica is None or replica.gone:
                replica = Replica(self, entry.spec, number)
                entry.put(replica)
                replica.wishes.retired = number > wanted
                Keeper(replica)
                self._alive += 1
                if number == 1:
                    entry.first = replica
        for replica in entry.replicas:
            replica.wishes.retired = replica.number > wanted
            if replica.wishes.retired and replica.state in AT_REST:
                self.grouping.note_stopped(replica)  # nothing of it runs that a restart would have to stop
            replica.bell.ring()
        self._wake_dependents(entry)  # a replica that is to go doesn't hold them up any more

    # which units are wanted

    def is_wanted(self, name: str) -> bool:
        """Return whether a unit is to run: for its own sake, or because a wanted unit needs it."""
        return name in self._wanted

    def refresh(self) -> None:
        """Recompute which units are wanted, and wake those for which that has changed."""
        if self.closing:
            wanted: set[str] = set()
        else:
            wanted = self.graph.all_needs([name for name, entry in self.entries.items() if entry.is_wanted_itself])
        changed, self._wanted = self._wanted ^ wanted, wanted
        for name in changed & self.entries.keys():
            for replica in self.entries[name].replicas:
                if replica.state in AT_REST:
                    self.grouping.note_stopped(replica)
                replica.bell.ring()
        self._wake_stopping()
        self.notify(setback=True)

    def switch_to(self, graph: Graph) -> None:
        """Switch to other dependencies; what runs is still stopped by those that it was started with."""
        self.settle_stop_order()
        self._has_switched = True
        self._stop_order = StopOrder(self._stop_order.graph.with_names_of(graph), self.entries)
        self.graph = graph

    def settle_stop_order(self) -> None:
        """Order stops by the current dependencies, except those of runs that were started with others and have not ended."""
        for name in self._stop_order.graph.names():
            entry = self.entries.get(name)
            if entry is None or not any([replica.is_to_stop for replica in entry.replicas]):
                self._stop_order.set_needs(name, self.graph.needs(name))
        self._wake_stopping()

    def _wake_stopping(self) -> None:
        """Wake the units that are to stop: they may be waiting for the stop of one that is now to run on, or comes later."""
        for replica in self.replicas():
            if replica.is_to_stop:
                replica.bell.ring()

    def _order_stop_of(self, replica: Replica) -> None:
        """Order the stop of a unit that starts by its current dependencies, and by those of older replicas that run."""
        name = replica.spec.name
        needs, before = self.graph.needs(name), self._stop_order.graph.needs(name)
        if needs != before:
            others = [other for other in self.entries[name].replicas if other is not replica]
            older = before if any([other.is_running for other in others]) else frozenset()
            self._stop_order.set_needs(name, needs | older)
        self._stop_order.runs(name)
        if self._has_switched:
            self._wake_stopping()

    # questions of a keeper

    def outlook(self, replica: Replica) -> Outlook:
        """Return whether the conditions of a waiting unit hold, may still be met, or can't be."""
        if replica.state not in (UnitState.WAITING, UnitState.SKIPPED):
            return Outlook.HOLD
        return outlook_of(replica.spec, self.entries)

    def missing(self, replica: Replica) -> tuple[str, ...]:
        """Return the names of the units that it waits for."""
        return missing(replica.spec, self.entries)

    def unmet_error(self, replica: Replica) -> ProcessError:
        """Return why it can't be started."""
        return unmet_error(replica.spec, self.entries)

    def may_start(self, replica: Replica) -> bool:
        """Return whether all units that are restarted together with it are stopped."""
        return self.grouping.may_start(replica)

    def may_stop(self, replica: Replica) -> bool:
        """Return whether its dependents that are to be stopped have stopped; after the deadline, no unit waits."""
        if not replica.is_to_stop or trio.current_time() >= self.deadline.at:
            return True
        name = replica.spec.name
        awaited = {other.spec.name for other in self._stop_order.running_dependents(name) if other.is_to_stop}
        # two runs may each have been started as a dependent of the other, before and after a reload: neither waits then
        return not awaited or (self._has_switched and awaited <= self._stop_order.graph.all_needs([name]))

    # reports of a keeper

    def replica_started(self, replica: Replica) -> None:
        """Wake the units that wait until it runs."""
        self._wake_dependents(self.entries[replica.spec.name])

    def note_process(self, replica: Replica, process: ManagedProcess) -> None:
        """Record which unit a process belongs to."""
        self.owners[process.id] = replica.name
        while len(self.owners) > _OWNERS:
            del self.owners[next(iter(self.owners))]

    def changed(self, replica: Replica, old: UnitState, reason: str) -> None:
        """Announce a change of state, and wake the units and tasks that it concerns."""
        new = replica.state
        if new is UnitState.STARTING:
            self._order_stop_of(replica)
        self._announce(replica, old, reason)
        if not replica.wishes.grouped:
            self.grouping.note_stopped(replica)
        if new is UnitState.BACKOFF:
            self.grouping.restart_with(replica)
        if old in RUNNING or old is UnitState.STOPPING:
            starts_again = new in (UnitState.STOPPED, UnitState.WAITING, UnitState.BACKOFF)
            if starts_again and not replica.wishes.retired and not self.closing:
                self.grouping.outdate_dependents(replica)
        self._wake_dependents(self.entries[replica.spec.name])
        if replica.run is None and (old in RUNNING or old is UnitState.STOPPING):
            for need in self._stop_order.running_needs(replica.spec.name):
                need.bell.ring()
        if new is UnitState.FAILED:
            self.failed.append(replica)
        self._end_holds(replica, old)
        if replica.spec.essential and not self.closing and new in AT_REST and new is not UnitState.STOPPED:
            self._end_body(replica)
        self.notify(setback=new in (UnitState.FAILED, UnitState.SKIPPED))

    def may_be_dismissed(self, replica: Replica) -> bool:
        """Return whether the task of a replica at rest may end; the first one stays as long as its spec does."""
        if self.closing:
            return True
        entry = self.entries[replica.spec.name]
        return replica.wishes.retired and (entry.removed or replica.number > 1)

    def dismissed(self, replica: Replica) -> None:
        """Forget a retired replica; after the end, all stay visible."""
        self._alive -= 1
        self.grouping.note_stopped(replica)
        entry = self.entries.get(replica.spec.name)
        if not self.closing and entry is not None and replica in entry.replicas:
            entry.discard(replica)
            if entry.removed and not entry.replicas:
                del self.entries[replica.spec.name]
        self.notify()

    def _announce(self, replica: Replica, old: UnitState, reason: str) -> None:
        event = UnitChanged(
            name=replica.name,
            replica=replica.number,
            old=old,
            new=replica.state,
            reason=reason,
            generation=replica.generation,
            at=datetime.now(UTC),
        )
        self.service._events_of(None).publish(event)

    def _wake_dependents(self, entry: Entry) -> None:
        for name in self.graph.dependents(entry.spec.name):
            dependent = self.entries.get(name)
            for other in dependent.replicas if dependent is not None else ():
                if other.state in (UnitState.WAITING, UnitState.SKIPPED):
                    other.bell.ring()

    def _end_holds(self, replica: Replica, old: UnitState) -> None:
        """End the holds of a unit that has ended for good."""
        ended = replica.state in (UnitState.FAILED, UnitState.SKIPPED)
        if ended or (replica.state is UnitState.COMPLETED and old is not UnitState.STARTING):
            for hold in tuple(self.entries[replica.spec.name].holds):
                hold.end(replica.failure())

    def end_with(self, error: BaseException) -> None:
        """End the supervisor's block with an error that is not an `Exception`, such as a `KeyboardInterrupt`."""
        self._end_body(error)

    # waiting tasks

    def notify(self, *, setback: bool = False) -> None:
        """Have every waiting task check again.

        Args:
            setback: Whether ready units may have ceased to be ready: a unit has failed, or other units are wanted.
        """
        self._setbacks += setback
        changed, self._changed = self._changed, trio.Event()
        changed.set()

    async def until(self, check: Callable[[], _T | None]) -> _T:
        """Return the result of `check`, as soon as it is not None; it is called after every change."""
        await trio.lowlevel.checkpoint()
        while True:
            changed = self._changed
            found = check()
            if found is not None:
                return found
            await changed.wait()

    async def until_all(self, replicas: Callable[[], Iterable[Replica]], check: Callable[[Replica], bool]) -> None:
        """Wait until `check` holds for all replicas of a kind.

        If nothing has failed, only the last replica in the order is checked after a change: a chain of a thousand units
        would otherwise need a million checks.

        Args:
            replicas: Returns those that count now.
            check: Whether a replica is in the expected state; may raise if it can't reach that.
        """
        await trio.lowlevel.checkpoint()
        while True:
            setbacks = self._setbacks
            pending = [replica for replica in replicas() if not check(replica)]
            if not pending:
                return
            while pending and setbacks == self._setbacks:
                await self._changed.wait()
                while pending and check(pending[-1]):
                    pending.pop()

    # the end

    def close(self) -> None:
        """Make no unit wanted any more."""
        self.closing = True
        for entry in self.entries.values():
            for hold in tuple(entry.holds):
                hold.end(self.first(entry).failure("was stopped: its supervisor is being left"))
        self.refresh()
        for replica in self.replicas():
            replica.bell.ring()

    async def wait_gone(self) -> None:
        """Wait until all units are gone."""
        await self.until(lambda: None if self._alive else True)
