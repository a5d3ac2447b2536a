"""The actions of a service, and permission by registration."""

from functools import partial

import pytest
import trio
from support import sh, wait_until

from trio_process import (
    ActionDisabledError,
    ActionNotRegisteredError,
    ActionOptionError,
    ActionProcessExited,
    CommandFailedError,
    Core,
    ProcessInfo,
    ProcessNotFoundError,
    ProgramNotFoundError,
    Secret,
    Service,
    ServiceOptions,
    Status,
)


async def test_a_command_gives_its_text():
    with trio.fail_after(30):
        async with Core(Service) as core:
            assert core.process.exists
            assert (await core.process.run("git", "--version")).startswith("git version")
            assert await core.process.run(*sh("echo out; echo err >&2"), stderr="stdout") == "out\nerr\n"


async def test_the_actions_are_registered_in_their_order_and_go_with_the_service():
    core = Core(Service)
    assert core.actions == []
    with trio.fail_after(30):
        async with core:
            assert core.actions == ["process.run", "process.start", "process.kill", "process.list", "process.get"]
        assert core.actions == []
        with pytest.raises(ActionNotRegisteredError):
            await core.process.run("true")


async def test_without_the_service_nothing_runs(tmp_path):
    with trio.fail_after(30):
        async with Core() as core:
            with pytest.raises(ActionNotRegisteredError):
                await core.process.run("touch", str(tmp_path / "made"))
    assert not list(tmp_path.iterdir())


async def test_a_failure_has_the_result():
    with trio.fail_after(30):
        async with Core(Service) as core:
            with pytest.raises(CommandFailedError) as caught:
                await core.process.run(*sh("echo out; echo why >&2; exit 3"))
            assert (caught.value.result.exit_code, caught.value.result.stdout) == (3, "out\n")
            assert "why" in str(caught.value)
            with pytest.raises(ProgramNotFoundError):
                await core.process.run("no-such-program")


@pytest.mark.bound(100)
async def test_text_is_whole_at_fifty_megabytes():
    size = 50 * 2**20
    with trio.fail_after(100):
        async with Core(partial(Service, options=ServiceOptions(buffer_size=100))) as core:
            text = await core.process.run("head", "-c", str(size), "/dev/zero")
            assert len(text) == size
            result = await core.service(Service).run("head", "-c", "1000", "/dev/zero")
            assert (len(result.output), result.truncated, result.dropped) == (100, True, 900)


async def test_directory_and_environment(tmp_path):
    with trio.fail_after(30):
        async with Core(Service) as core:
            assert await core.process.run_in(tmp_path, "pwd") == f"{tmp_path}\n"
            script = sh('pwd; echo "$A"')
            assert await core.process.run_with_env(tmp_path, {"A": Secret("1")}, *script) == f"{tmp_path}\n1\n"
            with pytest.raises(ActionOptionError, match="cwd given twice"):
                await core.process.run_in(tmp_path, "pwd", cwd="/")


async def test_a_started_process_is_known_by_its_id():
    with trio.fail_after(30):
        async with Core(Service) as core:
            with trio.CancelScope() as scope:
                key = await core.process.start("sleep", "1000", name="sleeper")
                other = await core.process.start("sleep", "1000")
                scope.cancel()
                await trio.sleep_forever()
            info = await core.process.get(key)  # it is not tied to the caller
            assert isinstance(info, ProcessInfo)
            assert (info.id, info.name, info.running, info.status) == (key, "sleeper", True, Status.RUNNING)
            assert await core.process.list() == [key, other]
            await core.process.kill(key)
            process = core.service(Service).get(key)
            assert await process.wait(check=False) == -9
            await core.process.kill(pid=(await core.process.get(other)).pid)
            assert await core.service(Service).get(other).wait(check=False) == -9
            assert not (await core.process.get(other)).running


async def test_a_stranger_is_never_signalled():
    with trio.fail_after(30):
        async with Service() as stranger, Core(Service) as core:
            process = await stranger.start("sleep", "1000")
            for pid in (process.pid, 1, 0, -1, 2**40):
                with pytest.raises(ProcessNotFoundError, match="other processes are never signalled"):
                    await core.process.kill(pid=pid)
            with pytest.raises(ProcessNotFoundError):
                await core.process.kill("nope")
            with pytest.raises(ProcessNotFoundError):
                await core.process.get("nope")
            ended = await core.service(Service).start("true")
            await ended.wait()
            with pytest.raises(ProcessNotFoundError):
                await core.process.kill(pid=ended.pid)
            await core.process.kill(ended.id)  # of one that has ended: nothing
            assert process.is_running


@pytest.mark.parametrize(
    ("action", "options", "text"),
    [
        ("process.run", {}, "'command' is missing"),
        ("process.run", {"command": ""}, "command must not be empty"),
        ("process.run", {"command": "true", "args": "abc"}, "args must be a list"),
        ("process.run", {"command": "true", "timout": 3}, "did you mean 'timeout'"),
        ("process.run", {"command": "true", "timeout": "3"}, "timeout must be a number"),
        ("process.start", {"args": []}, "'command' is missing"),
        ("process.start", {"command": "true", "env": {"A=": ""}}, "without '='"),
        ("process.kill", {}, "takes either id or pid"),
        ("process.kill", {"id": 5}, "id must be str or None"),
        ("process.kill", {"pid": "5"}, "pid must be int or None"),
        ("process.list", {"all": True}, "unknown option 'all'"),
        ("process.get", {}, "'id' is missing"),
        ("process.get", {"id": None}, "id must be str"),
    ],
)
async def test_a_wrong_option_is_named_and_nothing_runs(action, options, text):
    with trio.fail_after(30):
        async with Core(Service) as core:
            with pytest.raises(ActionOptionError, match=text):
                await core.action(action).run(**options)
            assert await core.process.list() == []


async def test_values_as_json_carries_them_are_taken():
    options = {
        "command": "sh",
        "args": ["-c", "cat; exit 3"],
        "stdin": "null",
        "ok_exit_codes": [3],
        "stop_signal": "SIGINT",
    }
    with trio.fail_after(30):
        async with Core(Service) as core:
            assert await core.action("process.run").run(**options) == "null"


async def test_a_disabled_action_runs_nothing():
    with trio.fail_after(30):
        async with Core(Service) as core:
            core.action("process.start").disable()
            with pytest.raises(ActionDisabledError):
                await core.process.start("true")
            assert await core.process.run("echo", "hi") == "hi\n"


async def test_a_fake_can_replace_a_real_one_and_stays_when_the_service_goes():
    async def fake(command, args=(), **options):
        return f"fake {command}"

    core = Core(Service)
    with trio.fail_after(30):
        async with core:
            core.action("process.run", fake)
            assert await core.process.run("rm", "-rf", "/") == "fake rm"
            assert await core.process.list() == []
        assert core.actions == ["process.run"]
        assert await core.process.run("ls") == "fake ls"


async def test_a_service_made_before_its_core_is_entered_tells_it_all():
    core = Core()
    service = Service(core)
    with trio.fail_after(30):
        async with core, service:
            with core.subscribe(ActionProcessExited) as ends:
                await core.process.run("true")
                assert (await ends.receive()).command == "true"


async def test_a_service_that_was_replaced_has_its_actions_again_when_the_other_is_left():
    with trio.fail_after(30):
        async with Core(Service) as core:
            first = core.service(Service)
            async with Service(core) as second:
                await core.process.run("true")
                assert (len(first.list()), len(second.list())) == (0, 1)
            await core.process.run("true")
            assert len(first.list()) == 1
        assert core.actions == []


async def test_one_that_was_left_earlier_does_not_come_back():
    async def serve(leave, task_status):
        async with Service(core) as service:
            task_status.started(service)
            await leave.wait()
        left.append(service)

    with trio.fail_after(30):
        async with Core() as core, trio.open_nursery() as nursery:
            left = []
            leaves = [trio.Event() for _ in range(3)]
            services = [await nursery.start(serve, leave) for leave in leaves]
            for number in (1, 2):
                leaves[number].set()
                await wait_until(lambda number=number: services[number] in left)
            await core.process.run("true")
            assert [len(service.list()) for service in services] == [1, 0, 0]
            leaves[0].set()
            await wait_until(lambda: services[0] in left)
            assert not core.process.exists


async def test_a_fake_stays_when_the_service_it_replaced_is_left():
    async def fake(**_: object) -> str:
        await trio.lowlevel.checkpoint()
        return "fake"

    async with Core() as core:
        async with Service(core):
            core.action("process.run", fake)
        assert await core.process.run("true") == "fake"
