"""`Team`: what a replica and its keeper ask of the other units, and report to them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

import trio

from ..._core import ProcessError, ShutdownDeadline
from ..._process import ManagedProcess, Service
from ..rules import Outlook, UnitState
from ..runs import Exits
from .tasks import Tasks

_T = TypeVar("_T")
_ReplicaT_contra = TypeVar("_ReplicaT_contra", contravariant=True)


class Team(Protocol[_ReplicaT_contra]):
    """The units of one entry into a supervisor's block, as each of them sees them."""

    @property
    def service(self) -> Service:
        """What starts processes."""

    @property
    def deadline(self) -> ShutdownDeadline:
        """When every grace period ends."""

    @property
    def nursery(self) -> trio.Nursery:
        """Where the tasks of the units live."""

    @property
    def tasks(self) -> Tasks:
        """Begins the tasks of keepers."""

    @property
    def exits(self) -> Exits:
        """Reports the ends of processes."""

    def is_wanted(self, name: str) -> bool:
        """Return whether a unit is to run."""

    def outlook(self, replica: _ReplicaT_contra) -> Outlook:
        """Return whether its conditions hold, may still be met, or can't be."""

    def missing(self, replica: _ReplicaT_contra) -> tuple[str, ...]:
        """Return the names of the units that it waits for."""

    def unmet_error(self, replica: _ReplicaT_contra) -> ProcessError:
        """Return why it can't be started."""

    def may_start(self, replica: _ReplicaT_contra) -> bool:
        """Return whether all units that are restarted together with it are stopped."""

    def may_stop(self, replica: _ReplicaT_contra) -> bool:
        """Return whether its dependents that are to be stopped have stopped."""

    def may_be_dismissed(self, replica: _ReplicaT_contra) -> bool:
        """Return whether it is not needed any more once it is at rest."""

    def replica_started(self, replica: _ReplicaT_contra) -> None:
        """Report that it runs."""

    def note_process(self, replica: _ReplicaT_contra, process: ManagedProcess) -> None:
        """Report that a process is its."""

    def changed(self, replica: _ReplicaT_contra, old: UnitState, reason: str) -> None:
        """Report a change of its state."""

    def dismissed(self, replica: _ReplicaT_contra) -> None:
        """Report that it is gone."""

    def end_with(self, error: BaseException) -> None:
        """End the supervisor's block with an error that is not an `Exception`."""

    async def until(self, check: Callable[[], _T | None]) -> _T:
        """Return the result of `check`, as soon as it is not None."""
