"""The requests to a supervisor: each changes at once which units are wanted, and then only waits.

So cancelling a call doesn't affect the request, and repeated or concurrent calls are one request.
"""

from __future__ import annotations

from collections.abc import Iterable

import attrs
import trio

from .._core import OptionError, ProcessError, checks, in_seconds
from .entry import Entry
from .errors import NotReadyError
from .faults import checked
from .reload import ReloadPlan, compare, restarts
from .replicas import Replica
from .roster import Roster
from .rules import AT_REST, Graph, UnitState, missing
from .spec import UnitSpec


async def start(roster: Roster, name: str) -> None:
    """Start a unit and its dependencies; return when it is ready."""
    entry = roster.entry(name)
    _refuse_beside_survivors(entry)
    entry.asked = True
    roster.refresh()
    for replica in entry.active():
        replica.ask_start()
    ask_needs(roster, name)
    await roster.until(lambda: _all_ready(roster, entry))


async def stop(roster: Roster, name: str) -> None:
    """Stop a unit, and before it its dependents; return when they are stopped."""
    first = roster.entry(name)
    entries = [first, *[roster.entries[other] for other in roster.graph.all_dependents(name)]]
    for entry in entries:
        entry.asked = False
        for hold in tuple(entry.holds):
            hold.end(roster.first(entry).failure("was stopped"))
    replicas = [replica for entry in entries for replica in entry.replicas]
    roster.refresh()
    await roster.until(lambda: True if all(map(is_stopped, replicas)) else None)
    for replica in first.replicas:
        if replica.survivor is not None:
            raise replica.survivor


async def restart(roster: Roster, name: str) -> None:
    """Restart a unit, and the units that are restarted with it; return when it is ready again."""
    entry = roster.entry(name)
    _refuse_beside_survivors(entry)
    entry.asked = True
    roster.refresh()
    _restart(roster, entry)
    await roster.until(lambda: _all_ready(roster, entry))


async def scale(roster: Roster, name: str, replicas: int) -> None:
    """Change the number of replicas; return when removed ones are gone, and new ones are ready."""
    entry = roster.entry(name)
    spec = attrs.evolve(entry.spec, replicas=replicas)
    entry.spec = spec
    for replica in entry.replicas:
        replica.change_spec(spec)
    roster.populate(entry)
    roster.refresh()

    def check() -> bool | None:
        if not _has_shrunk(entry):
            return None
        return _all_ready(roster, entry) if roster.is_wanted(name) else True

    await roster.until(check)


async def wait_ready(roster: Roster, names: Iterable[str], timeout: float | None) -> None:  # noqa: ASYNC109 - its error says what each waits for
    """Wait until some units are ready or have completed; without names, all that are wanted."""
    limit = float("inf") if timeout is None else checks.seconds("timeout", timeout)
    named = [roster.entry(name) for name in names]
    for entry in named:
        if not roster.is_wanted(entry.spec.name):
            raise ProcessError(f"the unit {entry.spec.name!r} is not wanted; start or hold it before waiting for it")

    def entries() -> list[Entry]:
        return named or [entry for name, entry in roster.entries.items() if roster.is_wanted(name)]

    def replicas() -> list[Replica]:
        return [replica for entry in entries() for replica in entry.active()]

    with trio.move_on_after(limit) as scope:
        await roster.until_all(replicas, lambda replica: _is_ready(roster, replica))
    if scope.cancelled_caught and (pending := [replica for replica in replicas() if not _is_ready(roster, replica)]):
        states = [replica.describe() for replica in pending]
        between = "\n" if any("\n" in state for state in states) else "; "  # the error of a command quotes its stderr
        raise NotReadyError(f"not all units were ready within {in_seconds(limit)}: {between.join(states)}")


async def wait(roster: Roster, *, check: bool) -> None:
    """Wait until no unit runs or will run."""
    await roster.until_all(roster.replicas, lambda replica: replica.is_over)
    for replica in roster.failed if check else ():
        if replica.state is UnitState.FAILED:
            raise replica.failure()


def held(roster: Roster) -> tuple[str, ...]:
    """Return the names of the units that have holders."""
    return tuple([name for name, entry in roster.entries.items() if entry.holds])


async def wait_unheld(roster: Roster) -> None:
    """Wait until no unit has a holder."""
    await roster.until(lambda: None if held(roster) else True)


def plan(roster: Roster, units: Iterable[UnitSpec]) -> ReloadPlan:
    """Return what a reload would change.

    Raises:
        OptionError: The specs have faults, or a unit that is held would be removed.
    """
    new = checked(units)
    found = compare({name: entry.spec for name, entry in roster.entries.items() if not entry.removed}, new)
    wanted = [name for name in found.removed if roster.entries[name].holds]
    if wanted:
        raise OptionError(f"{', '.join(map(repr, wanted))} can't be removed while it is held")
    return found


async def reload(roster: Roster, units: Iterable[UnitSpec]) -> tuple[ReloadPlan, list[Replica]]:
    """Switch to other specs, and wait until removed units are gone and the others have come up.

    Returns:
        What has changed; and the replicas that have not come up, because they wait for the end of a unit that runs.
    """
    new = checked(units)
    found = plan(roster, new.values())
    roster.switch_to(Graph.of(new.values()))
    going = [roster.entries[name] for name in found.removed]
    outdated = [
        name for name, spec in new.items() if name in roster.entries and restarts(roster.entries[name].spec, spec)
    ]
    _put_in_place(roster, new, found)
    for entry in [roster.entries[name] for name in outdated]:
        if roster.is_wanted(entry.spec.name):
            _restart(roster, entry, of_this_run=True)
        for replica in entry.replicas:
            if replica.is_running:  # a unit that is to stop may be wanted again before that; it was perhaps removed
                replica.ask_restart(of_this_run=True)
    coming = [roster.entries[name] for name in (*found.added, *found.changed)]
    pending = [replica for entry in (*going, *coming) for replica in entry.replicas]

    def check() -> bool | None:
        _drop_come_up(roster, pending)
        # one that isn't wanted may still be ready itself: it is to stop, and nothing holds it up
        held_up = [replica.is_wanted and _is_held_up(roster, replica, UnitState.READY) for replica in pending]
        return True if all(held_up) else None

    try:
        await roster.until(check)
    finally:
        roster.settle_stop_order()
    return found, pending


async def wait_come_up(roster: Roster, pending: list[Replica]) -> None:
    """Wait until all replicas have come up."""

    def check() -> bool | None:
        _drop_come_up(roster, pending)
        return None if pending else True

    await roster.until(check)


def _drop_come_up(roster: Roster, pending: list[Replica]) -> None:
    """Remove those that have come up, each at some time: two that fail in turn are never up together."""
    pending[:] = [replica for replica in pending if not _has_come_up(roster, replica)]


def ask_needs(roster: Roster, name: str) -> None:
    """Request a start of the dependencies that a unit waits for and that would not start otherwise, and of theirs."""
    waiting = [name]
    seen = {name}
    while waiting:
        for other in missing(roster.entries[waiting.pop()].spec, roster.entries):
            if other in seen or other not in roster.entries:
                continue
            seen.add(other)
            waiting.append(other)
            for replica in roster.entries[other].active():
                if replica.state in (UnitState.FAILED, UnitState.SKIPPED):
                    replica.ask_start()


def _put_in_place(roster: Roster, new: dict[str, UnitSpec], found: ReloadPlan) -> None:
    old = dict(roster.entries)
    roster.entries.clear()
    for name, spec in new.items():
        entry = roster.entries[name] = old.pop(name) if name in old else Entry(spec)
        if entry.removed or "enabled" in found.changed.get(name, ()):
            entry.asked = spec.enabled
        entry.removed = False
        entry.spec = spec
        for replica in entry.replicas:
            replica.change_spec(spec)
    for name, entry in old.items():
        entry.removed = True
        entry.asked = False
        roster.entries[name] = entry
    for name in (*found.added, *found.changed, *found.removed):
        roster.populate(roster.entries[name])
    roster.refresh()


def _restart(roster: Roster, entry: Entry, *, of_this_run: bool = False) -> None:
    for replica in [replica for replica in entry.active() if replica.ask_restart(of_this_run=of_this_run)]:
        roster.grouping.restart_with(replica)
    ask_needs(roster, entry.spec.name)


def _refuse_beside_survivors(entry: Entry) -> None:
    for replica in entry.replicas:
        if replica.survivor is not None:
            raise replica.survivor


def _all_ready(roster: Roster, entry: Entry) -> bool | None:
    """Return True if all replicas of a unit are ready, None if they may become ready.

    Raises:
        UnitFailedError: One can't become ready.
        StopFailedError: One can't, because a process that SIGKILL did not end is still alive.
    """
    if not roster.is_wanted(entry.spec.name):
        raise roster.first(entry).failure("was stopped")
    return True if all([_is_ready(roster, replica) for replica in entry.active()]) else None


def _is_ready(roster: Roster, replica: Replica) -> bool:
    """Return whether a replica is ready; raises like `_all_ready`."""
    if not roster.is_wanted(replica.spec.name):
        raise replica.failure("was stopped")
    if replica.is_hopeless:
        raise replica.survivor or replica.failure()
    return replica.is_ready


def _has_shrunk(entry: Entry) -> bool:
    """Return whether the removed replicas are gone; the first replica remains, stopped."""
    going = [replica for replica in entry.replicas if replica.wishes.retired]
    return all([replica.gone or (replica.number == 1 and replica.state in AT_REST) for replica in going])


def _has_come_up(roster: Roster, replica: Replica) -> bool:
    """Return whether a replica is ready or has failed, or waits for one that has; an unwanted one, whether it is gone."""
    if not replica.is_wanted:
        return replica.gone or (replica.state in AT_REST and not roster.may_be_dismissed(replica))
    return replica.is_ready or replica.is_hopeless or _is_held_up(roster, replica, UnitState.BACKOFF, UnitState.UNREADY)


def _is_held_up(roster: Roster, replica: Replica, *states: UnitState) -> bool:
    """Return whether a replica, or one that it waits for, directly or through others that wait, is in one of some states."""
    waiting, seen = [replica], {replica}
    while waiting:
        here = waiting.pop()
        if here.state in states and not here.wishes.pending:
            return True
        for name in here.waiting_for():
            found = {other for other in roster.entries[name].active() if other not in seen}
            waiting += found
            seen |= found
    return False


def is_stopped(replica: Replica) -> bool:
    """Return whether a unit is at rest, or is wanted again, so that this stop has ended or never will."""
    return replica.state in AT_REST or replica.is_wanted
