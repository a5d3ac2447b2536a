"""Retry, timeout, failure mode, skip and `allow_failure`: every combination, against an oracle of its own.

One pipeline for all: `x` does what is tried; `needs` comes after it; `slow` runs for 10 s beside it; `again` fails at 0.4 s
and waits until 20.4 s for its second attempt, which passes; `later` comes after `slow`; `last` after `later`, allowed to
fail. A case is what x does, whether it may fail, how often it is retried (after 1 s), the mode, the schedule, and the
timeout of the whole.
"""

import math

import attrs
import pytest
import trio
from fakes import Does, FakeExecutor

from trio_process._core import (
    CommandFailedError,
    CommandResult,
    CommandTimeoutError,
    EndReason,
    ProcessError,
    ProcessStartError,
    ProgramNotFoundError,
    ServiceClosedError,
    Status,
)
from trio_process._pipeline import Runner, RunSpec, SpecState, make_plan
from trio_process._pipeline.rules import HALTS, TRANSITIONS, Cause, Change, Halt
from trio_process._pipeline.state_machine import StateMachine

PASSES, FAILS = Does(1.0), Does(1.0, 1)


@attrs.frozen
class Behaviour:
    """What x does, and what that should come to."""

    does: Does | tuple[Does, ...]
    passes_at: int = 0  # the attempt that passes, 0 for none
    seconds: float = 1.0
    retried: bool = True
    exit_code: int | None = 1
    error: type[ProcessError] | None = None
    reason: EndReason | None = EndReason.EXITED
    timeout: float | None = None


BEHAVIOURS = {
    "passes": Behaviour(PASSES, passes_at=1),
    "fails": Behaviour(FAILS),
    "fails once": Behaviour((FAILS, PASSES), passes_at=2),
    "times out": Behaviour(
        Does(math.inf), seconds=0.7, exit_code=-15, error=CommandTimeoutError, reason=EndReason.TIMED_OUT, timeout=0.7
    ),
    "dies of a signal": Behaviour(
        Does(1.0, -15), exit_code=-15, error=CommandFailedError, reason=EndReason.SIGNALLED
    ),
    "does not start": Behaviour(
        Does(error=ProcessStartError("no memory"), start_delay=0.2), seconds=0.2, exit_code=None, error=ProcessStartError, reason=None
    ),
    "is not found": Behaviour(
        Does(error=ProgramNotFoundError("no x"), start_delay=0.2), seconds=0.2, exit_code=None, error=ProgramNotFoundError, reason=None, retried=False
    ),
    "finds the service closed": Behaviour(
        Does(error=ServiceClosedError("closed"), start_delay=0.2),
        seconds=0.2, exit_code=None, error=ServiceClosedError, reason=None, retried=False,
    ),
    "is stopped by somebody": Behaviour(
        Does(1.0, 0, reason=EndReason.STOPPED), exit_code=0, error=CommandFailedError, reason=EndReason.STOPPED,
        retried=False,
    ),
    "is cancelled by somebody": Behaviour(
        Does(1.0, 0, reason=EndReason.CANCELLED), exit_code=0, error=CommandFailedError, reason=EndReason.CANCELLED,
        retried=False,
    ),
    "is killed by somebody": Behaviour(
        Does(1.0, -9, reason=EndReason.KILLED), exit_code=-9, error=CommandFailedError, reason=EndReason.KILLED
    ),
}  # fmt: skip


@attrs.frozen
class Expected:
    """What is to become of one spec."""

    state: SpecState
    attempts: int = 0
    exit_code: int | None = None
    error: type[ProcessError] | None = None
    says: str = ""
    reason: EndReason | None = None


PASSED = Expected(SpecState.PASSED, 1, 0, reason=EndReason.EXITED)


def skipped(says):
    return Expected(SpecState.SKIPPED, error=ProcessError, says=says)


def oracle(behaviour, allowed, retries, mode, schedule, limit):
    """Say what becomes of every spec, and whether the time runs out: the rules once more, as a story in time instead of as a machine."""
    limit_at = math.inf if limit is None else limit
    expected = {}
    # x, left alone
    runs = behaviour.passes_at if 0 < behaviour.passes_at <= 1 + retries else 1 + retries * behaviour.retried
    x_ends = runs * behaviour.seconds + (runs - 1) * 1.0
    good = 0 < behaviour.passes_at <= 1 + retries
    if limit_at == 0:
        return dict.fromkeys(("x", "needs", "slow", "again", "later", "last"), skipped("timeout")), True
    if limit_at < x_ends:
        attempt_ends = [n * behaviour.seconds + (n - 1) * 1.0 for n in range(1, runs + 1)]
        attempts = 1 + sum(end + 1.0 <= limit_at for end in attempt_ends[:-1])
        waits = attempt_ends[attempts - 1] <= limit_at
        code = behaviour.exit_code if waits else -15
        expected["x"] = Expected(
            SpecState.FAILED, attempts, code, CommandTimeoutError, "pipeline's timeout", EndReason.TIMED_OUT
        )
    elif good:
        expected["x"] = attrs.evolve(PASSED, attempts=runs)
    else:
        expected["x"] = Expected(SpecState.FAILED, runs, behaviour.exit_code, behaviour.error, reason=behaviour.reason)
    halted_at = x_ends if not good and not allowed and mode != "continue" and x_ends <= limit_at else math.inf
    killed_at = halted_at if mode == "kill" else math.inf

    def runs_alone(begin, end, code=0):
        """Say what becomes of a spec with one attempt, from begin to end, code or a stop."""
        if begin >= min(halted_at, limit_at):
            return skipped("timeout" if limit_at < halted_at else f"on_failure is '{mode}'")
        if end < min(killed_at, limit_at):
            return PASSED
        reason = EndReason.STOPPED if killed_at <= limit_at else EndReason.TIMED_OUT
        says = "on_failure is 'kill'" if reason is EndReason.STOPPED else "pipeline's timeout"
        kind = CommandFailedError if reason is EndReason.STOPPED else CommandTimeoutError
        return Expected(SpecState.FAILED, 1, -15, kind, says, reason)

    expected["slow"] = runs_alone(0, 10)
    again = min(killed_at, limit_at)
    if again < 0.4:
        expected["again"] = runs_alone(0, 20.4)
    elif again < 20.4:  # between its attempts
        expected["again"] = attrs.evolve(runs_alone(0, 20.4), exit_code=1)
    else:
        expected["again"] = attrs.evolve(PASSED, attempts=2)
    wave_ends = 21.4 if schedule == "waves" else None
    x_lets = good or allowed
    if x_ends <= limit_at and not x_lets:
        expected["needs"] = skipped("needs 'x', which failed")
    else:
        begin = wave_ends or x_ends
        expected["needs"] = runs_alone(begin, begin + 1)
    begin = wave_ends or 10
    expected["later"] = runs_alone(begin, begin + 1)
    begin = (wave_ends or 10) + 1
    expected["last"] = runs_alone(begin, begin + 1)
    return expected, limit_at < min(killed_at, 20.4)


@pytest.mark.parametrize("schedule", ["waves", "eager"])
@pytest.mark.parametrize("mode", ["continue", "no-new", "kill"])
@pytest.mark.parametrize("retries", [0, 1])
@pytest.mark.parametrize("allowed", [False, True], ids=["", "allowed"])
@pytest.mark.parametrize("kind", BEHAVIOURS)
async def test_every_combination_ends_as_the_oracle_says(kind, allowed, retries, mode, schedule, autojump_clock):
    behaviour = BEHAVIOURS[kind]
    for limit in (None, 0, 0.5, 1.5, 10.5):
        executor = FakeExecutor(
            {"x": behaviour.does, "slow": Does(10.0), "again": (Does(0.4, 1), Does(1.0)), "later": Does(1.0)}
        )
        specs = [
            RunSpec(
                name="x", command="x", allow_failure=allowed, retries=retries, retry_delay=1, timeout=behaviour.timeout
            ),
            RunSpec(name="needs", command="needs", after=["x"]),
            RunSpec(name="slow", command="slow"),
            RunSpec(name="again", command="again", retries=1, retry_delay=20),
            RunSpec(name="later", command="later", after=["slow"]),
            RunSpec(name="last", command="last", after=["later"], allow_failure=True),
        ]
        send, receive = trio.open_memory_channel(math.inf)
        with trio.fail_after(100):
            result = await Runner(executor).run_all(
                specs, schedule=schedule, on_failure=mode, timeout=limit, updates=send
            )
        assert not executor.running
        updates = [update async for update in receive]
        expected, timed_out = oracle(behaviour, allowed, retries, mode, schedule, limit)
        for one in result.results:
            wanted = expected[one.name]
            reason = one.command_result.reason if one.command_result else None
            case = f"limit {limit}, {one.name}: {one.error}"
            assert (one.state, one.attempts, one.exit_code, reason) == (
                wanted.state, wanted.attempts, wanted.exit_code, wanted.reason,
            ), case  # fmt: skip
            kind = wanted.error or type(None)
            assert isinstance(one.error, kind), case
            assert repr(type(one.error)) == repr(kind), case  # a kind of its own may be shown as another
            assert wanted.says in str(one.error), case
        assert result.timed_out is timed_out, limit
        check_updates(result, updates)


def check_updates(result, updates):
    """Hold the updates to the table of transitions, and their last to the result."""
    told = {one.name: [SpecState.PENDING] for one in result.results}
    assert [(u.name, u.state) for u in updates[: len(told)]] == [(name, SpecState.PENDING) for name in told]
    for update in updates[len(told) :]:
        assert update.state in TRANSITIONS[told[update.name][-1]].values()
        told[update.name].append(update.state)
        final = not TRANSITIONS[update.state]
        assert (update.result is not None) == final
    for one in result.results:
        assert told[one.name][-1] is one.state
        assert told[one.name].count(SpecState.RUNNING) == one.attempts


def test_the_tables_are_whole():
    assert set(TRANSITIONS) == set(SpecState)
    assert set(HALTS) == set(Halt)
    finals = {state for state, changes in TRANSITIONS.items() if not changes}
    assert finals == {SpecState.PASSED, SpecState.UP_TO_DATE, SpecState.FAILED, SpecState.SKIPPED}
    assert {change for changes in TRANSITIONS.values() for change in changes} == set(Change)


def machine_of(one, ended):
    """A machine with one spec that runs, and the list of those it wants ended."""
    machine = StateMachine(
        [one],
        make_plan([one]),
        rule=(None, ""),
        clock=lambda: 0.0,
        report=None,
        end=lambda index, reason: ended.append(reason),
    )
    machine.open()
    machine.begin(0)
    return machine


def test_the_reason_stays_that_of_a_stranger_who_came_first():
    machine = machine_of(RunSpec(name="a", command="a"), ended := [])
    machine.halt(Cause(Halt.KILL, "'b' failed"))
    machine.ended(0, CommandResult(command="a", exit_code=-9, status=Status.KILLED, reason=EndReason.KILLED))
    one = machine.result().results[0]
    assert ended == [EndReason.STOPPED]
    assert one.command_result.reason is EndReason.KILLED
    assert "'b'" not in str(one.error)


def test_what_was_asked_to_end_for_one_reason_is_not_asked_for_another():
    machine = machine_of(RunSpec(name="a", command="a"), ended := [])
    machine.halt(Cause(Halt.KILL, "'b' failed"))
    machine.halt(Cause(Halt.TIMEOUT, "too late"))
    machine.halt(Cause(Halt.NO_NEW, "too weak"))
    machine.ended(0, CommandResult(command="a", exit_code=-15, status=Status.KILLED, reason=EndReason.STOPPED))
    result = machine.result()
    assert ended == [EndReason.STOPPED]
    assert result.timed_out
    assert result.results[0].command_result.reason is EndReason.STOPPED
    assert str(result.results[0].error).startswith("'b' failed: ")


def test_a_death_by_signal_is_no_plain_exit_whatever_reason_an_executor_gives():
    machine = machine_of(RunSpec(name="a", command="a"), [])
    machine.ended(0, CommandResult(command="a", exit_code=-11, signal_name="SIGSEGV", status=Status.KILLED))
    assert isinstance(machine.result().results[0].error, CommandFailedError)


@pytest.mark.parametrize(
    ("state", "change"), [(s, c) for s, row in TRANSITIONS.items() for c in Change if c not in row]
)
def test_what_is_not_in_the_table_can_not_happen(state, change):
    machine = machine_of(RunSpec(name="a", command="a"), [])
    machine._progress[0].state = state
    with pytest.raises(KeyError):
        machine._change(0, change)
