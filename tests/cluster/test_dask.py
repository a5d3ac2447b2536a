"""Agents on a Dask whose workers and scheduler fail, with a stand-in for the helper, or for Dask in the helper.

A task that fails proves nothing about the agent that it has started: Dask reports each task of a worker that is lost, each
when its scheduler is lost, and each that is cancelled, as `Client.restart` does.
"""

import asyncio
import json
import os
import signal
import socket
import sys

import pytest
from support import wait_until

from trio_process import AgentLostError, ClusterError, EndReason
from trio_process.cluster import AgentState, ClusterService, dask_agents

HELPER = """
exec 4<&0
read -r given
echo '{{"event": "worker", "worker": "tcp://w", "name": "w", "host": "127.0.0.1"}}'
echo '{{"event": "listed"}}'
read -r order
{{ echo "$order" | sed 's/.*"config": //; s/}}$//'; exec cat <&4; }} | {python} -m trio_process.agent --call-back >&2 &
until [ -e {events} ]; do sleep 0.02; done
cat {events}
"""


@pytest.fixture
def tell(tmp_path, monkeypatch, warm_python):
    """Let a script be the helper; return a function that lets it report events, and end."""
    pytest.importorskip("distributed")
    script = HELPER.format(python=warm_python, events=tmp_path / "events")
    monkeypatch.setattr("trio_process.cluster.dask.module_argv", lambda module: ["sh", "-c", script])

    def tell(*events):
        (tmp_path / "new").write_text("".join(json.dumps(event) + "\n" for event in events))
        (tmp_path / "new").rename(tmp_path / "events")

    return tell


@pytest.fixture
def launcher():
    """Return a launcher of agents on what answers at a port."""
    with socket.create_server(("127.0.0.1", 0)) as scheduler:
        yield dask_agents(f"tcp://127.0.0.1:{scheduler.getsockname()[1]}")


LOST = {"event": "lost", "worker": "tcp://w", "error": "KilledWorker: it died"}
GONE = {"event": "gone", "worker": "tcp://w"}
FAILED = {"event": "failed", "error": "the scheduler has gone"}


@pytest.mark.parametrize("events", [[LOST], [GONE], [GONE, LOST], [LOST, FAILED], []], ids=str)
async def test_an_agent_lives_on_whatever_dask_has_lost(launcher, tell, events):
    async with ClusterService(launcher) as cluster:
        process = await cluster.start("sh", "-c", "echo up; read line; exit 3")
        await process.wait_for_line("up")
        tell(*events)
        await wait_until(lambda: cluster._crew.roster.failures)  # the helper has ended
        await process.send_input(b"on\n")
        assert (await process.wait(check=False), process.reason) == (3, EndReason.EXITED)
        assert [agent.state for agent in cluster.agents] == [AgentState.UP]


async def test_a_task_that_has_returned_proves_the_death_of_its_agent(launcher, tell):
    async with ClusterService(launcher, heartbeat=60) as cluster:
        process = await cluster.start("sleep", "600")
        os.kill(cluster.agents[0].pid, signal.SIGKILL)
        tell({"event": "done", "worker": "tcp://w", "error": "the agent exited with code -9"}, FAILED)
        with pytest.raises(AgentLostError, match="exited with code -9"):
            await process.wait()
        with pytest.raises(ClusterError, match=r"no agent left.*\n.*the scheduler has gone"):
            await cluster.start("true")


# the helper


@pytest.fixture
def helper():
    pytest.importorskip("distributed")
    from trio_process.cluster import dask_helper

    return dask_helper


def said(capsys):
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


class Future:
    def __init__(self, failure):
        self.failure = failure

    async def exception(self):
        return self.failure


class Client:
    """A client of Dask's, of a scheduler that has what it is given to report, one after the other, and is gone then."""

    def __init__(self, *reports):
        self.reports = list(reports)
        self.scheduler = self
        self.address = "tcp://scheduler"
        self.submitted = []

    @property
    def status(self):
        return "running" if self.reports else "closed"

    async def identity(self):
        report = self.reports.pop(0)
        if isinstance(report, OSError):
            raise report
        return {"workers": {address: {"name": address[-1], "host": "h"} for address in report}}

    def submit(self, function, *args, **options):
        self.submitted.append(function.__name__)
        return Future(ModuleNotFoundError("No module named 'trio_process'"))


def test_a_scheduler_that_is_away_for_a_moment_is_asked_again(helper, capsys, monkeypatch):
    monkeypatch.setattr(helper, "_LOOK", 0)
    asyncio.run(helper._watch(Client(["tcp://a"], OSError("closed"), OSError("refused"), ["tcp://b"]), None))
    events = [(event["event"], event.get("worker")) for event in said(capsys)]
    listed = ("listed", None)
    assert events == [
        ("worker", "tcp://a"),
        listed,
        ("worker", "tcp://b"),
        ("gone", "tcp://a"),
        listed,
        ("failed", None),
    ]


def test_a_worker_without_the_package_is_not_given_a_task_that_it_would_die_of(helper, capsys):
    client = Client()
    asyncio.run(helper._run(client, "tcp://w", {}))
    assert client.submitted == ["import_module"]
    error = "ModuleNotFoundError: No module named 'trio_process'"
    assert said(capsys) == [{"event": "lost", "worker": "tcp://w", "error": error}]
    assert "trio_process.cluster.dask_task" in sys.modules
