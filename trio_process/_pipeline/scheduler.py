"""Run a pipeline once: a nursery per wave, a capacity limit for concurrent specs, a task per attempt.

The `StateMachine` interprets the end of an attempt; this module only awaits. A spec with ``when="failure"`` or
``"always"`` outlives a halt: once only such specs are left after a halt, they have `cleanup_timeout` seconds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from heapq import heapify, heappop, heappush
from typing import Final, final

import attrs
import trio

from .._core import (
    CommandFailedError,
    CommandResult,
    EndReason,
    ProcessError,
    ProcessNotFoundError,
    ProcessNotRunningError,
    RunOptions,
    StopFailedError,
    in_seconds,
    open_scope,
)
from .memory import Memory
from .plan import Plan
from .result import RunUpdate
from .rules import ENDS_CLEANUP, Cause, Halt, never_ran, ran_to_its_end
from .run_memory import RunMemory
from .run_result import RunAllResult
from .services import HeldServices, Supervisor
from .spec import Attempt, Executor, RunSpec
from .state_machine import StateMachine

_PASSED_AT_ONCE: Final = 500
"""The number of up-to-date specs that pass in one turn of the event loop: about 3 ms."""

_POLL: Final = 0.1
"""Seconds between two polls of an executor that has no slots."""


@final
@attrs.frozen(kw_only=True)
class RunSettings:
    """The settings of a run; the values are those of `Runner.run_all`, validated.

    Attributes:
        rule: The effect of a failure that is not allowed, and its description, as for `StateMachine`.
        room: Returns the weight that may run at the same time, None for no limit.
        eager: Whether a spec starts when its own dependencies have ended, not with its wave.
        in_order: Whether specs start after those in their `after`.
        timeout: Seconds for the whole run, or None.
        cleanup_timeout: Seconds for cleaning up after a halt, or None for no limit.
        stopping: Halts the run once it is set.
        supervisor: Keeps services running.
        memory: Determines which specs are up to date.
        restarts: Receives names of specs to restart, with all of their dependents. The run then continues until this
            channel is closed, or the run is halted by `timeout` or `stopping`; it must be `eager`.
        report: Called with every update, or None.
    """

    rule: tuple[Halt | None, str]
    room: Callable[[], int | None]
    eager: bool = False
    in_order: bool = False
    timeout: float | None = None
    cleanup_timeout: float | None = None
    stopping: trio.Event | None = None
    supervisor: Supervisor | None = None
    memory: Memory | None = None
    restarts: trio.MemoryReceiveChannel[Collection[str]] | None = None
    report: Callable[[RunUpdate], None] | None = None


class _Attempt:
    """A started spec, which is running or waiting for its next attempt; also the attempt's `trio.TaskStatus`."""

    __slots__ = ("begin", "failure", "handle", "is_outdated", "reason", "scope", "weight")

    def __init__(self, weight: float = 0.0) -> None:
        self.weight = weight
        self.handle: Attempt | None = None
        self.scope = trio.CancelScope()  # for waits without a process to stop: a slow start, a delay
        self.reason: EndReason | None = None
        self.failure: ProcessError | None = None
        self.is_outdated = False  # it is being ended for a restart
        self.begin: Callable[[], object] | None = None  # called when an attempt that waited for a place starts

    def started(self, value: Attempt | None = None) -> None:
        self.handle = value
        if self.begin is not None:
            self.begin()


@final
class Scheduler:
    """One run of specs.

    Args:
        executor: Runs the attempts.
        specs: The specs, without faults.
        plan: Their plan.
        settings: The settings of the run.
    """

    def __init__(self, executor: Executor, specs: Sequence[RunSpec], plan: Plan, settings: RunSettings) -> None:
        self._executor = executor
        self._has_place: Callable[[RunOptions], bool] | None = getattr(executor, "has_place", None)
        self._specs = specs
        self._plan = plan
        self._settings = settings
        self._used = 0.0
        self._is_exclusive = False  # a spec that has the terminal is running
        self._waiting: list[tuple[int, int]] = []  # a heap: rank, spec
        self._attempts: dict[int, _Attempt] = {}
        self._checking: set[int] = set()  # specs whose up-to-date check is in progress
        self._services = HeldServices(settings.supervisor, specs, self._fail_users, keep=settings.restarts is not None)
        self._machine = StateMachine(
            specs,
            plan,
            rule=settings.rule,
            clock=trio.current_time,
            report=self._services.watching(settings.report),
            end=self._end,
        )
        self._is_cleaning = False
        self._memory = RunMemory(settings.memory, specs)
        self._watchers: trio.Nursery  # of the whole run: tasks that wait for a reason to halt it
        self._nursery: trio.Nursery | None = None  # of the current wave
        self._restarting = trio.CancelScope()
        self._restarts = 0

    async def run(self) -> RunAllResult:
        """Run all specs, and return one result for each."""
        try:
            async with self._services.open(), open_scope() as self._watchers:
                self._machine.open()
                self._watch()
                if self._settings.in_order:
                    await self._pass_unchanged()
                if self._settings.restarts is not None:
                    await self._run_restartable(self._settings.restarts)
                elif self._settings.eager:
                    await self._run_wave(self._machine.take_ready())
                else:
                    for wave in self._plan.waves:
                        await self._run_wave(wave)
                await self._memory.close()
        except BaseException:
            self._machine.halt(Cause(Halt.CANCEL, "the run was cancelled"))
            raise
        return self._machine.result()

    async def _pass_unchanged(self) -> None:
        """Pass the specs that are up to date with all of their dependencies before anything runs, without a task or a slot."""
        order = [index for wave in self._plan.waves for index in wave]
        unchanged = await self._memory.find_unchanged(order)
        for begin in range(0, len(order) if unchanged else 0, _PASSED_AT_ONCE):
            chosen = [
                index
                for index in order[begin : begin + _PASSED_AT_ONCE]
                if self._specs[index].name in unchanged and self._machine.may_begin(index)
            ]
            for index in chosen:
                self._machine.up_to_date(index)
            self._memory.note_unchanged([self._specs[index].name for index in chosen])
            await trio.lowlevel.checkpoint()

    async def _run_wave(self, wave: Sequence[int]) -> None:
        """Run specs, and with `eager` all others that become ready meanwhile."""
        if any(map(self._machine.may_begin, wave)):
            async with open_scope(wait=True) as self._nursery:
                self._admit(wave)
            # a nursery whose tasks all succeeded hides a cancellation that kept others from starting
            await trio.lowlevel.checkpoint_if_cancelled()

    async def _run_restartable(self, restarts: trio.MemoryReceiveChannel[Collection[str]]) -> None:
        """Run specs until `restarts` ends, or the run is halted for any reason but a failure."""
        async with open_scope(wait=True) as self._nursery:
            self._admit(self._machine.take_ready())
            with self._restarting, restarts:
                async for names in restarts:
                    self._restart(names)
        await trio.lowlevel.checkpoint_if_cancelled()

    def _restart(self, names: Collection[str]) -> None:
        """Restart specs with all of their dependents; running ones are stopped first."""
        self._restarts += 1
        self._is_cleaning = False
        concerned = dict.fromkeys(index for index, spec in enumerate(self._specs) if spec.name in names)
        concerned |= dict.fromkeys(self._machine.forgive())
        found = list(concerned)
        for index in found:
            fresh = [dependent for dependent in self._plan.dependents[index] if dependent not in concerned]
            concerned |= dict.fromkeys(fresh)
            found += fresh
        self._waiting = [(rank, index) for rank, index in self._waiting if index not in concerned]
        heapify(self._waiting)
        self._reopen([index for index in found if index not in self._attempts])
        for index in found:
            attempt = self._attempts.get(index)
            if attempt is not None and not attempt.is_outdated:
                attempt.is_outdated = True
                self._end(index, EndReason.STOPPED)
        self._proceed()
        self._fill()

    def _reopen(self, indexes: Collection[int]) -> None:
        for index in indexes:
            self._memory.forget(self._specs[index])
            self._services.forgive(self._specs[index].uses)
        self._machine.reopen(indexes)

    def _watch(self) -> None:
        """Halt the run at its timeout or when it is asked to stop, immediately if either is already the case."""
        timeout, stopping = self._settings.timeout, self._settings.stopping
        if timeout == 0:
            self._halt(Halt.TIMEOUT)
        elif timeout is not None:
            self._watchers.start_soon(self._halt_later, timeout, Halt.TIMEOUT)
        if stopping is None:
            return
        if stopping.is_set():
            self._halt(Halt.STOPPING)
        else:
            self._watchers.start_soon(self._halt_on, stopping)

    async def _halt_later(self, seconds: float, halt: Halt) -> None:
        await trio.sleep(seconds)
        self._halt(halt)

    async def _end_cleanup(self, seconds: float, restarts: int) -> None:
        await trio.sleep(seconds)
        if restarts == self._restarts:
            self._halt(Halt.CLEANUP)

    async def _halt_on(self, stopping: trio.Event) -> None:
        await stopping.wait()
        self._halt(Halt.STOPPING)

    def _halt(self, halt: Halt) -> None:
        words = {
            Halt.TIMEOUT: f"the pipeline's timeout of {in_seconds(self._settings.timeout or 0)} ran out",
            Halt.STOPPING: "the run was asked to stop",
            Halt.CLEANUP: f"the cleanup_timeout of {in_seconds(self._settings.cleanup_timeout or 0)} ran out",
        }
        if halt is not Halt.CLEANUP:
            self._restarting.cancel()
        self._machine.halt(Cause(halt, words[halt]))
        self._proceed()

    def _proceed(self) -> None:
        """Start the specs that have become ready; start the cleanup timeout once nothing else is left after a halt."""
        limit, cause = self._settings.cleanup_timeout, self._machine.cause
        is_halted = cause is not None and cause.halt not in ENDS_CLEANUP
        if is_halted and limit is not None and not self._machine.unfinished and not self._is_cleaning:
            self._is_cleaning = True
            if limit == 0:
                self._halt(Halt.CLEANUP)
            else:
                self._watchers.start_soon(self._end_cleanup, limit, self._restarts)
        self._end_checks()
        if self._settings.eager and self._nursery is not None and not (is_halted and limit == 0):
            self._admit(self._machine.take_ready())

    def _end_checks(self) -> None:
        """Cancel the up-to-date check of a spec that a halt has skipped: its files may be large."""
        for index in self._checking if self._machine.cause is not None else ():
            if self._machine.result_of(index) is not None:
                self._attempts[index].scope.cancel()

    def _admit(self, ready: Iterable[int]) -> None:
        """Queue specs, to start as soon as there is room for them."""
        for index in ready:
            # waves keep the input order; without waves, the spec with the longest remaining chain goes first
            heappush(self._waiting, (-self._plan.chain[index] if self._settings.eager else 0, index))
        self._fill()

    def _fill(self) -> None:
        """Start specs while there is room. None overtakes the first in the queue, or a heavy spec would never find room."""
        assert self._nursery is not None, "specs begin in a wave"
        if trio.current_effective_deadline() == -math.inf:
            return  # cancelled: a process started now would only be stopped
        while self._waiting:
            index = self._waiting[0][1]
            if self._machine.may_begin(index):
                weight = self._room_for(index)
                if weight is None:
                    if not self._attempts:  # the executor has no slots left, and no spec is running that could free one
                        self._nursery.start_soon(self._fill_later)
                    return
                self._used += weight
                self._is_exclusive = self._specs[index].interactive
                self._attempts[index] = attempt = _Attempt(weight)
                if not self._specs[index].uses and not self._memory.covers(self._specs[index]):
                    self._begin(index, attempt)
                self._nursery.start_soon(self._attempt, index, name=f"pipeline: {self._specs[index].name}")
            heappop(self._waiting)

    def _begin(self, index: int, attempt: _Attempt) -> None:
        """Start an attempt as soon as the executor has a place for it."""
        if self._has_place is None or self._has_place(self._specs[index].options):
            self._machine.begin(index)
        else:
            self._machine.queue(index)
            attempt.begin = partial(self._machine.begin, index)

    async def _fill_later(self) -> None:
        await trio.sleep(_POLL)
        self._fill()

    def _room_for(self, index: int) -> float | None:
        """Return the weight that a spec would occupy; None if it has to wait for room."""
        spec, limit = self._specs[index], self._settings.room()
        room = math.inf if limit is None else limit
        weight = min(spec.weight, room)
        if not room and not self._fails_at_once(spec):
            return None
        if self._is_exclusive or weight > room - self._used or (spec.interactive and self._used):
            return None
        return weight

    def _fails_at_once(self, spec: RunSpec) -> bool:
        """Return whether an executor without slots doesn't let an attempt wait for some: there never will be any."""
        return self._has_place is not None and self._has_place(spec.options)

    async def _attempt(self, index: int) -> None:
        """Run one attempt, then free its room and start the specs that may start now; after a delay, retry if necessary."""
        attempt = self._attempts[index]
        outcome = await self._outcome(index, attempt)
        del self._attempts[index]
        self._used -= attempt.weight
        self._is_exclusive = False
        if attempt.is_outdated and attempt.failure is None and self._machine.cause is None:
            self._reopen([index])
            outcome = None
        if outcome is not None:
            self._machine.ended(index, outcome, is_final=self._services.have_failed(self._specs[index].uses))
            self._end_checks()  # before this end is written to the memory, which waits for them
        is_retried = not attempt.is_outdated and self._machine.may_begin(index)
        await self._memory.remember(self._machine.result_of(index))
        self._proceed()
        self._fill()
        if is_retried:
            await self._delay(index)

    async def _outcome(self, index: int, attempt: _Attempt) -> CommandResult | ProcessError | None:
        """Run an attempt and return how it ended; None if no attempt was needed."""
        spec = self._specs[index]
        try:
            with attempt.scope:
                if attempt.scope.cancel_called:
                    await trio.lowlevel.checkpoint()  # ended before it started
                if self._memory.covers(spec) and not await self._has_to_run(index, attempt):
                    return None
                if spec.uses:
                    await self._wait_for_services(index, attempt)
                elif self._memory.covers(spec):
                    self._begin(index, attempt)
                result = await self._executor.run_process(spec.options, check=False, task_status=attempt)
                return result if attempt.failure is None or ran_to_its_end(result) else attempt.failure
        except CommandFailedError as error:  # an executor that checks in spite of check=False
            return error.result
        except ProcessError as error:
            return error
        except trio.Cancelled:
            self._machine.cancelled(index)
            raise
        if attempt.reason is None:
            return None  # skipped by a halt during the up-to-date check
        return attempt.failure or never_ran(spec, attempt.reason)

    async def _has_to_run(self, index: int, attempt: _Attempt) -> bool:
        """Return whether a spec is not up to date, and was not skipped by a halt during the check."""
        self._checking.add(index)
        try:
            is_current = await self._memory.is_up_to_date(self._specs[index]) and not attempt.is_outdated
        finally:
            self._checking.remove(index)
        if is_current and self._machine.may_begin(index):
            self._machine.up_to_date(index)
        return self._machine.may_begin(index)

    async def _wait_for_services(self, index: int, attempt: _Attempt) -> None:
        spec = self._specs[index]
        if self._services.are_ready(spec.uses):
            self._begin(index, attempt)
            return
        self._machine.queue(index)
        await self._services.wait_ready(spec.uses)
        self._machine.begin(index)

    def _fail_users(self, service: str, error: ProcessError) -> None:
        """End the running specs that use a failed service."""
        for index, attempt in list(self._attempts.items()):
            if service in self._specs[index].uses and attempt.failure is None:
                attempt.failure = error
                self._end(index, EndReason.STOPPED)

    async def _delay(self, index: int) -> None:
        delay = self._specs[index].retry_delay
        if delay:
            self._attempts[index] = attempt = _Attempt()
            with attempt.scope:
                await trio.sleep(delay)
            del self._attempts[index]
            if attempt.is_outdated and self._machine.cause is None:
                self._reopen([index])
                self._proceed()
                return
        self._admit([index])

    def _end(self, index: int, reason: EndReason) -> None:
        """End a started spec: stop its process, or stop waiting for its start or its next attempt."""
        attempt = self._attempts.get(index)
        if attempt is None:
            return  # it is queued for its next attempt, and will not get one
        attempt.reason = reason
        if attempt.handle is None:
            attempt.scope.cancel()
        else:
            assert self._nursery is not None, "an attempt runs in a wave"
            # the result reports this name as the task that requested the stop
            self._nursery.start_soon(self._stop, self._specs[index], attempt, attempt.handle, reason, name="pipeline")

    async def _stop(self, spec: RunSpec, attempt: _Attempt, handle: Attempt, reason: EndReason) -> None:
        try:
            await handle.stop(spec.grace_period, reason=reason)
        except (ProcessNotRunningError, ProcessNotFoundError):
            pass  # it ended in between: run_process returns the result
        except StopFailedError as error:
            attempt.failure = error
            attempt.scope.cancel()  # it can't be killed: stop waiting for it
