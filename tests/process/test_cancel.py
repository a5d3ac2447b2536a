"""Cancellation, Ctrl-C and errors in a body: everything is stopped and reaped, and what was raised goes on."""

import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import suppress

import forked
import pytest
import trio
import trio.testing
from support import is_gone, open_descriptors, sh, wait_until

from trio_process import (
    Core,
    EndReason,
    OptionError,
    ProcessStartError,
    RunOptions,
    Service,
    ServiceClosedError,
    ServiceOptions,
    Status,
)

STUBBORN = sh("trap '' TERM INT; echo ready; while :; do sleep 0.2; done")


async def test_two_hundred_are_gone_and_reaped_in_a_second():
    with trio.fail_after(60):
        async with Service() as service:
            before = (open_descriptors(), trio.lowlevel.current_statistics().tasks_living)
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    for _ in range(200):
                        nursery.start_soon(service.run, "sleep", "1000")
                    await wait_until(lambda: service.statistics().running == 200)
                    pids = [process.pid for process in service.running()]
                    began = trio.current_time()
                    scope.cancel()
            assert trio.current_time() - began < 30  # one, on a machine that is not busy
            assert not any(os.path.exists(f"/proc/{pid}") for pid in pids)
            assert (open_descriptors(), trio.lowlevel.current_statistics().tasks_living) == before
            assert {process.reason for process in service.list()} == {EndReason.CANCELLED}


async def test_cancelling_the_nursery_of_run_process_stops_it():
    with trio.fail_after(30):
        async with Service() as service:
            async with trio.open_nursery() as nursery:
                process = await nursery.start(service.run_process, RunOptions(command="sleep", args=["1000"]))
                assert process.is_running
                nursery.cancel_scope.cancel()
            assert (process.exit_code, process.reason) == (-15, EndReason.CANCELLED)


async def test_run_process_returns_its_result_or_raises():
    with trio.fail_after(30):
        async with Service() as service:
            assert (await service.run_process(RunOptions(command="echo", args=["hi"]))).output == "hi\n"
            assert (await service.run_process(RunOptions(command="false"), check=False)).exit_code == 1
            async with trio.open_nursery() as nursery:
                with pytest.raises(ProcessStartError):
                    await nursery.start(service.run_process, RunOptions(command="no-such-program"))


async def test_run_process_under_a_service_that_is_left_returns_the_stopped_result():
    results = []

    async def run(service):
        results.append(await service.run_process(RunOptions(command="sh", args=STUBBORN[1:])))

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            async with Service(options=ServiceOptions(grace_period=0.1)) as service:
                nursery.start_soon(run, service)
                (process,) = await wait_until(service.running)
                await process.wait_for_line("ready")
    (result,) = results
    assert (result.reason, result.exit_code) == (EndReason.STOPPED, -9)


async def test_cancelling_a_wait_changes_nothing():
    with trio.fail_after(30):
        async with Service() as service:
            process = await service.start("sleep", "1000")
            for wait in (process.wait, process.done.wait, service.wait_all):
                with trio.move_on_after(0.02) as scope:
                    await wait()
                assert scope.cancelled_caught
            with trio.move_on_after(0.02) as scope:
                async for _ in process.lines():
                    pass
            assert scope.cancelled_caught
            assert process.is_running


async def test_leaving_open_stops_the_process():
    with trio.fail_after(30):
        async with Service() as service:
            async with service.open("sleep", "1000") as process:
                assert process.is_running
            assert (process.exit_code, process.reason) == (-15, EndReason.STOPPED)
            async with service.open("true") as process:
                await process.wait()
            assert process.reason is EndReason.EXITED


async def test_leaving_open_while_cancelled_cuts_the_grace():
    with trio.fail_after(30):
        async with Service() as service:
            with trio.move_on_after(1) as scope:
                async with service.open(*STUBBORN, grace_period=1000) as process:
                    await process.wait_for_line("ready")
                    scope.cancel()
                    await trio.sleep_forever()
            assert scope.cancelled_caught
            assert (process.exit_code, process.reason) == (-9, EndReason.CANCELLED)


@pytest.mark.parametrize(
    "error", [ValueError("body"), KeyboardInterrupt(), SystemExit(2), ExceptionGroup("g", [ValueError()])]
)
async def test_an_error_leaves_every_block_as_the_same_object(error):
    with trio.fail_after(30):
        with pytest.raises(type(error)) as caught:
            async with Core(Service) as core:
                service = core.service(Service)
                other = await service.start("sleep", "1000")
                async with service.open("sleep", "1000") as process:
                    raise error
        assert caught.value is error
        assert (process.exit_code, other.exit_code) == (-15, -15)
        assert not getattr(error, "__notes__", [])


async def test_a_failed_start_leaves_every_block_bare():
    with trio.fail_after(30):
        with pytest.raises(ProcessStartError) as caught:
            async with Core(Service) as core:
                async with core.service(Service).open("no-such-program"):
                    pass
        assert isinstance(caught.value.__cause__, FileNotFoundError)


async def test_a_failed_service_factory_leaves_the_others_clean():
    error = OSError("taken")

    def fails(core):
        raise error

    with trio.fail_after(30):
        with pytest.raises(OSError) as caught:
            async with Core(Service, fails):
                pytest.fail("never entered")
        assert caught.value is error


async def test_a_cancelled_start_starts_nothing():
    with trio.fail_after(30):
        async with Service() as service:
            with trio.CancelScope() as scope:
                scope.cancel()
                await service.start("sleep", "1000")
            assert scope.cancelled_caught
            assert service.list() == []


async def test_starting_while_the_service_is_left_is_refused_or_stopped():
    refused, ended = [], []

    async def keep_starting(service):
        while True:
            try:
                process = await service.start("sleep", "1000")
            except ServiceClosedError:
                refused.append(1)
                return
            ended.append(process)
            await trio.lowlevel.checkpoint()

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            async with Service() as service:
                for _ in range(5):
                    nursery.start_soon(keep_starting, service)
                await wait_until(lambda: len(ended) > 10)
    assert len(refused) == 5
    assert all(process.exit_code == -15 for process in ended)


async def test_a_process_outlives_the_task_that_started_it():
    with trio.fail_after(30):
        async with Service() as service:
            with trio.CancelScope() as scope:
                process = await service.start("sleep", "1000")
                scope.cancel()
                await trio.sleep_forever()
            assert process.is_running


async def test_a_deadline_that_has_passed_still_stops_everything():
    with trio.fail_after(30):
        with trio.CancelScope() as scope:
            async with Service(options=ServiceOptions(grace_period=0.2)) as service:
                process = await service.start(*STUBBORN)
                await process.wait_for_line("ready")
                scope.deadline = trio.current_time() - 1
                await trio.sleep_forever()
        assert scope.cancelled_caught
        assert (process.status, process.exit_code) == (Status.KILLED, -9)


PRELUDE = """
import os, signal, sys, trio
from trio_process import *
STUBBORN = ("sh", "-c", "trap '' TERM INT; echo $$; while :; do sleep 0.2; done")
"""


def interrupted(body, *, times=1):
    """Run a program, send it SIGINT for each line that it prints beginning with `now`; return its output."""
    program = PRELUDE + textwrap.dedent(body)
    command = [sys.executable, "-c", program]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(command, **streams, **forked.program(command)) as child:
        try:
            lines = []
            for line in child.stdout:
                lines.append(line.rstrip("\n"))
                if line.startswith("now"):
                    time.sleep(0.05)
                    child.send_signal(signal.SIGINT)
            child.wait(30)
        finally:
            child.kill()
    pids = [int(line.split()[1]) for line in lines if line.startswith("pid")]
    assert pids
    assert all(map(is_gone, pids)), lines
    return lines


def test_ctrl_c_in_a_body_is_a_bare_keyboard_interrupt():
    lines = interrupted("""
        async def main():
            async with Core(Service) as core:
                async with core.service(Service).open("sleep", "1000") as process:
                    print("pid", process.pid, flush=True)
                    print("now", flush=True)
                    await trio.sleep_forever()
        try:
            trio.run(main)
        except KeyboardInterrupt as error:
            print("bare", error.__class__.__name__, getattr(error, "__notes__", []))
    """)
    assert lines[2:] == ["bare KeyboardInterrupt []"]


def test_ctrl_c_in_a_run_is_a_bare_keyboard_interrupt():
    lines = interrupted("""
        async def main():
            async with Service() as service:
                async with trio.open_nursery() as nursery:
                    process = await nursery.start(service.run_process, RunOptions(command="sleep", args=["1000"]))
                    print("pid", process.pid, flush=True)
                    nursery.cancel_scope.cancel()
                print("now", flush=True)
                await service.run("sleep", "1000")
        try:
            trio.run(main)
        except KeyboardInterrupt as error:
            print("bare", error.__class__.__name__)
    """)
    assert lines[2:] == ["bare KeyboardInterrupt"]


@pytest.mark.parametrize("how", ["leave", "open", "run"])
def test_a_second_ctrl_c_does_not_cut_the_clean_up_off(how):
    bodies = {
        "leave": "process = await service.start(*STUBBORN)\n",
        "open": "process = await stack.enter_async_context(service.open(*STUBBORN))\n",
        "run": "process = await nursery.start(service.run_process, RunOptions(command='sh', args=STUBBORN[1:]))\n",
    }
    body = f"""
    from contextlib import AsyncExitStack
    async def main():
        async with Service(options=ServiceOptions(grace_period=0.5)) as service, trio.open_nursery() as nursery:
            async with AsyncExitStack() as stack:
                {bodies[how]}
                await process.wait_for_line("", timeout=20)
                print("pid", process.pid, flush=True)
                nursery.start_soon(again)
                print("now", flush=True)
                await trio.sleep_forever()
    async def again():
        try:
            await trio.sleep_forever()
        finally:
            print("now again", flush=True)
            print("now again", flush=True)
    try:
        trio.run(main)
    except BaseException as error:
        kinds = set()
        def look(error):
            for each in getattr(error, "exceptions", ()) or [None]:
                look(each) if each else kinds.add(type(error).__name__)
        look(error)
        print("ended", *sorted(kinds))
    """
    lines = interrupted(body)
    assert lines[-1] == "ended KeyboardInterrupt", lines


def test_exit_codes_are_right_where_sigchld_was_ignored():
    program = PRELUDE + textwrap.dedent("""
        assert signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN
        def others():
            return [signal.getsignal(number) for number in signal.valid_signals() if number not in (signal.SIGCHLD, signal.SIGINT)]
        async def main():
            before = others()
            async with Service() as service:
                for code in (0, 3):
                    print((await service.run("sh", "-c", f"exit {code}", check=False)).exit_code)
                assert others() == before
        trio.run(main)
        assert signal.getsignal(signal.SIGCHLD) is signal.SIG_DFL
    """)
    ignoring = (
        "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); os.execv(sys.executable, sys.argv[1:])"
    )
    command = [sys.executable, "-c", ignoring, sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("0\n3\n", "")


async def test_the_options_of_a_service_are_checked():
    for given in ({"grace_period": -1}, {"buffer_size": -1}, {"retain": 1.5}, {"guardian": 1}, {"drain_limit": "x"}):
        with pytest.raises(OptionError):
            ServiceOptions(**given)


@pytest.mark.parametrize("raises", [False, True])
async def test_leaving_open_while_cancelled_gives_no_grace_whatever_the_body_was_in(raises):
    async def wait(scope):
        try:
            scope.cancel()
            await trio.sleep_forever()
        finally:
            if raises:
                raise ValueError("in the clean-up")

    with trio.fail_after(30), trio.CancelScope() as scope, suppress(ExceptionGroup):
        async with Service(options=ServiceOptions(grace_period=20)) as service:
            async with service.open(*STUBBORN) as process:
                await process.wait_for_line(re.compile("."))
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(trio.sleep_forever)
                    nursery.start_soon(wait, scope)
    assert (process.reason, process.exit_code) == (EndReason.CANCELLED, -9)
