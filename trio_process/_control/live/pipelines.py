"""Track the pipelines that run while the server is open: the state of each spec, from the runner's updates."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from typing import Any, Final, final

import attrs
import trio

from ..._core import command_line, shown, shown_args
from ..._pipeline import RunSpec, RunUpdate, SpecState, find_faults
from .hub import Hub, stamp

KEPT: Final = 50
"""The number of pipelines kept; beyond it, the oldest ended one is dropped."""

_OUTPUT_TAIL: Final = 4000
_FINAL: Final = frozenset({SpecState.PASSED, SpecState.FAILED, SpecState.SKIPPED})


@final
@attrs.define(eq=False)
class Step:
    """One spec of a pipeline, and its progress."""

    spec: RunSpec
    state: SpecState = SpecState.PENDING
    started: float | None = None
    ended: float | None = None
    attempts: int = 0
    result: dict[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the step, ready for JSON; times in seconds since the epoch."""
        options = self.spec.options
        return {
            "name": self.spec.name,
            "state": self.state.value,
            "command": command_line(shown(options.command), shown_args(options)),
            "after": list(self.spec.after),
            "allowFailure": self.spec.allow_failure,
            "started": self.started,
            "ended": self.ended,
            "attempts": self.attempts,
            "result": self.result,
        }


@final
@attrs.define(eq=False)
class Pipeline:
    """One run of a pipeline; its times are counted from its beginning, so that a step of the clock doesn't move them."""

    id: str
    name: str
    steps: dict[str, Step]
    began: float
    stopping: trio.Event | None = None
    ended: float | None = None
    faults: Sequence[str] = ()
    error: str | None = None
    over: trio.Event = attrs.field(factory=trio.Event)
    _zero: float = attrs.field(factory=time.monotonic, init=False)

    def now(self) -> float:
        """Return the time, in seconds since the epoch, by the clock as it was when the pipeline began."""
        return self.began + time.monotonic() - self._zero

    @property
    def state(self) -> str:
        """`running`, or how it ended: `passed`, `failed`, or `stopped` if some specs have no result."""
        if self.ended is None:
            return "running"
        if self.error is not None:
            return "failed"
        states = {step.state for step in self.steps.values() if not (step.spec.allow_failure and step.ended)}
        if SpecState.FAILED in states or SpecState.SKIPPED in states:
            return "failed"
        return "passed" if states <= {SpecState.PASSED} else "stopped"

    def row(self) -> dict[str, Any]:
        """Return the pipeline without its steps, ready for JSON."""
        counts: dict[str, int] = {}
        for step in self.steps.values():
            counts[step.state.value] = counts.get(step.state.value, 0) + 1
        return {
            "id": self.id,
            "name": self.name,
            "state": self.state,
            "began": stamp(self.began),
            "ended": None if self.ended is None else stamp(self.ended),
            "duration": round((self.ended or self.now()) - self.began, 3),
            "counts": counts,
            "error": self.error,
            "stoppable": self.stopping is not None and self.ended is None,
        }

    def to_dict(self) -> dict[str, Any]:
        """Return the pipeline with its steps, ready for JSON."""
        return self.row() | {"specs": [step.to_dict() for step in self.steps.values()]}

    def update(self, update: RunUpdate) -> dict[str, Any] | None:
        """Apply an update; return the step that has changed."""
        step = self.steps.get(update.name)
        if step is None:
            return None
        step.state = update.state
        if update.state is SpecState.RUNNING:
            step.attempts += 1
            step.started = step.started or self.now()
        elif update.state in _FINAL:
            step.ended = self.now() if step.started is not None else None
        if update.result is not None:
            result = update.result.to_dict()
            result.pop("commandResult", None)
            result["output"] = result["output"][-_OUTPUT_TAIL:]
            step.attempts = update.result.attempts
            step.result = result
        return step.to_dict()


@final
class Pipelines:
    """The known pipelines.

    Args:
        hub: Receives their updates.
    """

    __slots__ = ("_count", "_hub", "_known")

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._known: dict[str, Pipeline] = {}
        self._count = 0

    def get(self, id: str) -> Pipeline | None:  # noqa: A002 - its name everywhere
        """Return the pipeline with this id, or None."""
        return self._known.get(id)

    def rows(self) -> list[dict[str, Any]]:
        """Return all pipelines, newest first, ready for JSON."""
        return [pipeline.row() for pipeline in reversed(self._known.values())]

    def tasks(self) -> dict[str, int]:
        """Return how many specs of running pipelines are in each state."""
        counts = {state.value: 0 for state in SpecState}
        for pipeline in self._known.values():
            if pipeline.ended is None:
                for step in pipeline.steps.values():
                    counts[step.state.value] += 1
        return counts

    def add(
        self, name: str, specs: Iterable[RunSpec], stopping: trio.Event | None
    ) -> tuple[Pipeline, trio.MemorySendChannel[RunUpdate], trio.MemoryReceiveChannel[RunUpdate]]:
        """Return a new pipeline, and the channel of its updates."""
        self._count += 1
        specs = tuple(specs)
        steps = {spec.name: Step(spec) for spec in specs}
        pipeline = Pipeline(str(self._count), name, steps, time.time(), stopping, faults=find_faults(specs))
        self._known[pipeline.id] = pipeline
        ended = [each.id for each in self._known.values() if each.ended is not None]
        for old in ended[: max(0, len(self._known) - KEPT)]:
            del self._known[old]
        self._hub.publish("pipeline.update", pipeline.to_dict())
        # the runner queues unsent updates anyway, so an unbounded buffer takes no more memory, and never makes it wait
        send, receive = trio.open_memory_channel[RunUpdate](math.inf)
        return pipeline, send, receive

    async def follow(self, pipeline: Pipeline, updates: trio.MemoryReceiveChannel[RunUpdate]) -> None:
        """Apply the updates of a pipeline until its end; one without any was refused, or given up before it began."""
        began = not pipeline.steps
        async with updates:
            async for update in updates:
                began = True
                step = pipeline.update(update)
                if step is not None:
                    self._hub.publish("pipeline.update", pipeline.row() | {"specs": [step]})
        pipeline.ended = pipeline.now()
        if not began:
            pipeline.error = "; ".join(pipeline.faults) or "it ended before any of its tasks began"
        pipeline.over.set()
        self._hub.publish("pipeline.update", pipeline.row() | {"specs": []})
