"""The signs of life for systemd's watchdog, on virtual time: one every half of what it waits for (here 2 s)."""

import logging

import pytest
import trio

from trio_process._daemon.health import HealthChecks
from trio_process._daemon.systemd import feed_watchdog

HALF = 1.0
LIMIT = 5.5


class Manager:
    """Stands for the notifier, and writes down when it was told."""

    watchdog = HALF

    def __init__(self):
        self.signs = []
        self.stopping = trio.Event()

    def alive(self):
        self.signs.append(round(trio.current_time() - self.began, 6))

    async def watch(self, seconds, *checks):
        """Return when there were signs of life in that time."""
        self.began = trio.current_time()
        checkup = HealthChecks(LIMIT)
        for check in checks:
            checkup.add(check)
        with trio.move_on_after(seconds):
            await feed_watchdog(self, checkup, self.stopping)
        await checkup.aclose()
        return self.signs


def gaps(signs, until):
    return [later - sooner for sooner, later in zip([0.0, *signs], [*signs, until], strict=True)]


@pytest.fixture
def manager():
    return Manager()


async def test_without_checks_there_are_signs_as_long_as_the_loop_runs(manager, autojump_clock):
    assert await manager.watch(3.5) == [0, 1, 2, 3]


@pytest.mark.parametrize("seconds", [0.1, 0.9, 1.1, 1.9, 2.5, 5.4])
async def test_a_check_that_takes_its_time_within_its_limit_leaves_no_gap(manager, autojump_clock, seconds):
    async def slow():
        await trio.sleep(seconds)

    signs = await manager.watch(30.25, slow)
    assert max(gaps(signs, 30.25)) <= HALF


async def test_a_check_that_fails_from_the_first_lets_no_sign_pass(manager, autojump_clock):
    async def fine():
        pass

    async def broken():
        return "broken"

    assert await manager.watch(10, fine, broken) == []


async def test_a_check_that_overstays_its_limit_ends_the_signs(manager, autojump_clock):
    assert await manager.watch(30, trio.sleep_forever) == [1, 2, 3, 4, 5]


async def test_neither_signs_nor_checks_follow_the_begin_of_the_stop(manager, autojump_clock, caplog):
    async def pool():
        await trio.sleep(0.4)
        return "closed" if manager.stopping.is_set() else ""

    async with trio.open_nursery() as nursery:
        nursery.start_soon(manager.watch, 30, pool)
        await trio.sleep(2.2)  # in the middle of a check
        manager.stopping.set()
    assert manager.signs == [0.4, 1, 2]
    assert trio.current_time() - manager.began < 3
    assert caplog.records == []


async def test_a_check_that_recovers_is_a_sign_at_once_and_one_failure_alone_leaves_room(manager, autojump_clock):
    verdicts = iter(["", "", "broken"])

    async def check():
        await trio.sleep(0.4)
        return next(verdicts, "")

    signs = await manager.watch(6.2, check)
    assert signs == [0.4, 1, 2, 3.4, 4, 5, 6]
    assert max(gaps(signs, 6.2)) < 2 * HALF


async def test_the_log_says_once_which_checks_stop_the_signs_and_when_they_pass_again(manager, autojump_clock, caplog):
    caplog.set_level(logging.INFO, "trio_process")
    verdicts = iter(["", "refused", "reset", "", ""])

    async def database():
        return next(verdicts, "refused")

    async def queue():
        pass

    await manager.watch(20, database, queue)
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "no watchdog pings until all health checks pass; failed: 'database' (refused)"),
        ("INFO", "all health checks pass again: watchdog pings are sent"),
        ("WARNING", "no watchdog pings until all health checks pass; failed: 'database' (refused)"),
    ]


async def test_the_log_names_every_check_that_fails_from_the_first(manager, autojump_clock, caplog):
    async def broken():
        raise OSError("gone")

    async def late():
        await trio.sleep_forever()

    await manager.watch(30, broken, late)
    assert [record.getMessage() for record in caplog.records] == [
        "no watchdog pings until all health checks pass; failed: 'broken' (OSError: gone), 'late' (timed out after 5.5 s)"
    ]
