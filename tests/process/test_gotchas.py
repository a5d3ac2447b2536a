"""The traps that docs/explanation/gotchas.md tells of, each with a real process that would fall into it."""

import os
import signal
import subprocess
import sys

import pytest
import trio
import trio.testing
from forked import program_of_trio
from support import is_gone, python, sh, state_of, wait_gone, wait_until

from trio_process import EndReason, Service, ServiceOptions, StdinNotAvailableError, Stdio

LONG = 1000  # seconds that no test waits for


async def test_a_grandchild_that_holds_the_pipe_delays_nothing_and_is_gone():
    async with Service() as service:
        before = trio.current_time()
        result = await service.run(*sh(f"sleep {LONG} & echo $!"))
        assert trio.current_time() - before < 5
        assert result.output_incomplete
        await wait_gone(int(result.output))


async def test_a_timeout_ends_the_children_too():
    async with Service() as service:
        result = await service.run(*sh(f"sleep {LONG} & echo $!; wait"), timeout=0.3, check=False)
        assert result.reason is EndReason.TIMED_OUT
        await wait_gone(int(result.output))


async def test_output_written_during_the_stop_is_read_and_causes_no_sigpipe():
    async with Service() as service:
        words = "trap 'for i in 1 2 3; do sleep 0.05; echo word $i; done; exit 0' TERM; echo ready; while :; do sleep 0.02; done"
        process = await service.start(*sh(words))
        await process.wait_for_line("ready")
        result = await process.stop(grace_period=30)
        assert result.exit_code == 0
        assert result.stdout.splitlines()[1:] == ["word 1", "word 2", "word 3"]


async def test_the_id_of_a_group_is_ours_until_its_rest_is_gone():
    """The leader stays a zombie while its pipes are drained, so that nobody else can get its id."""
    async with Service(options=ServiceOptions(drain_grace=LONG, drain_limit=LONG)) as service:
        process = await service.start(*sh(f"sleep {LONG} & echo $!"))
        line = await process.wait_for_line("")
        await wait_until(lambda: state_of(process.pid) == "Z")
        assert process.is_running
        os.kill(int(line.text), signal.SIGKILL)  # it lets go of the pipe
        assert await process.wait() == 0
        assert state_of(process.pid) == "X"


async def test_looking_at_a_process_does_not_reap_it():
    async with Service() as service:
        process = await service.start(*sh("exit 3"))
        while process.is_running:
            repr(process)
            process.info()
            process.result()
            await trio.sleep(0)
        assert process.exit_code == 3


async def test_with_sigchld_ignored_exit_codes_are_right():
    program = (
        "import signal, trio\n"
        "signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
        "from trio_process import Service\n"
        "async def main():\n"
        "    async with Service() as service:\n"
        "        print((await service.run('sh', '-c', 'exit 3', check=False)).exit_code)\n"
        "trio.run(main)\n"
    )
    command = [sys.executable, "-c", program]
    done = await trio.run_process(command, capture_stdout=True, **program_of_trio(command))
    assert done.stdout == b"3\n"


async def test_a_child_cannot_escape_by_a_new_session():
    escape = f"import os, time; os.setsid() if os.fork() == 0 else os._exit(0); print(os.getpid(), flush=True); time.sleep({LONG})"
    async with Service() as service:
        process = await service.start(*python(escape))
        line = await process.wait_for_line("")
        await process.wait()
        await wait_gone(int(line.text))


async def test_a_zombie_in_the_group_is_not_waited_for():
    """`killpg(group, 0)` counts zombies, and this one is reaped by nobody while it is being stopped."""
    keeper = f"import os, time; pid = os.fork() or os._exit(0); print(pid, flush=True); time.sleep({LONG})"
    async with Service() as service:
        process = await service.start(*python(keeper))
        child = int((await process.wait_for_line("")).text)
        await wait_until(lambda: is_gone(child))
        before = trio.current_time()
        await process.stop()
        assert trio.current_time() - before < 5


async def test_a_line_without_end_does_not_stop_the_reader():
    async with Service() as service:
        result = await service.run(*python("print('x' * 300_000); print('after')"))
        assert result.output.splitlines() == ["x" * 300_000, "after"]


async def test_a_child_that_does_not_read_delays_nothing_else():
    async with Service() as service, trio.open_nursery() as nursery:
        deaf = await service.start("sleep", str(LONG), stdin=Stdio.PIPE)
        ended = []

        async def talk():
            with pytest.raises(Exception) as caught:
                await deaf.send_input(b"x" * 10_000_000)
            ended.append(caught.value)

        nursery.start_soon(talk)
        await trio.testing.wait_all_tasks_blocked()
        assert (await service.run("echo", "hello")).output == "hello\n"
        assert deaf.info().running
        await deaf.stop()
    assert ended


async def test_a_child_that_closed_its_stdin_is_an_error_that_says_so():
    async with Service() as service:
        process = await service.start(*sh(f"exec <&-; echo closed; exec sleep {LONG}"), stdin=Stdio.PIPE)
        await process.wait_for_line("closed")
        with pytest.raises(StdinNotAvailableError):
            await process.send_input("hello")


async def test_ten_stubborn_processes_take_one_grace_and_not_ten():
    async with Service(options=ServiceOptions(grace_period=0.5)) as service:
        for _ in range(10):
            process = await service.start(*sh("trap '' TERM; echo ready; while :; do sleep 0.02; done"))
            await process.wait_for_line("ready")
        before = trio.current_time()
    assert trio.current_time() - before < 4


async def test_with_the_guardian_nothing_survives_a_sigkill_of_ours():
    program = (
        "import trio\n"
        "from trio_process import Service, ServiceOptions\n"
        "async def main():\n"
        "    async with Service(options=ServiceOptions(guardian=True)) as service:\n"
        f"        child = await service.start('sh', '-c', 'sleep {LONG} & echo $!; wait')\n"
        "        print(child.pid, (await child.wait_for_line('')).text, flush=True)\n"
        "        await trio.sleep_forever()\n"
        "trio.run(main)\n"
    )
    command = [sys.executable, "-c", program]
    process = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE, **program_of_trio(command))
    async with process.stdout:
        line = b""
        while not line.endswith(b"\n"):
            line += await process.stdout.receive_some()
        process.kill()
        await process.wait()
    await wait_gone(*map(int, line.split()))


async def test_children_get_what_os_environ_holds(monkeypatch):
    os.putenv("TP_PUT", "1")
    try:
        monkeypatch.setenv("TP_SET", "2")
        with trio.fail_after(60):
            async with Service() as service:
                shown = await service.run("sh", "-c", 'echo "$TP_PUT,$TP_SET,$TP_GIVEN"', env={"TP_GIVEN": "3"})
        assert shown.output == ",2,3\n"
    finally:
        os.unsetenv("TP_PUT")
