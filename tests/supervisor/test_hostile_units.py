"""Ctrl-C, groups, misuse, and much of everything."""

import contextlib
import os
import re
import signal
import subprocess
import sys

import forked
import pytest
import trio
from support import is_gone, wait_gone
from support_units import FOR_EVER, crash, fake_service, supervised, unit

from trio_process import OptionError, Probe, ProcessError, RestartPolicy, Supervisor, UnitSpec, UnitState
from trio_process.testing import FakeService

PROGRAM = """
import sys, trio
from trio_process import Probe, Supervisor, UnitSpec

SLOW = "trap 'sleep 0.5; exit 0' TERM; echo $$; while :; do sleep 0.05; done"

async def forever():
    await trio.sleep_forever()

async def main():
    units = [UnitSpec(name=f"u{n}", command="sh", args=["-c", SLOW], ready=Probe.line(__import__("re").compile("[0-9]")))
             for n in range(5)]
    units.append(UnitSpec(name="main", main=forever, after=["u0"]))
    try:
        async with Supervisor(units) as supervisor:
            await supervisor.wait_ready()
            print(*[unit.process.pid for unit in supervisor.units if unit.process], flush=True)
            await trio.sleep_forever()
    except KeyboardInterrupt as error:
        print("bare", [str(unit.state) for unit in supervisor.units], flush=True)
        raise

trio.run(main)
"""


@contextlib.contextmanager
def program():
    command = [sys.executable, "-c", PROGRAM]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    process = subprocess.Popen(command, **streams, **forked.program(command))
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=60)


@pytest.mark.parametrize("times", [1, 2, 5])
async def test_ctrl_c_leaves_the_block_bare_and_leaves_nothing(times):
    with program() as process:
        pids = [int(pid) for pid in process.stdout.readline().split()]
        assert len(pids) == 5
        for _ in range(times):
            process.send_signal(signal.SIGINT)
            await trio.sleep(0.1)
        output, _ = process.communicate(timeout=60)
        await wait_gone(*pids)
    assert "KeyboardInterrupt" in output
    assert "ExceptionGroup" not in output
    assert re.search(r"bare \['stopped', 'stopped', 'stopped', 'stopped', 'stopped', 'stopped'\]", output) or times > 1


async def test_a_group_of_the_body_leaves_it_as_the_same_object(autojump_clock):
    group = ExceptionGroup("mine", [ValueError("a"), KeyError("b")])
    with pytest.raises(ExceptionGroup) as caught:
        async with supervised([unit("web")]):
            raise group
    assert caught.value is group


async def test_a_cancellation_of_the_body_alone_is_the_bodys(autojump_clock):
    async with supervised([unit("web")]) as (supervisor, _, _):
        with trio.move_on_after(3) as scope:
            await supervisor.wait()
        assert scope.cancelled_caught
        assert supervisor["web"].ready


async def test_cancelled_before_it_is_entered_starts_nothing_that_stays(autojump_clock):
    async with fake_service() as fake:
        with trio.CancelScope() as scope:
            scope.cancel()
            async with Supervisor([unit("web")], service=fake) as supervisor:
                await trio.sleep_forever()
        assert scope.cancelled_caught
        assert supervisor["web"].state is UnitState.STOPPED
        assert fake.running() == []


async def test_left_at_once_it_leaves_nothing(autojump_clock):
    async with supervised([unit("db"), unit("web", after=["db"]), unit("main", main=trio.sleep_forever)]) as (
        supervisor,
        fake,
        _,
    ):
        pass
    assert {str(each.state) for each in supervisor.units} == {"stopped"}
    assert fake.running() == []


async def test_a_service_that_was_never_entered_is_a_failure_that_says_so(autojump_clock):
    policy = RestartPolicy.never()
    async with Supervisor([unit("web", restart=policy)], service=FakeService()) as supervisor:
        assert await supervisor["web"].wait() is UnitState.FAILED
        assert "not entered" in str(supervisor["web"].error)


async def test_a_service_that_is_left_under_it_hangs_nobody(autojump_clock):
    fake = fake_service()
    leave = trio.Event()

    async def serve(task_status):
        async with fake:
            task_status.started()
            await leave.wait()

    with trio.fail_after(1000):
        async with trio.open_nursery() as nursery:
            await nursery.start(serve)
            async with Supervisor([unit("web"), unit("db")], service=fake) as supervisor:
                await supervisor.wait_ready()
                leave.set()
                await supervisor.wait(check=False)
                assert {str(each.state) for each in supervisor.units} <= {"completed", "failed"}


@pytest.mark.parametrize("name", ["wbe", "", "web.2", 3, None])
async def test_a_unit_that_is_not_there_is_named_with_the_nearest(name, autojump_clock):
    async with supervised([unit("web")]) as (supervisor, _, _):
        for call in (supervisor.start, supervisor.stop, supervisor.restart, supervisor.wait_ready):
            with pytest.raises(ProcessError, match="there is no unit"):
                await call(name)
        with pytest.raises(LookupError):
            supervisor[name]
        with pytest.raises(ProcessError):
            supervisor.hold(name)
        if name == "wbe":
            with pytest.raises(ProcessError, match="did you mean 'web'"):
                await supervisor.scale(name, 2)


async def test_crashes_of_many_at_once_under_one_for_all_are_one_restart(autojump_clock):
    fake = fake_service(**{f"u{number}": [crash(10.0), FOR_EVER] for number in range(100)})
    units = [unit(f"u{number}", command=f"u{number}") for number in range(100)]
    async with supervised(units, fake, strategy="one_for_all") as (supervisor, fake, _):
        await trio.sleep(60)
        assert all(each.ready for each in supervisor.units)
        assert {each.generation for each in supervisor.units} == {2}
        assert sum(each.restarts for each in supervisor.units) == 1


async def test_a_thousand_units_come_and_go(autojump_clock):
    units = [unit(f"u{number}", command="web") for number in range(1000)]
    async with supervised(units) as (supervisor, fake, _):
        await supervisor.wait_ready()
        await supervisor.reload(units[:500])
        assert len(supervisor.units) == 500
        await supervisor.reload([])
        assert fake.running() == []
        await supervisor.wait()


async def test_a_hundred_tasks_ask_for_everything_at_once(autojump_clock):
    async with supervised([unit("db"), unit("web", after=["db"])]) as (supervisor, fake, _):
        await supervisor.wait_ready()
        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(supervisor.restart, "web")
        assert supervisor["web"].generation == 2
        assert len(fake.calls) == 3


async def test_an_event_reader_that_never_reads_loses_nothing_and_delays_nobody(autojump_clock):
    from trio_process import UnitChanged

    fake = fake_service(web={"exit_code": 1, "exit_after": 0.01})
    policy = RestartPolicy.on_failure(max_restarts=500, within=1e9, backoff=0.1, backoff_max=0.1, jitter=0.0)
    async with fake:
        with (
            fake.subscribe(UnitChanged, buffer=1, overflow="drop_oldest") as slow,
            fake.subscribe(UnitChanged, buffer=1) as full,
        ):
            async with Supervisor([unit("web", restart=policy)], service=fake) as supervisor:
                assert await supervisor["web"].wait() is UnitState.FAILED
            for events in (slow, full):
                seen = []
                with contextlib.suppress(trio.WouldBlock):
                    while True:
                        seen.append(events.receive_nowait())
                assert len(seen) == 3 * 501
                assert events.dropped == 0


async def test_options_of_a_probe_and_a_supervisor_are_named_when_they_are_wrong():
    with pytest.raises(OptionError, match="did you mean 'timeout'"):
        Probe.tcp("127.0.0.1:1", timout=3)
    with pytest.raises(OptionError, match="did you mean 'replicas'"):
        UnitSpec(name="web", command="web", replica=3)


async def test_nothing_is_left_when_the_body_is_cancelled_in_the_middle_of_a_start(tmp_path):
    script = f"echo $$ >>{tmp_path}/pids; exec sleep 1000"
    units = [UnitSpec(name=f"u{number}", command="sh", args=["-c", script]) for number in range(10)]
    for delay in (0.0, 0.005, 0.02):
        with trio.move_on_after(delay):
            async with Supervisor(units):
                await trio.sleep_forever()
    pids = (tmp_path / "pids").read_text().split() if os.path.exists(tmp_path / "pids") else []
    assert all(is_gone(int(pid)) for pid in pids)


def tasks_called(text):
    """Return how many tasks of this run of Trio have a name that begins so."""
    found, waiting = 0, [trio.lowlevel.current_root_task()]
    while waiting:
        task = waiting.pop()
        found += task.name.startswith(text)
        waiting += [child for nursery in task.child_nurseries for child in nursery.child_tasks]
    return found


async def test_an_idle_unit_has_no_task(autojump_clock):
    async with supervised([unit(f"u{number}") for number in range(200)]) as (supervisor, _, _):
        await supervisor.wait_ready(timeout=30)
        assert tasks_called("keeper") == 0
        await supervisor.restart("u7")
        assert tasks_called("keeper") == 0
    assert {str(one.state) for one in supervisor.units} == {"stopped"}


class Ticking(trio.abc.Clock):
    """A clock on which a second passes whenever it is read."""

    def __init__(self):
        self.now = 0.0

    def start_clock(self):
        pass

    def current_time(self):
        self.now += 1
        return self.now

    def deadline_to_sleep_time(self, deadline):
        return 0


@pytest.mark.parametrize("settle", range(1, 16))
def test_a_unit_is_ready_also_if_it_settles_while_its_keeper_is_deciding_how_long_to_wait(settle):
    clock = Ticking()

    async def main():
        async with Supervisor(
            [unit("web", main=trio.sleep_forever, settle=settle + 0.5, start_timeout=10_000)]
        ) as supervisor:
            begun = clock.now
            await supervisor.wait_ready()
            return clock.now - begun

    assert trio.run(main, clock=clock) < 1000
