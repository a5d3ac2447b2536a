"""Random calls in random states: at most one process per replica at any time, and always the state that was asked for last."""

import random

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st
from support_units import unit
from test_calls import Running

from trio_process import ProcessError, RestartPolicy, Strategy, Supervisor, UnitState
from trio_process.testing import Behaviour, FakeService

NAMES = ["db", "migrate", "web", "mail"]
POLICY = RestartPolicy.on_failure(max_restarts=3, within=20.0, backoff=0.5, jitter=0.0)

BEHAVIOURS = [
    Behaviour(exit_code=None),
    Behaviour(exit_code=None, reacts={"SIGTERM": {"lines": [(1.5, "bye")]}}),
    Behaviour(exit_code=None, reacts={"SIGTERM": {"lines": [(0.3, "bye")], "exit_code": 1}}),
    Behaviour(exit_code=None, ignores=["SIGTERM"]),
    Behaviour(exit_code=1),
    Behaviour(exit_code=1, exit_after=0.05),
    Behaviour(exit_code=1, exit_after=2.0),
    Behaviour(exit_code=0, exit_after=1.0),
    Behaviour(exit_code=0),
]
KINDS = ["start", "stop", "restart", "scale", "hold", "reload", "kill", "cancelled"]
PAUSES = [0.0, 0.0, 0.05, 0.1, 0.3, 1.0, 3.0, 30.0]

CALLS = st.lists(
    st.tuples(
        st.sampled_from(KINDS),
        st.sampled_from(NAMES),
        st.integers(0, 3),
        st.sampled_from(PAUSES),
    ),
    min_size=1,
    max_size=200,
)


def specs(version=0):
    return [
        unit("db", restart=POLICY, grace_period=2.0),
        unit("migrate", restart=POLICY, after=["db"], grace_period=2.0),
        unit("web", restart=POLICY, after=["migrate"], replicas=2, grace_period=2.0, args=["-v"] * version),
        unit("mail", restart=POLICY, enabled=False, after=["db"], grace_period=2.0),
    ]


async def call(supervisor, what, name, number):
    try:
        match what:
            case "scale":
                await supervisor.scale(name, number)
            case "hold":
                async with supervisor.hold(name):
                    await trio.sleep(number)
            case "reload":
                await supervisor.reload(specs(number))
            case "kill":
                process = supervisor[name].process
                if process is not None:
                    process.kill()
            case "cancelled":
                with trio.move_on_after(0.2):
                    await supervisor.restart(name)
            case _:
                await getattr(supervisor, what)(name)
    except ProcessError:
        pass  # failed, was stopped, or is not there: all of that is a fair answer


async def play(behaviours, calls, strategy):
    async with FakeService() as fake:
        fake.on(lambda _: True, then=behaviours)
        running = Running(fake)
        async with Supervisor(specs(), service=fake, strategy=strategy) as supervisor:
            # every call comes to an end, as every crash loop does
            with trio.fail_after(1_000_000):
                async with trio.open_nursery() as nursery:
                    for what, name, number, pause in calls:
                        nursery.start_soon(call, supervisor, what, name, number)
                        await trio.sleep(pause)
                        for each in supervisor.units:
                            live = each.state in ("starting", "ready", "unready", "stopping")
                            assert live or each.process is None or not each.process.is_running
            for name in NAMES:
                await supervisor.stop(name)
                assert supervisor[name].state in ("stopped", "completed", "failed", "skipped")
            assert fake.running() == []
        assert all(most == 1 for most in running.most().values())
        assert all(each.state is not UnitState.STOPPING for each in supervisor.units)


@settings(max_examples=40)
@given(st.lists(st.sampled_from(BEHAVIOURS), min_size=1, max_size=30), CALLS, st.sampled_from(Strategy))
def test_random_calls_never_double_a_process_and_always_come_to_rest(behaviours, calls, strategy):
    trio.run(play, behaviours, calls, strategy, clock=trio.testing.MockClock(autojump_threshold=0))


@pytest.mark.parametrize("seed", [25, *range(4)])
def test_two_hundred_random_calls(seed):
    chance = random.Random(seed)
    behaviours = [chance.choice(BEHAVIOURS) for _ in range(chance.randint(1, 30))]
    calls = [
        (chance.choice(KINDS), chance.choice(NAMES), chance.randint(0, 3), chance.choice(PAUSES)) for _ in range(200)
    ]
    strategy = chance.choice(list(Strategy))
    trio.run(play, behaviours, calls, strategy, clock=trio.testing.MockClock(autojump_threshold=0))
