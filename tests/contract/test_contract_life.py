"""How processes begin and end: the same on the real service and on the fake."""

from functools import partial

import pytest
import trio
import trio.testing
from worlds import line, on_its_clock, plain_rest

from trio_process import (
    ActionProcessOutput,
    CommandFailedError,
    CommandTimeoutError,
    EndReason,
    OptionError,
    OutputLine,
    ProcessNotRunningError,
    ProcessStartError,
    ProgramNotFoundError,
    RunOptions,
    Secret,
    ServiceClosedError,
    Status,
)
from trio_process.testing import Read

FOREVER = {"exit_code": None}


async def events_of(world, argv, check=False, **options):
    """Run a command to its end; return its result and its events."""
    async with world.service() as service:
        events = service.subscribe()
        result = await service.run(*argv, check=check, **options)
    return result, await plain_rest(events)


@pytest.mark.parametrize("code", [0, 1, 3, 255])
@on_its_clock
async def test_an_exit_code_arrives(world, code):
    argv = world.program(f"exit {code}", exit_code=code)
    result, events = await events_of(world, argv, name="label")
    assert (result.exit_code, result.status, result.reason) == (code, Status.EXITED, EndReason.EXITED)
    assert (result.signal_name, result.ok, result.name, result.requested_by) == (None, code == 0, "label", None)
    error = "CommandFailedError" if code else None
    assert events == [("started", "sh", argv[1:], "label"), ("exited", code, "exited", error)]


@on_its_clock
async def test_other_codes_can_be_ok(world):
    argv = world.program("exit 3", exit_code=3)
    result, events = await events_of(world, argv, check=True, ok_exit_codes=[0, 3])
    assert result.ok
    assert events[-1] == ("exited", 3, "exited", None)


@on_its_clock
async def test_a_death_by_its_own_signal_is_told(world):
    argv = world.program("echo last; kill -USR1 $$", lines=["last"], exit_code=-10)
    result, events = await events_of(world, argv)
    assert (result.exit_code, result.signal_name) == (-10, "SIGUSR1")
    assert (result.status, result.reason) == (Status.KILLED, EndReason.SIGNALLED)
    assert events[1:] == [line("last"), ("killed", "SIGUSR1"), ("exited", -10, "signalled", "CommandFailedError")]


@on_its_clock
async def test_a_process_is_pending_then_running_then_over(world):
    argv = world.program("sleep 0.1", exit_after=0.1)
    async with world.service() as service:
        process = await service.start(*argv)
        assert (process.status, process.is_running, process.exit_code, process.reason) == (
            Status.RUNNING,
            True,
            None,
            None,
        )
        assert process.pid is not None
        assert process.result().ok is False
        assert await process.wait() == 0
        assert (process.status, process.is_running, process.reason) == (Status.EXITED, False, EndReason.EXITED)
        assert process.done.is_set()
        assert world.takes(process.duration, 0.1)
        assert service.statistics().finished == 1
        process.kill()
        process.terminate()
        with pytest.raises(ProcessNotRunningError):
            process.signal("SIGTERM")
        assert (await process.stop()).reason is EndReason.EXITED


@pytest.mark.parametrize(
    ("how", "number", "reason"),
    [("kill", 9, "killed"), ("terminate", 15, "signalled"), ("SIGHUP", 1, "signalled"), ("stranger", 15, "signalled")],
)
@on_its_clock
async def test_a_signal_ends_it_and_the_reason_says_whose_it_was(world, how, number, reason):
    argv = world.program("echo up; exec sleep 60", lines=["up"], **FOREVER)
    if how == "stranger":
        argv = world.program("echo up; sleep 0.1; kill $$", lines=["up"], exit_code=-15, exit_after=0.1)
    async with world.service() as service:
        events = service.subscribe()
        process = await service.start(*argv)
        await process.wait_for_line("up")
        if how in ("kill", "terminate"):
            getattr(process, how)()
        elif how != "stranger":
            process.signal(how)
        with pytest.raises(CommandFailedError) as failure:
            await process.wait()
        assert failure.value.result.reason == reason
        assert (failure.value.result.requested_by is None) == (how == "stranger")
        assert await process.wait(check=False) == -number
        assert process.status is Status.KILLED
    seen = await plain_rest(events)
    assert [kind for kind, *_ in seen] == ["started", "line", "killed", "exited"]
    assert seen[-1] == ("exited", -number, reason, "CommandFailedError")


@on_its_clock
async def test_an_ignored_signal_changes_nothing_and_never_escalates(world):
    argv = world.program(
        "trap '' TERM; echo up; read x; exit 4", lines=["up", Read.LINE], ignores=["SIGTERM"], exit_code=4
    )
    async with world.service() as service:
        process = await service.start(*argv)
        await process.wait_for_line("up")
        process.terminate()
        await trio.sleep(0.05)
        assert process.is_running
        await process.send_input("\n")
        assert await process.wait(check=False) == 4
        assert process.reason is EndReason.EXITED


@on_its_clock
async def test_what_is_written_during_the_grace_arrives(world):
    argv = world.program(
        "trap 'sleep 0.1; echo bye; echo err >&2; exit 0' TERM; echo up; read x",
        lines=["up"],
        exit_code=None,
        reacts={"SIGTERM": {"lines": [(0.1, "bye"), OutputLine("err", "stderr")], "exit_code": 0}},
    )
    async with world.service() as service:
        events = service.subscribe()
        process = await service.start(*argv)
        await process.wait_for_line("up")
        result = await process.stop()
        assert (result.ok, result.reason, result.exit_code) == (True, EndReason.STOPPED, 0)
        assert result.requested_by is not None
        assert (result.stdout, result.stderr) == ("up\nbye\n", "err\n")
    seen = await plain_rest(events)
    assert [event for event in seen if event[0] != "line"][1:] == [("exited", 0, "stopped", None)]
    assert line("bye") in seen
    assert line("err", "stderr") in seen


@on_its_clock
async def test_a_stop_that_is_heeded_is_ok_although_it_is_a_death_by_signal(world):
    argv = world.program("echo up; exec sleep 60", lines=["up"], **FOREVER)
    async with world.service() as service:
        process = await service.start(*argv)
        await process.wait_for_line("up")
        result = await process.stop()
    assert (result.reason, result.lost) == (EndReason.STOPPED, None)
    assert (result.status, result.exit_code, result.signal_name, result.ok) == (Status.KILLED, -15, "SIGTERM", True)


@on_its_clock
async def test_a_failing_exit_after_a_stop_is_not_ok(world):
    argv = world.program(
        "trap 'exit 7' TERM; echo up; read x",
        lines=["up"],
        exit_code=None,
        reacts={"SIGTERM": {"exit_code": 7}},
    )
    async with world.service() as service:
        process = await service.start(*argv)
        await process.wait_for_line("up")
        result = await process.stop()
    assert (result.ok, result.exit_code, result.reason) == (False, 7, EndReason.STOPPED)


@on_its_clock
async def test_another_stop_signal_is_sent_where_asked_for(world):
    argv = world.program(
        "trap 'echo int; exit 0' INT; echo up; read x",
        lines=["up"],
        exit_code=None,
        reacts={"SIGINT": {"lines": ["int"]}},
    )
    async with world.service() as service:
        process = await service.start(*argv, stop_signal="SIGINT")
        await process.wait_for_line("up")
        assert (await process.stop()).output == "up\nint\n"


DEAF = ("trap '' TERM; echo up; while :; do sleep 0.01; done", {"lines": ["up"], "ignores": ["SIGTERM"], **FOREVER})


@pytest.mark.parametrize("grace", [0.3, 0])
@on_its_clock
async def test_after_the_grace_comes_sigkill_and_the_reason_stays(world, grace):
    argv = world.program(DEAF[0], **DEAF[1])
    async with world.service() as service:
        process = await service.start(*argv)
        await process.wait_for_line("up")
        began = trio.current_time()
        result = await process.stop(grace)
        assert world.takes(trio.current_time() - began, grace)
    assert (result.ok, result.reason, result.signal_name) == (False, EndReason.STOPPED, "SIGKILL")


@on_its_clock
async def test_asked_again_a_stop_can_only_come_sooner(world):
    argv = world.program(DEAF[0], **DEAF[1])
    async with world.service() as service:
        process = await service.start(*argv)
        await process.wait_for_line("up")
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(process.stop, 50)
            await trio.sleep(0.1)
            nursery.start_soon(process.stop, 60)
            await process.stop(0.1)
        assert world.takes(trio.current_time() - began, 0.2)
        assert process.reason is EndReason.STOPPED


@on_its_clock
async def test_a_cancelled_stop_cuts_the_grace(world):
    argv = world.program(DEAF[0], **DEAF[1])
    async with world.service() as service:
        process = await service.start(*argv)
        await process.wait_for_line("up")
        with trio.move_on_after(0.1) as scope:
            await process.stop(50)
        assert scope.cancelled_caught
        assert (process.status, process.reason, process.signal_name) == (Status.KILLED, EndReason.STOPPED, "SIGKILL")


@on_its_clock
async def test_a_timeout_stops_it(world):
    argv = world.program("echo up; exec sleep 60", lines=["up"], **FOREVER)
    async with world.service() as service:
        events = service.subscribe()
        with pytest.raises(CommandTimeoutError) as failure:
            await service.run(*argv, timeout=2)
        result = failure.value.result
        assert (result.reason, result.signal_name, result.output) == (EndReason.TIMED_OUT, "SIGTERM", "up\n")
        assert world.takes(result.duration, 2)
        assert "timeout" in str(failure.value)
    assert (await plain_rest(events))[1:] == [
        line("up"),
        ("killed", "SIGTERM"),
        ("exited", -15, "timed_out", "CommandTimeoutError"),
    ]


@on_its_clock
async def test_silence_runs_into_the_idle_timeout_and_output_puts_it_off(world):
    argv = world.program(
        "for i in 1 2 3 4 5 6 7 8 9; do sleep 0.25; echo $i; done; exec sleep 60",
        lines=[(0.25, str(number)) for number in range(1, 10)],
        **FOREVER,
    )
    async with world.service() as service:
        result = await service.run(*argv, idle_timeout=2, check=False)  # less than it talks, much more than its pauses
    assert (result.reason, result.lost) == (EndReason.IDLE, None)
    assert result.output.split() == [str(number) for number in range(1, 10)]
    assert world.takes(result.duration, 4.25)


@on_its_clock
async def test_cancelling_a_run_stops_the_process(world):
    argv = world.program("echo up; exec sleep 60", lines=["up"], **FOREVER)
    async with world.service() as service:
        events = service.subscribe()
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(service.run, *argv)
                async for event in events:
                    if getattr(event, "line", "") == "up":
                        break
                scope.cancel()
        (process,) = service.list()
        assert (process.reason, process.signal_name) == (EndReason.CANCELLED, "SIGTERM")
    assert await plain_rest(events) == [("killed", "SIGTERM"), ("exited", -15, "cancelled", "CommandFailedError")]


@on_its_clock
async def test_a_cancelled_run_has_its_grace(world):
    argv = world.program(DEAF[0], **DEAF[1])
    async with world.service() as service:
        events = service.subscribe(ActionProcessOutput)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(service.run, *argv, grace_period=0.3))
            assert (await events.receive()).line == "up"
            events.close()
            began = trio.current_time()
            nursery.cancel_scope.cancel()
        assert world.takes(trio.current_time() - began, 0.3)
        assert service.list()[0].signal_name == "SIGKILL"
        assert service.list()[0].reason is EndReason.CANCELLED


@on_its_clock
async def test_leaving_an_open_block_stops_the_process(world):
    argv = world.program("echo up; exec sleep 60", lines=["up"], **FOREVER)
    async with world.service() as service:
        async with service.open(*argv) as process:
            await process.wait_for_line("up")
        assert (process.reason, process.signal_name) == (EndReason.STOPPED, "SIGTERM")


@on_its_clock
async def test_leaving_an_open_block_while_cancelled_kills_at_once(world):
    argv = world.program(DEAF[0], **DEAF[1])
    async with world.service() as service:
        began = trio.current_time()
        with trio.move_on_after(0.3):
            async with service.open(*argv) as process:
                await process.wait_for_line("up")
                await trio.sleep_forever()
        assert world.takes(trio.current_time() - began, 0.3)
        assert (process.reason, process.signal_name) == (EndReason.CANCELLED, "SIGKILL")


@on_its_clock
async def test_an_error_in_an_open_block_stops_the_process_and_goes_on(world):
    argv = world.program("exec sleep 60", **FOREVER)
    async with world.service() as service:
        error = ValueError("mine")
        with pytest.raises(ValueError, match="mine") as raised:
            async with service.open(*argv) as process:
                raise error
        assert raised.value is error
        assert process.reason is EndReason.STOPPED


@on_its_clock
async def test_leaving_the_service_stops_all_side_by_side(world):
    deaf = world.program(DEAF[0], **DEAF[1])
    async with world.service(grace_period=0.4) as service:
        events = service.subscribe()
        processes = [await service.start(*deaf) for _ in range(4)]
        for process in processes:
            await process.wait_for_line("up")
        began = trio.current_time()
    assert world.takes(trio.current_time() - began, 0.4)
    assert [process.reason for process in processes] == [EndReason.STOPPED] * 4
    assert [process.signal_name for process in processes] == ["SIGKILL"] * 4
    seen = await plain_rest(events)
    assert seen[8:] == [("killed", "SIGKILL"), ("exited", -9, "stopped", "CommandFailedError")] * 4


@on_its_clock
async def test_what_runs_in_a_nursery_ends_with_the_service(world):
    argv = world.program("exec sleep 60", **FOREVER)
    results = []

    async def run(service, task_status):
        options = RunOptions(command=argv[0], args=argv[1:])
        results.append(await service.run_process(options, task_status=task_status))

    async with trio.open_nursery() as nursery:
        async with world.service() as service:
            process = await nursery.start(run, service)
            assert process.is_running
    assert [result.reason for result in results] == [EndReason.STOPPED]
    with pytest.raises(ServiceClosedError):
        await service.start(*argv)


@on_its_clock
async def test_waiting_for_all_lets_them_end(world):
    argv = world.program("sleep 0.2; echo done", lines=[(0.2, "done")])
    async with world.service() as service:
        processes = [await service.start(*argv) for _ in range(3)]
        assert len(list(service.running())) == 3
        await service.wait_all()
        assert [process.output() for process in processes] == ["done\n"] * 3
        assert not list(service.running())


@on_its_clock
async def test_a_program_that_is_not_there(world):
    argv = world.command("no-such-program-anywhere", "x", error=FileNotFoundError)
    async with world.service() as service:
        events = service.subscribe()
        with pytest.raises(ProgramNotFoundError, match="no program 'no-such-program-anywhere'") as failure:
            await service.start(*argv, name="lost")
        assert isinstance(failure.value.__cause__, FileNotFoundError)
        (process,) = service.list()
        assert (process.status, process.reason, process.pid) == (Status.FAILED, EndReason.FAILED_TO_START, None)
        assert (process.is_running, process.exit_code, process.duration) == (False, None, 0.0)
        with pytest.raises(ProcessStartError) as again:
            await process.wait(check=False)
        assert (type(again.value), str(again.value)) == (type(failure.value), str(failure.value))
        assert repr(again.value.__cause__) == repr(failure.value.__cause__)
        assert (service.statistics().failed, service.statistics().started) == (1, 0)
        with pytest.raises(ProcessNotRunningError):
            await process.send_input("x")
    assert await plain_rest(events) == [("exited", None, "failed_to_start", "ProgramNotFoundError")]


@on_its_clock
async def test_what_has_no_bytes_and_a_closed_file_are_refused_and_leave_no_record(world, tmp_path):
    program = world.program("cat; exit 0")
    with open(tmp_path / "closed", "w+b") as closed:
        late = RunOptions(command=program[0], args=program[1:], stdin=closed)
    wrong = [
        (["cat\ud800"], {}),
        ([*program, "\ud800"], {}),
        ([*program, Secret("\ud800")], {}),
        (program, {"cwd": "\ud800"}),
        (program, {"env": {"A": "\ud800"}}),
        (program, {"env": {"\ud800": None}}),
        (program, {"stdin": "\ud800"}),
        (program, {"stdin": "\xe9", "encoding": "ascii"}),
    ]
    async with world.service() as service:
        with service.subscribe() as events:
            for argv, options in wrong:
                with pytest.raises(OptionError, match="can't be encoded"):
                    await service.run(*argv, **options)
            with pytest.raises(OptionError, match="was closed before the start"):
                await service.run_with_options(late)
            assert not service.list()
            with pytest.raises(trio.WouldBlock):
                events.receive_nowait()
        assert (await service.run(*program, env={"A": "\udce9"}, stdin="\xe9", encoding="latin-1")).ok


@on_its_clock
async def test_a_program_that_may_not_be_run(world, tmp_path):
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\n")
    argv = world.command(str(program), error=PermissionError)
    async with world.service() as service:
        with pytest.raises(ProcessStartError, match="not executable") as failure:
            await service.run(*argv)
        assert type(failure.value) is ProcessStartError
        assert isinstance(failure.value.__cause__, PermissionError)


@on_its_clock
async def test_a_suspended_process_does_nothing_and_still_dies_on_stop(world):
    argv = world.program(
        "echo up; while :; do sleep 0.05; echo tick; done",
        lines=["up", *[(0.05, "tick")] * 1000],
        **FOREVER,
    )
    async with world.service() as service:
        process = await service.start(*argv)
        await process.wait_for_line("tick")
        process.suspend()
        await trio.sleep(0.2)
        before = process.output()
        await trio.sleep(0.3)
        assert process.output() == before
        process.resume()
        while len(process.output()) <= len(before):
            await trio.sleep(0.05)
        process.suspend()
        result = await process.stop()
        assert (result.reason, result.signal_name) == (EndReason.STOPPED, "SIGTERM")


@on_its_clock
async def test_a_signal_waits_for_a_suspended_process_and_sigkill_does_not(world):
    argv = world.program("echo up; exec sleep 60", lines=["up"], **FOREVER)
    async with world.service() as service:
        first, second = [await service.start(*argv) for _ in range(2)]
        for process in (first, second):
            await process.wait_for_line("up")
            process.suspend()
            await world.until_stopped(process)  # of two pending signals the kernel delivers SIGTERM first
        first.terminate()
        second.kill()
        assert await second.wait(check=False) == -9
        await trio.sleep(0.1)
        assert first.is_running
        first.resume()
        assert await first.wait(check=False) == -15


@on_its_clock
async def test_the_first_request_that_can_be_the_cause_is_the_reason(world):
    argv = world.program(DEAF[0], **DEAF[1])
    async with world.service() as service:
        process = await service.start(*argv)
        await process.wait_for_line("up")
        process.terminate()
        await trio.sleep(0.05)
        process.kill()
        result = await process.stop()
    assert (result.reason, result.signal_name) == (EndReason.KILLED, "SIGKILL")


@on_its_clock
async def test_an_error_tells_the_same_story(world):
    argv = world.program(
        "echo out; echo 'it broke' >&2; exit 2", lines={"stdout": ["out"], "stderr": ["it broke"]}, exit_code=2
    )
    async with world.service() as service:
        with pytest.raises(CommandFailedError) as failure:
            await service.run(*argv)
    first, *rest = str(failure.value).splitlines()
    assert (
        first.partition(" after ")[0]
        == "`sh -c 'echo out; echo '\"'\"'it broke'\"'\"' >&2; exit 2'` exited with code 2"
    )
    assert rest == ["last lines of stderr:", "  it broke"]


@on_its_clock
async def test_a_secret_shows_nowhere(world):
    secret = Secret("hunter2")
    world.scripts.append(
        (("sh", "-c", 'echo "got $1"; exit 1', "x", secret), {"lines": ["got hunter2"], "exit_code": 1})
    )
    argv = world.scripts[-1][0]
    async with world.service() as service:
        events = service.subscribe()
        with pytest.raises(CommandFailedError) as failure:
            await service.run(*argv, redact=True)
        assert failure.value.result.output == "got ***\n"
        assert "hunter2" not in str(failure.value) + repr(failure.value.result)
    seen = await plain_rest(events)
    assert seen[0][2][-1] == "***"
    assert seen[1] == line("got ***")


@on_its_clock
async def test_stop_of_a_stopped_one_returns_the_same(world):
    argv = world.program("exit 0")
    async with world.service() as service:
        process = await service.start(*argv)
        await process.wait()
        assert await process.stop() == process.result() == service.get(process.id).result()


@on_its_clock
async def test_every_call_about_a_process_that_has_ended_is_a_checkpoint(world):
    argv = world.program("echo hello", lines=["hello"])
    async with world.service() as service:
        process = await service.start(*argv)
        await process.wait()
        lines = process.lines()
        wait_for_line = partial(process.wait_for_line, "hello")
        for call in (process.wait, process.stop, process.close_stdin, wait_for_line, service.wait_all, lines.__anext__):
            with trio.testing.assert_checkpoints():
                await call()
        with trio.testing.assert_checkpoints(), pytest.raises(StopAsyncIteration):
            await lines.__anext__()
