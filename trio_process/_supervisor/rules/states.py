"""The enums of the supervisor: the states of a unit, the conditions for dependents, and the restart strategies."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class UnitState(StrEnum):
    """The state of a unit.

    Attributes:
        STOPPED: It is not running: it was stopped, or not started yet.
        WAITING: It waits for the conditions of its dependencies.
        STARTING: It is running, but not ready yet.
        READY: It is running and ready.
        UNREADY: It is running, but its readiness probe has failed since it was ready.
        STOPPING: It was asked to stop, and is still running.
        BACKOFF: It has ended, and waits for its next start.
        COMPLETED: It has ended successfully, and is not restarted.
        FAILED: It has failed for good.
        SKIPPED: It was not started, because a dependency can't meet its condition any more.
    """

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
    """The condition of another unit that a unit waits for at every start; all replicas must meet it.

    Attributes:
        STARTED: It is running or has completed.
        READY: It is ready or has completed.
        COMPLETED: It has completed.
        ENDED: It has completed or failed.
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
    """Which other units are restarted together with a unit that is restarted.

    Units that have completed are among them. If a unit is stopped, and started later, the completed units that depend on
    it run again when they are wanted, except with `ONE_FOR_ONE`.

    Attributes:
        ONE_FOR_ONE: None.
        ONE_FOR_ALL: All of them.
        REST_FOR_ONE: Those that depend on it, directly or through others.
    """

    ONE_FOR_ONE = "one_for_one"
    ONE_FOR_ALL = "one_for_all"
    REST_FOR_ONE = "rest_for_one"
