"""The restart policy: a pure state machine on a clock that is passed in."""

import math
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_process._core import (
    OptionError,
    ProcessStartError,
    ProgramNotFoundError,
    RestartLimitError,
    RestartMode,
    RestartPolicy,
    Restarts,
)

POLICIES = st.builds(
    RestartPolicy.on_failure,
    max_restarts=st.integers(0, 8),
    within=st.floats(0.1, 500),
    backoff=st.floats(0, 20),
    backoff_max=st.floats(0, 100),
    jitter=st.floats(0, 3),
)
RUNS = st.lists(st.tuples(st.floats(0, 300), st.floats(0, 1)), max_size=40)


def delays(policy, *runs, chance=0.0):
    """The delays after runs of these lengths, each ending in a failure, on a virtual clock."""
    restarts, now, found = Restarts(policy), 0.0, []
    for ran in runs:
        now += ran
        delay = restarts.ended(ValueError(), ran=ran, now=now, chance=chance)
        found.append(delay)
        now += delay or 0
    return found


def test_the_defaults_are_those_of_the_contract():
    policy = RestartPolicy.on_failure()
    assert (policy.max_restarts, policy.within, policy.backoff, policy.backoff_max, policy.jitter) == (
        5,
        60,
        0.5,
        60,
        0.5,
    )
    assert RestartPolicy.always().mode == RestartMode.ALWAYS
    assert RestartPolicy.never() == RestartPolicy()


def test_the_backoff_doubles_up_to_its_end():
    assert delays(RestartPolicy.on_failure(max_restarts=9, backoff_max=3), 0, 0, 0, 0, 0) == [0.5, 1, 2, 3, 3]


def test_the_jitter_only_adds():
    assert delays(RestartPolicy.on_failure(jitter=0.5), 0, 0, chance=1.0) == [0.75, 1.5]


def test_a_good_run_forgets_backoff_and_count():
    policy = RestartPolicy.on_failure(max_restarts=2)
    assert delays(policy, 0, 0, 10, 0) == [0.5, 1, 0.5, 1]


def test_a_run_shorter_than_twice_the_last_delay_is_not_good():
    policy = RestartPolicy.on_failure(max_restarts=9, backoff=20, within=1000)
    assert delays(policy, 0, 39.9, 80, 39.9) == [20, 40, 20, 40]


def test_one_restart_more_than_the_window_allows_is_a_storm():
    restarts = Restarts(RestartPolicy.on_failure(max_restarts=2, within=60))
    failure = ValueError("boom")
    for now in (0, 59):
        assert restarts.ended(failure, ran=0, now=now, chance=0) is not None
    with pytest.raises(RestartLimitError, match=r"2 restart.*1 min.*boom") as caught:
        restarts.ended(failure, ran=0, now=59.9, chance=0)
    assert caught.value.__cause__ is failure
    assert restarts.ended(failure, ran=0, now=60, chance=0) is not None  # the first one has left the window


def test_a_storm_of_plain_returns_has_no_cause():
    restarts = Restarts(RestartPolicy.always(max_restarts=0))
    with pytest.raises(RestartLimitError, match="it returned") as caught:
        restarts.ended(None, ran=0, now=0, chance=0)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("policy", "failure", "restarted"),
    [
        (RestartPolicy.never(), ValueError(), False),
        (RestartPolicy.never(), None, False),
        (RestartPolicy.on_failure(), None, False),
        (RestartPolicy.on_failure(), ProcessStartError("no"), True),
        (RestartPolicy.on_failure(), ProgramNotFoundError("no"), False),
        (RestartPolicy.on_failure(), ExceptionGroup("g", [ProgramNotFoundError("no")]), False),
        (RestartPolicy.on_failure(), ExceptionGroup("g", [ValueError()]), True),
        (RestartPolicy.on_failure(), KeyboardInterrupt(), False),
        (RestartPolicy.always(), SystemExit(), False),
        (RestartPolicy.always(), None, True),
        (RestartPolicy.always(), ValueError(), True),
    ],
)
def test_which_ends_are_restarted(policy, failure, restarted):
    assert (Restarts(policy).ended(failure, ran=0, now=0, chance=0) is not None) is restarted


@given(policy=POLICIES, runs=RUNS)
def test_a_delay_is_never_below_its_backoff_nor_above_it_by_more_than_the_jitter(policy, runs):
    restarts, now = Restarts(policy), 0.0
    for ran, chance in runs:
        now += ran
        try:
            delay = restarts.ended(ValueError(), ran=ran, now=now, chance=chance)
        except RestartLimitError:
            break
        assert restarts.delay <= policy.backoff_max
        assert restarts.delay <= delay <= restarts.delay * (1 + policy.jitter)
        now += delay


@given(policy=POLICIES, runs=RUNS)
def test_no_window_without_a_good_run_holds_more_restarts_than_allowed(policy, runs):
    restarts, now, times = Restarts(policy), 0.0, []
    for ran, chance in runs:
        now += ran
        if ran >= max(10, 2 * restarts.delay):
            times = []
        recent = [at for at in times if at > now - policy.within]
        try:
            delay = restarts.ended(ValueError(), ran=ran, now=now, chance=chance)
        except RestartLimitError:
            assert len(recent) == policy.max_restarts
            break
        assert len(recent) < policy.max_restarts
        times.append(now)
        now += delay


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("max_restarts", -1),
        ("max_restarts", 1.5),
        ("max_restarts", True),
        ("within", 0),
        ("backoff", -1),
        ("backoff", math.inf),
        ("backoff_max", math.nan),
        ("jitter", -0.1),
        ("jitter", "much"),
        ("jitter", math.nan),
    ],
)
def test_bad_values_are_refused_and_named(option, value):
    with pytest.raises(OptionError, match=option):
        RestartPolicy.on_failure(**{option: value})


def test_an_unlimited_number_of_restarts_can_be_asked_for():
    assert len(delays(RestartPolicy.on_failure(max_restarts=math.inf, backoff=0), *[0] * 500)) == 500


def test_a_bad_mode_names_the_choices():
    with pytest.raises(OptionError, match="'on_failure'"):
        RestartPolicy(mode="sometimes")


def test_restarts_without_a_limit_are_not_counted_for_ever():
    restarts = Restarts(RestartPolicy.always(max_restarts=math.inf, within=math.inf, backoff=0))
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for now in range(20_000):
        assert restarts.ended(None, ran=0, now=now, chance=0) == 0
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert after - before < 20_000
