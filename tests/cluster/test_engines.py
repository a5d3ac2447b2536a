"""What must hold wherever an agent runs: on each engine, the same as here, and nothing is left behind."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import trio
from support import CLEAN_UP, CLEANED_UP, is_gone, wait_gone, wait_until

from trio_process import (
    AgentLostError,
    CommandTimeoutError,
    EndReason,
    ProcessStartError,
    ProgramNotFoundError,
    Runner,
    RunSpec,
    Secret,
)
from trio_process.cluster import AgentState, ClusterService, slurm_agents

LIMIT = 120


@pytest.fixture(autouse=True)
async def _bounded():
    with trio.fail_after(LIMIT):
        yield


async def test_ends_mean_what_they_mean_here(real_launcher, tmp_path):
    (tmp_path / "file").write_text("no program")
    async with ClusterService(real_launcher) as cluster:
        for code in (0, 3, 137, 255):
            result = await cluster.run("sh", "-c", f"exit {code}", check=False)
            assert (result.exit_code, result.reason, result.signal_name) == (code, EndReason.EXITED, None)
        for number in (9, 11, 15):
            result = await cluster.run("sh", "-c", f"kill -{number} $$", check=False)
            assert (result.exit_code, result.reason) == (-number, EndReason.SIGNALLED)
        host = cluster.agents[0].host
        assert result.host == host
        with pytest.raises(ProgramNotFoundError, match=f"no-such-program.*{host}") as missing:
            await cluster.run("no-such-program")
        assert isinstance(missing.value.__cause__, FileNotFoundError)
        with pytest.raises(ProcessStartError, match="not executable"):
            await cluster.run(tmp_path / "file")
        with pytest.raises(ProcessStartError, match="does not exist"):
            await cluster.run("true", cwd=tmp_path / "missing")
        # without a terminal nothing waits for one: what asks for a password fails at once
        result = await cluster.run("sh", "-c", ": < /dev/tty", check=False)
        assert (result.ok, result.reason) == (False, EndReason.EXITED)
        result = await cluster.run("pwd", cwd=tmp_path)
        assert result.output == f"{tmp_path}\n"
        assert (await cluster.run("pwd")).output == f"{os.getcwd()}\n"


async def test_megabytes_go_in_and_come_out_whole(launcher):
    data = os.urandom(3_000_000)
    async with ClusterService(launcher) as cluster:
        result = await cluster.run("cat", stdin=data, buffer_size=4_000_000)
        assert result.stdout_bytes == data


async def test_a_stop_a_timeout_and_a_stubborn_one(launcher):
    async with ClusterService(launcher) as cluster:
        process = await cluster.start("sh", "-c", CLEAN_UP)
        await process.wait_for_line("ready")
        result = await process.stop()
        assert (result.exit_code, result.reason) == (0, EndReason.STOPPED)
        assert result.stdout.splitlines()[1:] == CLEANED_UP
        with pytest.raises(CommandTimeoutError) as late:
            await cluster.run("sh", "-c", CLEAN_UP, timeout=1)
        assert late.value.result.stdout.splitlines()[1:] == CLEANED_UP
        stubborn = await cluster.start("sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.1; done")
        await stubborn.wait_for_line("up")
        result = await stubborn.stop(0.3)
        assert (result.exit_code, result.reason) == (-9, EndReason.STOPPED)


async def test_trees_are_gone_when_their_nursery_is_cancelled(launcher):
    pids = []
    async with ClusterService(launcher) as cluster:

        async def run_tree():
            process = await cluster.start("sh", "-c", "sleep 600 & setsid sleep 600 & echo $$ $!; wait")
            pids.extend((await process.wait_for_line(" ")).text.split())
            try:
                await process.wait()
            finally:
                with trio.CancelScope(shield=True):
                    await process.stop()

        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(run_tree)
            await wait_until(lambda: len(pids) == 40)
            nursery.cancel_scope.cancel()
        assert all(is_gone(int(pid)) for pid in pids)
        assert not cluster.running()


async def test_a_client_that_is_killed_leaves_nothing(engine, request):
    args = [engine]
    if engine == "ssh":
        args += request.getfixturevalue("sshd")
    elif engine == "slurm":
        request.getfixturevalue("slurm")
    elif engine == "dask":
        args.append(request.getfixturevalue("dask_address"))
    argv = [sys.executable, str(Path(__file__).with_name("client.py")), *args]
    client = await trio.lowlevel.open_process(argv, stdout=subprocess.PIPE)
    said = b""
    async with client.stdout:
        while not said.endswith(b"up\n"):
            more = await client.stdout.receive_some()
            assert more, said
            said += more
    pids = [int(word) for word in said.split()[:-1]]
    assert len(pids) == 20
    assert not any(map(is_gone, pids))
    client.send_signal(signal.SIGKILL)
    await client.wait()
    began = trio.current_time()
    await wait_gone(*pids)
    assert trio.current_time() - began < 20  # its grace of 1 s and one more; ten times that on a busy machine
    if engine == "slurm":
        await wait_until(lambda: not queue())


def queue():
    done = subprocess.run([shutil.which("squeue"), "-h"], capture_output=True, text=True, check=True, timeout=30)
    return done.stdout.strip()


async def test_an_agent_that_is_killed_is_lost_at_once_and_the_others_live_on(two_agents):
    async with ClusterService(two_agents, heartbeat=60) as cluster:
        await wait_until(lambda: [agent.state for agent in cluster.agents] == [AgentState.UP] * 2)
        processes = [await cluster.start("sh", "-c", "sleep 600 & echo $!; wait") for _ in range(2)]
        children = [int((await process.wait_for_line("")).text) for process in processes]
        victim = cluster.agents[0] if cluster.agents[0].pid == parent(processes[0].pid) else cluster.agents[1]
        began = trio.current_time()
        os.kill(victim.pid, signal.SIGKILL)
        with pytest.raises(AgentLostError) as lost:
            await processes[0].wait()
        assert trio.current_time() - began < 20  # and not the heartbeat
        assert (lost.value.result.reason, lost.value.result.ok) == (EndReason.LOST, False)
        assert victim.name in str(lost.value)
        assert victim.state is AgentState.LOST
        assert processes[1].is_running
        await wait_gone(processes[0].pid, children[0])
        await processes[1].stop()


def parent(pid):
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


async def test_a_step_that_was_lost_passes_elsewhere(two_agents, tmp_path):
    once = f"if mkdir {tmp_path}/first 2>/dev/null; then kill -9 $PPID; sleep 600; fi; echo passed"
    async with ClusterService(two_agents, heartbeat=60) as cluster:
        await wait_until(lambda: len([agent for agent in cluster.agents if agent.state is AgentState.UP]) == 2)
        began = trio.current_time()
        specs = [
            RunSpec(name="lost", command="sh", args=["-c", once], retries=1),
            RunSpec(name="after", command="true", after=["lost"]),
        ]
        result = await Runner(cluster).run_all(specs)
        assert result.success
        assert [(one.attempts, one.output) for one in result.results] == [(2, "passed\n"), (1, "")]
        assert trio.current_time() - began < 30  # and not the heartbeat


async def test_an_agent_of_a_node_that_failed_lives_on_until_the_node_is_back(slurm_node):
    launcher = slurm_agents(1, "-c4", "--mem=200", f"-w{slurm_node.name}")
    async with ClusterService(launcher, heartbeat=60) as cluster:
        script = "trap 'echo bye; exit 3' TERM; sleep 600 & echo up $!; while :; do wait; done"
        process = await cluster.start("sh", "-c", script)
        child = int((await process.wait_for_line("up")).text.split()[1])
        await trio.to_thread.run_sync(slurm_node.fail)
        await wait_until(lambda: not queue())  # Slurm has given up the job, too
        assert (await cluster.run("echo", "on")).output == "on\n"
        assert cluster.agents[0].state is AgentState.UP
        assert process.is_running
        began = trio.current_time()
        await trio.to_thread.run_sync(slurm_node.come_back)
        with pytest.raises(AgentLostError, match="it left, as it got SIGTERM") as lost:
            await process.wait()
        assert trio.current_time() - began < 40  # and not the heartbeat
        assert "bye" in lost.value.result.output
        assert cluster.agents[0].state is AgentState.LEFT
        await wait_gone(process.pid, child)


async def test_a_frozen_agent_is_lost_after_the_heartbeat_and_kills_first_when_it_wakes(two_agents):
    async with ClusterService(two_agents, heartbeat=2) as cluster:
        process = await cluster.start("sh", "-c", "echo up; exec sleep 600", grace_period=0.5)
        await process.wait_for_line("up")
        agent = parent(process.pid)
        os.kill(agent, signal.SIGSTOP)
        try:
            with pytest.raises(AgentLostError, match="nothing was heard"):
                await process.wait()
        finally:
            try:
                os.kill(agent, signal.SIGCONT)
            except ProcessLookupError:
                pass  # it could be killed from here
        await wait_gone(process.pid)


async def test_secrets_show_nowhere_but_in_the_process(real_launcher, engine, request, tmp_path_factory):
    secret = f"hunter-{os.urandom(8).hex()}"
    async with ClusterService(real_launcher) as cluster:
        script = 'test "$TOKEN" = "$0" && echo same; exec sleep 600'
        process = await cluster.start("sh", "-c", script, Secret(secret), env={"TOKEN": Secret(secret)})
        await process.wait_for_line("same")
        # the shell has exec'd: no argument vector has it any more, nor has any that an engine made
        assert not [pid for pid, line in command_lines() if secret in line and pid != process.pid]
        with pytest.raises(ProgramNotFoundError) as missing:
            await cluster.run("no-such-program", Secret(secret))
        assert secret not in str(missing.value)
        if engine == "slurm":
            for command in (["scontrol", "show", "jobs"], ["squeue", "-o", "%all"], ["scontrol", "show", "steps"]):
                done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
                assert secret not in done.stdout + done.stderr
        await process.stop()
    said = [path for path in tmp_path_factory.getbasetemp().glob("*0/*") if path.is_file()]
    assert not [path for path in said if secret.encode() in path.read_bytes()]


def command_lines():
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            yield int(path.parent.name), path.read_bytes().decode(errors="replace")
        except OSError:
            continue
