"""The words of the supervisor: the states of a unit, what others may wait for, and what restarts together."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class UnitState(StrEnum):
    """Where a unit stands; `trio_process._supervisor.rules.state_machine` has the table of the transitions."""

    STOPPED = "stopped"
    WAITING = "waiting"
    STARTING = "starting"
    READY = "ready"
    UNREADY = "unready"
    STOPPING = "stopping"
    BACKOFF = "backoff"
    COMPLETED = "completed"
    FAILED = "failed"
    SKIPPED = "skipped"


RUNNING: Final = frozenset({UnitState.STARTING, UnitState.READY, UnitState.UNREADY})
"""The states in which a process or an async function runs and isn't being stopped."""

AT_REST: Final = frozenset({UnitState.STOPPED, UnitState.COMPLETED, UnitState.FAILED, UnitState.SKIPPED})
"""The states in which nothing runs, and nothing will unless it is asked for."""


class UnitCondition(StrEnum):
    """What a unit waits for in another one, at every start; of several replicas, all of them.

    `STARTED`: it runs or has completed. `READY`: it is ready or has completed. `COMPLETED`: it has ended well. `ENDED`:
    it has completed or failed.
    """

    STARTED = "started"
    READY = "ready"
    COMPLETED = "completed"
    ENDED = "ended"


HOLDS_IN: Final[dict[UnitCondition, frozenset[UnitState]]] = {
    UnitCondition.STARTED: RUNNING | {UnitState.COMPLETED},
    UnitCondition.READY: frozenset({UnitState.READY, UnitState.COMPLETED}),
    UnitCondition.COMPLETED: frozenset({UnitState.COMPLETED}),
    UnitCondition.ENDED: frozenset({UnitState.COMPLETED, UnitState.FAILED}),
}
"""The states of the other unit in which a condition holds."""

HOPELESS_IN: Final[dict[UnitCondition, frozenset[UnitState]]] = {
    condition: frozenset({UnitState.FAILED, UnitState.SKIPPED}) - HOLDS_IN[condition] for condition in UnitCondition
}
"""The states of the other unit in which a condition can't come any more."""


class Strategy(StrEnum):
    """What is restarted together with a unit that is restarted: nothing, all, or its transitive dependents."""

    ONE_FOR_ONE = "one_for_one"
    ONE_FOR_ALL = "one_for_all"
    REST_FOR_ONE = "rest_for_one"
