"""When the death of an agent is known: at once where its starter says so, else after the heartbeat and the grace.

The ssh of these tests is a stand-in that runs the agent here and ends as the test wants: sshd closes the streams of a dead
agent a moment before ssh itself ends, and how long that moment is decides who is first.
"""

import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import trio
from support import wait_gone

from trio_process import AgentLostError, ClusterError, EndReason
from trio_process._process import backend
from trio_process.cluster import ClusterService, command_agents, local_agents, slurm_agents, ssh_agents

AT_ONCE = 20.0  # seconds; the heartbeat is longer
HEARTBEAT = 60.0

SSH = """#!/bin/sh
for remote; do :; done
sh -c "$remote"
status=$?
exec <&- >&-
{end}
"""

SRUN = """#!/bin/sh
while case "$1" in -*) ;; *) false;; esac; do shift; done
echo $$ > {pid}
exec 3<&0
"$@" <&3 3<&- &
exec <&- 3<&-
{end}
"""


@pytest.fixture(autouse=True)
async def _bounded():
    with trio.fail_after(45):
        yield


@pytest.fixture
def ssh(tmp_path, monkeypatch, warm_python):
    """Return a function that makes a launcher over an ssh which ends by some commands."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def make(end):
        (tmp_path / "ssh").write_text(SSH.format(end=end))
        (tmp_path / "ssh").chmod(0o755)
        return ssh_agents("node", python=warm_python)

    return make


async def lose(cluster, number=signal.SIGKILL, **options):
    """Kill the agent of a cluster; return the error of a process that it ran, and how long that took."""
    process = await cluster.start("sleep", "600", **options)
    began = trio.current_time()
    os.kill(cluster.agents[0].pid, number)
    with pytest.raises(AgentLostError) as lost:
        await process.wait()
    return str(lost.value), trio.current_time() - began


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
@pytest.mark.parametrize("end", ["exit $status", "sleep 0.4; exit $status", "exec 2>&-; sleep 0.2; exit 1"])
async def test_an_agent_behind_ssh_that_dies_is_lost_at_once_however_late_ssh_ends(ssh, end, number):
    async with ClusterService(ssh(end), heartbeat=HEARTBEAT) as cluster:
        why, took = await lose(cluster, number)
        assert took < AT_ONCE
        assert "ssh exited with code" in why


@pytest.mark.parametrize("end", ["exit 255", "kill -9 $$", "sleep 600"])
async def test_an_ssh_that_proves_nothing_leaves_the_heartbeat_and_the_grace(ssh, end):
    async with ClusterService(ssh(end), heartbeat=1) as cluster:
        _, took = await lose(cluster, grace_period=1.5)
        assert took >= 1.5  # and what was heard last is up to a quarter of the heartbeat old


async def test_an_agent_that_a_shell_has_started_is_lost_at_once_if_the_shell_has_become_it():
    argv = ["sh", "-c", f"exec {sys.executable} -m trio_process.agent"]
    async with ClusterService(command_agents(argv), heartbeat=HEARTBEAT) as cluster:
        _, took = await lose(cluster)
        assert took < AT_ONCE


@pytest.mark.parametrize("reach", ["exec", "exec setsid"])
async def test_a_block_that_is_left_with_a_frozen_agent_ends_after_the_heartbeat_and_the_grace(reach, monkeypatch):
    monkeypatch.setattr(backend, "STUCK_AFTER", 0.1)
    argv = ["sh", "-c", f"({reach} {sys.executable} -m trio_process.agent)"]  # setsid: no signal of ours reaches it
    async with ClusterService(command_agents(argv), heartbeat=1.5) as cluster:
        process = await cluster.start("sleep", "600", grace_period=0.5)
        agent = cluster.agents[0].pid
        os.kill(agent, signal.SIGSTOP)
        began = trio.current_time()
    try:
        took = trio.current_time() - began
        assert process.reason is EndReason.LOST
        assert "nothing was heard" in process.result().lost
        assert 0.5 < took < AT_ONCE
    finally:
        with suppress(ProcessLookupError):  # it was in the group of its starter
            os.kill(agent, signal.SIGCONT)
    await wait_gone(process.pid)
    await wait_gone(agent)


async def test_a_starter_that_fails_slowly_is_quoted_to_its_end():
    script = "exec >&-; sleep 0.3; echo the reason >&2; exit 3"
    with pytest.raises(ClusterError, match="sh exited with code 3\n  the reason"):
        async with ClusterService(command_agents(["sh", "-c", script])):
            pass


# Slurm


@pytest.fixture
def srun(tmp_path, monkeypatch, warm_python):
    """Return a function that makes a launcher over an srun which ends by some commands; its PID is in the file `pid`."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def make(end, **options):
        (tmp_path / "srun").write_text(SRUN.format(pid=tmp_path / "pid", end=end))
        (tmp_path / "srun").chmod(0o755)
        return slurm_agents(1, "-c2", python=warm_python, **options)

    return make


NO_PROOF = [
    "echo 'srun: error: Node failure on n1' >&2; exit 0",
    "echo 'srun: error: Timed out waiting for job step to complete' >&2; exit 1",
    "kill -9 $$",
]


@pytest.mark.parametrize("end", NO_PROOF)
async def test_an_agent_lives_on_without_its_srun_as_long_as_it_is_connected(srun, end, tmp_path):
    async with ClusterService(srun(f"until [ -e {tmp_path}/go ]; do sleep 0.02; done; {end}")) as cluster:
        process = await cluster.start("sh", "-c", "echo up; read line; exit 3")
        await process.wait_for_line("up")
        (tmp_path / "go").touch()
        await wait_gone(int((tmp_path / "pid").read_text()))
        assert (await cluster.run("echo", "hello")).output == "hello\n"
        await process.send_input(b"on\n")
        assert await process.wait(check=False) == 3


@pytest.mark.parametrize("end", NO_PROOF)
async def test_the_end_of_an_srun_that_does_not_report_that_of_its_task_proves_nothing(srun, end):
    async with ClusterService(srun(f"wait; {end}", connect_back=False), heartbeat=1) as cluster:
        _, took = await lose(cluster, grace_period=1.5)
        assert took >= 1.5


async def test_an_srun_that_reports_the_end_of_its_task_proves_it(srun):
    end = "wait; echo 'srun: error: n1: task 0: Killed' >&2; exit 137"
    async with ClusterService(srun(end), heartbeat=HEARTBEAT) as cluster:
        why, took = await lose(cluster)
        assert took < AT_ONCE
        assert "task 0: Killed" in why


# an engine that signals all processes of a job, in any order


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("how", ["exec sleep 600", "sleep 600; exit $?", "sleep 600 || exit 3"])
async def test_a_process_that_fails_as_its_agent_is_told_to_end_is_lost(warm_agents, how, number):
    async with ClusterService(local_agents(1)) as cluster:
        process = await cluster.start("sh", "-c", f"echo up; {how}")
        await process.wait_for_line("up")
        victim = process.pid if "exec" in how else await sleep_of(process.pid)
        agent = cluster.agents[0].pid
        os.kill(agent, signal.SIGSTOP)  # so that it sees both at once
        try:
            os.kill(victim, number)
            await wait_gone(process.pid)
            os.kill(agent, number)
        finally:
            os.kill(agent, signal.SIGCONT)
        with pytest.raises(AgentLostError, match=f"it got {number.name}"):
            await process.wait()


async def sleep_of(shell):
    """Wait until the child of a shell has become sleep; return its PID."""
    with open(f"/proc/{shell}/task/{shell}/children") as children:
        while True:
            children.seek(0)
            for pid in children.read().split():
                if Path(f"/proc/{pid}/comm").read_text() == "sleep\n":
                    return int(pid)
            await trio.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_process_that_the_client_signals_has_died_of_that(warm_agents, number):
    async with ClusterService(local_agents(1)) as cluster:
        process = await cluster.start("sleep", "600")
        process.signal(number)
        assert await process.wait(check=False) == -number
        assert process.reason is EndReason.SIGNALLED
