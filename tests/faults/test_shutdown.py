"""Leaving a service: one deadline for all, nothing started any more, and what will not die is named."""

import signal

import pytest
import trio
from harness import new_tag, some_with_tag, with_tag
from support import is_gone, open_descriptors, process_of, python, sh, wait_until

from trio_process import (
    ActionProcessExited,
    EndReason,
    Service,
    ServiceClosedError,
    ServiceOptions,
    StopFailedError,
)
from trio_process._process import backend, reap

_STUBBORN = "trap '' TERM; echo ready; while :; do sleep 0.05; done"


async def test_twenty_that_ignore_the_stop_signal_take_one_grace():
    with trio.fail_after(30):
        async with Service(options=ServiceOptions(grace_period=0.5)) as service:
            processes = [await service.start(*sh(_STUBBORN)) for _ in range(20)]
            for process in processes:
                await process.wait_for_line("ready")
            began = trio.current_time()
        took = trio.current_time() - began
        assert 0.5 <= took < 5  # twenty graces were 10 s
        assert {process.signal_name for process in processes} == {"SIGKILL"}
        assert {process.reason for process in processes} == {EndReason.STOPPED}


async def test_all_ends_are_in_the_backlog_when_the_service_is_left():
    with trio.fail_after(30):
        async with Service(options=ServiceOptions(grace_period=0.1)) as service:
            ends = service.subscribe(ActionProcessExited, buffer=1)
            for number in range(10):
                await service.start(*sh(_STUBBORN if number % 2 else "cat"))
        assert len([event async for event in ends]) == 10


async def test_a_start_while_the_service_is_left_is_refused():
    refused = []
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            async with Service(options=ServiceOptions(grace_period=0.3)) as service:

                async def start_again_and_again():
                    while True:
                        try:
                            await service.start("sleep", "1000")
                        except ServiceClosedError as error:
                            refused.append(error)
                            return

                process = await service.start(*sh(_STUBBORN))
                await process.wait_for_line("ready")
                for _ in range(5):
                    nursery.start_soon(start_again_and_again)
                await trio.sleep(0.05)
        assert len(refused) == 5
        assert all(is_gone(process.pid) for process in service.list())
        with pytest.raises(ServiceClosedError):
            await service.run("true")


async def test_a_launch_that_is_under_way_while_the_service_is_left_ends_too():
    tag = new_tag()
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            results = []

            async def launch():
                results.append(await service.run("sleep", tag, nice=1, check=False))

            async with Service(options=ServiceOptions(grace_period=0.3)) as service:
                for _ in range(3):
                    nursery.start_soon(launch)
                await trio.lowlevel.checkpoint()
                await trio.lowlevel.checkpoint()
        assert with_tag(tag) == []
        assert {result.reason for result in results} == {EndReason.STOPPED}


async def test_a_cancelled_launch_leaves_nothing():
    tag = new_tag()
    with trio.fail_after(30):
        async with Service() as service:
            for number in range(10):
                with trio.move_on_after(number * 0.003):
                    await service.run("sleep", tag, nice=1)
                assert service.running() == []
                assert with_tag(tag) == []


async def test_leaving_by_an_error_stops_everything_and_the_error_is_the_same():
    tag, mine = new_tag(), ValueError("mine")
    with trio.fail_after(30):
        with pytest.raises(ValueError, match="mine") as caught:
            async with Service(options=ServiceOptions(grace_period=0.1)) as service:
                await service.start(*sh("trap '' TERM; sleep $1 & sleep $1; sleep $1", tag))
                await some_with_tag(tag, 2)
                raise mine
        assert caught.value is mine
        assert with_tag(tag) == []


async def test_a_second_cancellation_changes_nothing():
    tag = new_tag()
    with trio.fail_after(30):
        with trio.CancelScope() as outer:
            with trio.CancelScope() as inner:
                async with Service(options=ServiceOptions(grace_period=0.3)) as service:
                    await service.start(*sh("trap '' TERM; sleep $1; sleep $1", tag))
                    await some_with_tag(tag)
                    async with trio.open_nursery() as nursery:

                        async def cancel_both():
                            inner.cancel()
                            outer.cancel()

                        nursery.start_soon(cancel_both)
                        await trio.sleep_forever()
        assert with_tag(tag) == []


async def test_a_stop_that_is_cancelled_cuts_the_grace():
    with trio.fail_after(30):
        async with Service(options=ServiceOptions(grace_period=20)) as service:
            process = await service.start(*sh(_STUBBORN))
            await process.wait_for_line("ready")
            began = trio.current_time()
            with trio.move_on_after(0.1) as scope:
                await process.stop()
            assert scope.cancelled_caught
            assert not process.is_running
            assert trio.current_time() - began < 5
            assert process.reason is EndReason.STOPPED


def will_not_die(monkeypatch, victim):
    """Let SIGKILL and all else miss one process, as if it were in uninterruptible sleep, and be told of that soon."""

    def miss(function):
        def signal_all_but_it(pid, *rest):
            if pid != victim():
                function(pid, *rest)

        return signal_all_but_it

    monkeypatch.setattr(reap, "signal_group", miss(reap.signal_group))
    monkeypatch.setattr(backend, "STUCK_AFTER", 0.2)


async def test_what_will_not_die_is_named(monkeypatch):
    process = None
    will_not_die(monkeypatch, lambda: process and process.pid)
    held = open_descriptors()
    with trio.fail_after(30):
        with pytest.raises(StopFailedError) as caught:
            async with Service(options=ServiceOptions(grace_period=0.1)) as service:
                process = await service.start("sleep", "1234")
                other = await service.start("sleep", "1234")
                await wait_until(lambda: process_of(process.pid)[:2] == ("sleep", "S"))  # no longer on its way there
        (left,) = caught.value.processes
        assert (left.pid, left.state) == (process.pid, "S")
        assert "sleep" in left.command
        assert str(process.pid) in str(caught.value)
        assert is_gone(other.pid)
        assert open_descriptors() == held
    await really_kill(process.pid)


async def test_a_stop_that_fails_says_so_and_the_service_goes_on(monkeypatch):
    process = None
    will_not_die(monkeypatch, lambda: process and process.pid)
    with trio.fail_after(30):
        async with Service(options=ServiceOptions(grace_period=0.1)) as service:
            process = await service.start("sleep", "1234")
            with pytest.raises(StopFailedError, match=str(process.pid)):
                await process.stop()
            assert process.is_running
            assert (await service.run("echo", "on")).output == "on\n"
            await really_kill(process.pid, reap_it=False)
            assert await process.wait(check=False) == -9
            assert process.reason is EndReason.STOPPED


async def test_a_run_that_will_not_die_is_a_stop_failed_error_too(monkeypatch):
    will_not_die(monkeypatch, lambda: service.list() and service.list()[0].pid)
    with trio.fail_after(30):
        with pytest.raises(StopFailedError):
            async with Service(options=ServiceOptions(grace_period=0.1)) as service:
                with pytest.raises(StopFailedError):
                    await service.run("sleep", "1234", timeout=0.1)
        pid = service.list()[0].pid
    await really_kill(pid)


async def really_kill(pid, *, reap_it=True):
    import os

    os.kill(pid, signal.SIGKILL)
    if reap_it:
        await trio.to_thread.run_sync(os.waitpid, pid, 0)


async def test_a_descendant_that_will_not_die_is_named(monkeypatch):
    tag = new_tag()
    monkeypatch.setattr(backend, "STUCK_AFTER", 0.2)
    monkeypatch.setattr("trio_process._process.containment.descendants.kill", lambda left, wanted: None)
    with trio.fail_after(30):
        with pytest.raises(StopFailedError) as caught:
            async with Service(options=ServiceOptions(grace_period=0.1)) as service:
                await service.start(*sh("setsid sleep $1 & exec cat", tag))
                (escapee,) = await some_with_tag(tag)
        (left,) = caught.value.processes
        assert (left.pid, left.command) == (escapee, "sleep")
    await really_kill(escapee, reap_it=False)


async def test_keyboard_interrupt_stops_everything():
    script = """
import os, signal, sys, trio
from trio_process import Service, ServiceOptions
async def main():
    async with Service(options=ServiceOptions(grace_period=0.5)) as service:
        await service.start("sleep", sys.argv[1])
        print("ready", flush=True)
        await trio.sleep_forever()
try:
    trio.run(main)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""
    tag = new_tag()
    import sys

    with trio.fail_after(30):
        async with Service() as service:
            process = await service.start(sys.executable, "-c", script, tag, kill_group=False)
            await process.wait_for_line("ready")
            process.signal("SIGINT")
            assert await process.wait() == 0
            assert process.output() == "ready\ninterrupted\n"
            assert with_tag(tag) == []


async def test_a_child_that_forks_while_it_is_stopped_leaves_nothing():
    script = """
import os, signal, sys, time
def on_term(*_):
    for _ in range(20):
        if os.fork() == 0:
            os.setsid()
            os.execvp("sleep", ["sleep", sys.argv[1]])
    os._exit(0)
signal.signal(signal.SIGTERM, on_term)
print("ready", flush=True)
while True: time.sleep(0.02)  # a signal just before a pause would be handled after it
"""
    tag = new_tag()
    with trio.fail_after(30):
        async with Service(options=ServiceOptions(grace_period=0.5)) as service:
            process = await service.start(*python(script, tag))
            await process.wait_for_line("ready")
            await process.stop()
            assert with_tag(tag) == []
