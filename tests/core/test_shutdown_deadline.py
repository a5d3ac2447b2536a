"""One deadline down the tree: a grace ends after its own time, at the deadline, or when that is advanced."""

import math

import pytest
import trio
import trio.testing

from trio_process._core import ShutdownDeadline, block_deadline, current_deadline, enter_deadline, grace


@pytest.fixture
def shutdown():
    """Put a deadline in place for the test."""
    return ShutdownDeadline()


async def waited(seconds, **options):
    """Return how long a wait with a grace takes."""
    began = trio.current_time()
    with grace(seconds, **options):
        await trio.sleep_forever()
    return trio.current_time() - began


async def at(seconds, function, *args):
    await trio.sleep(seconds)
    function(*args)


async def test_without_a_shutdown_a_grace_lasts_its_own_time(autojump_clock):
    assert current_deadline().at == math.inf
    assert await waited(7) == 7
    assert await waited(0) == 0


@pytest.mark.parametrize(
    ("own", "left", "expected"), [(10, 3, 3), (3, 10, 3), (10, 0, 0), (10, -5, 0), (math.inf, 4, 4)]
)
async def test_a_grace_ends_at_the_sooner_of_its_own_time_and_the_deadline(
    autojump_clock, shutdown, own, left, expected
):
    leave = enter_deadline(shutdown)
    shutdown.advance(trio.current_time() + left)
    assert await waited(own) == expected
    leave()


@pytest.mark.parametrize(("advanced_at", "to", "expected"), [(2, 5, 5), (2, 2, 2), (2, 1, 2), (4, 30, 10)])
@pytest.mark.parametrize("shield", [False, True])
async def test_a_deadline_advanced_while_a_grace_runs_shortens_it(
    autojump_clock, shutdown, advanced_at, to, expected, shield
):
    leave = enter_deadline(shutdown)
    start = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(at, advanced_at, shutdown.advance, start + to)
        assert await waited(10, shield=shield) == expected
    leave()


async def test_a_deadline_only_comes_nearer(autojump_clock, shutdown):
    leave = enter_deadline(shutdown)
    shutdown.advance(trio.current_time() + 3)
    shutdown.advance(trio.current_time() + 30)
    assert await waited(10) == 3
    leave()


async def test_one_deadline_ends_every_wait_in_every_task_below(autojump_clock, shutdown):
    leave = enter_deadline(shutdown)
    took = []

    async def wait(seconds):
        took.append(await waited(seconds))

    async with trio.open_nursery() as nursery:
        for seconds in (1, 5, 50, math.inf):
            nursery.start_soon(wait, seconds)
        nursery.start_soon(at, 6, shutdown.advance, trio.current_time() + 8)
    assert sorted(took) == [1, 5, 8, 8]
    leave()


async def test_the_former_deadline_is_restored(autojump_clock, shutdown):
    before = current_deadline()
    leave = enter_deadline(shutdown)
    inner = ShutdownDeadline()
    leave_inner = enter_deadline(inner)
    assert current_deadline() is inner
    leave_inner()
    assert current_deadline() is shutdown
    leave()
    assert current_deadline() is before


async def test_a_grace_that_is_over_is_watched_no_more(autojump_clock, shutdown):
    leave = enter_deadline(shutdown)
    with grace(5) as scope:
        pass
    deadline = scope.deadline
    shutdown.advance(trio.current_time())
    assert scope.deadline == deadline
    assert not shutdown._watchers
    leave()


async def test_a_watcher_may_stop_watching_while_it_is_called(autojump_clock, shutdown):
    calls = []

    def first():
        calls.append("first")
        shutdown.unwatch(second)
        shutdown.unwatch(first)

    def second():
        calls.append("second")
        shutdown.unwatch(first)
        shutdown.unwatch(second)

    shutdown.watch(first)
    shutdown.watch(second)
    shutdown.advance(5)
    shutdown.advance(4)
    assert sorted(calls) == ["first", "second"]  # both were there at the first move, and neither at the second


async def test_a_block_follows_the_deadline_around_it_and_has_one_of_its_own(autojump_clock, shutdown):
    leave = enter_deadline(shutdown)
    with block_deadline() as block:
        assert current_deadline() is block
        shutdown.advance(trio.current_time() + 9)
        assert block.at == shutdown.at
        block.advance(trio.current_time() + 2)
        assert shutdown.at == trio.current_time() + 9
        assert await waited(10) == 2
    assert current_deadline() is shutdown
    leave()
