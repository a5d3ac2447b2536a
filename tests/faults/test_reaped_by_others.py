"""Other parts of a program that reap children, or have the kernel do so: exit codes may be lost, and nothing else."""

import logging
import os
import signal
import sys

import forked
import pytest
import trio

from trio_process import Service, ServiceOptions

REAPERS = {
    "a handler": "signal.signal(signal.SIGCHLD, lambda *_: [0 for _ in iter(reap, 0)])",
    "a thread": "threading.Thread(target=reap_for_ever, daemon=True).start()",
    "the kernel": "signal.signal(signal.SIGCHLD, signal.SIG_IGN)",
}

PROGRAM = """
import os, signal, threading, time, trio
from trio_process import ProcessStartError, Service, ServiceOptions

def reap():
    try:
        return os.waitpid(-1, os.WNOHANG)[0]
    except ChildProcessError:
        return 0

def reap_for_ever():
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            time.sleep(0.0001)

async def main():
    async with Service() as service:
        {reaper}
        {runs}
    print("done")

trio.run(main)
"""

RUNS = """
        for _ in range(30):
            result = await service.run("sh", "-c", "echo out; exit 2", check=False)
            assert result.exit_code in (2, 255), result
            assert result.output.split() == ["out"], result
"""

FAILING_RUNS = """
        for _ in range(10):
            assert (await service.run("greet", check=False)).output.split() == ["hello"]
            for command, why in ("/no/such", "no file"), ("damaged", "interpreter"), ("/etc", "not executable"):
                try:
                    await service.run(command)
                except ProcessStartError as error:
                    assert why in str(error), error
"""


@pytest.mark.parametrize("reaper", REAPERS)
def test_a_child_that_something_else_reaps_is_no_failed_start(reaper):
    code = PROGRAM.replace("{reaper}", REAPERS[reaper]).replace("{runs}", RUNS)
    done = forked.run_program([sys.executable, "-c", code], timeout=60)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


@pytest.mark.parametrize("reaper", REAPERS)
def test_a_failed_exec_that_something_else_reaps_says_why_and_the_next_one_on_the_path_runs(reaper, tmp_path):
    for name, directory, first in ("greet", "a", "/no/such"), ("greet", "b", "/bin/sh"), ("damaged", "b", "/no/such"):
        program = tmp_path / directory / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!{first}\necho hello\n")
        program.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}/a:{tmp_path}/b:/usr/bin:/bin"}
    code = PROGRAM.replace("{reaper}", REAPERS[reaper]).replace("{runs}", FAILING_RUNS)
    done = forked.run_program([sys.executable, "-c", code], timeout=60, env=environment)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


@pytest.mark.parametrize("reaper", REAPERS)
def test_a_guardian_that_something_else_reaps_is_no_error(reaper):
    guarded = PROGRAM.replace("{runs}", RUNS).replace("Service()", "Service(options=ServiceOptions(guardian=True))")
    done = forked.run_program([sys.executable, "-c", guarded.replace("{reaper}", REAPERS[reaper])], timeout=60)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


async def test_a_guardian_that_was_killed_and_reaped_is_replaced():
    with trio.fail_after(30):
        async with Service(options=ServiceOptions(guardian=True)) as service:
            await service.run("true")
            first = service.statistics().guardian_pid
            assert first is not None
            os.kill(first, signal.SIGKILL)
            os.waitpid(first, 0)
            assert (await service.run("echo", "on")).output == "on\n"
            while service.statistics().guardian_pid == first:
                await trio.sleep(0.01)
            assert (await service.run("echo", "on")).output == "on\n"


async def test_sigchld_that_is_ignored_later_is_set_back_with_one_record(caplog):
    with trio.fail_after(30), caplog.at_level(logging.WARNING, "trio_process"):
        async with Service() as service:
            signal.signal(signal.SIGCHLD, signal.SIG_IGN)
            for _ in range(3):
                assert (await service.run("sh", "-c", "exit 2", check=False)).exit_code == 2
    assert signal.getsignal(signal.SIGCHLD) is signal.SIG_DFL
    assert [record.message for record in caplog.records if "SIGCHLD" in record.message] == [
        "SIGCHLD was set to be ignored, so exit codes would be lost; it is back at its default"
    ]


@pytest.mark.parametrize("script", ["echo out; exit 3", "echo out; kill -9 $$", "echo out & wait"])
async def test_one_that_was_reaped_before_its_pidfd_has_its_output_and_255(monkeypatch, caplog, script):
    opened = os.pidfd_open

    def too_late(pid, *args):
        os.waitpid(pid, 0)
        return opened(pid, *args)

    with trio.fail_after(30):
        async with Service() as service:
            with monkeypatch.context() as patch:
                patch.setattr(os, "pidfd_open", too_late)
                process = await service.start("sh", "-c", script)
            process.kill()  # reaches nothing
            assert await process.wait(check=False) == 255
            assert process.output() == "out\n"
    assert any("its exit code is lost" in record.message for record in caplog.records)


async def test_no_signal_reaches_the_group_of_a_leader_that_something_else_has_reaped(monkeypatch):
    sent = []
    with trio.fail_after(30):
        async with Service() as service:
            process = await service.start("sleep", "1000")
            os.kill(process.pid, signal.SIGKILL)
            os.waitpid(process.pid, 0)
            monkeypatch.setattr(os, "killpg", lambda *args: sent.append(args))
            process.kill()
            assert await process.wait(check=False) in (255, -9)
    assert sent == []
