"""`Run`: the facts about one run of a unit, of either kind."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import trio

from ..._core import ActionProcessOutput, StopFailedError, Subscription
from ..._process import ManagedProcess


class Run(ABC):
    """One run of a unit: facts for the unit's task to look at when it is woken.

    Args:
        wake: Called whenever a fact has changed.

    Attributes:
        launched_at: When its start began, on Trio's clock.
        started_at: When it had started; None before, and if the start failed.
        ended: Whether it has ended completely.
        failure: Its failure; None if it succeeded.
        failed: Why it was stopped as a failure: not ready in time, or no longer alive.
        ready: The last result of its readiness probe, or its own report.
        alive: The last result of its liveness probe.
        reason: Why it isn't ready, or not alive.
        ready_since: When it first became ready, on Trio's clock.
        stuck: The error about processes that SIGKILL did not end.
    """

    __slots__ = (
        "_wake",
        "alive",
        "ended",
        "failed",
        "failure",
        "launched_at",
        "ready",
        "ready_since",
        "reason",
        "started_at",
        "stuck",
    )  # fmt: skip

    def __init__(self, wake: Callable[[], object]) -> None:
        self._wake = wake
        self.launched_at: float = trio.current_time()
        self.started_at: float | None = None
        self.ended: bool = False
        self.failure: BaseException | None = None
        self.failed: Exception | None = None
        self.ready: bool = False
        self.alive: bool = True
        self.reason: str = ""
        self.ready_since: float | None = None
        self.stuck: StopFailedError | None = None

    @property
    def process(self) -> ManagedProcess | None:
        """Its process, None for an async function."""
        return None

    def take_output(self) -> Subscription[ActionProcessOutput] | None:
        """Return the subscription to its lines that was made before the first one, for the caller to close; None without one."""
        return None

    @property
    def has_said_ready(self) -> bool:
        """Whether it has reported its readiness itself; True for runs that never do."""
        return True

    @property
    def lasted(self) -> float:
        """How long ago it first became ready, in seconds."""
        return 0.0 if self.ready_since is None else trio.current_time() - self.ready_since

    def is_left(self) -> bool:
        """Whether a process that SIGKILL did not end is still alive."""
        return False

    def found(self, *, ready: bool | None = None, alive: bool | None = None, reason: str = "") -> None:
        """Store the result of a probe. It belongs to this run: after the end, it is not used any more."""
        self.reason = reason
        if ready is not None:
            self.ready = ready
        if alive is not None:
            self.alive = alive
        self._wake()

    def _finish(self, failure: BaseException | None) -> None:
        self.ended = True
        self.failure = failure
        self._wake()

    @abstractmethod
    async def begin(self) -> None:
        """Start it. A failed start ends the run, and is not raised."""

    @abstractmethod
    async def collect(self) -> None:
        """Find out how it ended."""

    @abstractmethod
    async def stop(self) -> None:
        """Stop it, and return when it has ended completely, or is `stuck`."""
