"""How many messages a run takes: the agent is served in this process, and what passes between both ends is noted."""

import fcntl
import gc
import os
import signal
import struct
import termios
import time
from types import SimpleNamespace

import pytest
import trio
import trio.testing
from silent import SilentChannel

from trio_process import (
    ActionProcessExited,
    ActionProcessOutput,
    ActionProcessStarted,
    EndReason,
    ProgramNotFoundError,
    RunOptions,
    ServiceOptions,
    Status,
    Stream,
)
from trio_process._cluster import AgentServer, tap
from trio_process._cluster.messages import Exited, Over, Spawn, Started, decode
from trio_process._cluster.remote import RemoteHandle
from trio_process._cluster.wire import Kind, Parser
from trio_process._process import CHUNK, Lifecycle
from trio_process._process.local.handle import LocalHandle
from trio_process.cluster import AgentState, ClusterService


class NotedStream(trio.abc.Stream):
    """Notes the messages that are sent, but for those that don't concern a process."""

    def __init__(self, stream, noted):
        self.stream = stream
        self.noted = noted
        self.parser = Parser()

    async def send_all(self, data):
        for frame in self.parser.feed(data):
            message = decode(frame.body) if frame.kind is Kind.MESSAGE else frame
            if "process" in message._fields:
                self.noted.append(message)
        await self.stream.send_all(data)

    async def wait_send_all_might_not_block(self):
        await self.stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes=None):
        return await self.stream.receive_some(max_bytes)

    async def aclose(self):
        await self.stream.aclose()


class AgentHere(SilentChannel):
    """Launches one agent in this process, and is its channel."""

    start_timeout = 10.0

    def __init__(self):
        self.asked, self.answered = [], []
        ours, theirs = trio.testing.memory_stream_pair()
        super().__init__(NotedStream(ours, self.asked))
        self.server = AgentServer(NotedStream(theirs, self.answered), slots=8)

    async def launch(self, crew):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.server.serve)
            await crew.attend(crew.roster.add("here", "here"), self)


@pytest.fixture
async def agent():
    return AgentHere()


async def test_a_short_run_is_one_message_there_and_one_back(agent, monkeypatch):
    monkeypatch.setattr(tap, "_REPORTED_AFTER", 60)  # nothing is short where the machine is busy
    async with ClusterService(agent) as cluster:
        result = await cluster.run("true")
        assert [type(message) for message in agent.asked] == [Spawn]
        assert [type(message) for message in agent.answered] == [Over]
        assert (result.status, result.host) == (Status.EXITED, cluster.agents[0].host)
        [process] = cluster.list()
        assert process.pid == agent.answered[0].pid


async def test_an_exit_with_descendants_to_end_is_reported_with_the_end_if_that_comes_soon(agent, monkeypatch):
    monkeypatch.setattr(tap, "_REPORTED_AFTER", 60)
    async with ClusterService(agent) as cluster:
        result = await cluster.run("sh", "-c", "exec </dev/null >/dev/null 2>&1; sleep 60 & exit 3", check=False)
        assert (result.exit_code, result.output_incomplete) == (3, False)
        assert [type(message) for message in agent.answered] == [Over]


async def test_runs_that_begin_together_are_asked_for_by_one_write(agent, monkeypatch):
    writes = []
    send_all = agent.stream.send_all

    async def counted(data):
        writes.append(data)
        await send_all(data)

    monkeypatch.setattr(agent.stream, "send_all", counted)
    async with ClusterService(agent) as cluster:
        await cluster.run("true")
        writes.clear()
        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(cluster.run, "true")
        assert len(writes) == 1


async def test_the_output_of_a_run_comes_after_its_start(agent):
    async with ClusterService(agent) as cluster:
        assert (await cluster.run("echo", "hello")).output == "hello\n"
        assert [type(message).__name__ for message in agent.answered][:2] == ["Started", "Frame"]
        assert agent.answered[-1].pid is None


async def test_the_start_of_a_long_run_is_reported_soon(agent):
    async with ClusterService(agent) as cluster, trio.open_nursery() as nursery:
        nursery.start_soon(cluster.run, "sleep", "600")
        while not cluster.running():
            await trio.sleep(0.001)
        assert [type(message) for message in agent.answered] == [Started]
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("how", ["start", "nursery.start", "timeout", "idle_timeout", "listener"])
async def test_a_start_that_somebody_waits_for_is_reported_at_once(agent, how):
    async with ClusterService(agent) as cluster, trio.open_nursery() as nursery:
        match how:
            case "start":
                await (await cluster.start("true")).wait()
            case "nursery.start":
                await nursery.start(cluster.run_process, RunOptions(command="true"))
            case "listener":
                with cluster.subscribe(ActionProcessStarted, ActionProcessExited) as events:
                    await cluster.run("true")
                    assert type(await events.receive()) is ActionProcessStarted
                    assert type(await events.receive()) is ActionProcessExited
            case _:
                await cluster.run("true", **{how: 60})
    assert agent.asked[0].prompt
    assert [type(message) for message in agent.answered if type(message).__name__ != "Exited"] == [Started, Over]


async def test_a_run_that_can_not_start_says_so(agent):
    async with ClusterService(agent) as cluster:
        with pytest.raises(ProgramNotFoundError):
            await cluster.run("no-such-program")
        assert [type(message).__name__ for message in agent.answered] == ["Failed"]


SCRIPTS = {
    "no output": "exit 0",
    "output": "echo one; echo two >&2; sleep 0.05; echo three",
    "a descendant": "sleep 60 & echo hello",
    "a lot of output": "head -c 3000000 /dev/zero",
}


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
async def test_neither_end_leaves_anything_of_a_run_to_the_garbage_collector(agent, script):
    async with ClusterService(agent, options=ServiceOptions(retain=0)) as cluster:
        with cluster.subscribe(ActionProcessExited) as events:
            for count in (2, 3):
                gc.collect()
                gc.disable()
                gc.set_debug(gc.DEBUG_SAVEALL)
                try:
                    for _ in range(count):
                        await cluster.run("sh", "-c", script, disable_capture=True)
                        await events.receive()
                    gc.collect()
                    left = [type(found) for found in gc.garbage]  # the first runs import modules
                finally:
                    gc.set_debug(0)
                    gc.garbage.clear()
                    gc.enable()
    assert not {Lifecycle, RemoteHandle, tap.TappedHandle, LocalHandle} & set(left)


async def test_a_start_is_reported_after_a_full_interval_and_not_after_the_end():
    timers, sent = [], []
    reactor = SimpleNamespace(call_at=lambda deadline, callback: timers.append(callback))
    backend = tap.TappedBackend(None, reactor, {})
    first, second, third = (tap.Tap(SimpleNamespace(send=sent.append), number, prompt=False) for number in (1, 2, 3))
    for started in (first, second):
        started.pid = 4711
        backend.report_start_soon(started)
    timers.pop()()
    assert sent == []
    second.pid = None  # its end has reported the start
    third.pid = 4712
    backend.report_start_soon(third)
    timers.pop()()
    assert sent == [Started(1, 4711)]
    third.exited = True
    timers.pop()()
    assert sent[1:] == [Started(3, 4712), Exited(3)]
    assert timers == []


@pytest.mark.parametrize("how", ["kill", "exit"])
@pytest.mark.parametrize("group", [True, False])
async def test_an_exit_is_reported_while_its_last_output_waits_for_a_reader_that_sleeps(agent, how, group):
    # without a group to end, it is reaped at once, and the last output of the pipe is more than there is credit for
    async with ClusterService(agent) as cluster:
        with cluster.subscribe(ActionProcessOutput, buffer=1) as events:
            process = await cluster.start("yes", kill_group=group)
            while agent.server._taps[1].outflow(Stream.STDOUT).room >= CHUNK or waiting_in_pipe(process.pid) < CHUNK:
                await trio.sleep(0.001)
            with trio.fail_after(10):
                if how == "kill":
                    process.kill()
                else:
                    os.kill(process.pid, signal.SIGKILL)
                assert await process.wait(check=False) == -9
            assert events.statistics().buffered > 1
    assert "Exited" in [type(message).__name__ for message in agent.answered]
    assert type(agent.answered[-1]) is Over


def waiting_in_pipe(pid):
    """Return how many bytes are in the pipe that is the stdout of a process."""
    with open(f"/proc/{pid}/fd/1", "rb") as pipe:
        return struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, b"\0\0\0\0"))[0]


async def test_an_agent_that_has_not_heard_of_its_client_in_time_says_so_and_begins_nothing_more(agent):
    async with ClusterService(agent, heartbeat=1) as cluster:
        await cluster.run("true")
        time.sleep(1.1)  # the whole program is held up
        result = await cluster.run("true", check=False)
        assert result.reason is EndReason.LOST
        assert "left, as nothing was heard of the client for " in result.lost
        assert [agent.state for agent in cluster.agents] == [AgentState.LEFT]
