"""`Runner`: runs the specs of a pipeline, as their dependencies and the room allow."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, final

import trio

from .._core import OptionError, PipelineError, checks, nearest
from .outbox import open_outbox
from .plan import Plan, find_faults, flat_plan, make_plan
from .result import RunAllResult, RunUpdate
from .rules import Halt
from .scheduler import Run
from .spec import Executor, RunSpec

SCHEDULES: Final = ("waves", "eager")
ON_FAILURE: Final[dict[str, Halt | None]] = {"continue": None, "no-new": Halt.NO_NEW, "kill": Halt.KILL}


def _choice(option: str, value: object, choices: Iterable[str]) -> str:
    if not isinstance(value, str) or value not in choices:
        named = ", ".join(map(repr, choices))
        raise OptionError(f"{option} must be one of {named}, got {value!r}{nearest(str(value), choices)}")
    return value


@final
class Runner:
    """Runs pipelines on an executor.

    Args:
        executor: A `Service`, or anything else that is an `Executor`.
        max_parallel: How much weight may run at the same time, a spec that weighs more counting as all of it;
            None for no limit but the executor's `slots`. The smaller of the two holds.

    Raises:
        OptionError: `executor` is none, or `max_parallel` is not a whole number above 0.

    >>> async def main() -> list[str]:
    ...     specs = [RunSpec(name="test", command="true", after=["lint"]), RunSpec(name="lint", command="false")]
    ...     async with Service() as service:
    ...         result = await Runner(service, max_parallel=2).run_all(specs)
    ...     return [f"{one.name} {one.state}" for one in result.results]
    >>> trio.run(main)
    ['test skipped', 'lint failed']
    """

    __slots__ = ("_executor", "_max_parallel")

    def __init__(self, executor: Executor, *, max_parallel: int | None = None) -> None:
        capable = callable(getattr(executor, "run_process", None)) and hasattr(executor, "slots")
        if not capable or isinstance(executor, type):
            raise OptionError(
                f"executor must be a Service, or an object with `slots` and `async run_process(...)`, got {executor!r}"
            )
        if max_parallel is not None:
            checks.whole("max_parallel", max_parallel, least=1)
        self._executor = executor
        self._max_parallel = max_parallel

    async def run_all(
        self,
        specs: Iterable[RunSpec],
        *,
        schedule: str = "waves",
        on_failure: str = "continue",
        timeout: float | None = None,  # noqa: ASYNC109 - it ends in results, not in an exception
        updates: trio.MemorySendChannel[RunUpdate] | None = None,
    ) -> RunAllResult:
        """Run specs as their dependencies allow.

        Args:
            specs: The specs; the results come in their order.
            schedule: `"waves"`: each wave is a nursery, the next begins when it has ended. `"eager"`: a spec starts
                when its own dependencies have ended, the one with the longest remaining chain first. The results are
                the same; only of several failed dependencies a skipped spec names the one that failed first.
            on_failure: What a failure that is not allowed does. `"continue"`: what doesn't depend on it runs.
                `"no-new"`: nothing new starts; what has begun finishes, its retries too. `"kill"`: what runs is
                stopped.
            timeout: Seconds for the whole; then what runs is stopped as timed out, and the rest skipped.
            updates: Is sent a `RunUpdate` at every change, and closed in the end. The run never waits for its reader,
                only the end does, so read it from another task.

        Returns:
            One result for every spec, whatever happened.

        Raises:
            PipelineError: Names or dependencies have faults; nothing was run. (A missing dependency or a cycle is a
                failed result instead.)
            OptionError: An option was refused.
        """
        async with open_outbox(updates) as tell:
            halt = ON_FAILURE[_choice("on_failure", on_failure, ON_FAILURE)]
            eager = _choice("schedule", schedule, SCHEDULES) == "eager"
            checked = _checked(specs)
            rule = (halt, f"on_failure is {on_failure!r}")
            return await self._run(checked, make_plan(checked), rule, timeout, tell, eager=eager)

    async def run_sequential(
        self,
        specs: Iterable[RunSpec],
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - as above
        updates: trio.MemorySendChannel[RunUpdate] | None = None,
    ) -> RunAllResult:
        """Run specs one after the other, and skip the rest after the first failure that is not allowed.

        Args:
            specs: The specs, in the order in which they run; what they say in `after` is checked, but not obeyed.
            timeout: As for `run_all`.
            updates: As for `run_all`.

        Returns:
            One result for every spec; its `wave` is its place.

        Raises:
            PipelineError: Names or dependencies have faults; nothing was run.
            OptionError: An option was refused.
        """
        async with open_outbox(updates) as tell:
            checked = _checked(specs)
            rule = (Halt.NO_NEW, "a sequential run ends with the first failure")
            return await self._run(checked, flat_plan(len(checked), in_order=True), rule, timeout, tell)

    async def run_parallel(
        self,
        specs: Iterable[RunSpec],
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - as above
        updates: trio.MemorySendChannel[RunUpdate] | None = None,
    ) -> RunAllResult:
        """Run specs all at once, as far as `max_parallel` and the executor have room.

        Args:
            specs: The specs; what they say in `after` is checked, but not obeyed.
            timeout: As for `run_all`.
            updates: As for `run_all`.

        Returns:
            One result for every spec; the `wave` of all is 0.

        Raises:
            PipelineError: Names or dependencies have faults; nothing was run.
            OptionError: An option was refused.
        """
        async with open_outbox(updates) as tell:
            checked = _checked(specs)
            return await self._run(checked, flat_plan(len(checked), in_order=False), (None, ""), timeout, tell)

    async def _run(
        self,
        specs: Sequence[RunSpec],
        plan: Plan,
        rule: tuple[Halt | None, str],
        timeout: float | None,  # noqa: ASYNC109 - as above
        tell: Callable[[RunUpdate], None] | None,
        *,
        eager: bool = False,
    ) -> RunAllResult:
        if timeout is not None:
            timeout = checks.seconds("timeout", timeout)
        room = self._room()
        await trio.lowlevel.checkpoint()  # also where there is nothing to run
        return await Run(self._executor, specs, plan, rule, tell, room=room, eager=eager).run(timeout)

    def _room(self) -> int | None:
        slots = self._executor.slots
        if slots is not None:
            checks.whole("the executor's slots", slots, least=1)
        return min([limit for limit in (self._max_parallel, slots) if limit is not None], default=None)


def _checked(specs: Iterable[RunSpec]) -> Sequence[RunSpec]:
    if isinstance(specs, (str, bytes, Mapping)) or not isinstance(specs, Iterable):
        raise OptionError(f"specs must be a list of RunSpec, got {specs!r}")
    checked = tuple(specs)
    for spec in checked:
        if not isinstance(spec, RunSpec):
            raise OptionError(f"specs must be a list of RunSpec, got {spec!r} in it")
    faults = find_faults(checked)
    if faults:
        raise PipelineError(faults)
    return checked
