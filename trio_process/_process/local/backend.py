"""`LocalBackend`: spawns children of this process, and finds their descendants."""

from __future__ import annotations

import os
import sys
from typing import final

from ..._core import ProcessError, ProcessStartError, ProcStat, RunOptions, pidfd_open, shown_args, shown_command
from .. import reap
from ..containment import (
    CgroupContainment,
    Cgroups,
    Containment,
    Guardian,
    InheritedLimitMark,
    LimitMarks,
    Lineage,
    MarkerContainment,
    StrayReaper,
    Sweeper,
    limit_mark_of,
)
from ..reactor import Reactor
from ..start_errors import start_error
from .handle import LocalHandle, Shared
from .spawn import Spawned, Spawner
from .stdio import OutputEnds


@final
class LocalBackend:
    """Spawns children of this process, whose descendants it finds by group, by a marker in their environment, or by cgroup.

    Args:
        reactor: Watches their descriptors.
        guarded: Whether to start a guardian, which outlives us.
        in_cgroups: Whether each child gets a cgroup of its own.
        strays: Which orphans are reaped; see `ServiceOptions`.

    Raises:
        ProcessError: Cgroups can't be created.
    """

    def __init__(self, reactor: Reactor, *, guarded: bool, in_cgroups: bool = False, strays: str = "leave") -> None:
        self._guarded = guarded
        self._token = f"{os.getpid()}.{os.urandom(6).hex()}"
        self._limits = LimitMarks()
        self._spawner = Spawner()
        try:
            self._lineage = Lineage()
        except OSError:
            self._spawner.close()
            raise
        try:
            self._cgroups = Cgroups(self._token) if in_cgroups else None
        except ProcessError:
            self._spawner.close()
            self._lineage.close()
            raise
        self._shared = Shared(reactor, self._lineage, Sweeper(reactor, self._lineage, reap.kill_group))
        if strays != "leave":
            StrayReaper(reactor, self._managed_pids, self._is_descendant if strays == "descendants" else None)

    @property
    def mechanism(self) -> str:
        """How descendants are found."""
        if self._cgroups is not None:
            return "cgroup"
        return "environment marker" if self._lineage.sees_escapees else "process group"

    @property
    def guardian_pid(self) -> int | None:
        """The PID of the guardian, once the first child was started."""
        return self._shared.guardian.pid if self._shared.guardian is not None else None

    def spawn(self, id: str, options: RunOptions, number: int) -> LocalHandle:  # noqa: A002 - as in the protocol
        """Start a child, and report it to the guardian before it can be waited for.

        The audit event (PEP 578) lets a test or a sandbox refuse it.
        """
        reap.restore_sigchld_default()
        sys.audit("trio_process.spawn", shown_command(options), shown_args(options))
        if self._guarded and self._shared.guardian is None:
            self._shared.guardian = self._start_guardian(options)
        containment = self._containment(id, options, number)
        try:
            with InheritedLimitMark(containment.limit) as mark:
                spawned = self._spawner.spawn(options, containment.token, containment.cgroup)
                mark.reach(spawned.pid)
        except BaseException:
            containment.close()
            raise
        if self._shared.guardian is not None and not options.detach:
            self._shared.guardian.add(spawned.pid)
        return LocalHandle(spawned, self._shared, containment, options.stop_signal)

    def _containment(self, name: str, options: RunOptions, number: int) -> Containment:
        """Return how the descendants of a child are recognized: not by a cgroup if some may outlive the child."""
        if options.detach:
            return MarkerContainment("")
        token, limit = f"{self._token}-{number}", self._limits.of(number)
        if self._cgroups is None or not options.kill_group:
            return MarkerContainment(token, limit)
        try:
            return CgroupContainment(token, limit, self._cgroups.make(name))
        except OSError as error:
            raise ProcessStartError(
                f"can't start `{shown_command(options)}`: no cgroup could be made for it: {error.strerror}"
            ) from error

    def _start_guardian(self, options: RunOptions) -> Guardian:
        try:
            path = self._cgroups.path if self._cgroups is not None else ""
            return Guardian(self._token, self._limits.prefix, self._shared.reactor, path)
        except OSError as error:
            raise start_error(options, error) from error

    def _managed_pids(self) -> set[int]:
        guardian = self.guardian_pid
        return self._lineage.alive | reap.deferred() | ({guardian} if guardian is not None else set())

    def _is_descendant(self, pid: int, stat: ProcStat) -> bool:
        return (pid != stat.group and self._lineage.has_led(stat.group)) or self._limits.has(limit_mark_of(pid))

    def adopt(self, pid: int, log: int | None) -> LocalHandle:
        """Watch a process that an earlier service has detached."""
        try:
            pidfd = pidfd_open(pid)
        except OSError:
            if log is not None:
                os.close(log)
            raise
        spawned = Spawned(pid, pidfd, None, OutputEnds(), log, None)
        return LocalHandle(spawned, self._shared, MarkerContainment(""), ours=False)

    def close(self) -> None:
        """End the guardian, and close the descriptors that all children share."""
        if self._shared.guardian is not None:
            self._shared.guardian.close()
        self._spawner.close()
        self._lineage.close()
        if self._cgroups is not None:
            self._cgroups.close()
