"""The Daemon as a real process: signals, SIGKILL and a new start, a second instance."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import trio
from started import Program, started
from support import state_of, wait_until

from trio_process._daemon import PIDFile, Registry, probe_health, probe_ready, read_pid, wait_for_health
from trio_process.testing.hostile import connect, exchange

PROGRAM = str(Path(__file__).parent / "program.py")
ROOT = str(Path(__file__).parents[2])
ASK = b"GET /ready HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


def program(directory, behaviour="polite", addr="127.0.0.1:0"):
    """Start it; without a health server (`addr=""`) in half the time, where that plays no part."""
    return started(PROGRAM, directory, addr, behaviour)


async def readiness(addr):
    """Ask once, and wait for the answer: a probe would give up at its timeout, and say that nobody has answered."""
    head, _, body = (await exchange(addr, ASK)).partition(b"\r\n\r\n")
    return int(head.split()[1]), body


def has_taken(process, number):
    """Whether it has heeded every such signal: none is pending, and it waits again (proc_pid_status(5))."""
    with open(f"/proc/{process.pid}/status") as file:
        found = dict(line.split(":", 1) for line in file)
    pending = int(found["ShdPnd"], 16) | int(found["SigPnd"], 16)
    return not pending >> (number - 1) & 1 and state_of(process.pid) == "S"


def everything_is_undone(directory):
    return not (directory / "test.pid").exists() and Registry(directory / "daemons").list() == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_first_signal_ends_it_gracefully_and_undoes_everything(tmp_path, number):
    async with program(tmp_path) as running:
        addr = await running.line()
        assert await running.line() == "running"
        assert await probe_health(addr, 10) == (True, "")
        assert await probe_ready(addr, 10) == (True, "")
        [entry] = Registry(tmp_path / "daemons").list()
        assert (entry.health, entry.pid) == (addr, running.process.pid)
        assert entry.project == os.getcwd()
        assert entry.binary == sys.executable
        running.process.send_signal(number)
        assert await running.lines_to_the_end() == ["cancelled", "after", "run", "left", "end"]
        assert await running.process.wait() == 0
        assert everything_is_undone(tmp_path)


async def test_a_signal_during_start_up_undoes_everything_without_an_exception(tmp_path):
    async with program(tmp_path, "starting") as running:
        addr = await running.line()
        assert await readiness(addr) == (503, b"not ready\n")
        running.process.terminate()
        assert await running.lines_to_the_end() == ["left", "end"]
        assert await running.process.wait() == 0
        assert everything_is_undone(tmp_path)


async def test_a_signal_while_it_is_entered_undoes_everything(tmp_path):
    async with program(tmp_path, "starting") as running:
        while not (tmp_path / "test.pid").exists():
            assert running.process.poll() is None, await running.errors()
            await trio.sleep(0.001)
        running.process.terminate()
        assert (await running.lines_to_the_end())[-2:] == ["left", "end"]
        assert await running.process.wait() == 0
        assert everything_is_undone(tmp_path)


SLOW = """
import os, signal, sys, time
import trio
from trio_process import Daemon, DaemonEntry, PIDFile, Registry
from trio_process._daemon.registry import Registration

STEPS = {"PID file": (PIDFile, "__enter__", "__exit__"), "registry": (Registration, "__init__", "withdraw")}
step, direction, how, directory = sys.argv[1:]
owner, *names = STEPS[step]
name = names[direction == "out"]
method = getattr(owner, name)


def slow(*args):
    if direction == "in":
        method(*args)
    number = {"signal": signal.SIGTERM, "interrupt": signal.SIGINT}.get(how)
    os.kill(os.getpid(), number) if number else trio.from_thread.run_sync(scope.cancel, trio_token=token)
    time.sleep(0.2)
    if direction == "out":
        method(*args)


async def main():
    global token
    token = trio.lowlevel.current_trio_token()
    setattr(owner, name, slow)
    registry = Registry(directory + "/daemons")
    with scope:
        async with Daemon(
            pid_file=directory + "/test.pid", registry=registry, registry_entry=DaemonEntry("a", "b"), signals=how == "signal"
        ):
            await trio.lowlevel.checkpoint()


scope = trio.CancelScope()
try:
    trio.run(main)
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.parametrize("how", ["signal", "interrupt", "cancellation"])
@pytest.mark.parametrize("direction", ["in", "out"])
@pytest.mark.parametrize("step", ["PID file", "registry"])
async def test_a_program_ends_after_a_step_of_its_daemon_that_takes_long_is_undone(step, direction, how, tmp_path):
    """The thread of a step would end with the program."""
    async with started("-c", SLOW, step, direction, how, tmp_path) as running:
        assert await running.rest() == ["interrupted"] * (how == "interrupt"), await running.errors()
        assert await running.process.wait() == 0
        assert [path.name for path in tmp_path.rglob("*") if path.name != "daemons"] == []


async def test_the_second_signal_ends_every_grace(tmp_path):
    async with program(tmp_path, "stubborn") as running:
        addr = await running.line()
        await running.line()
        running.process.terminate()
        while (await readiness(addr))[0] == 200:
            pass
        assert await wait_for_health(addr, 30)  # goes on answering while it stops
        assert await readiness(addr) == (503, b"not ready\n")
        running.process.terminate()
        assert (await running.lines_to_the_end())[0] == "hurried"
        assert await running.process.wait() == 0
        assert everything_is_undone(tmp_path)


@pytest.mark.parametrize("behaviour", ["deaf", "stuck"])
async def test_the_third_signal_ends_it_at_once_whatever_it_does(tmp_path, behaviour):
    async with program(tmp_path, behaviour) as running:
        await running.line()
        await running.line()
        for _ in range(2):
            await wait_until(lambda: has_taken(running.process, signal.SIGTERM))  # equal ones that are pending are one
            running.process.terminate()
        await wait_until(lambda: has_taken(running.process, signal.SIGTERM))
        running.process.terminate()
        assert await running.process.wait() == 128 + signal.SIGTERM
    with PIDFile(tmp_path / "test.pid"):  # what it left behind is stale
        assert Registry(tmp_path / "daemons").list() == []


async def test_after_sigkill_the_next_start_wins_at_once_and_the_entry_is_gone(tmp_path):
    async with program(tmp_path, addr="") as first:
        await first.line()
        first.process.kill()
        await first.process.wait()
    assert (tmp_path / "test.pid").exists()
    assert Registry(tmp_path / "daemons").list() == []
    async with program(tmp_path, addr="") as second:
        await second.line()
        assert read_pid(tmp_path / "test.pid") == (second.process.pid, True)
        assert [entry.pid for entry in Registry(tmp_path / "daemons").list()] == [second.process.pid]


async def test_a_second_instance_is_told_the_pid_of_the_first_and_disturbs_nothing(tmp_path):
    async with program(tmp_path) as first:
        addr = await first.line()
        async with program(tmp_path) as second:
            assert await second.lines_to_the_end() == []
            assert await second.process.wait() == 1
            assert f"already running: PID {first.process.pid}" in await second.errors()
        assert await probe_health(addr, 10) == (True, "")
        assert len(Registry(tmp_path / "daemons").list()) == 1


async def test_sighup_reloads(tmp_path):
    async with program(tmp_path, addr="") as running:
        await running.line()
        await running.line()
        for _ in range(2):
            running.process.send_signal(signal.SIGHUP)
            assert await running.line() == "reloaded"


async def test_an_exception_in_main_is_the_programs_and_undoes_everything(tmp_path):
    async with program(tmp_path, "crashing") as running:
        assert (await running.lines_to_the_end())[1:] == ["running"]
        errors = await running.errors()
        assert "ValueError: boom" in errors
        assert "ExceptionGroup" not in errors
        assert await running.process.wait() == 1
        assert everything_is_undone(tmp_path)


async def test_a_second_signal_on_the_way_out_leaves_nothing_undone(tmp_path):
    async def strike(delay):
        directory = tmp_path / str(delay)
        directory.mkdir()
        async with program(directory) as running:
            await running.line()
            await running.line()
            running.process.terminate()
            await trio.sleep(delay)
            running.process.terminate()
            # once the block is left the signal has its default action again, and may strike the interpreter's end
            assert await running.process.wait() in (0, -signal.SIGTERM)
            assert everything_is_undone(directory)

    async with trio.open_nursery() as nursery:
        for delay in (0, 0.02, 0.05):
            nursery.start_soon(strike, delay)


async def test_the_example_of_the_documentation_runs(tmp_path):
    example = str(Path(ROOT) / "docs" / "examples" / "daemon.py")
    process = await trio.lowlevel.open_process(
        [sys.executable, example, str(tmp_path / "pid"), "127.0.0.1:0"],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": ROOT, "HOME": str(tmp_path)},
    )
    with trio.fail_after(60):
        running = Program(process)
        addr = (await running.line()).split()[2].rstrip(",")
        assert await probe_health(addr, 10) == (True, "")
        assert await running.line() == "ready"
        assert await probe_ready(addr, 10) == (True, "")
        assert (tmp_path / ".core" / "daemons" / "myapp-server.json").exists()
        process.terminate()
        assert await running.lines_to_the_end() == ["stopping"]
        assert await process.wait() == 0
        assert not (tmp_path / "pid").exists()


INTERRUPTED = """
import sys, trio
from trio_process._daemon import HealthServer

async def main():
    try:
        async with HealthServer("127.0.0.1:0") as server:

            @server.app.route("/quart")
            async def quart():
                return "x"

            print(server.addr, flush=True)
            await trio.sleep_forever()
    except KeyboardInterrupt:
        print("bare", flush=True)

trio.run(main)
"""


async def test_ctrl_c_ends_a_busy_server_that_has_no_daemon_around_it():
    """Where it strikes in the HTTP stack it would be lost; so it must not strike there."""
    async with trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(interrupt_a_busy_server)


async def interrupt_a_busy_server():
    async with started("-c", INTERRUPTED) as running:
        process = running.process
        addr = await running.line()

        async def load(path):
            with suppress(OSError, trio.BrokenResourceError):
                async with await connect(addr) as stream:
                    while True:
                        await stream.send_all(b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % path)
                        if not await stream.receive_some():
                            return

        async with trio.open_nursery() as nursery:
            for path in (b"/health", b"/quart") * 2:
                nursery.start_soon(load, path)
            await trio.sleep(0.1)  # so that it is busy
            process.send_signal(signal.SIGINT)
            assert await running.lines_to_the_end() == ["bare"]
            assert await process.wait() == 0
