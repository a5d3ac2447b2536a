"""Health checks: run concurrently, each with a time limit; concurrent requests share one round."""

from __future__ import annotations

import functools
import inspect
import itertools
import time
from collections.abc import Awaitable
from contextvars import ContextVar, copy_context
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple, Protocol, final

import trio

from ..._core import OptionError, end_if_forked, grace, in_seconds, logger, nearest
from ..._core import checks as rules
from .judge import judge, reason_of


class HealthCheck(Protocol):
    """A sync or async callable without arguments.

    None, True and ``""`` mean healthy. False, a non-empty str (the reason), an exception instance and a raised exception
    mean unhealthy. Of a ``(bool, str)`` the bool decides and the str is the reason; of a `CommandResult` its `ok` decides.
    Any other value is unhealthy, and the reason names it. A sync check runs in a worker thread, never twice at a time.

    >>> def disk_has_room() -> str:
    ...     return "" if shutil.disk_usage("/").free > 1e9 else "less than 1 GB left"
    """

    def __call__(self) -> object:
        """Run the check and return its result."""


check_owner: ContextVar[object] = ContextVar("trio_process.check_owner", default=None)
"""What adds checks in this context: one call of a daemon's `main`, whose checks end with it; None for all else."""

_CLEANUP: Final = 0.5  # seconds that cancelled checks get for their clean-up when the server is left


class CheckResult(NamedTuple):
    """The result of one check: `why` is empty if it passed; `duration` is in seconds, `at` a time for people."""

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
class HealthChecks:
    """The checks of one server.

    Args:
        limit: Seconds that each check may take.

    The checks run in Trio's system tasks, which need not be waited for: a check that hangs in a thread, or shields itself,
    is reported as "timed out", but never delays a response or a stop. (A nursery of our own would wait for it.) System
    tasks are also protected from KeyboardInterrupt, so that Ctrl-C interrupts the program and not a check.
    """

    __slots__ = ("_checks", "_limit", "_round")

    def __init__(self, limit: float) -> None:
        self._checks: list[_Check] = []
        self._limit = limit
        self._round: tuple[_Run, ...] = ()

    def __len__(self) -> int:
        return len(self._checks)

    def snapshot(self) -> tuple[_Check, ...]:
        """Return a snapshot for `restore`."""
        return tuple(self._checks)

    def restore(self, checks: tuple[_Check, ...]) -> None:
        """Restore the checks of a snapshot."""
        self._checks[:] = checks

    def drop_added_by(self, owner: object) -> None:
        """Remove the checks that were added in a context whose `check_owner` is `owner`."""
        self._checks[:] = [check for check in self._checks if check.owner is not owner]

    def add(self, check: HealthCheck, name: str | None = None) -> None:
        """Add a check; a given name replaces an existing check with that name, a generated name never does."""
        if not callable(check):
            raise OptionError(f"a health check must be a callable without arguments, got {check!r}")
        if _is_generator(check):
            raise OptionError(f"a health check must not be a generator function, as that never runs; got {check!r}")
        if name is None:
            self._checks.append(_Check(self._free_name(_name_of(check)), check))
            return
        new = _Check(name, check)
        for index, old in enumerate(self._checks):
            if old.name == name:
                self._checks[index] = new
                return
        self._checks.append(new)

    def remove(self, name: str) -> None:
        """Remove the check with this name."""
        rules.text("name", name)
        for index, check in enumerate(self._checks):
            if check.name == name:
                del self._checks[index]
                return
        raise OptionError(f"no health check is called {name!r}{nearest(name, [check.name for check in self._checks])}")

    def _free_name(self, name: str) -> str:
        taken = {check.name for check in self._checks}
        if name in taken or not name:
            first = 2 if name else len(self._checks) + 1
            name = next(
                f"{name or 'check'} {n}" for n in itertools.count(first) if f"{name or 'check'} {n}" not in taken
            )
        return name

    async def results(self) -> list[CheckResult]:
        """Run all checks, or wait for the round in progress, and return the results."""
        if not any(run.is_open() for run in self._round):
            self._round = tuple([check.start(self._limit) for check in self._checks])
        found = [await run.result() for run in self._round]
        if not found:
            await trio.lowlevel.checkpoint()
        return found

    async def aclose(self) -> None:
        """Cancel the running checks; those that don't end at once are named in the log and left alone."""
        running = [check.run for check in self._checks if check.run is not None]
        for run in running:
            run.scope.cancel()
        with grace(_CLEANUP, shield=True):
            for run in running:
                await run.done.wait()
        for run in running:
            if not run.done.is_set():
                logger.warning("health check %r could not be cancelled, and is left alone", run.name)
        await trio.lowlevel.checkpoint_if_cancelled()


class _Check:
    """One check, and its run in progress, if any."""

    __slots__ = ("_function", "_is_async", "_limiter", "name", "owner", "run")

    def __init__(self, name: str, function: HealthCheck) -> None:
        self.name = name
        self.owner = check_owner.get()
        self.run: _Run | None = None
        self._function = function
        self._is_async = _is_async(function)
        # of its own: forty hung checks must not take every thread that the program shares
        self._limiter = trio.CapacityLimiter(1)

    def start(self, limit: float) -> _Run:
        """Start a run; while an overdue one is still in progress, its result counts instead."""
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
            end_if_forked(error)
            run.why = reason_of(error)
        else:
            end_if_forked(None)
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
        if isinstance(found, Awaitable):  # `lambda: pool.ping()`, too
            found = await found
        return judge(found)

    def _call(self) -> tuple[object]:
        return (self._function(),)  # wrapped, as Trio refuses an awaitable as the result of a thread


class _Run:
    """One run of one check, shared by all waiters."""

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
        """Return a run that has already failed, because the previous one has not ended."""
        run = cls(name, limit)
        run.why = f"timed out after {in_seconds(limit)}, and is still running"
        run.finish()
        return run

    def finish(self) -> None:
        """Set the result, and wake all waiters."""
        self._duration = time.perf_counter() - self._started
        if self.why is None and trio.current_time() < self.scope.deadline:
            self.why = "cancelled: the server is being left"
        self.done.set()

    def is_open(self) -> bool:
        """Whether the result is still pending; False for an overdue run, even while it is in progress."""
        return not self.done.is_set() and trio.current_time() < self.scope.deadline

    async def result(self) -> CheckResult:
        """Return the result, at the latest when the time limit is reached."""
        with trio.CancelScope(deadline=self.scope.deadline):
            await self.done.wait()
        # at its limit: cancelled, or about to be, and perhaps not back yet
        why = f"timed out after {in_seconds(self._limit)}" if self.why is None else self.why
        duration = self._duration if self.done.is_set() else time.perf_counter() - self._started
        return CheckResult(name=self.name, why=why, duration=duration, at=self._at)


def _unwrapped(function: object) -> object:
    while isinstance(function, functools.partial):
        function = function.func
    return function


def _is_generator(function: object) -> bool:
    function = _unwrapped(function)
    return any(
        inspect.isgeneratorfunction(each) or inspect.isasyncgenfunction(each)
        for each in (function, getattr(function, "__call__", None))  # noqa: B004 - not whether, but how
    )


def _is_async(function: object) -> bool:
    function = _unwrapped(function)
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004 - not whether, but how


def _name_of(function: object) -> str:
    """Return the name of a function, "" for one without."""
    function = _unwrapped(function)
    name = getattr(function, "__name__", type(function).__name__)
    return "" if name == "<lambda>" else str(name)
