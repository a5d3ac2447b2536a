"""`when`, `stopping` and `cleanup_timeout`: generated pipelines against an oracle that tells them as a story in time."""

import itertools
import math

import attrs
import pytest
import trio
from fakes import FAILS, FOREVER, Does, FakeExecutor, moments, spec
from hypothesis import given, settings
from hypothesis import strategies as st

from trio_process._core import EndReason, OptionError, PipelineError
from trio_process._pipeline import Runner, SpecState

WHENS = ["success", "failure", "always"]
BAD = {"failed", "stopped", "skipped"}  # what counts as a failure for a spec that comes after it
STATES = {
    "passed": SpecState.PASSED,
    "failed": SpecState.FAILED,
    "allowed": SpecState.FAILED,
    "stopped": SpecState.FAILED,
    "skipped": SpecState.SKIPPED,
    "unneeded": SpecState.SKIPPED,
}


@attrs.frozen
class Case:
    """A pipeline and what happens to it; `lasts` and `codes` hold a value per attempt of each spec."""

    specs: list
    lasts: dict
    codes: dict
    mode: str
    schedule: str
    limit: float | None
    stop_at: float | None
    cleanup: float | None

    def behaviours(self):
        return {
            name: [Does(seconds, code) for seconds, code in zip(self.lasts[name], self.codes[name], strict=True)]
            for name in self.lasts
        }


class Story:
    """The oracle: who runs, who has ended and how, from one moment at which something happens to the next."""

    def __init__(self, case):
        self.case = case
        self.specs = {one.name: one for one in case.specs}
        self.waves = {}
        for one in case.specs:
            self.waves[one.name] = 1 + max([self.waves[name] for name in one.after], default=-1)
        self.end = {}
        self.busy = {}  # name: the moment of the next event, and whether an attempt runs until then
        self.attempts = dict.fromkeys(self.specs, 0)
        self.now = 0.0
        self.halted = False
        self.timed_out = False
        self.halted_by = None
        self.cleaning_until = None
        self.moments = []  # all that happened, and when

    def tell(self):
        if self.case.limit == 0:
            self.time_is_over()
        if self.case.stop_at == 0:
            self.halt()
        while True:
            self.let_end()
            plain = [name for name, one in self.specs.items() if one.when == "success"]
            if self.halted and self.cleaning_until is None and all(name in self.end for name in plain):
                self.cleaning_until = math.inf if self.case.cleanup is None else self.now + self.case.cleanup
                if self.case.cleanup == 0:
                    self.happen("\0cleaned")
            if len(self.end) == len(self.specs):
                return self
            self.let_begin()
            moments = [(at, name) for name, (at, _) in self.busy.items()]
            for at, what in (
                (self.case.limit, "limit"), (self.case.stop_at, "stop"), (self.cleaning_until, "cleaned")
            ):  # fmt: skip
                if at is not None and at > self.now:
                    moments.append((at, "\0" + what))
            self.now, what = min(moments)
            self.happen(what)

    def happen(self, what):
        self.moments.append((self.now, what))
        if what == "\0limit":
            self.time_is_over()
        elif what == "\0stop":
            self.halt()
        elif what == "\0cleaned":
            self.stop(lambda one: True)
            for name in self.specs:
                self.end.setdefault(name, "skipped")
        elif self.busy[what][1]:
            self.attempt_ends(self.specs[what])
        else:
            self.begin(what)

    def begin(self, name):
        seconds = self.case.lasts[name][min(self.attempts[name], len(self.case.lasts[name]) - 1)]
        self.attempts[name] += 1
        self.busy[name] = (self.now + seconds, True)

    def attempt_ends(self, one):
        codes = self.case.codes[one.name]
        if codes[min(self.attempts[one.name], len(codes)) - 1] == 0:
            self.finish(one.name, "passed")
        elif self.attempts[one.name] <= one.retries:
            self.busy[one.name] = (self.now + one.retry_delay, False)
        elif one.allow_failure:
            self.finish(one.name, "allowed")
        else:
            self.finish(one.name, "failed")
            if self.case.mode != "continue":
                self.halted_by = self.halted_by or (None if self.halted else one.name)
                if self.case.mode == "kill":
                    self.halt()
                self.halted = True

    def finish(self, name, how):
        self.busy.pop(name, None)
        self.end[name] = how

    def stop(self, concerned):
        for name in list(self.busy):
            if concerned(self.specs[name]):
                self.finish(name, "stopped")

    def halt(self):
        if len(self.end) < len(self.specs):
            self.halted = True
            self.stop(lambda one: one.when == "success")

    def time_is_over(self):
        if len(self.end) < len(self.specs):
            self.timed_out = True
            self.halt()

    def undecided(self):
        for name, one in self.specs.items():
            if name not in self.end and name not in self.busy:
                yield name, one, [self.end.get(needed) for needed in one.after]

    def let_end(self):
        """Skip everything that will not begin."""
        before = -1
        while before < len(self.end):
            before = len(self.end)
            for name, one, ends in list(self.undecided()):
                bad = any(how in BAD for how in ends)
                if one.when == "success" and (self.halted or bad):
                    self.finish(name, "skipped")
                elif one.when == "failure" and not bad and None not in ends:
                    self.finish(name, "unneeded")

    def let_begin(self):
        if self.halted and self.case.cleanup == 0:
            return
        for name, _, ends in list(self.undecided()):
            waits = self.case.schedule == "waves" and any(
                wave < self.waves[name] and other not in self.end for other, wave in self.waves.items()
            )
            if None not in ends and not waits:
                self.begin(name)


@st.composite
def cases(draw):
    count = draw(st.integers(1, 7))
    specs, lasts, codes = [], {}, {}
    for place in range(count):
        after = [f"t{n}" for n in range(place) if draw(st.integers(0, 2)) == 0]
        when = draw(st.sampled_from(WHENS if after else ["success", "success", "always"]))
        retries = draw(st.sampled_from([0, 0, 1]))
        name = f"t{place}"
        specs.append(
            spec(
                name, *after, when=when, retries=retries, retry_delay=0.3 + place * 1e-5,
                allow_failure=draw(st.integers(0, 3)) == 0,
            )
        )  # fmt: skip
        # nothing happens at the same time as anything else: which comes first is not what is tested
        lasts[name] = [draw(st.sampled_from([0.5, 1.0, 2.0, 4.0])) + (7 * place + n) * 1e-3 for n in range(1 + retries)]
        codes[name] = [draw(st.sampled_from([0, 0, 1])) for _ in range(1 + retries)]
    return Case(
        specs,
        lasts,
        codes,
        mode=draw(st.sampled_from(["continue", "no-new", "kill"])),
        schedule=draw(st.sampled_from(["eager", "waves"])),
        limit=draw(st.sampled_from([None, None, 0, 0.7123, 2.2456])),
        stop_at=draw(st.sampled_from([None, None, 0, 0.6789, 1.9321])),
        cleanup=draw(st.sampled_from([None, 0, 0.8111, 30.0])),
    )


def run(cases):
    """Return the results of pipelines that run at the same time, each on an executor of its own."""
    results = {}

    async def run_one(number, case):
        executor = FakeExecutor(case.behaviours())
        stopping = trio.Event()
        if case.stop_at == 0:
            stopping.set()
        async with trio.open_nursery() as nursery:
            if case.stop_at:
                nursery.start_soon(stop_later, stopping, case.stop_at)
            with trio.fail_after(1000):
                results[number] = await Runner(executor).run_all(
                    case.specs, schedule=case.schedule, on_failure=case.mode, timeout=case.limit, stopping=stopping,
                    cleanup_timeout=case.cleanup,
                )  # fmt: skip
            nursery.cancel_scope.cancel()
        assert not executor.running

    async def main():
        async with trio.open_nursery() as nursery:
            for number, case in enumerate(cases):
                nursery.start_soon(run_one, number, case)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    return [results[number] for number in range(len(cases))]


async def stop_later(event, seconds):
    await trio.sleep(seconds)
    event.set()


def check(case):
    compare(Story(case).tell(), *run([case]))


def telling(cases):
    """Return the stories of cases, but one alone of those that differ only in what none of them comes to: a limit after the end,
    the exit code of what isn't started. By turns it is the first of them, which has no such limit, and the last, which has all.
    """
    alike = {}
    for case in cases:
        story = Story(case).tell()
        retries = tuple(one.retries for one in case.specs)
        alike.setdefault((retries, tuple(story.moments), tuple(story.end.items())), []).append(story)
    return [same[-(number % 2)] for number, same in enumerate(alike.values())]


def compare(story, result):
    expected = {name: (STATES[how], story.attempts[name]) for name, how in story.end.items()}
    assert {one.name: (one.state, one.attempts) for one in result.results} == expected, story.end
    assert result.timed_out is story.timed_out
    assert result.halted_by == story.halted_by
    good = all(how in ("passed", "allowed", "unneeded") for how in story.end.values())
    unforgiven = any(
        (how == "stopped" and not story.specs[name].allow_failure)
        or (how == "skipped" and story.specs[name].when != "failure")
        for name, how in story.end.items()
    )
    if good or unforgiven:
        assert result.acceptable is (good and not story.timed_out)


@settings(deadline=None, max_examples=200)
@given(cases())
def test_every_generated_pipeline_ends_as_the_oracle_says(case):
    check(case)


@pytest.mark.parametrize("schedule", ["eager", "waves"])
@pytest.mark.parametrize("mode", ["continue", "no-new", "kill"])
@pytest.mark.parametrize("when", WHENS)
@pytest.mark.parametrize("outcome", ["passes", "fails", "allowed", "retried", "never passes", "skipped", "runs on"])
def test_every_combination_of_a_handler_and_what_it_comes_after_ends_as_the_oracle_says(outcome, when, mode, schedule):
    first = {
        "passes": {"codes": [0]},
        "fails": {"codes": [1]},
        "allowed": {"codes": [1], "allow_failure": True},
        "retried": {"codes": [1, 0], "retries": 1},
        "never passes": {"codes": [1, 1], "retries": 1},
        "skipped": {"codes": [0], "after": ["bad"]},
        "runs on": {"codes": [0], "lasts": [9.0]},
    }[outcome]
    cases = []
    for handler in ([0], [1], [1, 0]):
        retries = {"first": first.get("retries", 0), "handler": len(handler) - 1}
        specs = [
            spec("bad"),
            spec(
                "first",
                *first.get("after", ()),
                retries=retries["first"],
                allow_failure=first.get("allow_failure", False),
            ),
            spec("handler", "first", when=when, retries=retries["handler"], retry_delay=0.35),
            spec("last", "handler"),
            spec("beside"),
        ]
        lasts = {
            "bad": [0.9], "first": first.get("lasts", [1.01, 0.52]), "handler": [0.63, 0.31], "last": [1.007], "beside": [3.3]
        }  # fmt: skip
        codes = {
            "bad": [1 if outcome == "skipped" else 0], "first": first["codes"], "handler": handler, "last": [0], "beside": [0]
        }  # fmt: skip
        lasts = {name: seconds[: len(codes[name])] for name, seconds in lasts.items()}
        for limit, stop_at, cleanup in itertools.product((None, 0, 1.55), (None, 0.75, 2.4), (0, 0.9)):
            cases.append(Case(specs, lasts, codes, mode, schedule, limit, stop_at, cleanup))
    stories = telling(cases)
    for story, result in zip(stories, run([story.case for story in stories]), strict=True):
        compare(story, result)


class TestStopping:
    @pytest.mark.parametrize("how", ["run_all", "run_sequential", "run_parallel"])
    async def test_what_runs_is_stopped_and_nothing_new_starts(self, how, autojump_clock):
        executor = FakeExecutor({"a": FOREVER, "b": FOREVER})
        stopping = trio.Event()
        with trio.fail_after(100):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(stop_later, stopping, 2)
                result = await getattr(Runner(executor, max_parallel=1), how)([spec("a"), spec("b")], stopping=stopping)
        a, b = result.results
        assert (a.state, a.command_result.reason) == (SpecState.FAILED, EndReason.STOPPED)
        assert (b.state, str(b.error)) == (SpecState.SKIPPED, "skipped: the run was asked to stop")
        assert executor.started() == ["a"]
        assert not result.timed_out

    @pytest.mark.parametrize("bad", [True, "now", object()])
    async def test_what_is_not_an_event_is_refused(self, bad):
        with pytest.raises(OptionError, match=r"stopping must be a trio\.Event"):
            await Runner(FakeExecutor()).run_all([], stopping=bad)


class TestCleaningUp:
    async def test_a_trio_cancellation_runs_nothing(self, autojump_clock):
        executor = FakeExecutor({"a": FOREVER})
        specs = [spec("a"), spec("clean", "a", when="always"), spec("undo", "a", when="failure")]
        with trio.fail_after(100):
            with trio.move_on_after(3) as scope:
                await Runner(executor).run_all(specs, cleanup_timeout=None)
        assert scope.cancelled_caught
        assert executor.started() == ["a"]

    async def test_its_time_begins_when_nothing_else_is_left(self, autojump_clock):
        executor = FakeExecutor({"a": FAILS, "slow": Does(50.0), "clean": FOREVER})
        specs = [spec("a"), spec("slow"), spec("clean", "slow", when="always")]
        with trio.fail_after(1000):
            result = await Runner(executor).run_all(specs, on_failure="no-new", cleanup_timeout=5)
        assert moments(executor)["clean"] == [50, 55]
        assert "cleanup_timeout of 5 s ran out" in str(result.results[2].error)
        assert result.results[2].command_result.reason is EndReason.TIMED_OUT
        assert not result.timed_out

    async def test_one_runs_whatever_became_of_a_dependency_that_could_not_run(self, autojump_clock):
        executor = FakeExecutor()
        specs = [
            spec("broken", "gone"), spec("x", "y"), spec("y", "x"), spec("clean", "broken", "x", when="always"),
            spec("undo", "y", when="failure"), spec("after", "clean"), spec("too", "broken", when="failure", retries=1),
        ]  # fmt: skip
        with trio.fail_after(100):
            result = await Runner(executor).run_all(specs)
        assert {one.name for one in result.results if one.passed} == {"clean", "undo", "after", "too"}
        assert {one.name for one in result.results if one.wave is None} == {"broken", "x", "y"}

    async def test_in_a_sequential_run_one_for_failures_looks_at_all_before_it(self, autojump_clock):
        specs = [
            spec("a"),
            spec("undo1", "a", when="failure"),
            spec("b"),
            spec("c"),
            spec("undo2", "a", when="failure"),
        ]
        with trio.fail_after(100):
            result = await Runner(FakeExecutor({"b": FAILS})).run_sequential(specs)
        assert [one.state for one in result.results] == ["passed", "skipped", "failed", "skipped", "passed"]

    @pytest.mark.parametrize("how", ["run_all", "run_sequential", "run_parallel"])
    async def test_one_for_failures_without_after_is_a_fault(self, how):
        with pytest.raises(PipelineError, match="needs `after`"):
            await getattr(Runner(FakeExecutor()), how)([spec("a", when="failure")])

    @pytest.mark.parametrize("bad", [-1, "3", math.nan])
    async def test_a_bad_time_is_refused(self, bad):
        with pytest.raises(OptionError, match="cleanup_timeout"):
            await Runner(FakeExecutor()).run_all([], cleanup_timeout=bad)


class TestInteractive:
    async def test_one_that_has_the_terminal_runs_alone(self, autojump_clock):
        executor = FakeExecutor({"a": Does(3.0), "b": Does(2.0)})
        specs = [spec("a"), spec("ask", interactive=True), spec("b"), spec("again", interactive=True)]
        with trio.fail_after(100):
            await Runner(executor).run_all(specs, schedule="eager")
        spans = {name: tuple(times) for name, times in moments(executor).items()}
        for alone in ("ask", "again"):
            others = [span for name, span in spans.items() if name != alone]
            assert all(end <= spans[alone][0] or begin >= spans[alone][1] for begin, end in others), spans
