"""What is restarted together: one_for_one, one_for_all, rest_for_one."""

import pytest
import trio
from support_units import FOR_EVER, crash, fake_service, starts, supervised, unit

from trio_process import OptionError, Probe, RestartPolicy, Strategy, Supervisor, UnitState
from trio_process.testing import Behaviour

CHAIN = [unit("db"), unit("migrate", after=["db"]), unit("web", after={"migrate": "completed"}), unit("mail")]
NAMES = ["db", "migrate", "web", "mail"]


def chain(**behaviours):
    return fake_service(**{"migrate": {"exit_after": 0.5}, **behaviours})


async def settled(supervisor):
    await supervisor.wait_ready()
    await supervisor["migrate"].wait("completed")
    await supervisor["web"].wait("ready")


def generations(supervisor):
    return {each.name: each.generation for each in supervisor.units}


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        ("one_for_one", {"db": 2, "migrate": 1, "web": 1, "mail": 1}),
        ("rest_for_one", {"db": 2, "migrate": 2, "web": 2, "mail": 1}),
        ("one_for_all", {"db": 2, "migrate": 2, "web": 2, "mail": 2}),
    ],
)
@pytest.mark.parametrize("why", ["a crash", "a restart", "liveness", "a reload"])
async def test_what_is_restarted_together_for_whatever_reason(strategy, expected, why, autojump_clock):
    alive = [True]

    async def live():
        return alive[0]

    units = [unit("db", live=Probe.call(live, period=1.0)), *CHAIN[1:]]
    fake = chain(db=[crash(10.0), FOR_EVER] if why == "a crash" else [FOR_EVER])
    async with supervised(units, fake, strategy=strategy) as (supervisor, fake, changes):
        await settled(supervisor)
        match why:
            case "a crash":
                await supervisor["db"].wait("backoff")
            case "a restart":
                await supervisor.restart("db")
            case "liveness":
                alive[0] = False
                await supervisor["db"].wait("stopping")
                alive[0] = True
            case "a reload":
                await supervisor.reload([unit("db", args=["-v"]), *units[1:]])
        await trio.sleep(5)
        await supervisor.wait_ready()
        assert generations(supervisor) == expected
        assert [supervisor[name].restarts for name in NAMES if name != "db"] == [0, 0, 0]
        assert supervisor["db"].restarts == (0 if why in ("a restart", "a reload") else 1)
        states = changes.all()
        if strategy != "one_for_one":
            stopped = [event.name for event in states if event.old == "stopping" and event.new == "waiting"]
            if why in ("a restart", "a reload"):
                assert stopped.index("web") < stopped.index("db")
            restarted = [event.name for event in states if event.new == "starting" and event.generation == 2]
            assert restarted.index("db") < restarted.index("migrate") < restarted.index("web")


async def test_dependents_are_stopped_before_the_unit_itself(autojump_clock):
    slow = {"exit_code": None, "reacts": {"SIGTERM": {"lines": [(3.0, "bye")]}}}
    units = [unit("db"), unit("web", after=["db"]), unit("proxy", after=["web"])]
    fake = fake_service(db=slow, web=slow, proxy=slow)
    async with supervised(units, fake, strategy="rest_for_one") as (supervisor, _, changes):
        await supervisor.wait_ready()
        await supervisor.restart("web")
        stops = [(event.name, str(event.new)) for event in changes.all() if "stopping" in (event.old, event.new)]
        assert stops == [("proxy", "stopping"), ("proxy", "waiting"), ("web", "stopping"), ("web", "waiting")]


async def test_two_crashes_at_one_instant_are_one_restart(autojump_clock):
    fake = fake_service(a=[crash(10.0), FOR_EVER], b=[crash(10.0), FOR_EVER], c=[FOR_EVER])
    async with supervised([unit("a"), unit("b"), unit("c")], fake, strategy="one_for_all") as (supervisor, fake, _):
        await trio.sleep(30)
        assert generations(supervisor) == {"a": 2, "b": 2, "c": 2}
        assert supervisor["a"].restarts + supervisor["b"].restarts == 1
        assert supervisor["c"].restarts == 0


async def test_a_crash_while_the_group_is_stopped_for_another_is_uncharged(autojump_clock):
    slow = Behaviour(exit_code=None, reacts={"SIGTERM": {"lines": [(2.0, "bye")], "exit_code": 1}})
    fake = fake_service(a=[crash(10.0), FOR_EVER], b=[slow, FOR_EVER], c=[crash(11.0), FOR_EVER], d=[slow, FOR_EVER])
    units = [unit("a"), unit("b"), unit("c"), unit("d", after=["c"])]
    async with supervised(units, fake, strategy="one_for_all") as (supervisor, fake, _):
        await trio.sleep(40)
        assert generations(supervisor) == {"a": 2, "b": 2, "c": 2, "d": 2}
        assert [supervisor[name].restarts for name in "abcd"] == [1, 0, 0, 0]
        assert all(each.ready for each in supervisor.units)


async def test_a_crash_before_all_are_up_again_restarts_once_more(autojump_clock):
    fake = fake_service(a=[crash(5.0), FOR_EVER], b=[Behaviour(exit_code=None), crash(0.5), FOR_EVER])
    async with supervised([unit("a"), unit("b")], fake, strategy="one_for_all") as (supervisor, _, _):
        await trio.sleep(60)
        assert supervisor["b"].generation == 3
        assert supervisor["a"].restarts == 1
        assert supervisor["b"].restarts == 1
        assert all(each.ready for each in supervisor.units)


async def test_nothing_starts_before_everything_that_restarts_is_stopped(autojump_clock):
    slow = Behaviour(exit_code=None, reacts={"SIGTERM": {"lines": [(4.0, "bye")]}})
    fake = fake_service(a=[crash(10.0), FOR_EVER], b=[slow, FOR_EVER])
    async with supervised([unit("a"), unit("b")], fake, strategy="one_for_all") as (_, fake, _):
        await trio.sleep(30)
        assert starts(fake, "a") == pytest.approx([0, 14.0])
        assert starts(fake, "b") == pytest.approx([0, 14.0])


async def test_a_storm_in_one_unit_is_its_own_failure(autojump_clock):
    policy = RestartPolicy.on_failure(max_restarts=3, backoff=1.0, jitter=0.0)
    fake = fake_service(a={"exit_after": 0.3, "exit_code": 1})
    async with supervised([unit("a", restart=policy), unit("b")], fake, strategy="one_for_all") as (supervisor, _, _):
        assert await supervisor["a"].wait() is UnitState.FAILED
        await trio.sleep(10)
        assert supervisor["b"].ready
        assert supervisor["b"].generation == 4
        assert supervisor["b"].restarts == 0


async def test_what_is_not_wanted_stays_stopped_in_a_group_restart(autojump_clock):
    fake = fake_service(a=[crash(10.0), FOR_EVER], job={"exit_after": 1.0})
    units = [unit("a"), unit("b"), unit("c", enabled=False), unit("job")]
    async with supervised(units, fake, strategy="one_for_all") as (supervisor, _, _):
        await supervisor.wait_ready()
        await supervisor.stop("b")
        await supervisor["job"].wait("completed")
        await supervisor.stop("job")
        await trio.sleep(30)
        assert generations(supervisor) == {"a": 2, "b": 1, "c": 0, "job": 1}


async def test_a_stop_during_a_group_restart_wins(autojump_clock):
    slow = Behaviour(exit_code=None, reacts={"SIGTERM": {"lines": [(4.0, "bye")]}})
    fake = fake_service(a=[crash(10.0), FOR_EVER], b=[slow, FOR_EVER])
    async with supervised([unit("a"), unit("b")], fake, strategy="one_for_all") as (supervisor, fake, _):
        await supervisor["b"].wait("stopping")
        await supervisor.stop("b")
        assert supervisor["b"].state is UnitState.STOPPED
        await trio.sleep(30)
        assert len(starts(fake, "b")) == 1
        assert supervisor["a"].ready


async def test_an_unknown_strategy_is_refused(autojump_clock):
    with pytest.raises(OptionError, match="strategy must be one of"):
        Supervisor([], strategy="all_for_one")


async def stop_and_start(supervisor):
    await supervisor.stop("db")
    await supervisor.start("db")  # which doesn't need the migration
    assert supervisor["migrate"].state is UnitState.COMPLETED
    await supervisor.start("web")


async def restart_while_it_is_not_wanted(supervisor):
    await supervisor.stop("migrate")
    await supervisor.restart("db")
    assert supervisor["migrate"].state is UnitState.COMPLETED
    await supervisor.start("web")


async def hold_twice(supervisor):
    await supervisor.stop("db")
    for _ in range(2):
        async with supervisor.hold("web"):
            assert supervisor["migrate"].state is UnitState.COMPLETED
        await supervisor["db"].wait("stopped")
    await supervisor.start("web")


@pytest.mark.parametrize(
    ("again", "times"),
    [(stop_and_start, 2), (restart_while_it_is_not_wanted, 2), (hold_twice, 4)],
    ids=["start", "restart", "hold"],
)
@pytest.mark.parametrize("strategy", Strategy)
async def test_what_has_completed_runs_again_after_a_stop_of_what_it_needs(again, times, strategy, autojump_clock):
    async with supervised(CHAIN, chain(), strategy=strategy) as (supervisor, fake, _):
        await settled(supervisor)
        await again(supervisor)
        runs = 1 if strategy is Strategy.ONE_FOR_ONE else times
        assert len(starts(fake, "migrate")) == runs
        assert supervisor["web"].ready
        if runs > 1:
            order = [call.command for call in fake.calls if call.command != "mail"]
            assert order[-3:] == ["db", "migrate", "web"]
        await trio.sleep(100)
        assert len(starts(fake, "migrate")) == runs
