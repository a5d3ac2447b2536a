import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_process._core import (
    TRANSITIONS,
    EndReason,
    OptionError,
    Status,
    Stdio,
    Stream,
    member,
    signal_name,
    signal_number,
)
from trio_process._process.lifecycle import NEXT, Phase

statuses = st.sampled_from(Status)


FINAL = {Status.EXITED, Status.FAILED, Status.KILLED}
STATUSES = {phase: {Status.RUNNING} for phase in Phase} | {Phase.STARTING: {Status.PENDING}, Phase.ENDED: FINAL}


@pytest.mark.parametrize(
    ("phase", "after"), [(phase, after) for phase in Phase for after in Phase if after in NEXT[phase]]
)
def test_a_state_only_becomes_what_the_table_allows(phase, after):
    (before,) = STATUSES[phase]
    allowed = {before} | TRANSITIONS[before]
    assert STATUSES[after] & allowed
    if before is not Status.PENDING:  # what never ran has only failed
        assert STATUSES[after] <= allowed


@given(st.lists(statuses, max_size=6))
def test_every_walk_from_pending_ends_after_two_steps(wishes):
    status = Status.PENDING
    walked = [status]
    for wish in wishes:
        if wish in TRANSITIONS[status]:
            status = wish
            walked.append(status)
    assert len(walked) <= 3
    assert len(set(walked)) == len(walked)


def test_the_table_is_that_of_the_contract():
    final = {Status.EXITED, Status.FAILED, Status.KILLED}
    assert set(TRANSITIONS) == set(Status)
    assert TRANSITIONS[Status.PENDING] == {Status.RUNNING, Status.FAILED}
    assert TRANSITIONS[Status.RUNNING] == final
    assert not any(TRANSITIONS[status] for status in final)


@pytest.mark.parametrize("kind", [Status, EndReason, Stream, Stdio])
def test_values_are_the_lower_case_words(kind):
    for choice in kind:
        assert choice.value == choice.name.lower()
        assert member(kind, choice.value, "x") is choice
        assert member(kind, choice, "x") is choice


def test_an_unknown_word_is_refused_with_the_choices():
    with pytest.raises(OptionError, match="stdin must be one of 'pipe', 'null', 'inherit', 'stdout', got 'pip'"):
        member(Stdio, "pip", "stdin")


@pytest.mark.parametrize(
    ("number", "name"), [(15, "SIGTERM"), (9, "SIGKILL"), (37, "SIGRTMIN+3"), (64, "SIGRTMAX"), (32, "signal 32")]
)
def test_signals_have_names(number, name):
    assert signal_name(number) == name


@pytest.mark.parametrize("value", [15, "SIGTERM", "term", "TERM", "sigterm"])
def test_a_signal_is_given_by_number_or_name(value):
    assert signal_number(value) == 15


@pytest.mark.parametrize("value", [0, -1, 65, 1000, "SIGNOPE", "", True, None, 1.5, b"SIGTERM", "SIG_DFL"])
def test_what_is_no_signal_is_refused(value):
    with pytest.raises(OptionError, match="must be a signal, such as"):
        signal_number(value)
