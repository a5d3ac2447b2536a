"""Agents that break the protocol, or report what no system reports: each is lost, with its processes, and nothing else is."""

import json
import struct

import pytest
import trio
import trio.testing
from silent import SilentChannel

from trio_process import EndReason, ProgramNotFoundError, StopFailedError
from trio_process._cluster.wire import MAGIC, VERSION, Kind
from trio_process._process import backend
from trio_process.cluster import AgentState, ClusterService

HELLO = ["Hello", VERSION, "node", "place", 1, 2, None, []]
STARTED = ["Started", 1, 4711]


def over(exit_code=0, pid=None, max_rss=None, survivors=()):
    """Return the message that ends the first process."""
    return ["Over", 1, pid, exit_code, 0.0, 0.0, max_rss, None, False, False, False, survivors]


def frame(message):
    """Return the frame of a message, or of output."""
    kind, process, body = Kind.MESSAGE, 0, message
    if isinstance(message, bytes):
        kind, process = Kind.STDOUT, 1
    else:
        body = json.dumps(message).encode()
    return struct.pack("!IBQ", len(body), kind, process) + body


class OddAgent:
    """Launches one agent, which says hello, and answers the first request to start a process by given messages.

    Its answer to the request to kill the process comes late.
    """

    start_timeout = 10.0

    def __init__(self, *answer, hello=HELLO, to_kill=None):
        self.answer = answer
        self.hello = hello
        self.to_kill = to_kill

    async def launch(self, crew):
        ours, theirs = trio.testing.memory_stream_pair()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.talk, theirs)
            await crew.attend(crew.roster.add("odd", "somewhere"), SilentChannel(ours))
            nursery.cancel_scope.cancel()

    async def talk(self, stream):
        await stream.send_all(MAGIC + frame(self.hello))
        received, answered = b"", False
        while b'"Leave"' not in received:
            more = await stream.receive_some()
            if not more:
                return  # the client has given it up
            received += more
            if b'"Spawn"' in received and not answered:
                answered = True
                await stream.send_all(b"".join(map(frame, self.answer)))
            if self.to_kill is not None and b'["Stop",1,0.0]' in received:
                await trio.sleep(0.3)
                await stream.send_all(frame(self.to_kill))
                self.to_kill = None
        await stream.send_all(frame(["Leaving", ""]) + frame(["Bye"]))
        await stream.aclose()


@pytest.fixture(autouse=True)
async def _bounded():
    with trio.fail_after(30):
        yield


@pytest.mark.parametrize(
    "answer",
    [
        [over()],
        [b"output"],
        [["Exited", 1], STARTED],
        [["Stuck", 1, []]],
        [["Credit", 1, "stdin", 1]],
        [["CloseStdin", 1]],
        [["Refused", 1]],
        [STARTED, STARTED],
        [STARTED, ["Credit", 1, "stdin", 1]],
        [over(pid=-1)],
        [STARTED, over(pid=4711)],
        [STARTED, ["Refused", 1]],
        [STARTED, ["Failed", 1, False, "", None, None]],
        [STARTED, ["Stuck", 1, [[]]]],
        [STARTED, over(survivors=[[1]])],
        [STARTED, over(survivors=[[1, "D", "sh", "more"]])],
        [STARTED, over(exit_code=2**62)],
        [STARTED, over(exit_code=-(2**62))],
        [STARTED, over(max_rss=-1)],
        [["Failed", 1, False, "", 2**62, None]],
        [["Started", 1, -1]],
        [HELLO],
    ],
    ids=repr,
)
async def test_an_answer_that_can_not_be_right_loses_that_agent_and_no_more(answer):
    async with ClusterService(OddAgent(*answer), heartbeat=0.5) as cluster:
        result = await cluster.run("true", check=False, grace_period=0.1)
        assert result.reason is EndReason.LOST
        assert [agent.state for agent in cluster.agents] == [AgentState.LOST]


async def test_what_an_agent_reports_is_shown_without_control_characters():
    failed = ["Failed", 1, True, "no \x1b[2J program", 2, "true"]
    launcher = OddAgent(failed, hello=[*HELLO[:2], "no\x1b[31m\nde", *HELLO[3:]])
    async with ClusterService(launcher) as cluster:
        assert cluster.agents[0].host == "no\\x1b[31m de"
        with pytest.raises(ProgramNotFoundError) as missing:
            await cluster.run("true")
        assert str(missing.value) == "no \\x1b[2J program (on no\\x1b[31m de)"


async def test_a_process_that_can_not_be_killed_is_what_its_agent_reports(monkeypatch):
    monkeypatch.setattr(backend, "STUCK_AFTER", 0.05)
    with pytest.raises(StopFailedError):  # of the block
        async with ClusterService(OddAgent(STARTED, to_kill=["Stuck", 1, [[4711, "D", "sh"]]])) as cluster:
            process = await cluster.start("true")
            with pytest.raises(StopFailedError, match="PID 4711, state D"):
                await process.stop(0)


async def test_an_agent_that_never_reports_a_killed_process_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(backend, "STUCK_AFTER", 0.05)
    with pytest.raises(StopFailedError):
        async with ClusterService(OddAgent(STARTED, to_kill=["Ping"]), heartbeat=1) as cluster:
            process = await cluster.start("true", grace_period=0.1)
            with pytest.raises(StopFailedError, match="PID 4711, state \\?"):
                await process.stop(0)


class FailingLauncher(OddAgent):
    """Fails when a process is asked for, after the answer."""

    async def talk(self, stream):
        await stream.send_all(MAGIC + frame(self.hello))
        received = b""
        while b'"Spawn"' not in received:
            received += await stream.receive_some()
        await stream.send_all(b"".join(map(frame, self.answer)))
        raise ValueError("no such queue")


@pytest.mark.parametrize("answer", [[], [STARTED]], ids=["unanswered", "started"])
async def test_a_launcher_that_fails_ends_the_block_and_nothing_is_waited_for(answer):
    service = ClusterService(FailingLauncher(*answer))
    with pytest.raises(ExceptionGroup) as failed:
        async with service:
            await service.run("true", check=False)
    assert [str(error) for error in failed.value.exceptions] == ["no such queue"]
    assert [agent.state for agent in service.agents] == [AgentState.LOST]
    reasons = [process.result().lost for process in service.list()]
    assert reasons == ["agent odd on node: its launcher has failed"] * len(answer)
