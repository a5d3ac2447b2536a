"""Agents as plain subprocesses: coming up or not, placing, flow control, leaving."""

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import trio
import trio.testing
from forked import program_of_trio
from silent import SilentChannel
from support import is_gone, most_lines_in_a_turn, state_of, wait_gone, wait_until

from trio_process import (
    ActionProcessOutput,
    AgentLostError,
    ClusterError,
    Core,
    EndReason,
    OptionError,
    ProcessNotFoundError,
    ProcessStartError,
    Runner,
    RunSpec,
    ServiceClosedError,
    ServiceOptions,
    SpecState,
    Stdio,
    Stream,
)
from trio_process._cluster import open_command
from trio_process._cluster.wire import VERSION
from trio_process.cluster import (
    AgentState,
    ClusterService,
    command_agents,
    dask_agents,
    local_agents,
    slurm_agents,
    ssh_agents,
)
from trio_process.cluster.dask import _knock

AGENT = [sys.executable, "-m", "trio_process.agent"]


@pytest.fixture(autouse=True)
async def _bounded():
    with trio.fail_after(90):
        yield


async def enter(launcher, **options):
    async with ClusterService(launcher, **options):
        pass


@pytest.fixture(autouse=True)
def _warm(warm_agents):
    """Let `local_agents` fork: what these tests are about is not how long Python takes to import."""


# coming up


@pytest.mark.parametrize(
    ("argv", "why"),
    [
        ([sys.executable, "-m", "no_such_package.agent"], "No module named"),
        (["sh", "-c", "echo Permission denied >&2; exit 255"], "Permission denied"),
        (["no-such-program-anywhere"], "can't be started"),
        (["sh", "-c", "kill -9 $$"], "SIGKILL"),
        (["sh", "-c", "yes no agent"], "no agent answered"),
    ],
)
async def test_an_agent_that_does_not_come_up_is_an_error_with_its_last_words(argv, why):
    with pytest.raises(ClusterError, match=why):
        await enter(command_agents(argv))


async def test_one_that_says_nothing_is_given_up_in_time():
    with pytest.raises(ClusterError, match=r"within 0\.3 s"):
        await enter(command_agents(["sleep", "600"]), start_timeout=0.3)


class Ended(SilentChannel):
    """The channel of an agent that has ended."""

    async def died(self, hello):
        await trio.lowlevel.checkpoint()


class Launched:
    """Launches agents that say nothing, or fail, as their last words tell."""

    start_timeout = 0.05

    def __init__(self, *words, open_ended=False):
        self.words = words
        self.open_ended = open_ended

    async def launch(self, crew):
        async with trio.open_nursery() as nursery:
            for words in self.words:
                ours, theirs = trio.testing.memory_stream_pair()
                if failed := words == "it failed":
                    await theirs.aclose()
                channel = (Ended if failed else SilentChannel)(ours, f"\n  {words}")
                nursery.start_soon(crew.attend, crew.roster.add("odd", "somewhere"), channel)
            crew.roster.expect(launching=False, open_ended=self.open_ended)


async def test_what_agents_that_are_late_have_written_is_quoted_beside_the_failures_of_others():
    with pytest.raises(ClusterError) as late:
        await enter(Launched("job is queued", "it failed"), start_timeout=0.5)
    assert str(late.value).startswith("no agent has come up within 0.5 s\nagent odd.2 on somewhere has not come up")
    assert str(late.value).endswith("\n  it failed\nodd on somewhere has not said hello\n  job is queued")


async def test_entering_fails_once_every_agent_has_failed_even_if_others_might_come():
    with pytest.raises(ClusterError, match="it failed"):
        await enter(Launched("it failed", open_ended=True), start_timeout=600)


async def test_an_agent_that_has_not_come_up_holds_up_no_end(warm_python):
    async with ClusterService(command_agents([warm_python], ["sleep", "600"])) as cluster:
        assert (await cluster.run("echo", "hello")).output == "hello\n"
        began = trio.current_time()
    assert trio.current_time() - began < 8  # and not the 10 s that agents have to leave


async def test_one_of_another_version_is_refused_and_both_are_named():
    code = "import trio_process._cluster.serving as s; s.VERSION = 99; from trio_process.agent import main; main([])"
    with pytest.raises(ClusterError, match=f"ours is {VERSION}, the peer's is 99"):
        await enter(command_agents([sys.executable, "-c", code]))


async def test_what_a_login_prints_is_skipped_and_a_wrapper_may_stand_between():
    greeting = "echo Welcome; echo 'Last login: never'; " + shlex.join(AGENT) + "; exit $?"
    async with ClusterService(command_agents(["sh", "-c", greeting])) as cluster:
        assert (await cluster.run("echo", "hello")).output == "hello\n"


async def test_one_that_fails_beside_one_that_comes_up_is_only_logged(caplog, warm_python):
    async with ClusterService(
        command_agents([warm_python], ["sh", "-c", "sleep 0.5; echo broken >&2; exit 1"])
    ) as cluster:
        await wait_until(lambda: cluster.agents[1].state is AgentState.LOST)
        assert "broken" in caplog.text
        assert (await cluster.run("echo", "on")).output == "on\n"


async def test_one_that_fails_before_another_comes_up_is_logged_too(caplog):
    late = ["sh", "-c", f"sleep 1; exec {shlex.join(AGENT)}"]
    async with ClusterService(command_agents(["sh", "-c", "echo broken >&2; exit 1"], late)) as cluster:
        assert [agent.state for agent in cluster.agents] == [AgentState.LOST, AgentState.UP]
    assert caplog.text.count("broken") == 1


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: local_agents(0), "count"),
        (lambda: local_agents(slots=0), "slots"),
        (ssh_agents, "at least one host"),
        (lambda: ssh_agents("-oProxyCommand=evil"), "not a valid host"),
        (lambda: ssh_agents("node1", ""), "not a valid host"),
        (lambda: ssh_agents("node1 node2"), "not a valid host"),
        (lambda: ssh_agents("node1\n"), "not a valid host"),
        (lambda: ssh_agents(["node1"]), "hosts must be a str"),
        (lambda: ClusterService(local_agents(1), start_timeout=0), "start_timeout must be more than 0"),
        (command_agents, "at least one command"),
        (lambda: command_agents("sh"), "argvs"),
        (lambda: slurm_agents(1, "4"), "not an option of srun"),
        (lambda: dask_agents(""), "address"),
        (lambda: ClusterService(local_agents), "launcher must be"),
        (lambda: ClusterService(local_agents(), heartbeat=0), "heartbeat"),
    ],
)
async def test_bad_values_are_refused(make, why):
    with pytest.raises(OptionError, match=why):
        make()


async def test_an_entry_that_is_cancelled_leaves_nothing():
    began = trio.current_time()
    with trio.move_on_after(0.2):
        await enter(command_agents(["sh", "-c", "sleep 600"]))
    assert trio.current_time() - began < 4  # and not the 5 s that a command has once its agent was up


# engines that refuse


async def test_ssh_without_a_key_says_what_ssh_said(request):
    options = list(request.getfixturevalue("sshd"))
    options[options.index("-i") + 1] = "/dev/null"
    with pytest.raises(ClusterError, match="Permission denied"):
        await enter(ssh_agents("127.0.0.1", python=sys.executable, options=[*options, "-o", "IdentitiesOnly=yes"]))


async def test_ssh_to_a_host_without_the_package_says_so(sshd):
    with pytest.raises(ClusterError, match=r"No module named|not found"):
        await enter(ssh_agents("127.0.0.1", python="/usr/bin/env python3 -S", options=sshd))


@pytest.mark.parametrize(
    ("conf", "why"),
    [
        (None, "srun would have tried again and again\n.*cannot stat file"),
        ("garbage=1\n", "srun exited with code 1\n.*unrecognized key"),
    ],
)
async def test_slurm_without_its_configuration_says_so_at_once(slurm, monkeypatch, tmp_path, conf, why):
    if conf is not None:
        (tmp_path / "slurm.conf").write_text(conf)
    monkeypatch.setenv("SLURM_CONF", str(tmp_path / "slurm.conf"))
    began = trio.current_time()
    with pytest.raises(ClusterError, match=why):
        await enter(slurm_agents(1))
    assert trio.current_time() - began < 20  # srun itself would go on for a minute


async def test_a_command_that_is_hopeless_is_not_waited_for():
    script = "echo starting >&2; echo error: no configuration, retrying >&2; sleep 600"
    async with open_command(["sh", "-c", script], hopeless=re.compile(b"no config.*retrying")) as channel:
        await channel.died(None)
        assert channel.last_words() == (
            "; sh would have tried again and again\n  starting\n  error: no configuration, retrying"
        )


@pytest.mark.parametrize("connect_back", [True, False])
async def test_slurm_by_a_call_back_and_by_its_own_streams(slurm, connect_back):
    async with ClusterService(slurm_agents(1, "-c2", connect_back=connect_back)) as cluster:
        result = await cluster.run("cat", stdin=b"x" * 500_000)
        assert len(result.output) == 500_000
        assert cluster.slots == 2


async def test_a_job_that_slurm_cancels_is_lost_with_its_processes(slurm):
    async with ClusterService(slurm_agents(1, "-c2", "--job-name=cancelled")) as cluster:
        process = await cluster.start("sh", "-c", "echo up; exec sleep 600")
        await process.wait_for_line("up")
        subprocess.run(["scancel", "--name=cancelled"], check=True, timeout=30)
        with pytest.raises(AgentLostError):
            await process.wait()
        await wait_gone(process.pid)
        with pytest.raises(ClusterError, match="no agent left"):
            await cluster.start("true")


async def test_an_entry_that_is_cancelled_in_the_queue_leaves_no_job(slurm):
    with trio.move_on_after(3) as scope:
        await enter(slurm_agents(1, "--begin=now+1hour", "--job-name=queued"))
    assert scope.cancelled_caught
    await wait_until(lambda: "queued" not in squeue())


def squeue():
    command = ["squeue", "-h", "-o", "%j"]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.split()


@pytest.mark.parametrize("scheme", ["tcp://", "tls://", ""])
async def test_a_dask_scheduler_that_is_not_there_is_an_error_at_once(scheme):
    began = trio.current_time()
    with socket.socket() as bound, pytest.raises(ClusterError, match=r"can't be reached.*127\.0\.0\.1"):
        bound.bind(("127.0.0.1", 0))  # and nobody listens
        await enter(dask_agents(f"{scheme}127.0.0.1:{bound.getsockname()[1]}"))
    assert trio.current_time() - began < 20  # Dask itself would go on for half a minute


@pytest.mark.parametrize(
    "place", ["a..b:8786", f"{'a' * 70}:8786", "127.0.0.1:99999", f"127.0.0.1:{'9' * 400}", f"127.0.0.1:{'9' * 5000}"]
)
async def test_a_dask_address_that_cannot_be_is_an_error(place):
    with pytest.raises(ClusterError, match="can't be reached"):
        await enter(dask_agents(f"tcp://{place}"))


async def test_a_dask_scheduler_that_is_about_to_listen_is_waited_for():
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_knock, f"tcp://127.0.0.1:{bound.getsockname()[1]}")
            await trio.sleep(0.05)
            bound.listen()


# placing


async def test_resources_are_counted_and_what_can_never_run_fails_at_once(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    async with ClusterService(local_agents(1, slots=4)) as cluster:
        assert cluster.slots == 4
        with pytest.raises(ClusterError, match=r"cpus=5.*cpus=5 of 4"):
            await cluster.run("true", resources={"cpus": 5})
        with pytest.raises(ClusterError, match=r"gpus=3 of 2"):
            await cluster.run("true", resources={"gpus": 3})
        with pytest.raises(ClusterError, match=r"memory="):
            await cluster.run("true", resources={"memory": 2**60})
        seen = []

        async def use_gpu():
            script = "echo $CUDA_VISIBLE_DEVICES $A; sleep 0.3"
            result = await cluster.run("sh", "-c", script, env={"A": "1"}, resources={"gpus": 1})
            seen.append(result.output.strip())

        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(use_gpu)
        assert sorted(seen) == ["3 1", "5 1"]


async def test_what_asks_for_more_than_is_free_waits_and_what_asks_for_nothing_does_not():
    async with ClusterService(local_agents(1, slots=2)) as cluster:
        first = await cluster.start("sleep", "600", resources={"cpus": 2})
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: cluster.run("true", resources={"cpus": 1}))
            await wait_until(lambda: cluster._crew.roster._waiting)
            assert (await cluster.run("echo", "now")).output == "now\n"
            assert cluster.agents[0].running == 1
            await first.stop()


async def test_the_least_busy_agent_is_first():
    async with ClusterService(local_agents(2, slots=4)) as cluster:
        await wait_until(lambda: cluster.slots == 8)
        processes = [await cluster.start("sleep", "600") for _ in range(4)]
        assert [agent.running for agent in cluster.agents] == [2, 2]
        for process in processes:
            process.kill()


async def test_a_spec_that_waits_for_a_place_is_queued_until_it_runs():
    async with ClusterService(local_agents(1, slots=2)) as cluster:
        blocker = await cluster.start("sleep", "600", resources={"cpus": 2})
        updates, received = trio.open_memory_channel(100)
        seen = []

        async def watch():
            async for update in received:
                seen.append(update.state)
                if update.state is SpecState.QUEUED:
                    await blocker.stop()

        spec = RunSpec(name="waits", command="sh", args=["-c", "sleep 0.1"], resources={"cpus": 2}, timeout=20)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            assert (await Runner(cluster).run_all([spec], updates=updates)).success
        assert seen == [SpecState.PENDING, SpecState.QUEUED, SpecState.RUNNING, SpecState.PASSED]


# agents that leave


async def test_an_agent_that_gets_sigterm_stops_its_processes_and_leaves():
    async with ClusterService(local_agents(2)) as cluster:
        await wait_until(lambda: len([a for a in cluster.agents if a.state is AgentState.UP]) == 2)
        process = await cluster.start("sh", "-c", "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.1; done")
        await process.wait_for_line("up")
        agent = next(agent for agent in cluster.agents if agent.running)
        os.kill(agent.pid, signal.SIGTERM)
        with pytest.raises(AgentLostError, match="SIGTERM") as lost:
            await process.wait()
        assert "bye" in lost.value.result.output
        await wait_until(lambda: agent.state is AgentState.LEFT)
        assert (await cluster.run("echo", "on")).output == "on\n"
        assert agent in cluster.agents


async def test_without_an_agent_what_waits_is_lost_and_a_start_is_an_error():
    async with ClusterService(local_agents(1, slots=1)) as cluster:
        await cluster.start("sleep", "600", resources={"cpus": 1})
        results = []

        async def wait_for_room():
            results.append(await cluster.run("true", resources={"cpus": 1}, check=False))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait_for_room)
            await trio.sleep(0.1)
            os.kill(cluster.agents[0].pid, signal.SIGKILL)
        assert [(result.reason, result.exit_code) for result in results] == [(EndReason.LOST, None)]
        assert (cluster.slots, cluster.agents[0].state) == (0, AgentState.LOST)
        with pytest.raises(ClusterError, match="no agent left"):
            await cluster.start("true")
        result = await cluster.run("true", check=False)
        assert result.reason is EndReason.LOST
        assert str(result.describe()).startswith("`true` was not run (there is no agent left to run it")


async def test_a_pipeline_ends_once_its_last_agent_is_lost():
    async with ClusterService(local_agents(2, slots=1)) as cluster:
        fatal = ["-c", "kill -9 $PPID; sleep 600"]
        result = await Runner(cluster).run_all(
            [
                RunSpec(name="fatal", command="sh", args=fatal, retries=3),
                RunSpec(name="waits", command="true", weight=2),
                RunSpec(name="more", command="sh", args=fatal, retries=3),
            ]
        )
        assert cluster.slots == 0
        assert [one.attempts for one in result.results if one.name != "waits"] == [4, 4]
        assert all("lost" in str(one.error) for one in result.results if one.name != "waits")


@pytest.mark.parametrize("retries", [1, 3])
@pytest.mark.parametrize("says", ["", "echo begun; sleep 0.2; "])
async def test_a_lost_step_whose_retry_finds_no_agent_says_that_it_may_have_run(says, retries):
    async with ClusterService(local_agents(1, slots=1)) as cluster:
        script = f"{says}kill -9 $PPID; sleep 600"
        [step] = (
            await Runner(cluster).run_all([RunSpec(name="x", command="sh", args=["-c", script], retries=retries)])
        ).results
        more = "1 more attempt was" if retries == 1 else "3 more attempts were"
        assert step.attempts == 1 + retries
        assert str(step.error).startswith(f"{more} not run (there is no agent left to run it, and none will come (")
        assert ": `sh -c " in str(step.error)
        assert "was lost, and may have had effects" in str(step.error)
        assert isinstance(step.error, AgentLostError)
        assert step.command_result.host is not None


@pytest.mark.parametrize("source", ["all", "stdout"])
async def test_a_reader_of_lines_from_an_agent_gives_others_their_turn(source):
    flood = "import os; [os.write(1, b'\\n' * 2**18) for _ in range(8)]"
    async with ClusterService(local_agents(1)) as cluster:
        process = await cluster.start(sys.executable, "-c", flood)
        lines = process.lines(source)
        found, most = await most_lines_in_a_turn(lines)
        assert (found, lines.missed) == (2**21, 0)
        assert most <= 3 * 2**16  # as from a pipe here, if a few pieces come before the reader's turn


@pytest.mark.parametrize("shares", [1, 3])
async def test_a_reader_of_events_from_an_agent_gets_no_more_at_once_than_from_a_pipe(shares):
    flood = "import os; os.read(0, 1); [os.write(1, b'\\n' * 2**18) for _ in range(4)]"
    async with ClusterService(local_agents(1)) as cluster:
        with cluster.subscribe(ActionProcessOutput) as events:
            for process in [await cluster.start(sys.executable, "-c", flood) for _ in range(shares)]:
                await process.send_input("x")  # else output that came before its start was known is one batch
            count = 0
            while count < shares * 2**20:
                batch = await events.receive_batch()
                assert len(batch) <= 2**16
                count += len(batch)


async def test_a_service_that_is_left_lets_nothing_wait_for_room():
    failures = []

    async def wait_for_room(cluster):
        try:
            await cluster.start("true", resources={"cpus": 1})
        except ServiceClosedError as error:
            failures.append(error)

    async with trio.open_nursery() as nursery:
        async with ClusterService(local_agents(1, slots=1)) as cluster:
            await cluster.start("sleep", "600", resources={"cpus": 1})
            nursery.start_soon(wait_for_room, cluster)
            await trio.sleep(0.1)
    assert len(failures) == 1


async def test_a_client_that_is_frozen_is_given_up_and_its_processes_end():
    code = """
import sys, trio
from trio_process.cluster import ClusterService, local_agents
async def main():
    async with ClusterService(local_agents(1), heartbeat=1) as cluster:
        process = await cluster.start("sleep", "600")
        print(process.pid, flush=True)
        await trio.sleep_forever()
trio.run(main)
"""
    command = [sys.executable, "-c", code]
    client = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE, **program_of_trio(command))
    async with client.stdout:
        pid = int(await client.stdout.receive_some())
        client.send_signal(signal.SIGSTOP)
        await wait_gone(pid)
        client.send_signal(signal.SIGKILL)
        client.send_signal(signal.SIGCONT)
        await client.wait()


async def test_the_agents_are_gone_when_the_block_is_left():
    async with ClusterService(local_agents(2)) as cluster:
        await wait_until(lambda: all(agent.pid for agent in cluster.agents))
        pids = [agent.pid for agent in cluster.agents]
    assert all(is_gone(pid) for pid in pids)


# differences, and what is the same


@pytest.mark.parametrize(
    "options",
    [
        {"stdin": Stdio.INHERIT},
        {"stdout": Stdio.INHERIT},
        {"stderr": Stdio.INHERIT},
        {"stdout": Path("/tmp/out")},
        {"stderr": sys.__stderr__.buffer},
        {"detach": True},
        {"user": os.getuid()},
    ],
)
async def test_what_only_makes_sense_here_is_refused_before_anything_is_sent(options):
    async with ClusterService(local_agents(1)) as cluster:
        with pytest.raises(OptionError, match="cluster"):
            await cluster.start("true", **options)
        assert not cluster.list()


async def test_input_is_read_by_the_client(tmp_path):
    (tmp_path / "file").write_bytes(b"y" * 700_000)
    reader, writer = os.pipe()
    os.write(writer, b"from a pipe")
    os.close(writer)
    async with ClusterService(local_agents(1)) as cluster:
        for given, expected in [
            ("pipe", "pipe"),
            ("", ""),
            (tmp_path / "file", "y" * 700_000),
            (Stdio.NULL, ""),
        ]:
            assert (await cluster.run("cat", stdin=given)).output == expected
        with open(reader, "rb") as pipe:
            assert (await cluster.run("cat", stdin=pipe)).output == "from a pipe"
        assert (await cluster.run("head", "-c3", stdin=b"x" * 5_000_000)).output == "xxx"


@pytest.mark.parametrize(("device", "expected"), [("/dev/null", b""), ("/dev/zero", b"\0\0\0")])
async def test_input_from_a_device_that_epoll_does_not_take(device, expected):
    async with ClusterService(local_agents(1)) as cluster:
        assert (await cluster.run("head", "-c3", stdin=Path(device))).stdout_bytes == expected
        with open(device, "rb") as file:
            assert (await cluster.run("head", "-c3", stdin=file)).stdout_bytes == expected


async def test_input_that_can_not_be_read_fails_the_start_and_says_why(tmp_path):
    async with ClusterService(local_agents(1)) as cluster:
        with pytest.raises(ProcessStartError, match="missing': No such file or directory"):
            await cluster.run("cat", stdin=tmp_path / "missing")
        with pytest.raises(ProcessStartError, match=f"{tmp_path}': Is a directory"):
            await cluster.run("cat", stdin=tmp_path)
        with (
            open(tmp_path / "file", "wb") as file,
            pytest.raises(ProcessStartError, match="standard streams: it is not open for reading"),
        ):
            await cluster.run("cat", stdin=file)


async def test_the_environment_is_the_agents_and_the_directory_the_clients(tmp_path, monkeypatch, warm_python):
    agent = ["env", "OF_THE_AGENT=yes", warm_python]
    monkeypatch.chdir(tmp_path)
    async with ClusterService(command_agents(agent)) as cluster:
        result = await cluster.run("sh", "-c", 'echo "$OF_THE_AGENT $OURS"; pwd', env={"OURS": "too"})
        assert result.output == f"yes too\n{tmp_path}\n"


async def test_bytes_that_are_no_text_survive_the_journey():
    async with ClusterService(local_agents(1)) as cluster:
        result = await cluster.run("printf", "%s", b"\xff\xfe\n", env={"X": "\udcff"})
        assert result.stdout_bytes == b"\xff\xfe\n"


async def test_a_reader_that_sleeps_slows_its_child_and_no_other():
    async with ClusterService(local_agents(1), options=ServiceOptions(grace_period=0.2)) as cluster:
        flood = await cluster.start("sh", "-c", "while :; do echo 0123456789012345678901234567890123456789; done")
        with cluster.subscribe(ActionProcessOutput, id=flood.id, buffer=10):
            await trio.sleep(0.5)
            began = len(flood.output())
            assert (await cluster.run("echo", "free")).output == "free\n"
            await wait_until(lambda: state_of(flood.pid) == "S")  # it waits in a write
            assert len(flood.output()) - began < 2**20
        await flood.stop()


async def test_a_text_is_the_same_bytes_whatever_the_locale_of_the_host(tmp_path):
    (tmp_path / "née").mkdir()
    ascii_only = ["env", "LC_ALL=C", "PYTHONUTF8=0", "PYTHONCOERCECLOCALE=0", *AGENT]
    async with ClusterService(command_agents(ascii_only)) as cluster:
        for given in ("née €", "née".encode("latin-1"), "\udcff"):
            result = await cluster.run("sh", "-c", 'printf "%s" "$0$V"', given, env={"V": "é"}, cwd=tmp_path / "née")
            assert result.stdout_bytes == os.fsencode(given) + "é".encode()


async def test_a_paused_stream_does_not_hold_up_the_other():
    async with ClusterService(local_agents(1), options=ServiceOptions(grace_period=0.2)) as cluster:
        with cluster.subscribe(ActionProcessOutput, buffer=10):  # which is full at once, and never read
            process = await cluster.start("sh", "-c", "yes & sleep 0.5; echo trouble >&2; wait")
            assert (await process.wait_for_line("trouble")).stream is Stream.STDERR
            await process.stop()


async def test_a_million_lines_all_arrive():
    async with ClusterService(local_agents(1)) as cluster:
        process = await cluster.start("seq", "1000000", disable_capture=True)
        with cluster.subscribe(ActionProcessOutput, id=process.id, buffer=10_000) as lines:
            count = 0
            async for event in lines:
                count += 1
                assert event.line == str(count)
        assert count == 1_000_000


async def test_a_pid_that_two_hosts_have_kills_neither():
    async with Core() as core, ClusterService(local_agents(1), core) as cluster:
        first, second = [await cluster.start("sleep", "600") for _ in range(2)]
        second._child.record.pid = first.pid
        with pytest.raises(ProcessNotFoundError, match="2 processes"):
            await core.process.kill(pid=first.pid)
        assert first.is_running
        assert first.info().host == cluster.agents[0].host
        first.kill()
        assert await first.wait(check=False) == -9


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (b"", "ended before that"),
        (b"secret\n", "the 7 bytes"),
        (b"[]\n", "the 3 bytes"),
        (b'{"token": "secret", "addresses": ["here"]}\n', "the 43 bytes"),
    ],
)
async def test_an_agent_that_is_not_told_where_to_call_back_says_so_in_one_line(given, why):
    argv = [*AGENT, "--call-back"]
    done = await trio.run_process(argv, stdin=given, check=False, capture_stdout=True, capture_stderr=True)
    assert (done.returncode, done.stdout) == (1, b"")
    [line] = done.stderr.decode().splitlines()
    assert why in line
    assert "secret" not in line


@pytest.mark.parametrize("closed", ["<&-", ">&-"])
async def test_an_agent_without_a_stdin_or_stdout_says_so_in_one_line(closed):
    done = await trio.run_process(["sh", "-c", f"exec {shlex.join(AGENT)} {closed}"], check=False, capture_stderr=True)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert b"one of them is closed" in done.stderr


async def test_an_agent_without_a_stderr_works_as_any_other():
    async with ClusterService(command_agents(["sh", "-c", f"exec {shlex.join(AGENT)} 2>&-"])) as cluster:
        assert (await cluster.run("sh", "-c", "echo out; echo err >&2")).stderr == "err\n"


async def test_an_import_of_the_agent_brings_no_server_and_no_command_line():
    heavy = ("quart", "hypercorn", "click", "rich", "distributed")
    code = f"import sys, trio_process.agent; print(*[name for name in {heavy!r} if name in sys.modules])"
    done = await trio.to_thread.run_sync(
        lambda: subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    )
    assert done.stdout.split() == []


async def test_stops_take_no_longer_than_the_grace_and_a_little():
    async with ClusterService(local_agents(1)) as cluster:
        process = await cluster.start("sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.05; done")
        await process.wait_for_line("up")
        began = time.monotonic()
        await process.stop(0.5)
        assert 0.45 <= time.monotonic() - began < 10
