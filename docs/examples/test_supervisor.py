"""A supervised stack and its tests: an hour in a few milliseconds.

Run it with pytest and pytest-trio: `pytest -o trio_mode=true test_supervisor.py`.
"""

import subprocess
import sys

import pytest
import trio

from trio_process import Probe, RestartPolicy, Supervisor, UnitFailedError, UnitSpec
from trio_process.testing import Behaviour, FakeService

STACK = [
    UnitSpec(name="db", command="postgres", ready=Probe.line("ready to accept connections")),
    UnitSpec(
        name="web",
        command="web",
        after=["db"],
        restart=RestartPolicy.on_failure(max_restarts=2, backoff=1, jitter=0),
        essential=True,
    ),
]

# The fixture `autojump_clock` comes with pytest-trio.
# ruff: noqa: ARG001 - a test asks for the clock by naming it among its arguments


async def test_the_web_server_waits_for_the_database(autojump_clock):
    async with FakeService() as fake:
        fake.on("postgres", lines=[(30.0, "ready to accept connections")], exit_code=None)
        fake.on("web", exit_code=None)
        async with Supervisor(STACK, service=fake) as supervisor:
            await supervisor.wait_ready()
            assert [(call.command, call.at) for call in fake.calls] == [("postgres", 0), ("web", 30)]


async def test_a_database_that_crashes_after_an_hour_comes_back(autojump_clock):
    async with FakeService() as fake:
        crash = Behaviour(lines=["ready to accept connections"], exit_after=3600, exit_code=1)
        fake.on("postgres", then=[crash, Behaviour(lines=["ready to accept connections"], exit_code=None)])
        fake.on("web", exit_code=None)
        async with Supervisor(STACK, service=fake) as supervisor:
            await supervisor["db"].wait("backoff")
            await supervisor.wait_ready()
            assert supervisor["db"].restarts == 1
            assert supervisor["web"].generation == 1


async def test_a_web_server_that_never_runs_ends_the_program(autojump_clock):
    async with FakeService() as fake:
        fake.on("postgres", lines=["ready to accept connections"], exit_code=None)
        fake.on("web", exit_code=1)
        with pytest.raises(UnitFailedError):
            async with Supervisor(STACK, service=fake):
                await trio.sleep_forever()
        assert len([call for call in fake.calls if call.command == "web"]) == 3


if __name__ == "__main__":
    command = [sys.executable, "-m", "pytest", "-q", "-o", "trio_mode=true", "-p", "no:cacheprovider", __file__]
    raise SystemExit(subprocess.run(command, check=False).returncode)

# Prints:
#
#   ... [100%]
#   3 passed in ...s
