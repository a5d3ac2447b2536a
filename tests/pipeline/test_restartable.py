"""A run whose specs begin anew: what runs is stopped, what is needed is waited for, nothing else is touched."""

from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from trio_process import Runner, RunSpec, Service
from trio_process._pipeline import SpecState, run_restartable

LIMIT = 60


class Watch:
    """The updates of a run under way."""

    def __init__(self, updates, restarts, stopping):
        self.seen = []
        self.updates, self.restart, self.stopping = updates, restarts.send, stopping
        self.result = None

    async def until(self, name, state):
        """Wait for the next update with this state."""
        async for update in self.updates:
            self.seen.append((update.name, update.state))
            if self.seen[-1] == (name, state):
                return
        raise AssertionError(self.seen)


@asynccontextmanager
async def running(specs, **options):
    with trio.fail_after(LIMIT):
        async with Service() as service, trio.open_nursery() as nursery:
            send, updates = trio.open_memory_channel(1000)
            restarts, receive = trio.open_memory_channel(0)
            watch = Watch(updates, restarts, trio.Event())

            async def run():
                made = {name: options.pop(name) for name in ("max_parallel", "supervisor", "memory") if name in options}
                watch.result = await run_restartable(
                    Runner(service, **made), specs, receive, updates=send, stopping=watch.stopping, **options
                )

            nursery.start_soon(run)
            yield watch
            watch.stopping.set()


def states(watch):
    return {result.name: result.state for result in watch.result.results}


async def test_a_spec_waits_for_a_dependency_that_runs_and_is_not_concerned(tmp_path):
    gate = tmp_path / "gate"
    specs = [
        RunSpec(name="slow", command="sh", args=["-c", f"until test -e {gate}; do sleep 0.05; done"]),
        RunSpec(name="quick", command="true"),
        RunSpec(name="both", command="true", after=["slow", "quick"]),
    ]
    async with running(specs) as watch:
        await watch.until("quick", SpecState.PASSED)
        await watch.restart(["quick"])
        await watch.until("quick", SpecState.PASSED)
        assert ("both", SpecState.RUNNING) not in watch.seen
        gate.touch()
        await watch.until("both", SpecState.PASSED)
        await watch.restart(["quick"])
        await watch.until("both", SpecState.PASSED)
        assert watch.seen.count(("slow", SpecState.RUNNING)) == 1
    assert set(states(watch).values()) == {SpecState.PASSED}


async def test_a_spec_between_two_attempts_begins_anew_with_all_its_retries():
    specs = [RunSpec(name="a", command="false", retries=1, retry_delay=1000)]
    async with running(specs) as watch:
        for _ in range(3):
            await watch.until("a", SpecState.RETRYING)
            await watch.restart(["a"])
            await watch.until("a", SpecState.PENDING)
    assert states(watch) == {"a": SpecState.FAILED}


@pytest.mark.parametrize("jobs", [1, 2, None])
async def test_what_depends_on_a_failure_is_skipped_and_runs_once_that_is_mended(tmp_path, jobs):
    specs = [
        RunSpec(name="check", command="test", args=["-e", tmp_path / "ok"]),
        RunSpec(name="use", command="true", after=["check"]),
        RunSpec(name="more", command="true", after=["use"]),
        RunSpec(name="sorry", command="true", after=["use"], when="failure"),
    ]
    async with running(specs, max_parallel=jobs) as watch:
        await watch.until("sorry", SpecState.PASSED)
        await watch.restart(["more"])  # what it needs has failed, and isn't concerned
        await watch.until("more", SpecState.SKIPPED)
        (tmp_path / "ok").touch()
        await watch.restart(["check"])
        await watch.until("sorry", SpecState.SKIPPED)
    found = states(watch)
    assert (found["check"], found["use"], found["sorry"]) == (SpecState.PASSED, SpecState.PASSED, SpecState.SKIPPED)


async def test_a_run_that_is_asked_to_stop_while_a_spec_is_stopped_to_begin_anew_ends_with_all_results():
    specs = [
        RunSpec(name="stubborn", command="sh", args=["-c", "trap '' TERM; sleep 1000 & wait; wait"], grace_period=0.5),
        RunSpec(name="next", command="true", after=["stubborn"]),
    ]
    async with running(specs) as watch:
        await watch.until("stubborn", SpecState.RUNNING)
        await watch.restart(["stubborn"])
    assert states(watch) == {"stubborn": SpecState.FAILED, "next": SpecState.SKIPPED}


async def test_a_failure_that_stopped_the_rest_is_forgiven_by_the_next_restart(tmp_path):
    specs = [
        RunSpec(name="check", command="test", args=["-e", tmp_path / "ok"]),
        RunSpec(name="server", command="sleep", args=["1000"]),
    ]
    async with running(specs, on_failure="kill", cleanup_timeout=0.1) as watch:
        await watch.until("server", SpecState.FAILED)
        (tmp_path / "ok").touch()
        await watch.restart(["check"])
        await watch.until("check", SpecState.PASSED)
        watch.seen.clear()
        await trio.testing.wait_all_tasks_blocked()
    assert states(watch)["check"] is SpecState.PASSED
