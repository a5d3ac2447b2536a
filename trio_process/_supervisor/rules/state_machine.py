"""The state machine of a unit: pure, without a task, a process or a clock of its own.

Three pieces, each testable by itself:

* `TABLE`: which event leads from which state to which. It is data, so that the documentation prints it from here.
* `decide`: takes a state and the `Situation` of a unit, and returns the event that is due, or None. It depends on nothing
  else, so that every combination can be tried in a test.
* `Machine`: holds the state of one unit and its restart budget. `Machine.apply` is the only writer of the state, and
  the unit's own task is its only caller.

No task passes an event to a unit. Callers and other units change the wishes, from which a `Situation` is read, and wake
the task of the unit; the task calls `decide` until there is nothing to do. So a request can arrive in any state, any
number of times and in any order, and there is no queue in which it could be lost, doubled, or acted upon too late.

Only `ENDED` is in no row: what follows an end depends on the restart policy. `Machine.judge` turns it into `ENDED_WELL`,
`RETRY` or `GIVE_UP`. What follows a stop is decided when the group is empty, by the wishes at that time; a wish that
changes meanwhile costs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, NamedTuple, final

from ..._core import RestartLimitError, RestartPolicy, Restarts
from .states import AT_REST, UnitState


class UnitEvent(StrEnum):
    """What can happen to a unit; the values are the words of the documentation."""

    WANTED = "wanted"
    UNWANTED = "not wanted"
    CONDITIONS_HOLD = "conditions hold"
    CANT_COME = "a condition can't come"
    BECAME_READY = "ready or settled"
    START_TIMEOUT = "`start_timeout`"
    READINESS_LOST = "readiness lost"
    READINESS_BACK = "readiness back"
    LIVENESS_LOST = "liveness lost"
    RESTART = "restart"
    ENDED = "ended"
    ENDED_WELL = "ended well"
    RETRY = "failed, or ended under `always`"
    GIVE_UP = "failed, and the policy says so"
    GONE_UNWANTED = "group empty, not wanted"
    GONE_WANTED = "group empty, restart"
    STUCK = "alive 5 s after SIGKILL"
    DELAY_OVER = "delay over"
    START = "`start`, `restart`"
    GROUP_RESTART = "group restart"
    DEPENDENCY_CAME = "the missing dependency comes"


_RUNS: Final = {
    UnitEvent.ENDED_WELL: UnitState.COMPLETED,
    UnitEvent.RETRY: UnitState.BACKOFF,
    UnitEvent.GIVE_UP: UnitState.FAILED,
    UnitEvent.UNWANTED: UnitState.STOPPING,
    UnitEvent.RESTART: UnitState.STOPPING,
}

TABLE: Final[Mapping[UnitState, Mapping[UnitEvent, UnitState]]] = {
    UnitState.STOPPED: {UnitEvent.WANTED: UnitState.WAITING},
    UnitState.WAITING: {
        UnitEvent.CONDITIONS_HOLD: UnitState.STARTING,
        UnitEvent.CANT_COME: UnitState.SKIPPED,
        UnitEvent.UNWANTED: UnitState.STOPPED,
    },
    UnitState.STARTING: {
        UnitEvent.BECAME_READY: UnitState.READY,
        UnitEvent.START_TIMEOUT: UnitState.STOPPING,
        **_RUNS,
    },
    UnitState.READY: {
        UnitEvent.READINESS_LOST: UnitState.UNREADY,
        UnitEvent.LIVENESS_LOST: UnitState.STOPPING,
        **_RUNS,
    },
    UnitState.UNREADY: {
        UnitEvent.READINESS_BACK: UnitState.READY,
        UnitEvent.LIVENESS_LOST: UnitState.STOPPING,
        **_RUNS,
    },
    UnitState.STOPPING: {
        UnitEvent.GONE_UNWANTED: UnitState.STOPPED,
        UnitEvent.GONE_WANTED: UnitState.WAITING,
        UnitEvent.RETRY: UnitState.BACKOFF,
        UnitEvent.GIVE_UP: UnitState.FAILED,
        UnitEvent.STUCK: UnitState.FAILED,
    },
    UnitState.BACKOFF: {
        UnitEvent.DELAY_OVER: UnitState.WAITING,
        UnitEvent.START: UnitState.WAITING,
        UnitEvent.UNWANTED: UnitState.STOPPED,
    },
    UnitState.COMPLETED: {UnitEvent.START: UnitState.WAITING, UnitEvent.GROUP_RESTART: UnitState.WAITING},
    UnitState.FAILED: {UnitEvent.START: UnitState.WAITING},
    UnitState.SKIPPED: {UnitEvent.START: UnitState.WAITING, UnitEvent.DEPENDENCY_CAME: UnitState.WAITING},
}
"""From each state, what each event leads to; an event that is missing can't happen there."""


class Outlook(StrEnum):
    """Whether all conditions of a unit hold now, may still be met, or can't be."""

    HOLD = "hold"
    PENDING = "pending"
    HOPELESS = "hopeless"


class Situation(NamedTuple):
    """The input of `decide`: whether a unit is wanted, and the facts about its current run."""

    wanted: bool = True
    start_requested: bool = False
    """`start` or `restart` was called since it came to rest, or was put off."""
    restart_requested: bool = False
    grouped: bool = False
    """It is to be restarted together with another unit."""
    may_start: bool = True
    """Whatever has to be stopped before, for a group restart, is."""
    may_stop: bool = True
    """What depends on it, and is to be stopped as well, is."""
    outlook: Outlook = Outlook.HOLD
    ended: bool = False
    failed: bool = False
    """The run was stopped because it had failed: no readiness in time, or liveness lost."""
    ready: bool = False
    alive: bool = True
    """What the liveness probe says."""
    overdue: bool = False
    delay_over: bool = False
    stuck: bool = False
    """Something of the last run is still alive after SIGKILL."""


def decide(state: UnitState, situation: Situation) -> UnitEvent | None:
    """Return the event that is due, None if there is nothing to do."""
    match state:
        case UnitState.STOPPED:
            return UnitEvent.WANTED if situation.wanted else None
        case UnitState.WAITING:
            return _while_waiting(situation)
        case UnitState.STARTING | UnitState.READY | UnitState.UNREADY:
            return _while_running(state, situation)
        case UnitState.STOPPING:
            return _when_gone(situation)
        case UnitState.BACKOFF:
            return _while_put_off(situation)
        case _:
            return _at_rest(state, situation)


def _while_waiting(situation: Situation) -> UnitEvent | None:
    if not situation.wanted:
        return UnitEvent.UNWANTED
    if situation.outlook is Outlook.HOPELESS:
        return UnitEvent.CANT_COME
    if situation.outlook is Outlook.HOLD and situation.may_start:
        return UnitEvent.CONDITIONS_HOLD
    return None


def _while_running(state: UnitState, situation: Situation) -> UnitEvent | None:  # noqa: PLR0911 - a table in the shape of a match
    again = situation.restart_requested or situation.grouped
    if situation.ended or situation.may_stop:
        # an end while the unit is about to be stopped, perhaps caused by that, doesn't count as a failure
        if not situation.wanted:
            return UnitEvent.UNWANTED
        if again:
            return UnitEvent.RESTART
    if situation.ended:
        return UnitEvent.ENDED
    match state:
        case UnitState.STARTING if situation.ready:
            return UnitEvent.BECAME_READY
        case UnitState.STARTING if situation.overdue:
            return UnitEvent.START_TIMEOUT
        case UnitState.READY | UnitState.UNREADY if not situation.alive:
            return UnitEvent.LIVENESS_LOST
        case UnitState.READY if not situation.ready:
            return UnitEvent.READINESS_LOST
        case UnitState.UNREADY if situation.ready:
            return UnitEvent.READINESS_BACK
    return None


def _when_gone(situation: Situation) -> UnitEvent | None:
    if situation.stuck:
        return UnitEvent.STUCK
    if not situation.ended:
        return None
    if not situation.wanted:
        return UnitEvent.GONE_UNWANTED
    if situation.failed and not (situation.restart_requested or situation.grouped):
        return UnitEvent.ENDED
    return UnitEvent.GONE_WANTED


def _while_put_off(situation: Situation) -> UnitEvent | None:
    if not situation.wanted:
        return UnitEvent.UNWANTED
    if situation.start_requested or situation.restart_requested:
        return UnitEvent.START
    return UnitEvent.DELAY_OVER if situation.delay_over else None


def _at_rest(state: UnitState, situation: Situation) -> UnitEvent | None:
    if not situation.wanted:
        return None
    if (situation.start_requested or situation.restart_requested) and not situation.stuck:
        return UnitEvent.START
    if state is UnitState.COMPLETED and situation.grouped:
        return UnitEvent.GROUP_RESTART
    if state is UnitState.SKIPPED and situation.outlook is not Outlook.HOPELESS:
        return UnitEvent.DEPENDENCY_CAME
    return None


class Verdict(NamedTuple):
    """What follows an end: the event, the seconds until the next start, and the error of a failure."""

    event: UnitEvent
    delay: float = 0.0
    error: BaseException | None = None


@final
class Machine:
    """The state of one unit, and its restart budget.

    Args:
        policy: When it is restarted.

    Attributes:
        state: Its state; only `apply` writes it.
        restarts: How often it was restarted after it ended by itself, since it was last requested.
    """

    __slots__ = ("_budget", "_policy", "restarts", "state")

    def __init__(self, policy: RestartPolicy) -> None:
        self.state: UnitState = UnitState.STOPPED
        self.restarts: int = 0
        self.set_policy(policy)

    def set_policy(self, policy: RestartPolicy) -> None:
        """Use this policy from now on, with a new budget."""
        self._policy = policy
        self._budget = Restarts(policy)

    def apply(self, event: UnitEvent) -> UnitState:
        """Make the transition for an event, and return the previous state."""
        old = self.state
        self.state = TABLE[old][event]
        if old in AT_REST and event in (UnitEvent.START, UnitEvent.WANTED):
            self._budget = Restarts(self._policy)
            self.restarts = 0
        elif event is UnitEvent.RETRY:
            self.restarts += 1
        return old

    def judge(self, failure: BaseException | None, *, ran: float, now: float, chance: float) -> Verdict:
        """Return what follows an end.

        Args:
            failure: Its failure; None if it succeeded.
            ran: How long it had been ready, in seconds; a run that was never ready doesn't count as a good run.
            now: The time on any monotonic clock, in seconds.
            chance: A random number from 0 to 1.
        """
        try:
            delay = self._budget.ended(failure, ran=ran, now=now, chance=chance)
        except RestartLimitError as error:
            return Verdict(UnitEvent.GIVE_UP, error=error)
        if delay is not None:
            return Verdict(UnitEvent.RETRY, delay, failure)
        if failure is None:
            return Verdict(UnitEvent.ENDED_WELL)
        return Verdict(UnitEvent.GIVE_UP, error=failure)
