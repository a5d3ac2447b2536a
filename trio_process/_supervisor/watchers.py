"""`Watchers`: the tasks that wait for a state of a unit, and the readers of its lines."""

from __future__ import annotations

from typing import Protocol, final
from weakref import WeakSet

import attrs
import trio

from .._core import ProcessError
from .._process import ManagedProcess
from .rules import UnitState
from .unit_lines import UnitLines


class Watched(Protocol):
    """A replica, as its watchers see it."""

    @property
    def name(self) -> str:
        """Its name, with its number."""

    @property
    def state(self) -> UnitState:
        """Its state."""

    @property
    def gone(self) -> bool:
        """Whether its state can't change any more."""


@attrs.define(eq=False)
class _Waiter:
    states: frozenset[UnitState]
    done: trio.Event = attrs.field(factory=trio.Event)
    found: UnitState | None = None


@final
class Watchers:
    """The tasks that wait for a state of a unit, and the readers of its lines.

    Attributes:
        process: The process of the current run, or else of the last one.
    """

    __slots__ = ("_readers", "_replica", "_waiters", "process")

    def __init__(self, replica: Watched) -> None:
        self._replica = replica
        self._waiters: tuple[_Waiter, ...] = ()
        self._readers: WeakSet[UnitLines] | None = None  # made for the first one: hardly any unit has any
        self.process: ManagedProcess | None = None

    async def wait(self, states: frozenset[UnitState], limit: float) -> UnitState | None:
        """Return the first of some states that the unit is in or enters; None if it enters none in time.

        A state counts even if it has been left again when the waiting task runs.

        Raises:
            ProcessError: The unit's task has ended.
        """
        await trio.lowlevel.checkpoint()
        replica = self._replica
        if replica.state in states:
            return replica.state
        waiter = _Waiter(states)
        self._waiters += (waiter,)
        if replica.gone:
            waiter.done.set()
        try:
            with trio.move_on_after(limit):
                await waiter.done.wait()
        finally:
            self._waiters = tuple([other for other in self._waiters if other is not waiter])
        if waiter.found is None and replica.gone:  # also if the time is over: this is known
            raise ProcessError(
                f"unit {replica.name} stays {replica.state}: it was removed, or its supervisor was left; it was "
                f"waited for to be {' or '.join(sorted(states))}"
            )
        return waiter.found

    def entered(self, state: UnitState) -> None:
        """Wake the tasks that wait for a state."""
        for waiter in self._waiters:
            if waiter.found is None and state in waiter.states:
                waiter.found = state
                waiter.done.set()

    def run_started(self, process: ManagedProcess) -> None:
        """Let the readers of the unit's lines continue with a new run."""
        self.process = process
        for reader in self._readers or ():
            reader._follow(process)

    def lines(self) -> UnitLines:
        """Return the lines of the current run, or else of the last one, and of every later one."""
        reader = UnitLines()
        if self._readers is None:
            self._readers = WeakSet()
        self._readers.add(reader)
        if self.process is not None:
            reader._follow(self.process)
        if self._replica.gone:
            reader._ends()
        return reader

    def dismiss(self) -> None:
        """Wake all watchers: the unit's task has ended."""
        for waiter in self._waiters:
            waiter.done.set()
        for reader in self._readers or ():
            reader._ends()
