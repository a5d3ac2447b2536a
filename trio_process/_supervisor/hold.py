"""`Hold`: keeps a unit running inside a block."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import final

import trio

from .._core import UnitFailedError, note_failure, uninterrupted
from .entry import Entry
from .requests import ask_needs, is_stopped
from .roster import Roster
from .rules import UnitState
from .unit import Unit


@final
class Hold:
    """One holder of a unit.

    Attributes:
        failure: Why the unit can't be held any more.
    """

    __slots__ = ("_entry", "_roster", "_scope", "failure")

    def __init__(self, roster: Roster, entry: Entry) -> None:
        self._roster = roster
        self._entry = entry
        self._scope = trio.CancelScope()
        self.failure: UnitFailedError | None = None

    def end(self, failure: UnitFailedError) -> None:
        """Cancel the holder's block: the unit has ended for good, or is stopped."""
        if self.failure is None:
            self.failure = failure
            self._forget()
            self._scope.cancel()
            self._roster.notify()

    async def wait_ready(self) -> Unit:
        """Return the unit's first replica once all of them are ready."""
        entry = self._entry

        def check() -> bool | None:
            if self.failure is not None:
                raise self.failure
            replicas = list(entry.active())
            for replica in replicas:
                if replica.is_hopeless:
                    raise replica.failure()
            return True if all([replica.is_ready for replica in replicas]) else None

        await self._roster.until(check)
        return self._roster.first(entry).unit

    async def wait_stopped(self) -> None:
        """Wait until the unit and its dependencies are stopped, except those that are wanted for another reason."""
        roster = self._roster
        needed = roster.graph.all_needs([self._entry.spec.name]) & roster.entries.keys()
        replicas = [replica for name in needed for replica in roster.entries[name].replicas]
        await roster.until(lambda: True if all(map(is_stopped, replicas)) else None)

    @uninterrupted
    async def block(self) -> AsyncIterator[Unit]:
        """Hold the unit inside the block."""
        roster, entry = self._roster, self._entry
        entry.holds += (self,)
        roster.refresh()
        for replica in entry.active():
            if replica.state in (UnitState.FAILED, UnitState.SKIPPED):
                replica.ask_start()
        ask_needs(roster, entry.spec.name)
        try:
            unit = await self.wait_ready()
            with self._scope:
                yield unit
        except BaseException as error:
            self._leave()
            if self.failure is not None and error is not self.failure and isinstance(error, Exception):
                note_failure(error, self.failure)
            if isinstance(error, Exception):
                await self.wait_stopped()
            raise
        self._leave()
        if self.failure is not None:
            raise self.failure
        await self.wait_stopped()

    def _leave(self) -> None:
        self._forget()
        self._roster.refresh()

    def _forget(self) -> None:
        self._entry.holds = tuple([hold for hold in self._entry.holds if hold is not self])
