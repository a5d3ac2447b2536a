"""`Runner`: run the specs of a pipeline as dependencies and capacity allow; `run_restartable`: rerun them on request."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final, final

import attrs
import trio

from .._core import PipelineError, bad_option, checks, nearest
from .memory import Memory
from .outbox import open_outbox
from .plan import Plan, find_faults, make_plan, parallel_plan, sequential_plan
from .result import RunUpdate
from .rules import Halt
from .run_result import RunAllResult
from .scheduler import RunSettings, Scheduler
from .services import Supervisor
from .spec import Executor, RunSpec

SCHEDULES: Final = ("waves", "eager")
ON_FAILURE: Final[dict[str, Halt | None]] = {"continue": None, "no-new": Halt.NO_NEW, "kill": Halt.KILL}


def _choice(option: str, value: object, choices: Iterable[str]) -> str:
    if not isinstance(value, str) or value not in choices:
        named = ", ".join(map(repr, choices))
        raise bad_option(option, f"must be one of {named}, got {checks.brief(value)}{nearest(str(value), choices)}")
    return value


@final
class Runner:
    """Runs pipelines on an executor.

    Args:
        executor: A `Service`, or any other `Executor`.
        max_parallel: How much weight may run at the same time; a spec that weighs more counts as all of it. None for no
            limit except the executor's `slots`. The smaller of the two limits applies.
        supervisor: A `Supervisor` that keeps the services running that specs name in `uses`.
        memory: A file that records what specs with `inputs` last succeeded with; it is created if necessary. With it,
            such a spec passes as `SpecState.UP_TO_DATE`, without being run, if its command, its `env`, its inputs and
            the outputs of the specs in its `after` are the same as at its last success, and its own outputs exist
            unchanged. Contents count, not times. Beside a large memory, an index of it is kept in a file with the
            suffix ``.index``. Without a memory, every spec is run.

    Raises:
        OptionError: `executor` is not an executor, `supervisor` not a supervisor, or `max_parallel` is not a whole
            number above 0.

    >>> async def main() -> list[str]:
    ...     specs = [RunSpec(name="test", command="true", after=["lint"]), RunSpec(name="lint", command="false")]
    ...     async with Service() as service:
    ...         result = await Runner(service, max_parallel=2).run_all(specs)
    ...     return [f"{one.name} {one.state}" for one in result.results]
    >>> trio.run(main)
    ['test skipped', 'lint failed']
    """

    __slots__ = ("_executor", "_max_parallel", "_memory", "_supervisor")

    def __init__(
        self,
        executor: Executor,
        *,
        max_parallel: int | None = None,
        supervisor: Supervisor | None = None,
        memory: str | os.PathLike[str] | Memory | None = None,
    ) -> None:
        capable = callable(getattr(executor, "run_process", None)) and hasattr(executor, "slots")
        if not capable or isinstance(executor, type):
            raise bad_option(
                "executor",
                f"must be a Service, or an object with `slots` and `async run_process(...)`, got {checks.brief(executor)}",
            )
        if max_parallel is not None:
            max_parallel = int(checks.whole("max_parallel", max_parallel, least=1))
        if supervisor is not None and (not callable(getattr(supervisor, "hold", None)) or isinstance(supervisor, type)):
            raise bad_option(
                "supervisor", f"must be a Supervisor, or an object with `hold(name)`, got {checks.brief(supervisor)}"
            )
        self._executor = executor
        self._max_parallel = max_parallel
        self._supervisor = supervisor
        if memory is not None and not isinstance(memory, Memory):
            memory = os.path.abspath(os.fsdecode(checks.path("memory", memory)))
        self._memory = memory

    async def run_all(
        self,
        specs: Iterable[RunSpec],
        *,
        schedule: str = "waves",
        on_failure: str = "continue",
        timeout: float | None = None,  # noqa: ASYNC109 - it ends in results, not in an exception
        cleanup_timeout: float | None = 30.0,
        stopping: trio.Event | None = None,
        updates: trio.MemorySendChannel[RunUpdate] | None = None,
    ) -> RunAllResult:
        """Run specs as their dependencies allow.

        Three things halt a run: a failure, if `on_failure` says so; `timeout`; and `stopping`. Specs with
        ``when="failure"`` or ``"always"`` start and continue nevertheless.

        Args:
            specs: The specs; the results come in their order.
            schedule: ``"waves"``: the next wave starts when all specs of the previous one have ended. ``"eager"``: a
                spec starts when its own dependencies have ended, the one with the longest remaining chain first. The
                results are the same, except that with several failed dependencies a skipped spec names the first that
                failed.
            on_failure: The effect of a failure that is not allowed. ``"continue"``: specs that don't depend on it run.
                ``"no-new"``: no further spec starts; started ones finish, including their retries. ``"kill"``: running
                specs are stopped.
            timeout: Seconds for the whole run; after that, running specs are stopped as timed out, and the others
                skipped.
            cleanup_timeout: Seconds that specs with ``when="failure"`` or ``"always"`` have after a halt, counted from
                when only such specs are left; None for no limit.
            stopping: An event, such as `daemon.stopping`. Once it is set, no further spec starts, and running ones are
                stopped as by ``on_failure="kill"``; the run still ends with results, not with an exception.
            updates: Receives a `RunUpdate` at every change, and is closed at the end. The run itself never waits for
                its reader, but `run_all` returns only when the reader has taken all updates, so read it in another
                task.

        Returns:
            One result for every spec, in any case.

        Raises:
            PipelineError: Names or dependencies have faults, or a spec uses services and there is no supervisor;
                nothing was run. (A missing dependency or a cycle is a failed result instead.)
            OptionError: An option is invalid.
        """
        return await self._run_all(
            specs,
            schedule=schedule,
            restarts=None,
            on_failure=on_failure,
            timeout=timeout,
            cleanup_timeout=cleanup_timeout,
            stopping=stopping,
            updates=updates,
        )

    async def run_sequential(
        self,
        specs: Iterable[RunSpec],
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - as above
        cleanup_timeout: float | None = 30.0,
        stopping: trio.Event | None = None,
        updates: trio.MemorySendChannel[RunUpdate] | None = None,
    ) -> RunAllResult:
        """Run specs one after the other; after the first failure that is not allowed, skip the rest.

        Args:
            specs: The specs, in the order in which to run them; `after` is checked, but not obeyed. A spec with
                ``when="failure"`` runs if any spec before it failed, one with ``"always"`` in any case.
            timeout: As for `run_all`.
            cleanup_timeout: As for `run_all`.
            stopping: As for `run_all`.
            updates: As for `run_all`.

        Returns:
            One result for every spec; its `wave` is its position.

        Raises:
            PipelineError: Names or dependencies have faults, or a spec uses services and there is no supervisor;
                nothing was run.
            OptionError: An option is invalid.
        """
        async with open_outbox(updates) as report:
            checked = self._checked(specs)
            settings = RunSettings(
                rule=(Halt.NO_NEW, "a sequential run ends with the first failure"),
                room=self._room,
                timeout=_seconds("timeout", timeout),
                cleanup_timeout=_seconds("cleanup_timeout", cleanup_timeout),
                stopping=_event(stopping),
                supervisor=self._supervisor,
                report=report,
            )
            return await self._run(checked, sequential_plan(checked), settings)

    async def run_parallel(
        self,
        specs: Iterable[RunSpec],
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - as above
        stopping: trio.Event | None = None,
        updates: trio.MemorySendChannel[RunUpdate] | None = None,
    ) -> RunAllResult:
        """Run all specs at the same time, as far as `max_parallel` and the executor have room.

        Args:
            specs: The specs; `after` and `when` are checked, but not obeyed.
            timeout: As for `run_all`.
            stopping: As for `run_all`.
            updates: As for `run_all`.

        Returns:
            One result for every spec; the `wave` of all is 0.

        Raises:
            PipelineError: Names or dependencies have faults, or a spec uses services and there is no supervisor;
                nothing was run.
            OptionError: An option is invalid.
        """
        async with open_outbox(updates) as report:
            checked = self._checked(specs)
            settings = RunSettings(
                rule=(None, ""),
                room=self._room,
                timeout=_seconds("timeout", timeout),
                stopping=_event(stopping),
                supervisor=self._supervisor,
                report=report,
            )
            return await self._run(checked, parallel_plan(len(checked)), settings)

    async def _run_all(
        self,
        specs: Iterable[RunSpec],
        *,
        schedule: str,
        restarts: trio.MemoryReceiveChannel[Collection[str]] | None,
        on_failure: str,
        timeout: float | None,  # noqa: ASYNC109 - as above
        cleanup_timeout: float | None,
        stopping: trio.Event | None,
        updates: trio.MemorySendChannel[RunUpdate] | None,
    ) -> RunAllResult:
        async with open_outbox(updates) as report:
            halt = ON_FAILURE[_choice("on_failure", on_failure, ON_FAILURE)]
            eager = _choice("schedule", schedule, SCHEDULES) == "eager"
            checked = self._checked(specs)
            settings = RunSettings(
                rule=(halt, f"on_failure is {on_failure!r}"),
                room=self._room,
                eager=eager,
                in_order=True,
                timeout=_seconds("timeout", timeout),
                cleanup_timeout=_seconds("cleanup_timeout", cleanup_timeout),
                stopping=_event(stopping),
                supervisor=self._supervisor,
                restarts=restarts,
                report=report,
            )
            return await self._run(checked, make_plan(checked), settings)

    async def _run(self, specs: Sequence[RunSpec], plan: Plan, settings: RunSettings) -> RunAllResult:
        if self._executor.slots is not None:
            # zero slots are a mistake, unless slots come and go
            checks.whole(
                "the executor's slots", self._executor.slots, least=0 if hasattr(self._executor, "has_place") else 1
            )
        await trio.lowlevel.checkpoint()  # even with nothing to run
        memory = self._memory
        if isinstance(memory, str):
            memory = await trio.to_thread.run_sync(Memory, memory)
        settings = attrs.evolve(settings, memory=memory)
        return await Scheduler(self._executor, specs, plan, settings).run()

    def _room(self) -> int | None:
        """Return the weight that may currently run at the same time; a cluster's `slots` change as its agents come and go."""
        slots = self._executor.slots
        return min([limit for limit in (self._max_parallel, slots) if limit is not None], default=None)

    def _checked(self, specs: Iterable[RunSpec]) -> Sequence[RunSpec]:
        if isinstance(specs, (str, bytes, Mapping)) or not isinstance(specs, Iterable):
            raise bad_option("specs", f"must be a list of RunSpec, got {checks.brief(specs)}")
        checked = tuple(specs)
        for spec in checked:
            if not isinstance(spec, RunSpec):
                raise bad_option("specs", f"must be a list of RunSpec, got {checks.brief(spec)} in it")
        faults = find_faults(checked)
        if self._supervisor is None:
            faults += [
                f"{spec.name!r} uses {', '.join(map(repr, spec.uses))}: give the Runner a supervisor= that runs services"
                for spec in checked
                if spec.uses
            ]
        if faults:
            raise PipelineError(faults)
        return checked


async def run_restartable(
    runner: Runner,
    specs: Iterable[RunSpec],
    restarts: trio.MemoryReceiveChannel[Collection[str]],
    *,
    on_failure: str = "continue",
    timeout: float | None = None,  # noqa: ASYNC109 - as above
    cleanup_timeout: float | None = 30.0,
    stopping: trio.Event | None = None,
    updates: trio.MemorySendChannel[RunUpdate] | None = None,
) -> RunAllResult:
    """Run specs as `Runner.run_all` does with ``schedule="eager"``, and rerun them on request.

    A spec that is restarted while it runs is stopped first; others continue. The run ends once `restarts` is closed and
    every spec has a result, or by `timeout` or `stopping`. The next restart lifts a halt by `on_failure`. Services that
    specs use are kept running until the end of the whole run.

    Args:
        runner: The runner.
        specs: The specs.
        restarts: Receives names of specs to restart, together with all specs that depend on them.
        on_failure: As for `Runner.run_all`.
        timeout: As for `Runner.run_all`.
        cleanup_timeout: As for `Runner.run_all`.
        stopping: As for `Runner.run_all`.
        updates: As for `Runner.run_all`; a restarted spec is reported as pending.

    Returns:
        The last result of every spec.

    Raises:
        PipelineError: As for `Runner.run_all`.
    """
    return await runner._run_all(
        specs,
        schedule="eager",
        restarts=restarts,
        on_failure=on_failure,
        timeout=timeout,
        cleanup_timeout=cleanup_timeout,
        stopping=stopping,
        updates=updates,
    )


def _seconds(option: str, value: float | None) -> float | None:
    return None if value is None else checks.seconds(option, value)


def _event(value: object) -> trio.Event | None:
    if value is None or isinstance(value, trio.Event):
        return value
    raise bad_option("stopping", f"must be a trio.Event or None, got {checks.brief(value)}")
