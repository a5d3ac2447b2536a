"""How a service's children are spawned, and their descendants found: the seam that a scripted service replaces."""

from __future__ import annotations

import os
import secrets
import sys
from typing import Protocol, final

from .descendants import Census
from .handle import Handle, RealHandle
from .life import Life
from .reactor import Reactor
from .reap import kill_group
from .spawn import Spawner
from .sweep import Sweeper


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

    def close(self) -> None:
        """Let go of what it holds."""


@final
class LocalContainment:
    """Children of this process: their descendants are found by group and by a marker in their environment."""

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor
        self._census = Census()
        self._spawner = Spawner(f"{os.getpid()}.{secrets.token_hex(6)}")
        self._sweeper = Sweeper(reactor, self._census, kill_group)

    @property
    def mechanism(self) -> str:
        """By what descendants are found."""
        return "environment marker" if self._census.sees_escapees else "process group"

    @property
    def guardian_pid(self) -> int | None:
        """The guardian, if there is one."""
        return None

    def spawn(self, life: Life, number: int) -> Handle:
        """Start the child of a life; the audit event (PEP 578) lets a test or a sandbox refuse it."""
        sys.audit("trio_process.spawn", life.options.shown_command, life.options.shown_args)
        mark = self._spawner.mark(number)
        spawned = self._spawner.spawn(life.options, mark)
        return RealHandle(spawned, mark, self._reactor, self._census, self._sweeper)

    def close(self) -> None:
        """Close the descriptors that all children share."""
        self._spawner.close()
        self._census.close()
