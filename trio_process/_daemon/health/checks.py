"""Health checks: all at once, each within its limit, one round for all who ask meanwhile."""

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import Awaitable
from contextvars import copy_context
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple, Protocol, final

import trio

from ..._core import OptionError, escape_controls, grace, in_seconds, logger


class HealthCheck(Protocol):
    """A sync or async callable without arguments.

    Raising, or returning False, a non-empty str or an exception instance, is unhealthy. Sync ones run in a worker
    thread, one at a time each.

    >>> def disk_has_room() -> str:
    ...     return "" if shutil.disk_usage("/").free > 1e9 else "less than 1 GB left"
    """

    def __call__(self) -> object:
        """Check; what is returned says whether all is well."""


_LONGEST_REASON: Final = 500
_PATIENCE: Final = 0.5  # seconds that cancelled checks get for their clean-up when the server is left


class CheckResult(NamedTuple):
    """What one check found: `why` is empty if it passed; `duration` in seconds, `at` for people."""

    name: str
    why: str
    duration: float
    at: datetime

    def to_dict(self) -> dict[str, Any]:
        """Return the result as a member of `checks` (draft-inadarei-api-health-check-06, section 4)."""
        found: dict[str, Any] = {
            "name": self.name,
            "status": "fail" if self.why else "pass",
            "duration": self.duration,
            "time": self.at.isoformat(),
        }
        if self.why:
            found["output"] = self.why
        return found


@final
class Checkup:
    """The checks of one server.

    Args:
        limit: Seconds that each check may take.

    The checks run in Trio's system tasks, which nobody here needs to wait for: one that hangs in a thread, or shields
    itself, makes an answer "timed out", but never holds up an answer or a stop. (A nursery of our own would wait for it.)
    System tasks are also protected from KeyboardInterrupt, so that Ctrl-C strikes the program and not a check.
    """

    __slots__ = ("_checks", "_limit", "_round")

    def __init__(self, limit: float) -> None:
        self._checks: list[_Check] = []
        self._limit = limit
        self._round: tuple[_Run, ...] = ()

    def __len__(self) -> int:
        return len(self._checks)

    def forget_after(self, count: int) -> None:
        """Keep the first `count` checks."""
        del self._checks[count:]

    def add(self, check: HealthCheck, name: str | None = None) -> None:
        """Add a check; without a name it gets that of the function."""
        if not callable(check):
            raise OptionError(f"a health check is a callable without arguments, got {check!r}")
        self._checks.append(_Check(name or _name_of(check, len(self._checks) + 1), check))

    async def results(self) -> list[CheckResult]:
        """Run every check, or wait for the round that is going on, and return what was found."""
        if not any(run.is_open() for run in self._round):
            self._round = tuple([check.start(self._limit) for check in self._checks])
        found = [await run.result() for run in self._round]
        if not found:
            await trio.lowlevel.checkpoint()
        return found

    async def aclose(self) -> None:
        """Cancel the checks that run; those that don't end at once are named and left alone."""
        running = [check.run for check in self._checks if check.run is not None]
        for run in running:
            run.scope.cancel()
        with grace(_PATIENCE, shield=True):
            for run in running:
                await run.done.wait()
        for run in running:
            if not run.done.is_set():
                logger.warning("health check %r could not be cancelled, and is left alone", run.name)
        await trio.lowlevel.checkpoint_if_cancelled()


class _Check:
    """One check, and its run if there is one."""

    __slots__ = ("_function", "_is_async", "_limiter", "name", "run")

    def __init__(self, name: str, function: HealthCheck) -> None:
        self.name = name
        self.run: _Run | None = None
        self._function = function
        self._is_async = _is_async(function)
        # of its own: forty hung checks must not take every thread that the program shares
        self._limiter = trio.CapacityLimiter(1)

    def start(self, limit: float) -> _Run:
        """Start a run; while an overdue one still goes on, its verdict stands instead."""
        if self.run is not None:
            return self.run
        if self._limiter.borrowed_tokens:
            # an abandoned thread of an earlier run: another one beside it would only hang, too
            return _Run.overdue(self.name, limit)
        self.run = run = _Run(self.name, limit)
        trio.lowlevel.spawn_system_task(self._carry_out, run, name=f"health check {self.name}", context=copy_context())
        return run

    async def _carry_out(self, run: _Run) -> None:
        try:
            with run.scope:
                run.why = await self._verdict()
        except BaseException as error:  # noqa: BLE001 - a system task must not raise, and no check may end the server
            run.why = _reason(error)
        finally:
            self.run = None
            run.finish()

    async def _verdict(self) -> str:
        found: Any
        if self._is_async:
            found = self._function()
        else:
            found = await trio.to_thread.run_sync(self._call, abandon_on_cancel=True, limiter=self._limiter)
            found = found[0]
        if isinstance(found, Awaitable):  # also `lambda: pool.ping()`
            found = await found
        if found is False:
            return "it returned False"
        if isinstance(found, BaseException):
            return _reason(found)
        return _one_line(found) if isinstance(found, str) and found else ""

    def _call(self) -> tuple[object]:
        return (self._function(),)  # wrapped, as Trio refuses an awaitable as the result of a thread


class _Run:
    """One run of one check, for all who wait for it."""

    __slots__ = ("_at", "_duration", "_limit", "_started", "done", "name", "scope", "why")

    def __init__(self, name: str, limit: float) -> None:
        self.name = name
        self.done = trio.Event()
        self.why: str | None = None
        self._duration = 0.0
        self._limit = limit
        self._at = datetime.now(UTC)
        self._started = time.perf_counter()
        self.scope = trio.CancelScope(deadline=trio.current_time() + limit)

    @classmethod
    def overdue(cls, name: str, limit: float) -> _Run:
        """Return a run that is over before it began, because the one before it does not end."""
        run = cls(name, limit)
        run.why = f"timed out after {in_seconds(limit)}, and is still running"
        run.finish()
        return run

    def finish(self) -> None:
        """Let all who wait have the verdict."""
        self._duration = time.perf_counter() - self._started
        if self.why is None and trio.current_time() < self.scope.deadline:
            self.why = "cancelled: the server is being left"
        self.done.set()

    def is_open(self) -> bool:
        """Whether its answer is still to come: not when it has overstayed, even if it goes on."""
        return not self.done.is_set() and trio.current_time() < self.scope.deadline

    async def result(self) -> CheckResult:
        """Return what was found, at the limit at the latest."""
        with trio.CancelScope(deadline=self.scope.deadline):
            await self.done.wait()
        # at its limit: cancelled, or about to be, and perhaps not back yet
        why = f"timed out after {in_seconds(self._limit)}" if self.why is None else self.why
        duration = self._duration if self.done.is_set() else time.perf_counter() - self._started
        return CheckResult(name=self.name, why=why, duration=duration, at=self._at)


def _is_async(function: object) -> bool:
    while isinstance(function, functools.partial):
        function = function.func
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004 - not whether, but how


def _name_of(function: object, number: int) -> str:
    while isinstance(function, functools.partial):
        function = function.func
    name = getattr(function, "__name__", type(function).__name__)
    return f"check {number}" if name == "<lambda>" else str(name)


def _reason(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    try:
        text = str(error)
    except BaseException:  # noqa: BLE001 - a foreign __str__ may raise anything, and a system task must not raise
        text = ""
    return _one_line(f"{type(error).__name__}: {text}" if text else type(error).__name__)


def _one_line(text: str) -> str:
    text = escape_controls(" ".join(text.split())) or "unhealthy"
    return text if len(text) <= _LONGEST_REASON else text[:_LONGEST_REASON] + " […]"
