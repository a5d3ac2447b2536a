"""Signals reach the whole group, once, and nobody else; the command line passes them on."""

import os
import signal
import sys

import pytest
import trio
from harness import Program, a_stranger, new_tag, none_with_tag, read_line, running, some_with_tag
from support import sh, state_of, wait_until

from trio_process import EndReason, OptionError, ProcessNotRunningError, Service, ServiceOptions

_COUNTER = """
count() {{ sh -c 'n=0; trap "n=\\$((n+1)); echo $0 \\$n" {name}; echo $0 ready; while :; do sleep 0.01; done' $1; }}
count leader & count member & wait
while :; do wait; done
"""


@pytest.mark.parametrize("name", ["HUP", "USR1", "WINCH", "CONT"])
async def test_a_signal_reaches_each_member_once_and_never_escalates(name):
    with trio.fail_after(20):
        async with Service(options=ServiceOptions(grace_period=0.05)) as service:
            script = _COUNTER.format(name=name).replace(
                "count leader & count member & wait", f"trap : {name}; count leader & count member & wait"
            )
            process = await service.start(*sh(script), stderr="null")
            for who in ("leader", "member"):
                await process.wait_for_line(f"{who} ready")
            for number in (1, 2):
                process.signal(f"SIG{name}")
                for who in ("leader", "member"):
                    await process.wait_for_line(f"{who} {number}")
            await trio.sleep(0.15)  # three times the grace
            assert process.is_running
            assert sorted(process.output().split("\n")) == sorted(
                ["", *(f"{who} {what}" for who in ("leader", "member") for what in ("ready", 1, 2))]
            )
            await process.stop(0)


async def test_suspend_and_resume_work_on_the_whole_group():
    tag = new_tag()
    with trio.fail_after(20):
        async with Service(options=ServiceOptions(grace_period=5)) as service:
            process = await service.start(*sh("sleep $1 & sleep $1 & cat", tag))
            # a shell that is stopped while it starts a command is in state D, waiting for its stopped child (vfork(2))
            await process.send_input("cat runs\n")
            await process.wait_for_line("cat runs")
            members = [process.pid, *await some_with_tag(tag, 2)]
            process.suspend()
            await wait_until(lambda: all(state_of(pid) == "T" for pid in members))
            process.suspend()  # once more is fine
            process.resume()
            await wait_until(lambda: all(state_of(pid) == "S" for pid in members))
            process.resume()
            await process.send_input("still here\n")
            await process.wait_for_line("still here")
            process.suspend()
            await wait_until(lambda: all(state_of(pid) == "T" for pid in members))
            result = await process.stop()
            assert (result.signal_name, result.reason) == ("SIGTERM", EndReason.STOPPED)
            assert result.duration < 5
            with pytest.raises(ProcessNotRunningError):
                process.suspend()
            with pytest.raises(ProcessNotRunningError):
                process.signal("SIGHUP")
            with pytest.raises(OptionError):
                process.signal("SIGNONSENSE")
            process.kill()
            process.terminate()


@pytest.mark.parametrize("end", ["kill", "leave", "timeout"])
async def test_a_suspended_group_dies_however_it_is_ended(end):
    with trio.fail_after(20):
        began = trio.current_time()
        async with Service(options=ServiceOptions(grace_period=5)) as service:
            process = await service.start(*sh("sleep 1000 & wait"), timeout=0.2 if end == "timeout" else None)
            process.suspend()
            if end == "kill":
                process.kill()
            if end != "leave":
                await process.wait(check=False)
        assert process.signal_name == ("SIGKILL" if end == "kill" else "SIGTERM")
        assert trio.current_time() - began < 5


async def test_what_was_stopped_by_a_plain_signal_dies_too():
    with trio.fail_after(20):
        async with Service(options=ServiceOptions(grace_period=5)) as service:
            process = await service.start("sleep", "1000")
            process.signal("SIGSTOP")
            await wait_until(lambda: state_of(process.pid) == "T")
            result = await process.stop()
            assert result.signal_name == "SIGTERM"
            assert result.duration < 5


async def test_a_signal_to_one_process_is_not_seen_by_the_next_one():
    with trio.fail_after(20), a_stranger("sleep", "3596"):
        async with Service() as service:
            one, two = [await service.start("sleep", "1000") for _ in range(2)]
            one.signal("SIGUSR1")
            await one.wait(check=False)
            one.kill()
            assert two.is_running


def exec_command(*command):
    return Program((sys.executable, "-m", "trio_process", "exec", "--", *command))


_TRAPS = """
for name in INT TERM QUIT HUP USR1 USR2 WINCH; do trap "echo got $name; [ $name = USR1 -o $name = USR2 -o $name = WINCH -o $name = QUIT ] || exit 5" $name; done
echo ready; while :; do sleep 0.01; done 2>/dev/null
"""


@pytest.mark.parametrize("name", ["INT", "TERM", "HUP"])
async def test_the_command_line_passes_on_what_asks_for_the_end(name):
    with trio.fail_after(30):
        async with running(exec_command(*sh(_TRAPS))) as cli:
            assert await read_line(cli) == "ready"
            cli.send_signal(getattr(signal, f"SIG{name}"))
            assert await read_line(cli) == f"got {name}"
            assert await cli.wait() == 5


async def test_the_command_line_passes_on_what_does_not():
    with trio.fail_after(30):
        async with running(exec_command(*sh(_TRAPS))) as cli:
            assert await read_line(cli) == "ready"
            for name in ("QUIT", "USR1", "USR2", "WINCH", "USR1"):
                cli.send_signal(getattr(signal, f"SIG{name}"))
                assert await read_line(cli) == f"got {name}"
            cli.send_signal(signal.SIGTERM)
            assert await read_line(cli) == "got TERM"
            assert await cli.wait() == 5


async def test_a_second_signal_ends_the_grace():
    tag = new_tag()
    with trio.fail_after(30):
        script = "trap 'echo no' INT TERM; sleep $1 & echo ready; while :; do sleep 0.01; done 2>/dev/null"
        async with running(exec_command(*sh(script, tag))) as cli:
            assert await read_line(cli) == "ready"
            began = trio.current_time()
            cli.send_signal(signal.SIGINT)
            assert await read_line(cli) == "no"
            cli.send_signal(signal.SIGINT)
            assert await cli.wait() == 137
            assert trio.current_time() - began < 4  # the grace is 5 s
            await none_with_tag(tag)


async def test_stopping_and_continuing_the_command_line_does_so_with_its_command():
    tag = new_tag()
    with trio.fail_after(30):
        # in a group of its own: the one that the tests run in may be orphaned (nohup, a container), and is then never stopped
        async with running(exec_command("sleep", tag), process_group=0) as cli:
            (sleeper,) = await some_with_tag(tag)
            cli.send_signal(signal.SIGTSTP)
            await wait_until(lambda: state_of(sleeper) == "T" and state_of(cli.pid) == "T")
            os.kill(cli.pid, signal.SIGCONT)
            await wait_until(lambda: state_of(sleeper) == "S" and state_of(cli.pid) == "S")
            cli.send_signal(signal.SIGTERM)
            assert await cli.wait() == 143
