"""The state machine by itself: its table is the contract's, and `decide` never asks for what the table doesn't have."""

import itertools
import random

import pytest

from trio_process import RestartLimitError, RestartPolicy, UnitState
from trio_process._supervisor import TABLE, Machine, Outlook, Situation, UnitEvent, decide

S, E = UnitState, UnitEvent

CONTRACT = {
    S.STOPPED: {S.WAITING},
    S.WAITING: {S.STARTING, S.SKIPPED, S.STOPPED},
    S.STARTING: {S.READY, S.COMPLETED, S.BACKOFF, S.FAILED, S.STOPPING},
    S.READY: {S.UNREADY, S.STOPPING, S.COMPLETED, S.BACKOFF, S.FAILED},
    S.UNREADY: {S.READY, S.STOPPING, S.COMPLETED, S.BACKOFF, S.FAILED},
    S.STOPPING: {S.STOPPED, S.WAITING, S.BACKOFF, S.FAILED},
    S.BACKOFF: {S.WAITING, S.STOPPED},
    S.COMPLETED: {S.WAITING},
    S.FAILED: {S.WAITING},
    S.SKIPPED: {S.WAITING},
}

BOOLEANS = [name for name in Situation._fields if name != "outlook"]


def situations():
    for values in itertools.product((False, True), repeat=len(BOOLEANS)):
        for outlook in Outlook:
            yield Situation(outlook=outlook, **dict(zip(BOOLEANS, values, strict=True)))


def test_the_table_leads_where_the_contract_says():
    assert {state: set(events.values()) for state, events in TABLE.items()} == CONTRACT


@pytest.mark.parametrize("state", S)
def test_decide_only_asks_for_events_that_the_state_has(state):
    asked = {decide(state, situation) for situation in situations()} - {None}
    expected = set(TABLE[state])
    if E.ENDED in asked:  # what becomes of an end is the policy's
        asked.discard(E.ENDED)
        expected -= {E.ENDED_WELL, E.RETRY, E.GIVE_UP}
    assert asked == expected


@pytest.mark.parametrize("state", [S.STARTING, S.READY, S.UNREADY])
def test_what_is_not_wanted_is_stopped_when_it_is_its_turn(state):
    alive = Situation(wanted=False, ready=state is not S.UNREADY)
    assert decide(state, alive) is E.UNWANTED
    if state is not S.STARTING:
        assert decide(state, alive._replace(may_stop=False)) is None
    assert decide(state, alive._replace(may_stop=False, ended=True)) is E.UNWANTED


def test_an_end_during_a_restart_is_no_failure_of_its_own():
    for wish in ({"restart_requested": True}, {"grouped": True}):
        assert decide(S.READY, Situation(ended=True, ready=True, **wish)) is E.RESTART
        assert decide(S.STOPPING, Situation(ended=True, **wish)) is E.GONE_WANTED


def test_what_is_stuck_is_never_started_beside():
    for state in (S.FAILED, S.COMPLETED, S.SKIPPED):
        asked = Situation(start_requested=True, restart_requested=True, stuck=True, outlook=Outlook.HOPELESS)
        assert decide(state, asked) is None
        assert decide(state, asked._replace(stuck=False)) is E.START
    assert decide(S.STOPPING, Situation(stuck=True, ended=True)) is E.STUCK


def test_a_hard_end_comes_before_readiness():
    assert decide(S.STARTING, Situation(ready=True, ended=True)) is E.ENDED
    assert decide(S.STARTING, Situation(ready=True, overdue=True)) is E.BECAME_READY


@pytest.mark.parametrize(
    ("policy", "failure", "event"),
    [
        (RestartPolicy.never(), None, E.ENDED_WELL),
        (RestartPolicy.never(), ValueError("x"), E.GIVE_UP),
        (RestartPolicy.on_failure(), None, E.ENDED_WELL),
        (RestartPolicy.on_failure(), ValueError("x"), E.RETRY),
        (RestartPolicy.on_failure(), KeyboardInterrupt(), E.GIVE_UP),
        (RestartPolicy.always(), None, E.RETRY),
        (RestartPolicy.always(), ValueError("x"), E.RETRY),
        (RestartPolicy.always(max_restarts=0), None, E.GIVE_UP),
    ],
)
def test_the_policy_judges_an_end(policy, failure, event):
    assert Machine(policy).judge(failure, ran=0.0, now=0.0, chance=0.0).event is event


def test_a_storm_ends_with_its_limit_and_its_cause():
    machine = Machine(RestartPolicy.on_failure(max_restarts=2, jitter=0.0))
    failure = ValueError("again")
    verdicts = [machine.judge(failure, ran=0.0, now=float(now), chance=0.0) for now in range(3)]
    assert [verdict.delay for verdict in verdicts] == [0.5, 1.0, 0.0]
    assert isinstance(verdicts[-1].error, RestartLimitError)
    assert verdicts[-1].error.__cause__ is failure


def test_a_run_that_was_never_ready_is_no_good_run():
    machine = Machine(RestartPolicy.on_failure(max_restarts=1))
    assert machine.judge(ValueError(), ran=0.0, now=0.0, chance=0.0).event is E.RETRY
    assert machine.judge(ValueError(), ran=0.0, now=30.0, chance=0.0).event is E.GIVE_UP


@pytest.mark.parametrize("state", [S.COMPLETED, S.FAILED, S.SKIPPED])
def test_a_start_from_rest_has_a_new_budget(state):
    machine = Machine(RestartPolicy.on_failure(max_restarts=1))
    machine.judge(ValueError(), ran=0.0, now=0.0, chance=0.0)
    machine.restarts = 1
    machine.state = state
    machine.apply(E.START)
    assert machine.restarts == 0
    assert machine.judge(ValueError(), ran=0.0, now=0.0, chance=0.0).event is E.RETRY


def test_every_way_through_the_table_comes_back_to_rest():
    chance = random.Random(1)
    for _ in range(200):
        machine = Machine(RestartPolicy.never())
        for _ in range(50):
            machine.apply(chance.choice(list(TABLE[machine.state])))
        for event in (E.UNWANTED, E.GONE_UNWANTED):
            if event in TABLE[machine.state]:
                machine.apply(event)
        assert machine.state in {S.STOPPED, S.COMPLETED, S.FAILED, S.SKIPPED}
