"""A service within a core, and under a runner: the same on the real service and on the fake."""

from functools import partial

import pytest
import trio
from worlds import on_its_clock, plain

from trio_process import (
    ActionNotRegisteredError,
    ActionOptionError,
    CommandFailedError,
    Core,
    EndReason,
    OutputLine,
    ProcessError,
    ProcessNotFoundError,
    Runner,
    RunSpec,
    Service,
    ServiceClosedError,
    Status,
)

ACTIONS = ["process.run", "process.start", "process.kill", "process.list", "process.get"]


@on_its_clock
async def test_actions_do_what_the_service_does(world):
    hello = world.program("echo hello; echo err >&2", lines=["hello"])
    fails = world.program("echo no; exit 2", lines=["no"], exit_code=2)
    sleeps = world.program("exec sleep 60", exit_code=None)
    async with Core(world.service) as core:
        assert core.actions == ACTIONS
        service = core.service(Service)
        assert service.core is core
        events = core.subscribe()
        assert "hello\n" in await core.process.run(*hello)
        with pytest.raises(CommandFailedError) as failure:
            await core.process.run(*fails)
        assert failure.value.result.output == "no\n"
        key = await core.process.start(*sleeps, name="sleeper")
        assert (await core.process.list())[-1] == key
        info = await core.process.get(key)
        assert (info.name, info.running, info.status) == ("sleeper", True, Status.RUNNING)
        with pytest.raises(ProcessNotFoundError):
            await core.process.kill(pid=1)
        with pytest.raises(ActionOptionError):
            await core.process.kill()
        await core.process.kill(pid=info.pid)
        assert await service.get(key).wait(check=False) == -9
        assert (await core.process.get(key)).to_dict()["exitCode"] == -9
        with pytest.raises(ActionOptionError, match="timeout"):
            await core.process.run(*hello, timeuot=3)
    seen = [plain(event) async for event in events]
    assert [event[0] for event in seen if event[0] != "line"] == [
        *["started", "exited"] * 2,
        *["started", "killed", "exited"],
    ]
    assert core.actions == []
    with pytest.raises(ActionNotRegisteredError):
        await core.process.run(*hello)


@on_its_clock
async def test_the_table_knows_forgets_and_refuses(world):
    quick = world.program("exit 0")
    sleeps = world.program("exec sleep 60", exit_code=None)
    async with world.service(retain=2) as service:
        ids = []
        for _ in range(3):
            process = await service.start(*quick)
            await process.wait()
            ids.append(process.id)
        assert [process.id for process in service.list()] == ids[1:]
        sleeper = await service.start(*sleeps)
        with pytest.raises(ProcessError, match="still running"):
            service.remove(sleeper.id)
        service.remove(ids[1])
        with pytest.raises(ProcessNotFoundError):
            service.get(ids[1])
        service.clear()
        assert [process.id for process in service.list()] == [sleeper.id]
        service.signal(sleeper.id, "TERM")
        assert await sleeper.wait(check=False) == -15
        assert (await service.stop(sleeper.id)).reason is EndReason.SIGNALLED
        statistics = service.statistics()
        assert (statistics.started, statistics.finished, statistics.running, statistics.remembered) == (4, 4, 0, 1)
    with pytest.raises(ServiceClosedError):
        await service.run(*quick)
    with pytest.raises(ProcessError, match="entered once"):
        async with service:
            pass


@on_its_clock
async def test_a_runner_takes_either(world):
    specs = []

    def spec(name, script, *after, options=(), **behaviour):
        argv = world.program(script, **behaviour)
        specs.append(RunSpec(name=name, command=argv[0], args=argv[1:], after=after, **dict(options)))

    spec("lint", "echo fine", lines=["fine"])
    spec("flaky", "exit 3", options={"retries": 2, "retry_delay": 0.1}, exit_code=3)
    spec("hangs", "exec sleep 60", options={"timeout": 0.2}, exit_code=None)
    spec("after", "echo never", "flaky", lines=["never"])
    spec("last", "echo last", "lint", lines=["last"])
    async with world.service() as service:
        result = await Runner(service).run_all(specs)
    outcome = [(one.name, one.passed, one.skipped, one.exit_code, one.attempts, one.output) for one in result.results]
    assert outcome == [
        ("lint", True, False, 0, 1, "fine\n"),
        ("flaky", False, False, 3, 3, ""),
        ("hangs", False, False, -15, 1, ""),
        ("after", False, True, None, 0, ""),
        ("last", True, False, 0, 1, "last\n"),
    ]
    assert result.results[2].command_result.reason is EndReason.TIMED_OUT


@on_its_clock
async def test_an_error_of_the_body_leaves_as_it_is_and_everything_is_stopped(world):
    argv = world.program("echo up; exec sleep 60", lines=["up"], exit_code=None)
    error = KeyError("mine")
    with pytest.raises(KeyError) as raised:
        async with Core(partial(world.service, grace_period=0.2)) as core:
            service = core.service(Service)
            process = await service.start(*argv)
            await process.wait_for_line("up")
            raise error
    assert raised.value is error
    assert process.reason is EndReason.STOPPED


@on_its_clock
async def test_cancelling_the_whole_block_stops_everything(world):
    argv = world.program("echo up; exec sleep 60", lines=["up"], exit_code=None)
    with trio.CancelScope() as scope:
        async with world.service() as service:
            process = await service.start(*argv)
            await process.wait_for_line("up")
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert (process.reason, process.signal_name) == (EndReason.STOPPED, "SIGTERM")


@on_its_clock
async def test_many_at_once_each_with_its_own_output(world):
    argvs = [
        world.program(f"echo {n}; echo e{n} >&2; exit {n}", lines=[f"{n}", OutputLine(f"e{n}", "stderr")], exit_code=n)
        for n in range(50)
    ]
    found = {}

    async def run(service, number):
        result = await service.run(*argvs[number], check=False)
        found[number] = (result.exit_code, result.stdout, result.stderr)

    async with world.service() as service, trio.open_nursery() as nursery:
        for number in range(50):
            nursery.start_soon(run, service, number)
    assert found == {n: (n, f"{n}\n", f"e{n}\n") for n in range(50)}
