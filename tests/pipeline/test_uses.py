"""Services that specs use: held by the first, released by the last, and what becomes of specs when one fails."""

import math
from contextlib import asynccontextmanager

import attrs
import pytest
import trio
from fakes import FAILS, FOREVER, Does, FakeExecutor, spec

from trio_process._core import OptionError, PipelineError, ProcessError, UnitFailedError
from trio_process._pipeline import Runner, SpecState


@attrs.define(eq=False)
class FakeSupervisor:
    """Keeps services that take a second to be ready; `fails` and `dies` say which can't be, and which end when."""

    fails: tuple = ()
    dies: dict = attrs.field(factory=dict)
    error: type = UnitFailedError
    events: list = attrs.field(factory=list)

    @asynccontextmanager
    async def hold(self, name):
        self.events.append(("hold", name, trio.current_time()))
        try:
            await trio.sleep(1)
            if name in self.fails:
                raise self.failure(name)
            with trio.move_on_after(self.dies.get(name, math.inf)) as scope:
                yield
            if scope.cancelled_caught:
                raise self.failure(name)
        finally:
            self.events.append(("release", name, trio.current_time()))

    def failure(self, name):
        return (
            UnitFailedError(name, f"{name} failed") if self.error is UnitFailedError else self.error(f"{name} failed")
        )


async def run(specs, behaviours=None, supervisor=None, **options):
    executor, supervisor = FakeExecutor(behaviours or {}), supervisor or FakeSupervisor()
    send, receive = trio.open_memory_channel(math.inf)
    with trio.fail_after(1000):
        result = await Runner(executor, supervisor=supervisor).run_all(specs, updates=send, schedule="eager", **options)
    states = {}
    async for update in receive:
        states.setdefault(update.name, []).append(update.state.value)
    return {one.name: one for one in result.results}, states, supervisor, executor


async def test_a_spec_is_queued_until_its_service_is_ready_and_the_last_releases_it(autojump_clock):
    specs = [spec("a", uses=["db"]), spec("b", "a", uses=["db"]), spec("c", "b")]
    results, states, supervisor, executor = await run(specs)
    assert states["a"] == ["pending", "queued", "running", "passed"]
    assert states["b"] == ["pending", "running", "passed"]
    assert supervisor.events == [("hold", "db", 0), ("release", "db", 3)]
    assert executor.times("a")[0] == ("start", 1)
    assert results["a"].started == 1


async def test_it_is_held_through_retries_and_until_a_spec_that_uses_it_was_skipped(autojump_clock):
    specs = [spec("a", uses=["db"], retries=1, retry_delay=5), spec("b", "a"), spec("c", "b", uses=["db"])]
    _, states, supervisor, _ = await run(specs, {"a": FAILS})
    assert states["a"] == ["pending", "queued", "running", "retrying", "running", "failed"]
    assert states["c"] == ["pending", "skipped"]
    assert supervisor.events == [("hold", "db", 0), ("release", "db", 8)]


async def test_a_service_that_no_spec_comes_to_use_is_never_held(autojump_clock):
    _, _, supervisor, _ = await run([spec("a"), spec("b", "a", uses=["db"])], {"a": FAILS})
    assert supervisor.events == []


@pytest.mark.parametrize("error", [UnitFailedError, ProcessError, OptionError])
async def test_specs_fail_with_the_error_of_a_service_that_cant_be_ready_and_are_not_tried_again(error, autojump_clock):
    specs = [spec("a", uses=["db"], retries=3), spec("b", "a"), spec("c", uses=["web", "db"]), spec("d", uses=["web"])]
    results, states, supervisor, executor = await run(specs, supervisor=FakeSupervisor(fails=("db",), error=error))
    assert [(results[name].state, type(results[name].error)) for name in ("a", "c")] == [(SpecState.FAILED, error)] * 2
    assert (results["a"].attempts, states["a"]) == (0, ["pending", "queued", "failed"])
    assert results["b"].skipped
    assert results["d"].passed
    assert executor.started() == ["d"]
    assert [event[:2] for event in supervisor.events].count(("hold", "db")) == 1


@pytest.mark.parametrize("retries", [0, 2])
async def test_specs_that_run_are_stopped_when_a_service_ends_for_good(retries, autojump_clock):
    specs = [spec("a", uses=["db"], retries=retries), spec("b"), spec("c", "b", uses=["db"])]
    supervisor = FakeSupervisor(dies={"db": 2})
    results, _, _, executor = await run(specs, {"a": FOREVER, "b": Does(5.0)}, supervisor)
    assert isinstance(results["a"].error, UnitFailedError)
    assert results["a"].attempts == 1
    assert executor.times("a") == [("start", 1), ("end", 3)]
    assert results["b"].passed
    assert isinstance(results["c"].error, UnitFailedError)


@pytest.mark.parametrize("at", [0.5, 1.5])
@pytest.mark.parametrize("how", ["timeout", "stopping", "kill", "cancel"])
async def test_whatever_ends_the_run_releases_them(how, at, autojump_clock):
    supervisor, event = FakeSupervisor(), trio.Event()
    specs = [spec("a", uses=["db"]), spec("bad")]
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def later():
                await trio.sleep(at)
                event.set()
                if how == "cancel":
                    scope.cancel()

            await run(
                specs,
                {"a": FOREVER, "bad": Does(at, 1)},
                supervisor,
                stopping=event if how == "stopping" else None,
                timeout=at if how == "timeout" else 100,
                on_failure="kill" if how == "kill" else "continue",
            )
            assert how != "cancel"
    assert [event[0] for event in supervisor.events] == ["hold", "release"]


@pytest.mark.parametrize("how", ["run_all", "run_sequential", "run_parallel"])
async def test_without_a_supervisor_every_spec_that_uses_a_service_is_a_fault(how):
    with pytest.raises(PipelineError) as caught:
        await getattr(Runner(FakeExecutor()), how)([spec("a", uses=["db"]), spec("b"), spec("c", uses=["x", "y"])])
    assert len(caught.value.faults) == 2
    assert "give the Runner a supervisor=" in caught.value.faults[1]


@pytest.mark.parametrize("bad", [object(), "db", FakeSupervisor])
def test_what_is_not_a_supervisor_is_refused(bad):
    with pytest.raises(OptionError, match="supervisor must be"):
        Runner(FakeExecutor(), supervisor=bad)
