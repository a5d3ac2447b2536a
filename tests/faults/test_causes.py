"""The truth about the end: why, by which signal, who asked, what it used."""

import os
import resource
import signal

import pytest
import trio
from support import python, sh

from trio_process import CommandFailedError, EndReason, ProcessError, Service, ServiceOptions, Status


async def test_each_cause_has_its_reason_and_its_asker():
    async def a_named_task(process):
        await process.stop()

    with trio.fail_after(20):
        async with Service(options=ServiceOptions(grace_period=0.1)) as service:
            stopped = await service.start("sleep", "1000")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(a_named_task, stopped, name="the janitor")
            assert stopped.result().reason is EndReason.STOPPED
            assert stopped.result().requested_by == "the janitor"

            stubborn = await service.start(*sh("trap '' TERM; echo ready; while :; do sleep 0.01; done"))
            await stubborn.wait_for_line("ready")
            result = await stubborn.stop()
            assert (result.reason, result.signal_name, result.exit_code) == (EndReason.STOPPED, "SIGKILL", -9)

            killed = await service.start("sleep", "1000")
            killed.kill()
            await killed.wait(check=False)
            assert (killed.reason, killed.signal_name) == (EndReason.KILLED, "SIGKILL")
            assert killed.result().requested_by is not None

            strange = await service.start("sleep", "1000")
            os.kill(strange.pid, signal.SIGUSR2)
            await strange.wait(check=False)
            assert (strange.reason, strange.signal_name, strange.result().requested_by) == (
                EndReason.SIGNALLED,
                "SIGUSR2",
                None,
            )

            late = await service.run("true", timeout=100)
            assert (late.reason, late.requested_by) == (EndReason.EXITED, None)

            ignored = await service.start(*sh("trap '' TERM; echo ready; read x; exit 4"))
            await ignored.wait_for_line("ready")
            ignored.terminate()
            await ignored.send_input("go\n")
            await ignored.wait(check=False)
            assert (ignored.reason, ignored.exit_code, ignored.result().requested_by) == (EndReason.EXITED, 4, None)


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGABRT", "SIGFPE", "SIGBUS", "SIGRTMIN", "SIGRTMAX"])
async def test_a_death_by_signal_has_its_true_name(name):
    number = getattr(signal, name)
    with trio.fail_after(20):
        async with Service() as service:
            result = await service.run(*sh(f"kill -{int(number)} $$"), check=False, limits={"core": 0})
            assert (result.status, result.exit_code, result.signal_name) == (Status.KILLED, -number, name)


async def test_a_core_dump_is_told(tmp_path):
    with open("/proc/sys/kernel/core_pattern") as file:
        if file.read().startswith("|"):
            pytest.skip("the kernel pipes core dumps to a program")
    with trio.fail_after(20):
        async with Service() as service:
            dumped = await service.run(*sh("kill -SEGV $$"), check=False, cwd=tmp_path, limits={"core": (2**24, 2**24)})
            not_dumped = await service.run(*sh("kill -SEGV $$"), check=False, cwd=tmp_path, limits={"core": 0})
            assert (dumped.usage.core_dumped, not_dumped.usage.core_dumped) == (True, False)


async def test_usage_is_the_childs_own():
    with trio.fail_after(30):
        async with Service() as service:
            busy = await service.run(*python("import time\nwhile time.process_time() < 0.3: pass"))
            assert 0.25 < busy.usage.user + busy.usage.system < 5
            idle = await service.run("sleep", "0.1")
            assert idle.usage.user + idle.usage.system < 0.25
            assert idle.usage.max_rss is None  # the kernel's figure would be ours
            ours = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # what tests before this one have left
            big = await service.run(*python(f"x = b'x' * {ours + 100_000_000}"))
            assert big.usage.max_rss > ours + 100_000_000


async def test_an_exit_before_the_kill_could_strike_is_an_exit():
    with trio.fail_after(30):
        async with Service() as service:
            for _ in range(30):
                process = await service.start(*sh("exit 3"))
                await trio.sleep(0.002)
                process.kill()
                await process.wait(check=False)
                expected = (3, EndReason.EXITED) if process.exit_code == 3 else (-9, EndReason.KILLED)
                assert (process.exit_code, process.reason) == expected


async def test_a_failure_names_command_cause_and_last_lines():
    with trio.fail_after(20):
        async with Service() as service:
            with pytest.raises(CommandFailedError) as caught:
                await service.run(*sh("echo why >&2; kill -9 $$"))
            assert isinstance(caught.value, ProcessError)
            for part in ("sh -c", "SIGKILL", "why"):
                assert part in str(caught.value)
