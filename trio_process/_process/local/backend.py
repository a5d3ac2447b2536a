"""How a service's children are spawned, and their descendants found: the seam that a scripted service replaces."""

from __future__ import annotations

import os
import sys
from typing import Protocol, final

from ..._core import ProcessError, ProcessStartError, RunOptions
from ..backend import Handle
from ..containment import Cell, Cells, Guardian, Lineage, Sweeper
from ..lifecycle import Life
from ..reactor import Reactor
from ..reap import kill_group
from ..start_errors import explain
from .handle import LocalHandle
from .spawn import Spawned, Spawner


class Containment(Protocol):
    """Spawns children and holds them together."""

    @property
    def mechanism(self) -> str:
        """By what descendants are found."""

    @property
    def guardian_pid(self) -> int | None:
        """The helper that outlives us, if there is one."""

    def spawn(self, life: Life, number: int) -> Handle:
        """Start the child of a life; raises `ProcessStartError`."""

    def adopt(self, pid: int, log: int | None) -> Handle:
        """Watch a detached process of an earlier life; `log` is the file it writes, at the place to read from."""

    def close(self) -> None:
        """Let go of what it holds."""


@final
class LocalContainment:
    """Children of this process: their descendants are found by group, by a marker in their environment, by cgroup.

    Args:
        reactor: Watches their descriptors.
        guarded: Whether a guardian outlives us.
        in_cgroups: Whether each child shall have a cgroup of its own.

    Raises:
        ProcessError: There can be no cgroups.
    """

    def __init__(self, reactor: Reactor, *, guarded: bool, in_cgroups: bool = False) -> None:
        self._reactor = reactor
        self._guarded = guarded
        self._guardian: Guardian | None = None
        self._token = f"{os.getpid()}.{os.urandom(6).hex()}"
        self._spawner = Spawner()
        try:
            self._lineage = Lineage()
        except OSError:
            self._spawner.close()
            raise
        try:
            self._cells = Cells(self._token) if in_cgroups else None
        except ProcessError:
            self._spawner.close()
            self._lineage.close()
            raise
        self._sweeper = Sweeper(reactor, self._lineage, kill_group)

    @property
    def mechanism(self) -> str:
        """By what descendants are found."""
        if self._cells is not None:
            return "cgroup"
        return "environment marker" if self._lineage.sees_escapees else "process group"

    @property
    def guardian_pid(self) -> int | None:
        """The guardian, once the first child was started."""
        return self._guardian.pid if self._guardian is not None else None

    def spawn(self, life: Life, number: int) -> LocalHandle:
        """Start the child of a life; the guardian is told of it before it can be waited for.

        The audit event (PEP 578) lets a test or a sandbox refuse it.
        """
        sys.audit("trio_process.spawn", life.options.shown_command, life.options.shown_args)
        if self._guarded and self._guardian is None:
            self._guardian = self._start_guardian(life.options)
        detached = life.options.detach
        token = "" if detached else f"{self._token}-{number}"
        cell = self._cell(life.options, number)
        try:
            spawned = self._spawner.spawn(life.options, token, cell.path if cell is not None else "")
        except BaseException:
            if cell is not None:
                cell.remove()
            raise
        guardian = None if detached else self._guardian
        if guardian is not None:
            guardian.add(spawned.pid)
        stop_signal = life.options.stop_signal
        return LocalHandle(spawned, token, self._reactor, self._lineage, self._sweeper, guardian, cell, stop_signal)

    def _cell(self, options: RunOptions, number: int) -> Cell | None:
        """Return a cgroup for a child; none for one of which something may outlive its end."""
        if self._cells is None or options.detach or not options.kill_group:
            return None
        try:
            return self._cells.make(number)
        except OSError as error:
            raise ProcessStartError(
                f"can't start `{options.shown_command}`: no cgroup could be made for it: {error.strerror}"
            ) from error

    def _start_guardian(self, options: RunOptions) -> Guardian:
        try:
            return Guardian(self._token, self._reactor, self._cells.path if self._cells is not None else "")
        except OSError as error:
            raise explain(options, error) from error

    def adopt(self, pid: int, log: int | None) -> LocalHandle:
        """Watch a process that an earlier life of ours has detached."""
        try:
            pidfd = os.pidfd_open(pid)
        except OSError:
            if log is not None:
                os.close(log)
            raise
        spawned = Spawned(pid, pidfd, None, {}, log, None)
        return LocalHandle(spawned, "", self._reactor, self._lineage, self._sweeper, None, ours=False)

    def close(self) -> None:
        """Dismiss the guardian, and close the descriptors that all children share."""
        if self._guardian is not None:
            self._guardian.close()
        self._spawner.close()
        self._lineage.close()
        if self._cells is not None:
            self._cells.close()
