"""`Probing`: runs the probes of one unit."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import final

import trio

from ..._core import ActionProcessOutput, Subscription
from ..._process import Service
from ..probes import FROM_THEN_ON, UNTIL_READY, Asker, LineKind, Place, Probe
from ..runs import Run
from ..spec import REPLICA_VARIABLE, UnitSpec

Watch = Callable[["Question", Run], Awaitable[None]]


@final
class Probing:
    """Probes whether a unit is ready, and after its first readiness whether it is alive.

    Args:
        spec: Its spec.
        replica: Its number.
        label: The label of probe commands.
        service: The service that runs probe commands.
        nursery: The nursery for the tasks of probes.
    """

    __slots__ = ("_live", "_nursery", "_place", "_ready", "_scopes")

    def __init__(self, spec: UnitSpec, replica: int, label: str, service: Service, nursery: trio.Nursery) -> None:
        self._ready = None if spec.ready is None else Question(spec.ready._for_replica(replica))
        self._live = None if spec.live is None else Question(spec.live._for_replica(replica))
        env = {**spec.env, REPLICA_VARIABLE: str(replica)}
        self._place = Place(service, f"{label} (probe)", cwd=spec.cwd, env=env)
        self._nursery = nursery
        self._scopes: list[trio.CancelScope] = []

    @property
    def asks_for_readiness(self) -> bool:
        """Whether a probe decides about readiness."""
        return self._ready is not None

    def begin(self, run: Run) -> None:
        """Start to probe the readiness of a run."""
        if self._ready is not None:
            self._soon(self._watch_readiness, self._ready, run)

    def became_ready(self, run: Run) -> None:
        """Start to probe the liveness of a run, which has just become ready for the first time."""
        if self._live is not None:
            self._soon(self._watch_liveness, self._live, run)

    def end(self) -> None:
        """Stop probing: the run has ended. Probes in progress are cancelled, and their results are discarded."""
        for scope in self._scopes:
            scope.cancel()
        self._scopes.clear()

    def _soon(self, watch: Watch, question: Question, run: Run) -> None:
        scope = trio.CancelScope()
        self._scopes.append(scope)

        async def within() -> None:
            with scope:
                await watch(question, run)

        self._nursery.start_soon(within, name=f"{self._place.label} {question.probe!r}")

    async def _watch_readiness(self, question: Question, run: Run) -> None:
        probe = question.probe
        if isinstance(probe._kind, LineKind):
            await _await_line(probe._kind, run)
            return
        await trio.sleep(probe.initial_delay)
        streak = 0  # of successes, or below 0 of failures
        while True:
            asked = trio.current_time()
            ok, reason = await question.ask(self._place)
            await trio.lowlevel.checkpoint_if_cancelled()
            streak = (max(streak, 0) + 1) if ok else (min(streak, 0) - 1)
            ready = streak >= probe.successes or (run.ready and -streak < probe.failures)
            run.found(ready=ready, reason=reason)
            usual = FROM_THEN_ON if ready or run.ready_since is not None else UNTIL_READY
            await trio.sleep_until(asked + (probe.period or usual))

    async def _watch_liveness(self, question: Question, run: Run) -> None:
        probe = question.probe
        await trio.sleep(probe.initial_delay)
        failures = 0
        while True:
            asked = trio.current_time()
            ok, reason = await question.ask(self._place)
            await trio.lowlevel.checkpoint_if_cancelled()
            failures = 0 if ok else failures + 1
            if failures >= probe.failures:
                run.found(alive=False, reason=reason)
                return
            await trio.sleep_until(asked + (probe.period or FROM_THEN_ON))


@final
class Question:
    """A probe for one replica, and its `Asker`."""

    __slots__ = ("_asker", "probe")

    def __init__(self, probe: Probe) -> None:
        self.probe = probe
        self._asker = Asker(probe._kind, probe.timeout)

    async def ask(self, place: Place) -> tuple[bool, str]:
        """Run the probe once."""
        return await self._asker.ask(place)


async def _await_line(kind: LineKind, run: Run) -> None:
    """Wait for a line of this run's own process, so that a line of the previous run doesn't count."""
    assert run.process is not None, "a line is for commands only"
    if (output := run.take_output()) is not None:
        with output:
            if await _comes(kind, output):
                run.found(ready=True)
        return
    try:  # the probe is newer than the run
        await run.process.wait_for_line(kind.pattern)
    except Exception:  # noqa: BLE001 - it ended before, or its output was lost: both are looked at elsewhere
        return
    run.found(ready=True)


async def _comes(kind: LineKind, output: Subscription[ActionProcessOutput]) -> bool:
    """Return whether one of the lines matches; False if the output ends before."""
    while True:
        try:
            batch = await output.receive_batch()
        except trio.EndOfChannel:
            return False
        if any(map(kind.matches, batch.lines)):
            return True
