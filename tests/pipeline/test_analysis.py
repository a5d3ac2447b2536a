"""What a result says about itself: the critical path, the root causes, and the spec that halted the run."""

import itertools

import pytest
import trio
from fakes import FAILS, FOREVER, Does, FakeExecutor, spec
from hypothesis import given, settings
from hypothesis import strategies as st

from trio_process._core import EndReason
from trio_process._pipeline import RootCause, RunAllResult, Runner, RunResult, SpecState


def run(specs, behaviours=None, *, how="run_all", slots=None, **options):
    async def main():
        runner = Runner(FakeExecutor(behaviours or {}, slots=slots))
        with trio.fail_after(10_000):
            return await getattr(runner, how)(specs, **options)

    return trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def names(results):
    return [result.name for result in results]


def causes(result):
    return [(cause.result.name, cause.stopped, cause.skipped) for cause in result.root_causes]


class TestTheCriticalPath:
    def test_it_goes_back_from_the_last_to_end_by_what_each_waited_for_last(self):
        specs = [spec("short"), spec("long"), spec("both", "short", "long"), spec("alone")]
        result = run(specs, {"long": Does(5.0), "alone": Does(5.5)}, schedule="eager")
        assert names(result.critical_path) == ["long", "both"]

    def test_it_is_empty_where_nothing_ran(self):
        assert run([]).critical_path == ()
        assert run([spec("a", "gone")]).critical_path == ()

    def test_a_spec_that_never_ran_is_looked_through(self):
        specs = [spec("a"), spec("b", "a"), spec("c", "b"), spec("clean", "c", when="always")]
        result = run(specs, {"a": FAILS}, schedule="eager")
        assert names(result.critical_path) == ["a", "clean"]

    def test_one_that_was_refused_a_slot_still_waited_for_its_dependency_last(self):
        result = run([spec("a"), spec("b", "a"), spec("other")], {"other": Does(0.5)}, slots=1)
        assert names(result.critical_path) == ["a", "b"]

    def test_dependencies_that_were_not_obeyed_are_not_on_it(self):
        specs = [spec("a", "b"), spec("b")]
        assert names(run(specs, how="run_parallel").critical_path) == ["a"]
        assert names(run(specs, how="run_sequential").critical_path) == ["b"]

    def test_a_chain_of_two_thousand_is_no_recursion(self):
        specs = [spec("t0"), *[spec(f"t{n}", f"t{n - 1}") for n in range(1, 2000)]]
        assert len(run(specs, schedule="eager").critical_path) == 2000

    @settings(deadline=None, max_examples=50)
    @given(st.lists(st.tuples(st.integers(0, 20), st.lists(st.integers(0, 12), max_size=4)), max_size=12))
    def test_with_room_for_all_its_durations_add_up_to_the_whole(self, tasks):
        specs, behaviours = [], {}
        for number, (seconds, needs) in enumerate(tasks):
            specs.append(spec(f"t{number}", *sorted({f"t{need}" for need in needs if need < number})))
            behaviours[f"t{number}"] = Does(float(seconds))
        result = run(specs, behaviours, schedule="eager")
        path = result.critical_path
        assert sum(one.duration for one in path) == pytest.approx(result.duration)
        assert all(before.name in one.spec.after for before, one in itertools.pairwise(path))


class TestTheRootCauses:
    def test_what_fell_with_a_failure_stands_with_it(self):
        specs = [spec("bad"), spec("needs", "bad"), spec("deep", "needs"), spec("fine")]
        assert causes(run(specs, {"bad": FAILS})) == [("bad", (), ("needs", "deep"))]

    def test_each_failure_of_its_own_is_one_in_the_order_of_the_input(self):
        specs = [spec("a"), spec("b"), spec("x", "a"), spec("y", "b"), spec("z", "b", "a")]
        behaviours = {"a": Does(2.0, 1), "b": Does(1.0, 3)}
        assert causes(run(specs, behaviours, schedule="eager")) == [("a", (), ("x",)), ("b", (), ("y", "z"))]

    def test_an_allowed_failure_is_none(self):
        assert run([spec("may", allow_failure=True)], {"may": FAILS}).root_causes == ()

    def test_what_on_failure_stopped_and_skipped_stands_with_the_failure_it_reacted_to(self):
        specs = [spec("bad"), spec("runs"), spec("later", "runs"), spec("second")]
        result = run(specs, {"bad": FAILS, "runs": FOREVER, "second": Does(0.5)}, on_failure="kill")
        assert result.halted_by == "bad"
        assert causes(result)[0] == ("bad", ("runs",), ("later",))

    @pytest.mark.parametrize(("mode", "halted"), [("continue", None), ("no-new", "bad"), ("kill", "bad")])
    def test_the_spec_that_halted_the_run_is_named(self, mode, halted):
        specs = [spec("may", allow_failure=True), spec("bad"), spec("runs")]
        behaviours = {"may": Does(0.5, 1), "bad": FAILS, "runs": Does(3.0)}
        assert run(specs, behaviours, on_failure=mode).halted_by == halted

    def test_a_sequential_run_is_halted_by_its_first_failure(self):
        assert run([spec("a"), spec("b"), spec("c")], {"b": FAILS}, how="run_sequential").halted_by == "b"

    def test_a_timeout_of_the_whole_halts_without_a_spec(self):
        result = run([spec("a"), spec("b", "a")], {"a": FOREVER}, timeout=1)
        assert result.halted_by is None
        assert causes(result) == [("a", (), ("b",))]

    def test_what_a_stop_of_the_whole_ended_is_no_cause(self):
        event = trio.Event()
        event.set()
        assert run([spec("a")], stopping=event).root_causes == ()

    def test_a_spec_that_could_not_run_is_one(self):
        result = run([spec("a", "gone"), spec("b", "a")])
        assert causes(result) == [("a", (), ()), ("b", (), ())]

    def test_a_handler_that_was_not_needed_is_none(self):
        result = run([spec("a"), spec("undo", "a", when="failure")])
        assert (result.root_causes, result.acceptable, result.success) == ((), True, True)

    def test_results_that_were_made_by_hand_can_be_asked_too(self):
        bad = RunResult(spec=spec("bad"), state=SpecState.FAILED, exit_code=1, wave=0)
        fell = RunResult(spec=spec("fell", "bad"), state=SpecState.SKIPPED, wave=1)
        assert RunAllResult(results=(bad, fell), duration=1.0).root_causes == (RootCause(bad, (), ("fell",)),)

    def test_the_reason_of_a_stranger_who_stopped_one_makes_it_a_cause_of_its_own(self):
        result = run([spec("a")], {"a": Does(1.0, 0, reason=EndReason.STOPPED)})
        assert causes(result) == [("a", (), ())]
