"""The runner on virtual time: who begins when, what stops whom, and what is told of it."""

import gc
import math
import re
import time

import attrs
import pytest
import trio
from fakes import FAILS, FOREVER, NOT_FOUND, Does, FakeExecutor, moments, spec
from hypothesis import given, settings
from hypothesis import strategies as st

from trio_process._core import (
    CommandFailedError,
    CommandResult,
    CommandTimeoutError,
    EndReason,
    OptionError,
    PipelineError,
    ProcessError,
    ProgramNotFoundError,
    Status,
    StopFailedError,
)
from trio_process._pipeline import RunAllResult, Runner, RunSpec, SpecState


def states(result):
    return {one.name: one.state.value for one in result.results}


async def test_specs_run_after_what_they_need_and_results_come_in_input_order(autojump_clock):
    executor = FakeExecutor({"lint": Does(2.0, output=b"clean\n")})
    with trio.fail_after(60):
        result = await Runner(executor).run_all([spec("test", "lint", timeout=600, retries=1), spec("lint")])
    assert [one.name for one in result.results] == ["test", "lint"]
    assert moments(executor) == {"lint": [0, 2], "test": [2, 3]}
    test, lint = result.results
    assert (lint.wave, lint.attempts, lint.exit_code, lint.duration, lint.output) == (0, 1, 0, 2.0, "clean\n")
    assert (test.wave, test.started, test.error, test.passed, test.skipped) == (1, 2.0, None, True, False)
    assert test.command_result.id == "test-1"
    assert (result.duration, result.passed, result.failed, result.skipped) == (3.0, 2, 0, 0)
    assert result.success
    assert result.acceptable
    assert not result.timed_out


GRAPH = [spec("a"), spec("b"), spec("after a", "a"), spec("after b", "b"), spec("last", "after a")]
BEHAVIOURS = {"a": Does(1.0), "b": Does(5.0), "after a": Does(2.0), "after b": Does(1.0), "last": Does(1.0)}


async def test_a_wave_begins_when_the_one_before_it_has_ended(autojump_clock):
    executor = FakeExecutor(BEHAVIOURS)
    with trio.fail_after(60):
        await Runner(executor).run_all(GRAPH, schedule="waves")
    assert moments(executor) == {"a": [0, 1], "b": [0, 5], "after a": [5, 7], "after b": [5, 6], "last": [7, 8]}


async def test_without_barriers_a_spec_begins_when_its_own_needs_have_ended(autojump_clock):
    executor = FakeExecutor(BEHAVIOURS)
    with trio.fail_after(60):
        await Runner(executor).run_all(GRAPH, schedule="eager")
    assert moments(executor) == {"a": [0, 1], "b": [0, 5], "after a": [1, 3], "after b": [5, 6], "last": [3, 4]}


async def test_eager_begins_with_the_longest_remaining_chain(autojump_clock):
    executor = FakeExecutor()
    specs = [spec("alone"), spec("short"), spec("s2", "short"), spec("long"), spec("l2", "long"), spec("l3", "l2")]
    with trio.fail_after(60):
        await Runner(executor, max_parallel=1).run_all(specs, schedule="eager")
    assert executor.started() == ["long", "short", "l2", "alone", "s2", "l3"]


async def test_a_wave_begins_in_input_order(autojump_clock):
    executor = FakeExecutor()
    specs = [spec("z"), spec("y"), spec("later", "y"), spec("x")]
    with trio.fail_after(60):
        await Runner(executor, max_parallel=1).run_all(specs)
    assert executor.started() == ["z", "y", "x", "later"]


@pytest.mark.parametrize(
    ("limit", "slots", "peak"), [(3, None, 3), (None, 2, 2), (3, 2, 2), (2, 9, 2), (None, None, 8)]
)
async def test_no_more_run_than_there_is_room_for(limit, slots, peak, autojump_clock):
    executor = FakeExecutor(slots=slots)
    with trio.fail_after(60):
        result = await Runner(executor, max_parallel=limit).run_all([spec(f"t{n}") for n in range(8)])
    assert result.passed == 8
    assert executor.peak == peak
    assert result.duration == math.ceil(8 / peak)


async def test_room_counts_weights_and_the_heavy_are_not_passed_by(autojump_clock):
    executor = FakeExecutor()
    specs = [spec("light"), spec("heavy", weight=3), spec("light too"), spec("too heavy", weight=100), spec("last")]
    with trio.fail_after(60):
        await Runner(executor, max_parallel=3).run_all(specs)
    assert moments(executor) == {
        "light": [0, 1], "heavy": [1, 2], "light too": [2, 3], "too heavy": [3, 4], "last": [4, 5],
    }  # fmt: skip


async def test_what_waits_to_be_retried_takes_no_room(autojump_clock):
    executor = FakeExecutor({"flaky": (FAILS, Does(1.0))})
    with trio.fail_after(60):
        result = await Runner(executor, max_parallel=1).run_all(
            [spec("flaky", retries=1, retry_delay=0.5), spec("b"), spec("c")]
        )
    assert moments(executor) == {"flaky": [0, 1, 2, 3], "b": [1, 2], "c": [3, 4]}
    flaky = result.results[0]
    assert (flaky.attempts, flaky.started, flaky.duration, flaky.passed) == (2, 0, 3, True)


@st.composite
def runs(draw):
    count = draw(st.integers(1, 9))
    specs, behaviours = [], {}
    for place in range(count):
        after = [f"t{n}" for n in range(place) if draw(st.integers(0, 2)) == 0]
        if draw(st.integers(0, 12)) == 0:
            after.append(draw(st.sampled_from(["gone", f"t{count - 1}"])))
        after = [name for name in dict.fromkeys(after) if name != f"t{place}"]
        specs.append(
            spec(
                f"t{place}", *after, allow_failure=draw(st.booleans()), retries=draw(st.integers(0, 2)),
                retry_delay=draw(st.sampled_from([0, 1.5])), weight=draw(st.integers(1, 3)),
            )
        )  # fmt: skip
        one = st.builds(Does, st.sampled_from([0.0, 1.0, 2.5]), st.sampled_from([0, 0, 0, 1, -9]))
        behaviours[f"t{place}"] = draw(st.lists(one, min_size=1, max_size=3))
    return draw(st.permutations(specs)), behaviours, draw(st.sampled_from([None, 1, 2, 4]))


async def _run(specs, behaviours, limit, **options):
    executor = FakeExecutor({name: tuple(does) for name, does in behaviours.items()})
    with trio.fail_after(10_000):
        return executor, await Runner(executor, max_parallel=limit).run_all(specs, **options)


@settings(deadline=None)
@given(runs())
def test_both_schedules_give_the_same_results_and_keep_every_rule(case):
    specs, behaviours, limit = case
    found = []
    for schedule in ("waves", "eager"):
        clock = trio.testing.MockClock(autojump_threshold=0)
        executor, result = trio.run(lambda s=schedule: _run(specs, behaviours, limit, schedule=s), clock=clock)
        found.append([(r.name, r.state, r.exit_code, r.wave, r.attempts, type(r.error)) for r in result.results])
        times = moments(executor)
        results = {one.name: one for one in result.results}
        assert [one.name for one in result.results] == [one.name for one in specs]
        for one in specs:
            if one.name not in times:
                assert results[one.name].attempts == 0
                continue
            for needed in one.after:
                assert results[needed].passed or results[needed].allowed
                assert times[needed][-1] <= times[one.name][0]
        changes = sorted(
            [(at, what == "start", name) for what, name, at in executor.events], key=lambda change: change[:2]
        )
        weights = {one.name: min(one.weight, limit or math.inf) for one in specs}
        load = 0
        for _, begins, name in changes:
            load += weights[name] if begins else -weights[name]
            assert limit is None or load <= limit or any(d.seconds == 0 for d in behaviours[name])
    assert found[0] == found[1]


@settings(deadline=None)
@given(runs(), st.sampled_from(["no-new", "kill"]), st.sampled_from([None, 0, 0.7, 3.2]))
def test_whatever_happens_every_spec_gets_one_result_and_nothing_runs_on(case, mode, timeout):
    specs, behaviours, limit = case
    clock = trio.testing.MockClock(autojump_threshold=0)
    executor, result = trio.run(
        lambda: _run(specs, behaviours, limit, schedule="eager", on_failure=mode, timeout=timeout), clock=clock
    )
    assert [one.name for one in result.results] == [one.name for one in specs]
    assert result.passed + result.failed + result.skipped == len(specs)
    assert not executor.running
    for one in result.results:
        assert (one.exit_code is None) or one.attempts or one.wave is None
        assert one.error is not None or one.passed or one.exit_code != 0


async def test_a_missing_dependency_and_a_cycle_fail_and_the_rest_runs(autojump_clock):
    executor = FakeExecutor()
    specs = [
        spec("build"), spec("test", "biuld", allow_failure=True), spec("after test", "test"),
        spec("a", "b"), spec("b", "a"), spec("after a", "a"),
    ]  # fmt: skip
    with trio.fail_after(60):
        result = await Runner(executor).run_all(specs, on_failure="kill")
    assert executor.started() == ["build"]
    for one in result.results[1:]:
        assert (one.exit_code, one.wave, one.attempts, one.skipped, one.passed) == (1, None, 0, False, False)
        assert isinstance(one.error, ProcessError)
    test, after_test, a, b, after_a = [str(one.error) for one in result.results[1:]]
    assert "'biuld'" in test
    assert "'build'" in test
    assert "'biuld'" in after_test
    assert "a → b → a" in a
    assert "a → b → a" in b
    assert "a → b → a" in after_a
    assert (result.success, result.acceptable, result.failed) == (False, False, 5)


async def test_a_missing_dependency_alone_is_not_forgiven_by_allow_failure(autojump_clock):
    with trio.fail_after(60):
        result = await Runner(FakeExecutor()).run_all([spec("a", "gone", allow_failure=True)])
    assert not result.acceptable


async def test_an_allowed_failure_is_acceptable_and_lets_its_dependents_run(autojump_clock):
    executor = FakeExecutor({"a": FAILS})
    with trio.fail_after(60):
        result = await Runner(executor).run_all([spec("a", allow_failure=True), spec("b", "a")], on_failure="kill")
    assert states(result) == {"a": "failed", "b": "passed"}
    assert (result.success, result.acceptable) == (False, True)


async def test_a_failure_skips_its_dependents_in_cascade_each_naming_whom(autojump_clock):
    executor = FakeExecutor({"a": FAILS})
    specs = [spec("a"), spec("b", "a", allow_failure=True), spec("c", "b"), spec("beside")]
    with trio.fail_after(60):
        result = await Runner(executor).run_all(specs)
    assert states(result) == {"a": "failed", "b": "skipped", "c": "skipped", "beside": "passed"}
    assert str(result.results[1].error) == "skipped: it needs 'a', which failed"
    assert str(result.results[2].error) == "skipped: it needs 'b', which was skipped, as 'a' failed"
    assert result.results[1].exit_code is None
    assert not result.acceptable


async def test_kill_stops_what_runs_with_its_own_grace_and_says_for_whom(autojump_clock):
    executor = FakeExecutor({"bad": FAILS, "long": FOREVER, "deaf": Does(math.inf, deaf=True)})
    specs = [spec("bad"), spec("long"), spec("deaf", grace_period=3), spec("last", "long")]
    with trio.fail_after(60):
        result = await Runner(executor).run_all(specs, on_failure="kill")
    assert moments(executor) == {"bad": [0, 1], "long": [0, 1], "deaf": [0, 4]}
    for one in result.results[1:3]:
        assert one.command_result.reason is EndReason.STOPPED
        assert isinstance(one.error, CommandFailedError)
        assert str(one.error).startswith("'bad' failed, and on_failure is 'kill': `")
    assert str(result.results[3].error) == "skipped: 'bad' failed, and on_failure is 'kill'"
    assert not result.timed_out


async def test_the_timeout_of_the_whole_ends_in_results_not_in_an_exception(autojump_clock):
    executor = FakeExecutor({"long": FOREVER})
    specs = [spec("quick"), spec("long", allow_failure=True), spec("after quick", "quick"), spec("after long", "long")]
    with trio.fail_after(60):
        result = await Runner(executor).run_all(specs, timeout=3)
    assert states(result) == {"quick": "passed", "long": "failed", "after quick": "skipped", "after long": "skipped"}
    long = result.results[1]
    assert isinstance(long.error, CommandTimeoutError)
    assert long.command_result.reason is EndReason.TIMED_OUT
    assert str(result.results[2].error) == "skipped: the pipeline's timeout of 3 s ran out"
    assert (result.timed_out, result.success, result.acceptable, result.duration) == (True, False, False, 3.0)


async def test_a_start_that_takes_its_time_is_not_waited_for(autojump_clock):
    executor = FakeExecutor({"slow": Does(start_delay=math.inf)})
    with trio.fail_after(60):
        result = await Runner(executor).run_all([spec("slow")], timeout=2)
    slow = result.results[0]
    assert (slow.exit_code, slow.attempts, slow.command_result.reason) == (None, 1, EndReason.TIMED_OUT)
    assert isinstance(slow.error, CommandTimeoutError)
    assert "before it ran" in str(slow.error)


async def test_nothing_begins_with_no_time_at_all(autojump_clock):
    executor = FakeExecutor()
    with trio.fail_after(60):
        result = await Runner(executor).run_all([spec("a"), spec("b", "a")], timeout=0)
    assert executor.started() == []
    assert (result.skipped, result.timed_out, result.success) == (2, True, False)


async def test_too_little_time_is_never_acceptable(autojump_clock):
    with trio.fail_after(60):
        result = await Runner(FakeExecutor({"a": FOREVER})).run_all([spec("a", allow_failure=True)], timeout=1)
    assert result.results[0].allowed
    assert not result.acceptable


async def test_what_is_to_end_before_its_first_step_is_not_begun(autojump_clock):
    class Recorder:
        slots = None

        async def run_process(self, options, *, check=True, task_status):
            seen.append(options.name)
            if options.name == "bad":
                raise ProcessError("at once")
            await trio.sleep(1)
            return CommandResult(command="x", exit_code=0)

    for _ in range(30):  # in which order tasks of one moment run is trio's secret
        seen = []
        with trio.fail_after(60):
            await Runner(Recorder()).run_all([spec("bad"), spec("other")], on_failure="kill")
        assert seen in (["bad"], ["other", "bad"])


async def test_a_plain_failure_has_no_error_and_a_signal_has_one(autojump_clock):
    executor = FakeExecutor({"code": Does(1.0, 3), "fine": Does(1.0, 3), "signal": Does(1.0, -11), "gone": NOT_FOUND})
    specs = [spec("code"), spec("fine", ok_exit_codes=(0, 3)), spec("signal"), spec("gone", retries=5)]
    with trio.fail_after(60):
        result = await Runner(executor).run_all(specs)
    code, fine, signal, gone = result.results
    assert (code.exit_code, code.error, code.passed) == (3, None, False)
    assert (fine.exit_code, fine.error, fine.passed) == (3, None, True)
    assert signal.exit_code == -11
    assert isinstance(signal.error, CommandFailedError)
    assert (gone.exit_code, gone.attempts) == (None, 1)
    assert isinstance(gone.error, ProgramNotFoundError)


class Raises:
    """An executor that raises at once."""

    slots = None

    def __init__(self, error):
        self.error = error

    async def run_process(self, options, *, check=True, task_status):
        await trio.lowlevel.checkpoint()
        raise self.error


async def test_an_executor_that_checks_all_the_same_is_understood(autojump_clock):
    ended = CommandResult(command="x", exit_code=4)
    with trio.fail_after(60):
        result = await Runner(Raises(CommandFailedError(ended))).run_all([spec("x")])
    assert (result.results[0].exit_code, result.results[0].error) == (4, None)


async def test_an_error_of_the_executor_s_own_is_a_failed_result_and_is_retried(autojump_clock):
    error = ProcessError("the node is gone")
    with trio.fail_after(60):
        result = await Runner(Raises(error)).run_all([spec("x", retries=2)])
    one = result.results[0]
    assert (one.error, one.attempts, one.exit_code, one.command_result) == (error, 3, None, None)


async def test_no_second_attempt_runs_beside_one_that_would_not_die(autojump_clock):
    stuck = StopFailedError([(7, "D", "dd")])
    with trio.fail_after(60):
        result = await Runner(Raises(stuck)).run_all([spec("x", retries=2)])
    assert (result.results[0].error, result.results[0].attempts) == (stuck, 1)


@pytest.mark.parametrize("error", [RuntimeError("a bug"), KeyboardInterrupt()])
@pytest.mark.parametrize("schedule", ["waves", "eager"])
async def test_a_bug_of_the_executor_stops_the_rest_and_leaves_as_the_same_object(error, schedule, autojump_clock):
    class Sometimes(FakeExecutor):
        async def run_process(self, options, **kwargs):
            if options.name == "bug":
                await trio.sleep(1)
                raise error
            return await super().run_process(options, **kwargs)

    executor = Sometimes({"long": FOREVER})
    send, receive = trio.open_memory_channel(math.inf)
    with trio.fail_after(60):
        with pytest.raises(type(error)) as caught:
            await Runner(executor).run_all(
                [spec("long"), spec("bug"), spec("b", "bug")], schedule=schedule, updates=send
            )
    assert caught.value is error
    assert not executor.running
    assert {u.name: u.state for u in [u async for u in receive]} == {
        "long": SpecState.FAILED, "bug": SpecState.FAILED, "b": SpecState.SKIPPED,
    }  # fmt: skip


@pytest.mark.parametrize("schedule", ["waves", "eager"])
async def test_cancelling_stops_every_process_and_goes_on(schedule, autojump_clock):
    executor = FakeExecutor({"a": FOREVER, "b": Does(math.inf, deaf=True), "c": (FAILS, FOREVER)})
    specs = [spec("a"), spec("b"), spec("c", retries=1, retry_delay=50), spec("d", "a")]
    with trio.fail_after(60), trio.CancelScope(deadline=2) as scope:
        await Runner(executor).run_all(specs, schedule=schedule)
    assert scope.cancelled_caught
    assert not executor.running
    assert moments(executor)["b"] == [0, 2.5]


async def test_nothing_begins_once_cancelled_though_a_process_ends_well_then(autojump_clock):
    class Stubborn(FakeExecutor):
        async def run_process(self, options, **kwargs):
            with trio.CancelScope(shield=True):
                return await super().run_process(options, **kwargs)

    executor = Stubborn({"a": Does(3.0)})
    with trio.fail_after(60), trio.CancelScope(deadline=2) as scope:
        await Runner(executor, max_parallel=1).run_all([spec("a"), spec("beside"), spec("b", "a")], schedule="eager")
    assert scope.cancelled_caught
    assert executor.started() == ["a"]


async def test_a_cancelled_run_is_over_before_it_begins(autojump_clock):
    executor = FakeExecutor()
    with trio.fail_after(60), trio.CancelScope() as scope:
        scope.cancel()
        await Runner(executor).run_all([spec("a")])
    assert scope.cancelled_caught
    assert executor.started() == []


async def test_what_would_not_die_is_told_and_not_waited_for(autojump_clock):
    stuck = StopFailedError([(7, "D", "dd")])

    class Immortal:
        slots = None
        id = "1"

        async def stop(self, grace_period=None, *, reason=EndReason.STOPPED):
            raise stuck

        async def run_process(self, options, *, check=True, task_status):
            task_status.started(self)
            await trio.sleep_forever()

    with trio.fail_after(60):
        result = await Runner(Immortal()).run_all([spec("a")], timeout=1)
    assert result.results[0].error is stuck


async def test_an_executor_that_does_not_say_why_it_stopped_is_told_so_here(autojump_clock):
    class Plain(FakeExecutor):
        async def run_process(self, options, *, check=True, task_status):
            return await super().run_process(options, check=check, task_status=Told(task_status))

    class Told:
        def __init__(self, status):
            self.status = status

        def started(self, attempt):
            self.attempt = attempt
            self.status.started(self)

        async def stop(self, grace_period=None, *, reason):
            return await self.attempt.stop(grace_period)

    with trio.fail_after(60):
        result = await Runner(Plain({"a": FOREVER})).run_all([spec("a")], timeout=1)
    assert result.results[0].command_result.reason is EndReason.TIMED_OUT
    assert isinstance(result.results[0].error, CommandTimeoutError)


async def test_sequential_runs_in_order_and_skips_the_rest_after_a_failure(autojump_clock):
    executor = FakeExecutor({"b": FAILS, "d": FAILS})
    specs = [spec("a", "gone"), spec("b", allow_failure=True), spec("c", "d"), spec("d"), spec("e", allow_failure=True)]
    with trio.fail_after(60):
        result = await Runner(executor, max_parallel=5).run_sequential(specs)
    assert moments(executor) == {"a": [0, 1], "b": [1, 2], "c": [2, 3], "d": [3, 4]}
    assert states(result) == {"a": "passed", "b": "failed", "c": "passed", "d": "failed", "e": "skipped"}
    assert [one.wave for one in result.results] == [0, 1, 2, 3, 4]
    assert "'d' failed" in str(result.results[4].error)


async def test_sequential_obeys_its_timeout(autojump_clock):
    executor = FakeExecutor({"b": FOREVER})
    with trio.fail_after(60):
        result = await Runner(executor).run_sequential([spec("a"), spec("b"), spec("c")], timeout=5)
    assert states(result) == {"a": "passed", "b": "failed", "c": "skipped"}
    assert result.timed_out


async def test_parallel_runs_all_at_once_whatever_they_need_or_become(autojump_clock):
    executor = FakeExecutor({"b": FAILS})
    with trio.fail_after(60):
        result = await Runner(executor).run_parallel([spec("a", "b"), spec("b", "a"), spec("c", "gone")])
    assert moments(executor) == {"a": [0, 1], "b": [0, 1], "c": [0, 1]}
    assert states(result) == {"a": "passed", "b": "failed", "c": "passed"}
    assert {one.wave for one in result.results} == {0}


@pytest.mark.parametrize("method", ["run_all", "run_sequential", "run_parallel"])
async def test_every_fault_is_told_before_anything_runs(method, autojump_clock):
    executor = FakeExecutor()
    with pytest.raises(PipelineError) as caught:
        await getattr(Runner(executor), method)([spec("a"), spec("a", "a"), spec("", "b", "b", "")])
    assert len(caught.value.faults) == 5
    assert "'a'" in str(caught.value)
    assert executor.started() == []


@pytest.mark.parametrize("method", ["run_all", "run_sequential", "run_parallel"])
async def test_nothing_to_do_is_a_success_and_a_checkpoint(method, autojump_clock):
    with trio.testing.assert_checkpoints():
        result = await getattr(Runner(FakeExecutor()), method)([], timeout=0)
    assert result == RunAllResult(results=(), duration=result.duration)
    assert (result.success, result.acceptable, result.timed_out) == (True, True, False)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"schedule": "wave"}, "schedule must be one of 'waves', 'eager', got 'wave'; did you mean 'waves'"),
        ({"on_failure": "stop"}, "on_failure must be one of 'continue', 'no-new', 'kill', got 'stop'"),
        ({"on_failure": None}, "on_failure must be one of"),
        ({"timeout": -1}, "timeout must be 0 or more seconds"),
        ({"timeout": "1"}, "timeout must be a number of seconds"),
        ({"specs": "abc"}, "specs must be a list of RunSpec"),
        ({"specs": 3}, "specs must be a list of RunSpec"),
        ({"specs": None}, "specs must be a list of RunSpec"),
        ({"specs": ["abc"]}, "specs must be a list of RunSpec, got 'abc' in it"),
        ({"specs": [1]}, "specs must be a list of RunSpec, got 1 in it"),
        ({"schedule": 3}, "schedule must be one of 'waves', 'eager', got 3"),
    ],
)
async def test_a_bad_option_is_refused(options, text, autojump_clock):
    send, receive = trio.open_memory_channel(math.inf)
    with pytest.raises(OptionError, match=re.escape(text)):
        await Runner(FakeExecutor()).run_all(**{"specs": [spec("a")], "updates": send, **options})
    assert [update async for update in receive] == []


@pytest.mark.parametrize("way", ["run_all", "run_sequential", "run_parallel"])
@pytest.mark.parametrize("updates", [[], print, "receiver"])
async def test_updates_that_can_not_be_sent_to_are_refused(way, updates):
    send, receive = trio.open_memory_channel(math.inf)
    executor = FakeExecutor()
    with send, receive, pytest.raises(OptionError, match=r"updates must be a trio\.MemorySendChannel"):
        await getattr(Runner(executor), way)([spec("a")], updates=receive if updates == "receiver" else updates)
    assert executor.events == []


@pytest.mark.parametrize("executor", [None, "make", object(), trio])
def test_what_can_not_run_processes_is_refused_as_an_executor(executor):
    with pytest.raises(OptionError, match="executor must be a Service"):
        Runner(executor)


@pytest.mark.parametrize("limit", [0, -1, 1.5, "2", True])
def test_a_bad_max_parallel_is_refused(limit):
    with pytest.raises(OptionError, match="max_parallel"):
        Runner(FakeExecutor(), max_parallel=limit)


async def test_an_executor_without_slots_is_refused():
    with pytest.raises(OptionError, match="slots"):
        await Runner(FakeExecutor(slots=0)).run_all([spec("a")])


async def test_one_runner_serves_many_runs_at_once(autojump_clock):
    runner = Runner(FakeExecutor({"bad": FAILS}))
    results = {}

    async def run(name):
        results[name] = await runner.run_all([spec(name), spec("then", name)])

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run, "good")
            nursery.start_soon(run, "bad")
    assert states(results["good"]) == {"good": "passed", "then": "passed"}
    assert states(results["bad"]) == {"bad": "failed", "then": "skipped"}


async def test_specs_may_come_from_an_iterator(autojump_clock):
    with trio.fail_after(60):
        result = await Runner(FakeExecutor()).run_all(spec(f"t{n}") for n in range(3))
    assert result.passed == 3


class Instant:
    """An executor that costs next to nothing."""

    slots = None
    result = CommandResult(command="true", exit_code=0)
    failure = CommandResult(command="true", exit_code=1, status=Status.EXITED)
    id = "1"

    async def run_process(self, options, *, check=True, task_status):
        await trio.lowlevel.checkpoint()
        task_status.started(self)
        return self.failure if options.command == "false" else self.result


def chained(count, step):
    return [spec(f"t{n}", *([f"t{n - step}"] if n >= step else [])) for n in range(count)]


LARGE = {
    "1,500 side by side": lambda: chained(1500, 1500),
    "1,500 in 60 waves": lambda: chained(1500, 25),
    "a chain of 1,000": lambda: chained(1000, 1),
    "1,500 dependencies": lambda: [*chained(1500, 1500), spec("all", *[f"t{n}" for n in range(1500)])],
    "1,500 failures": lambda: [RunSpec(name=f"t{n}", command="false") for n in range(1500)],
    "1,500 skips": lambda: [RunSpec(name="a", command="false"), *[spec(f"t{n}", "a") for n in range(1500)]],
}


@pytest.mark.parametrize(("schedule", "limit"), [("waves", None), ("eager", 8)])
@pytest.mark.parametrize("shape", LARGE)
async def test_the_cost_of_a_spec_is_small_and_does_not_grow_with_their_number(shape, schedule, limit):
    specs = LARGE[shape]()
    gc.disable()  # it goes through all that the tests before have left
    try:
        began = time.thread_time()
        with trio.fail_after(60):
            result = await Runner(Instant(), max_parallel=limit).run_all(specs, schedule=schedule, on_failure="no-new")
        took = time.thread_time() - began
    finally:
        gc.enable()
    assert took < len(specs) * 300e-6  # measured: 20 to 45 µs
    assert len(result.results) == len(specs)


class Results:
    """An executor whose attempts have the given results, one after the other."""

    slots = 1

    def __init__(self, *results):
        self.results = list(results)

    async def run_process(self, options, *, check=True, task_status):
        await trio.lowlevel.checkpoint()
        return self.results.pop(0)


def lost(code=None, host=None, why="no agent left\nfor these reasons"):
    return CommandResult(command="x", status=Status.FAILED, reason=EndReason.LOST, exit_code=code, host=host, lost=why)


FAILED = CommandResult(command="x", status=Status.EXITED, reason=EndReason.EXITED, exit_code=3)
NO_AGENT = lost()


@pytest.mark.parametrize(
    ("results", "said", "code"),
    [
        ([lost(255, "h", "cut off"), NO_AGENT], "1 more attempt was not run (no agent left): `x` was lost, and may", 255),
        ([lost(None, "h", "cut off"), NO_AGENT], "1 more attempt was not run (no agent left): `x` was lost, and may", None),
        ([FAILED, NO_AGENT, NO_AGENT], "2 more attempts were not run (no agent left): `x` exited with code 3", 3),
        ([NO_AGENT, NO_AGENT], "`x` was not run (no agent left", None),
        ([NO_AGENT, lost(255, "h", "cut off")], "`x` was lost, and may have had effects (cut off)", 255),
        ([lost(255, "h", "cut off"), NO_AGENT, FAILED, FAILED, FAILED], "None", 3),
    ],
)  # fmt: skip
async def test_the_result_is_that_of_the_last_attempt_that_was_run(results, said, code, autojump_clock):
    retries = 2 if len(results) == 5 else 1
    [step] = (await Runner(Results(*results)).run_all([spec("x", retries=retries)])).results
    assert str(step.error).startswith(said)
    assert (step.attempts, step.exit_code, step.state) == (len(results), code, SpecState.FAILED)


async def test_a_step_that_passes_after_attempts_that_were_not_run_has_passed(autojump_clock):
    passed = attrs.evolve(FAILED, exit_code=0, ok=True)
    results = [lost(255, "h", "cut off"), NO_AGENT, passed]
    [step] = (await Runner(Results(*results)).run_all([spec("x", retries=2)])).results
    assert (step.state, step.error, step.attempts) == (SpecState.PASSED, None, 3)
