"""The updates: everything that becomes known, at once, in order, whatever its reader does."""

import math

import pytest
import trio
from fakes import FAILS, FOREVER, Does, FakeExecutor, spec

from trio_process._core import PipelineError
from trio_process._pipeline import Runner, RunUpdate, SpecState
from trio_process._pipeline.outbox import _Outbox


def told(updates):
    return [(update.name, update.state.value) for update in updates]


async def test_every_change_is_told_the_moment_it_is_known(autojump_clock):
    executor = FakeExecutor({"bad": (FAILS, FAILS), "slow": Does(9.0)})
    specs = [spec("bad", retries=1, retry_delay=2), spec("slow"), spec("after bad", "bad"), spec("lost", "gone")]
    send, receive = trio.open_memory_channel(0)
    seen = []

    async def read():
        async for update in receive:
            seen.append((trio.current_time(), update.name, update.state.value, update.result))

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            result = await Runner(executor).run_all(specs, updates=send)
    bad, slow, after_bad, lost = result.results
    assert seen == [
        *[(0, one.name, "pending", None) for one in specs],
        (0, "lost", "failed", lost),
        (0, "bad", "running", None),
        (0, "slow", "running", None),
        (1, "bad", "retrying", None),
        (3, "bad", "running", None),
        (4, "bad", "failed", bad),
        (4, "after bad", "skipped", after_bad),
        (9, "slow", "passed", slow),
    ]


@pytest.mark.parametrize("buffer", [0, 1, 5, math.inf])
async def test_a_slow_reader_delays_no_spec_and_misses_nothing(buffer, autojump_clock):
    executor = FakeExecutor()
    send, receive = trio.open_memory_channel(buffer)
    seen = []

    async def read():
        async for update in receive:
            seen.append(update)
            await trio.sleep(10)

    with trio.fail_after(1000):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            result = await Runner(executor).run_all([spec("a"), spec("b", "a"), spec("c", "b")], updates=send)
    assert result.duration == 3.0
    assert [("end", name) for name in "abc"] == [(what, name) for what, name, _ in executor.events if what == "end"]
    assert told(seen) == [
        *[(name, "pending") for name in "abc"],
        *[(name, state) for name in "abc" for state in ("running", "passed")],
    ]


async def test_a_reader_that_left_is_ignored(autojump_clock):
    for leaves_after in range(7):  # of six
        send, receive = trio.open_memory_channel(0)

        async def read(receive=receive, count=leaves_after):
            async with receive:
                for _ in range(count):
                    await receive.receive()

        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(read)
                result = await Runner(FakeExecutor()).run_all([spec("a"), spec("b", "a")], updates=send)
        assert result.success


async def test_a_channel_that_its_owner_closed_is_ignored(autojump_clock):
    send, _receive = trio.open_memory_channel(0)
    send.close()
    with trio.fail_after(60):
        result = await Runner(FakeExecutor()).run_all([spec("a")], updates=send)
    assert result.success


@pytest.mark.parametrize("specs", [[], [spec("a")], [spec(""), spec("")]], ids=["nothing", "one", "faults"])
async def test_the_runner_closes_its_end_when_it_is_done(specs, autojump_clock):
    send, receive = trio.open_memory_channel(math.inf)
    with trio.fail_after(60):
        try:
            await Runner(FakeExecutor()).run_all(specs, updates=send)
        except PipelineError:
            assert specs[0].name == ""
        assert [update.name async for update in receive] == [one.name for one in specs if one.name for _ in range(3)]
    with pytest.raises(trio.ClosedResourceError):
        send.send_nowait(None)


@pytest.mark.parametrize("buffer", [0, 2, math.inf])
async def test_a_cancellation_loses_nothing_to_a_reader_outside_of_it(buffer, autojump_clock):
    executor = FakeExecutor({"long": Does(math.inf, deaf=True), "bad": FAILS})
    specs = [spec("quick"), spec("long"), spec("bad", retries=1, retry_delay=90), spec("never", "long")]
    send, receive = trio.open_memory_channel(buffer)
    seen = {}

    async def read():
        async for update in receive:
            seen[update.name] = update
            for _ in range(3):
                await trio.lowlevel.checkpoint()

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            with trio.CancelScope(deadline=3) as scope:
                await Runner(executor).run_all(specs, updates=send)
    assert scope.cancelled_caught
    assert {name: update.state for name, update in seen.items()} == {
        "quick": SpecState.PASSED, "long": SpecState.FAILED, "bad": SpecState.FAILED, "never": SpecState.SKIPPED,
    }  # fmt: skip
    assert seen["quick"].result.passed
    assert "cancelled" in str(seen["long"].result.error)
    assert "cancelled" in str(seen["never"].result.error)
    assert (seen["bad"].result.exit_code, seen["bad"].result.command_result.reason) == (1, "cancelled")


async def test_what_becomes_known_while_processes_are_stopped_is_told_then(autojump_clock):
    executor = FakeExecutor({"long": Does(math.inf, deaf=True), "b": FOREVER, "c": FOREVER})
    send, receive = trio.open_memory_channel(0)
    seen = []

    async def read():
        async for update in receive:
            seen.append((trio.current_time(), update.name, update.state.value))
            await trio.sleep(0.125)

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            with trio.CancelScope(deadline=3):
                await Runner(executor).run_all([spec("long"), spec("b"), spec("c")], updates=send)
    assert sorted(name for _, name, _ in seen[-3:-1]) == ["b", "c"]
    assert [(at, state) for at, _, state in seen[-3:-1]] == [(3, "failed"), (3.125, "failed")]
    assert seen[-1] == (3.5, "long", "failed")


async def test_a_cancellation_never_waits_for_a_reader_that_does_not_read(autojump_clock):
    send, _receive = trio.open_memory_channel(0)
    with trio.fail_after(60), trio.CancelScope(deadline=2) as scope:
        await Runner(FakeExecutor({"long": FOREVER})).run_all([spec("a"), spec("long")], updates=send)
    assert scope.cancelled_caught
    assert trio.current_time() == 2


async def test_a_run_that_is_over_and_waits_for_its_reader_can_be_cancelled(autojump_clock):
    send, receive = trio.open_memory_channel(2)
    with trio.fail_after(60), trio.CancelScope(deadline=5) as scope:
        await Runner(FakeExecutor()).run_all([spec("a")], updates=send)
    assert scope.cancelled_caught
    assert told([update async for update in receive]) == [("a", "pending"), ("a", "running")]


def test_an_update_never_overtakes_one_that_waits():
    send, receive = trio.open_memory_channel(1)
    outbox = _Outbox(send)
    first, second, third = [RunUpdate("a", state) for state in list(SpecState)[:3]]
    outbox.report(first)
    outbox.report(second)
    assert receive.receive_nowait() is first
    outbox.report(third)
    with pytest.raises(trio.WouldBlock):
        receive.receive_nowait()
    trio.run(outbox.flush)
    assert receive.receive_nowait() is second
