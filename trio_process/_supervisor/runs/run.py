"""`Run`: what is known of one run of a unit, whichever kind it is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import trio

from ..._core import StopFailedError
from ..._process import ManagedProcess


class Run(ABC):
    """One run of a unit: facts, which the unit's task looks at when it is woken.

    Args:
        wake: Called whenever a fact has changed.

    Attributes:
        began_at: When it was about to start, on Trio's clock.
        begun_at: When it had started; None before, and if it couldn't.
        ended: Nothing of it runs any more.
        failure: What it ended with; None if it ended well.
        failed: Why it was stopped as a failure: no readiness in time, or liveness lost.
        ready: What its readiness probe said last, or what it said itself.
        alive: What its liveness probe said last.
        reason: Why it isn't ready, or not alive.
        ready_since: When it was ready first, on Trio's clock.
        stuck: What SIGKILL did not end.
    """

    __slots__ = (
        "_wake", "alive", "began_at", "begun_at", "ended", "failed", "failure", "ready", "ready_since", "reason", "stuck",
    )  # fmt: skip

    def __init__(self, wake: Callable[[], object]) -> None:
        self._wake = wake
        self.began_at: float = trio.current_time()
        self.begun_at: float | None = None
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

    @property
    def has_said_ready(self) -> bool:
        """Whether it has said itself that it is ready; True for what never does."""
        return True

    @property
    def lasted(self) -> float:
        """For how long it has been ready, or has been since it was ready first, in seconds."""
        return 0.0 if self.ready_since is None else trio.current_time() - self.ready_since

    def is_left(self) -> bool:
        """Whether something that SIGKILL did not end is still there."""
        return False

    def found(self, *, ready: bool | None = None, alive: bool | None = None, reason: str = "") -> None:
        """Take in the answer of a probe. It belongs to this run: after the end, nobody looks at it any more."""
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
        """Start it. A failure to start is its end, and no exception."""

    @abstractmethod
    async def collect(self) -> None:
        """Find out what it ended with."""

    @abstractmethod
    async def stop(self) -> None:
        """Stop it, and return when nothing of it runs, or it is `stuck`."""
