"""One run of a pipeline: a nursery per wave, room for what may run at the same time, a task per attempt.

What an end means is the `Machine`'s business; this file awaits, and does nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from heapq import heappop, heappush
from typing import final

import trio

from .._core import (
    CommandFailedError,
    CommandResult,
    EndReason,
    ProcessError,
    ProcessNotFoundError,
    ProcessNotRunningError,
    StopFailedError,
    in_seconds,
    open_scope,
)
from .plan import Plan
from .result import RunAllResult, RunUpdate
from .rules import Cause, Halt, never_ran
from .spec import Attempt, Executor, RunSpec
from .state_machine import Machine


class _Begun:
    """A spec that has begun: its attempt that runs, or its delay before the next. The attempt's `trio.TaskStatus`."""

    __slots__ = ("attempt", "failure", "reason", "scope")

    def __init__(self) -> None:
        self.attempt: Attempt | None = None
        self.scope = trio.CancelScope()  # for what can't be stopped: a start that takes its time, a delay
        self.reason: EndReason | None = None
        self.failure: ProcessError | None = None

    def started(self, value: Attempt | None = None) -> None:
        self.attempt = value


@final
class Run:
    """Runs specs once.

    Args:
        executor: What runs an attempt.
        specs: The specs, without faults.
        plan: Their plan.
        rule: What a failure that is not allowed does, and that in words, as `Machine` takes it.
        tell: What is called with every update, or None.
        room: How much weight may run at the same time, None for no limit.
        eager: Begin a spec when its own dependencies have ended, not with its wave.
    """

    def __init__(
        self,
        executor: Executor,
        specs: Sequence[RunSpec],
        plan: Plan,
        rule: tuple[Halt | None, str],
        tell: Callable[[RunUpdate], None] | None,
        *,
        room: int | None,
        eager: bool,
    ) -> None:
        self._executor = executor
        self._specs = specs
        self._plan = plan
        self._eager = eager
        self._room = math.inf if room is None else room
        self._free = self._room
        self._waiting: list[tuple[int, int]] = []  # a heap: rank, spec
        self._begun: dict[int, _Begun] = {}
        self._machine = Machine(specs, plan, rule=rule, clock=trio.current_time, tell=tell, end=self._end)
        self._nursery: trio.Nursery  # of the wave that runs

    async def run(self, timeout: float | None) -> RunAllResult:  # noqa: ASYNC109 - it ends in results, not an exception
        """Run everything, and return one result for every spec."""
        self._machine.open()
        try:
            async with open_scope() as nursery:
                if timeout == 0:
                    self._expire(timeout)  # before anything begins
                elif timeout is not None:
                    nursery.start_soon(self._keep_time, timeout)
                for wave in self._plan.waves[:1] if self._eager else self._plan.waves:
                    if any(map(self._machine.may_begin, wave)):
                        async with open_scope(wait=True) as self._nursery:
                            self._admit(wave)
                        # a nursery whose tasks all ended well says nothing of a cancellation that kept others out
                        await trio.lowlevel.checkpoint_if_cancelled()
        except BaseException:
            self._machine.halt(Cause(Halt.CANCEL, "the run was cancelled"))
            raise
        return self._machine.whole()

    async def _keep_time(self, timeout: float) -> None:  # noqa: ASYNC109 - as above
        await trio.sleep(timeout)
        self._expire(timeout)

    def _expire(self, timeout: float) -> None:
        self._machine.halt(Cause(Halt.TIMEOUT, f"the pipeline's timeout of {in_seconds(timeout)} ran out"))

    def _admit(self, ready: Iterable[int]) -> None:
        """Let specs begin as soon as there is room for them."""
        for index in ready:
            # waves go by the input's order; without waves, what has the most behind it goes first
            heappush(self._waiting, (-self._plan.chain[index] if self._eager else 0, index))
        self._fill()

    def _fill(self) -> None:
        """Begin what there is room for. The first in line is waited for: what is heavy would never find room else."""
        if trio.current_effective_deadline() == -math.inf:
            return  # being cancelled: a process begun now would only be stopped
        while self._waiting:
            index = self._waiting[0][1]
            if self._machine.may_begin(index):
                weight = self._weight(index)
                if weight > self._free:
                    return
                self._free -= weight
                self._begun[index] = _Begun()
                self._machine.begin(index)
                self._nursery.start_soon(self._attempt, index, name=f"pipeline: {self._specs[index].name}")
            heappop(self._waiting)

    def _weight(self, index: int) -> float:
        return min(self._specs[index].weight, self._room)

    async def _attempt(self, index: int) -> None:
        """Run one attempt, then make room, and begin what may begin now; after a delay that may be the next attempt."""
        begun = self._begun[index]
        ended = await self._result(index, begun)
        del self._begun[index]
        self._free += self._weight(index)
        ready = self._machine.ended(index, ended)
        self._admit(ready if self._eager else ())
        if self._machine.may_begin(index):
            await self._delay(index)
            self._admit([index])

    async def _result(self, index: int, begun: _Begun) -> CommandResult | ProcessError:
        spec = self._specs[index]
        try:
            with begun.scope:
                if begun.scope.cancel_called:
                    await trio.lowlevel.checkpoint()  # ended before it began
                return await self._executor.run_process(spec.options, check=False, task_status=begun)
        except CommandFailedError as error:  # an executor that checks all the same
            return error.result
        except ProcessError as error:
            return error
        except trio.Cancelled:
            self._machine.cancelled(index)
            raise
        assert begun.reason is not None, "only what is to end has its scope cancelled"
        return begun.failure or never_ran(spec, begun.reason)

    async def _delay(self, index: int) -> None:
        delay = self._specs[index].retry_delay
        if delay:
            self._begun[index] = begun = _Begun()
            with begun.scope:
                await trio.sleep(delay)
            del self._begun[index]

    def _end(self, index: int, reason: EndReason) -> None:
        """End what a spec is at: stop its process, or don't wait any longer for its start or its next attempt."""
        begun = self._begun.get(index)
        if begun is None:
            return  # it waits in line for its next attempt, and will not get one
        begun.reason = reason
        if begun.attempt is None:
            begun.scope.cancel()
        else:
            # the name is what the result says of who asked
            self._nursery.start_soon(self._stop, self._specs[index], begun, begun.attempt, reason, name="pipeline")

    async def _stop(self, spec: RunSpec, begun: _Begun, attempt: Attempt, reason: EndReason) -> None:
        try:
            await attempt.stop(spec.grace_period, reason=reason)
        except (ProcessNotRunningError, ProcessNotFoundError):
            pass  # it ended in between: run_process tells how
        except StopFailedError as error:
            begun.failure = error
            begun.scope.cancel()  # it will not end: no more waiting for it
