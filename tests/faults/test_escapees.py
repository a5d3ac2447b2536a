"""Descendants that leave the group: found and killed however their process ends, and nobody else is."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from subprocess import PIPE, Popen

import pytest
import trio
from harness import (
    a_stranger,
    needs_cgroups,
    new_tag,
    none_with_tag,
    program,
    read_line,
    running,
    some_with_tag,
    with_tag,
)
from support import python, runtime_of, sh, state_of, wait_gone, wait_until

from trio_process import CommandTimeoutError, EndReason, OptionError, ProcessError, Service, ServiceOptions
from trio_process._process.containment import Lineage, cgroup

# each leaves a `sleep` that has left the group, and a shell that goes on as long as its stdin says
_ESCAPES = {
    "setsid": "setsid sleep $1 &",
    "nohup": "nohup sleep $1 >/dev/null 2>&1 &",
    "double fork": "(setsid sh -c 'sleep $1 & exit' sh $1 &);",
    "daemon": "setsid sh -c 'setsid sh -c \"sleep $1 >/dev/null 2>&1 <&1 & exit\" sh $1 & exit' sh $1 >/dev/null 2>&1 <&1 &",
    "three deep": "setsid sh -c 'setsid sh -c \"setsid sleep $1 & wait\" sh $1 & wait' sh $1 &",
    "holds the pipe": "setsid sh -c 'sleep $1; :' sh $1 &",
}


_WITHOUT_ENVIRONMENT = {
    "empty environment": "env -i setsid sleep $1 &",
    "empty and forked twice": "(env -i setsid sh -c 'sleep $1 & exit' sh $1 &);",
}


_by_marker = [pytest.param((name, "marker"), id=f"{name}, by marker") for name in _ESCAPES]
_by_cgroup = [
    pytest.param((name, "cgroup"), id=f"{name}, by cgroup", marks=needs_cgroups)
    for name in ("daemon", *_WITHOUT_ENVIRONMENT)
]


@pytest.fixture(params=[*_by_marker, *_by_cgroup])
def case(request):
    name, mechanism = request.param
    return {**_ESCAPES, **_WITHOUT_ENVIRONMENT}[name], mechanism


def options(mechanism="auto"):
    return ServiceOptions(drain_grace=0.02, grace_period=0.2, containment=mechanism)


async def test_an_escapee_dies_when_its_process_ends(case):
    (escape, mechanism), tag = case, new_tag()
    with trio.fail_after(20), a_stranger("sleep", "3599"):
        async with Service(options=options(mechanism)) as service:
            result = await service.run(*sh(escape + " echo done", tag))
            assert result.output == "done\n"
            assert with_tag(tag) == []


async def test_an_escapee_dies_with_a_process_that_is_killed(case):
    (escape, mechanism), tag = case, new_tag()
    with trio.fail_after(20):
        async with Service(options=options(mechanism)) as service:
            process = await service.start(*sh(escape + " cat", tag))
            await some_with_tag(tag)
            process.kill()
            assert await process.wait(check=False) == -9
            assert with_tag(tag) == []


async def test_an_escapee_dies_with_a_process_that_times_out(case):
    (escape, mechanism), tag = case, new_tag()
    with trio.fail_after(20):
        async with Service(options=options(mechanism)) as service:
            with pytest.raises(CommandTimeoutError):
                await service.run(*sh(escape + " sleep $1", tag), timeout=0.1, grace_period=0.1)
            assert with_tag(tag) == []


async def test_an_escapee_dies_when_the_service_is_left(case):
    (escape, mechanism), tag = case, new_tag()
    with trio.fail_after(20):
        async with Service(options=options(mechanism)) as service:
            await service.start(*sh(escape + " cat", tag))
            await some_with_tag(tag)
        assert with_tag(tag) == []


async def test_an_escapee_is_told_of_the_stop_and_nobody_waits_for_the_end_of_the_grace(case):
    (escape, mechanism), tag = case, new_tag()
    with trio.fail_after(40):
        async with Service(options=options(mechanism)) as service:
            process = await service.start(*sh(escape + " exec cat", tag), grace_period=30)
            await some_with_tag(tag)
            started = trio.current_time()
            await process.stop()
            assert trio.current_time() - started < 10
            assert with_tag(tag) == []


async def test_an_escapee_has_the_rest_of_the_grace_for_its_own_clean_up(tmp_path):
    script = "trap 'sleep 0.3; echo tidy > tidy; exit' TERM; echo up; while :; do sleep 0.02; done"
    with trio.fail_after(40):
        async with Service(options=options()) as service:
            process = await service.start(
                "sh", "-c", f'setsid sh -c "{script}" & exec cat', cwd=tmp_path, grace_period=20
            )
            await process.wait_for_line("up", timeout=10)
            await process.stop()
    assert (tmp_path / "tidy").read_text() == "tidy\n"


async def test_an_escapee_dies_when_everything_is_cancelled(case):
    (escape, mechanism), tag = case, new_tag()
    with trio.fail_after(20):
        with trio.CancelScope() as scope:
            async with Service(options=options(mechanism)) as service:
                await service.start(*sh(escape + " cat", tag))
                await some_with_tag(tag)
                scope.cancel()
                await trio.sleep_forever()
        assert scope.cancelled_caught
        assert with_tag(tag) == []


async def test_a_kill_ends_the_grace_of_what_has_outlived_its_leader():
    tag = new_tag()
    with trio.fail_after(20):
        async with Service(options=ServiceOptions(grace_period=15)) as service:
            process = await service.start(*sh("setsid sleep $1 & exec cat", tag))
            await some_with_tag(tag)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(process.stop)
                await wait_until(lambda: state_of(process.pid) == "Z")
                process.kill()
                with trio.fail_after(5):
                    await process.wait(check=False)
            assert (process.reason, process.signal_name) == (EndReason.STOPPED, "SIGTERM")
            assert with_tag(tag) == []


async def test_a_child_that_is_given_another_mark_is_found_all_the_same():
    tag = new_tag()
    with trio.fail_after(20):
        async with Service(options=options()) as service:
            await service.run(
                *python(
                    "import os, sys\nif not os.fork(): os.setsid(); os.execvp('sleep', ['sleep', sys.argv[1]])", tag
                ),
                env={"TRIO_PROCESS_ID": "mine"},
            )
            assert with_tag(tag) == []


async def test_no_escapee_slips_through_while_it_forks_and_execs():
    tag = new_tag()
    with trio.fail_after(60):
        async with Service(options=ServiceOptions(drain_grace=0.0)) as service:
            for number in range(100):
                # at its end the leader has just forked: its child is between fork, setsid and exec
                await service.run(
                    *sh(["setsid sleep $1 &", "(setsid sh -c 'sleep $1 & exit' sh $1 &)"][number % 2], tag)
                )
                assert with_tag(tag) == []


async def test_no_escapee_slips_through_while_many_others_start_and_end():
    tag = new_tag()
    ends = ["setsid sleep $1 &", "(setsid sh -c 'sleep $1 & exit' sh $1 &)", "sleep $1 & exit", "exit"]
    with trio.fail_after(60):
        async with Service(options=ServiceOptions(drain_grace=0.0)) as service:
            for _ in range(3):
                async with trio.open_nursery() as nursery:
                    for number in range(40):
                        nursery.start_soon(service.run, *sh(ends[number % 4], tag))
                assert with_tag(tag) == []


@contextmanager
def stranger() -> Iterator[Callable[[], int]]:
    """Start a shell in a session of its own; yield what makes it start a process, and returns the PID of that."""
    script = 'while read -r _; do sleep 100 </dev/null >/dev/null & echo "$!"; done; kill 0'
    with Popen(["sh", "-c", script], stdin=PIPE, stdout=PIPE, start_new_session=True, text=True, bufsize=1) as shell:

        def start() -> int:
            print(file=shell.stdin)
            return int(shell.stdout.readline())

        yield start


@pytest.mark.parametrize(
    ("script", "leaves_some"),
    [
        ("read -r _", False),
        ("sleep $1 >/dev/null & read -r _", True),
        ("setsid sleep $1 >/dev/null & sleep 0.1; read -r _", True),
        ("(setsid sh -c 'sleep $1 >/dev/null & exit' sh $1 &); read -r _", True),
    ],
)
async def test_processes_of_other_sessions_are_not_taken_for_descendants(script, leaves_some, monkeypatch):
    tag, answers = new_tag(), []
    ask = Lineage.may_have_left_some
    monkeypatch.setattr(Lineage, "may_have_left_some", lambda *given: answers.append(ask(*given)) or answers[-1])
    with stranger() as start, trio.fail_after(50):
        async with Service(options=options()) as service:
            for _ in range(200):  # others may start processes in our session just then
                process = await service.start(*sh(script, tag))
                assert start() > process.pid
                await process.send_input("\n")
                await process.wait(check=False)
                if answers[-1] is leaves_some:
                    break
            assert answers[-1] is leaves_some
            assert with_tag(tag) == []


async def test_a_pid_that_a_child_of_ours_once_had_excuses_nobody():
    lineage = Lineage()
    try:
        for pid in (5000, 4990):  # the numbers have wrapped in between
            lineage.add(pid)
            lineage.discard(pid)
        assert 5000 in lineage._handed_out(4990, 5000)
        lineage.add(4995)
        assert 4995 not in lineage._handed_out(4990, 5000)
    finally:
        lineage.close()


async def test_without_a_proc_the_group_is_killed_all_the_same():
    tag = new_tag()
    with trio.fail_after(20):
        async with Service(options=options()) as service:
            runtime_of(service).backend._lineage.close()
            assert service.statistics().containment == "process group"
            await service.run(*sh("sleep $1 & exit", tag))
            process = await service.start(*sh("sleep $1 & exec cat", tag))
            await process.stop()
            await none_with_tag(tag)


async def test_what_forks_on_and_on_is_caught():
    # each generation is in a session of its own, and gone after a millisecond or two
    hydra = 'i=0; while [ $i -lt 2000 ]; do i=$((i+1)); setsid sh -c "sleep 0.005; :" & done; wait'
    with trio.fail_after(20):
        async with Service(options=options()) as service:
            process = await service.start(*sh(f"setsid sh -c '{hydra}' & echo ready; cat"))
            await process.wait_for_line("ready")
            await process.stop(0)
            assert process.reason is EndReason.STOPPED
    # the fixture of all tests looks for what is left


async def test_what_is_not_ours_is_never_touched():
    tag = new_tag()
    with trio.fail_after(20):
        with a_stranger("sleep", tag, start_new_session=True) as one, a_stranger("sleep", tag) as two:
            async with Service(options=options()) as service:
                await service.run(*sh("setsid sleep $1 & exit", tag))
                process = await service.start(*sh("setsid sleep $1 & cat", tag))
                await some_with_tag(tag, 3)
                await process.stop(0)
                assert sorted(with_tag(tag)) == sorted([one.pid, two.pid])


async def test_an_escapee_of_one_process_outlives_the_end_of_another():
    tag = new_tag()
    with trio.fail_after(20):
        async with Service(options=options()) as service:
            process = await service.start(*sh("setsid sleep $1 & cat", tag))
            (escapee,) = await some_with_tag(tag)
            await service.run(*sh("sleep 0.01 & exit"))
            await service.run(*sh("setsid sleep 1000 & exit"))
            assert with_tag(tag) == [escapee]
            await process.stop()
            assert with_tag(tag) == []


async def test_with_kill_group_off_what_is_left_lives_on():
    tag = new_tag()
    with trio.fail_after(20):
        async with Service(options=options()) as service:
            result = await service.run(*sh("sleep $1 & echo $!", tag), kill_group=False)
            assert result.output_incomplete
        (left,) = await some_with_tag(tag)  # at the end of the leader it may not have become `sleep` yet
        assert left == int(result.output)
        subprocess.run(["kill", "-9", str(left)], check=True)
        await none_with_tag(tag)


async def test_what_has_neither_group_nor_marks_lives_on():
    tag = new_tag()
    # a limit of its own in place of ours, an empty environment, and a session of its own
    escape = "env -i setsid sh -c 'ulimit -R unlimited; exec sleep $1' sh $1 & read x"
    with trio.fail_after(20):
        async with Service(options=options()) as service:
            assert service.statistics().containment == "environment marker"
            process = await service.start("bash", "-c", escape.replace("sh -c", "bash -c"), "bash", tag)
            await some_with_tag(tag)
            await process.send_input("\n")
            assert await process.wait() == 0
        (left,) = with_tag(tag)  # explanation/faults.md says so; containment="cgroup" is for those who need more
        os.kill(left, signal.SIGKILL)
        await none_with_tag(tag)


TITLED = """
use POSIX;
if (fork()) { sleep 1 while !-e $ARGV[0]; exit }
POSIX::setsid();
$0 = "myworker" . "x" x 5000;
open(my $file, ">", "$ARGV[0].new"); print $file $$; close $file; rename "$ARGV[0].new", $ARGV[0];
sleep 60;
"""

THREADED = """
import ctypes, os, sys, threading
if os.fork():
    while not os.path.exists(sys.argv[1]):
        pass
    os._exit(0)
os.setsid()
libc = ctypes.PyDLL(None)
threading.Thread(target=lambda: ctypes.CDLL(None).sleep(60)).start()
with open(sys.argv[1] + ".new", "w") as file:
    file.write(str(os.getpid()))
os.rename(sys.argv[1] + ".new", sys.argv[1])
libc.pthread_exit(None)
"""


_AFTER_ONE_RUN = """
import json
command, file = json.loads(sys.argv[1]), sys.argv[2]
async with Service(options=ServiceOptions(drain_grace=0.02)) as service:
    result = await service.run(*command, file)
    escapee = int(open(file).read())
    try:
        state = open(f"/proc/{escapee}/stat").read().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        state = "X"  # a zombie stays one where PID 1 doesn't reap
    print(result.exit_code, state in "ZX", flush=True)
"""

_AS_PID = "echo $$ >$1.new; mv $1.new $1; exec sleep 60"
_WAIT = "& until [ -e $0 ]; do :; done"


@pytest.mark.parametrize(
    "command",
    [
        ("perl", "-e", TITLED),
        (sys.executable, "-c", THREADED),
        ("sh", "-c", f"env -i PATH=$PATH setsid sh -c '{_AS_PID}' sh $0 {_WAIT}"),
        ("sh", "-c", f"(env -i PATH=$PATH setsid sh -c '{_AS_PID}' sh $0 & exit) {_WAIT}"),
    ],
    ids=["a title over its environment", "its main thread has exited", "an empty environment", "empty, forked twice"],
)
async def test_an_escapee_without_its_environment_dies_with_its_process(command, tmp_path):
    # in a program of its own: it has one thread, other than a worker of pytest-xdist
    with trio.fail_after(60):
        async with running(program(_AFTER_ONE_RUN, json.dumps(command), str(tmp_path / "pid"))) as owner:
            assert await read_line(owner) == "0 True"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become an ordinary user")
@pytest.mark.skipif(shutil.which("ssh-agent") is None, reason="there is no ssh-agent")
async def test_an_agent_that_hides_its_environment_from_an_ordinary_user_dies_too():
    become = "import json\nos.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
    command = ("sh", "-c", "eval $(ssh-agent -s) >/dev/null; echo $SSH_AGENT_PID >$0")
    # not tmp_path: each start of pytest closes the directory above it to other users again
    with tempfile.TemporaryDirectory() as directory, trio.fail_after(60):
        os.chmod(directory, 0o777)
        async with running(program(become + _AFTER_ONE_RUN, json.dumps(command), f"{directory}/pid")) as owner:
            assert await read_line(owner) == "0 True"


async def test_with_a_guardian_an_escapee_without_its_environment_dies_after_sigkill_of_the_owner(tmp_path):
    file = tmp_path / "pid"
    script = f"""
async with Service(options=ServiceOptions(guardian=True)) as service:
    await service.start("perl", "-e", {TITLED!r}, {str(file)!r})
    while not os.path.exists({str(file)!r}):
        await trio.sleep(0.01)
    print("ready", flush=True)
    await trio.sleep_forever()
"""
    with trio.fail_after(60):
        async with running(program(script)) as owner:
            assert await read_line(owner) == "ready"
            os.kill(owner.pid, signal.SIGKILL)
            await owner.wait()
            await wait_gone(int(file.read_text()))


@needs_cgroups
async def test_cgroups_are_removed_and_named_in_the_statistics():
    with trio.fail_after(20):
        async with Service(options=options("cgroup")) as service:
            assert service.statistics().containment == "cgroup"
            base = runtime_of(service).backend._cgroups.path
            process = await service.start("cat")
            with open(os.path.join(base, process.id, "cgroup.procs")) as file:
                assert file.read().split() == [str(process.pid)]
            await process.stop()
            assert [entry.name for entry in os.scandir(base) if entry.is_dir()] == []
            with pytest.raises(ProcessError):
                await service.start("/nowhere/at/all")
            detached = await service.start("sleep", "1000", detach=True)
            with open(f"/proc/{detached.pid}/cgroup") as file:
                assert os.path.basename(base) not in file.read()
            await detached.stop()
            await service.start("cat")
        assert not os.path.exists(base)


@needs_cgroups
async def test_a_guardian_kills_by_cgroup_too_and_removes_it():
    body = """
async with Service(options=ServiceOptions(guardian=True, containment="cgroup")) as service:
    await service.start("sh", "-c", "env -i setsid sleep $1 & sleep $1", "sh", sys.argv[1])
    print(service._runtime.backend._cgroups.path, flush=True)
    await trio.sleep_forever()
"""
    tag = new_tag()
    with trio.fail_after(30):
        async with running(program(body, tag)) as owner:
            base = await read_line(owner)
            await some_with_tag(tag, 2)
            owner.send_signal(signal.SIGKILL)
            await owner.wait()
            await none_with_tag(tag)
            await wait_until(lambda: not os.path.exists(base))


async def test_where_there_are_no_cgroups_the_service_says_so(monkeypatch):
    monkeypatch.setattr(cgroup, "own_cgroups", list)
    with pytest.raises(ProcessError, match="containment='marker'"):
        async with Service(options=options("cgroup")):
            pass
    with pytest.raises(OptionError, match="auto, marker, cgroup"):
        ServiceOptions(containment="magic")
