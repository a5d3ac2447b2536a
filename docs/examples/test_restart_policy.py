"""A server that is restarted when it fails, and its tests: four minutes in a few milliseconds.

Run it with pytest and pytest-trio: `pytest -o trio_mode=true test_restart_policy.py`.
"""

import subprocess
import sys
import time

import pytest
import trio

from trio_process import Daemon, ProgramNotFoundError, RestartLimitError, RestartPolicy, Service

POLICY = RestartPolicy.on_failure(max_restarts=3, within=60, backoff=1, jitter=0)


async def serve() -> None:
    async with Service() as service, service.open("shop", "--port", "8080", grace_period=30) as server:
        await server.wait_for_line("listening", timeout=5)
        await server.wait()


async def run_daemon() -> None:
    async with Daemon(restart=POLICY, signals=False, shutdown_timeout=60) as daemon:
        await daemon.run(serve)


# The fixture `fake_processes` comes with trio_process, `autojump_clock` with pytest-trio.
# ruff: noqa: ARG001 - a test asks for the clock by naming it among its arguments


async def test_a_storm_of_failures_ends_it(fake_processes, autojump_clock):
    fake_processes.on("shop", ..., lines=["listening", (2.0, "no more memory")], exit_code=1)
    began = time.perf_counter()
    with pytest.raises(RestartLimitError):
        await run_daemon()
    assert [call.at for call in fake_processes.calls] == [0, 3, 7, 13]  # it runs for 2 s, then waits 1, 2 and 4
    assert trio.current_time() == 15
    assert time.perf_counter() - began < 0.5


async def test_a_long_run_resets_the_count_of_failures(fake_processes, autojump_clock):
    fails = {"lines": ["listening"], "exit_code": 1}
    runs_well = {"lines": ["listening", (100.0, "too late")], "exit_code": 1}
    ends = {"lines": ["listening"], "exit_code": 0}
    fake_processes.on("shop", ..., then=[fails, fails, runs_well, fails, ends])
    await run_daemon()
    assert [call.at for call in fake_processes.calls] == [0, 1, 3, 104, 106]


async def test_a_server_that_never_listens_is_a_failure(fake_processes, autojump_clock):
    fake_processes.on("shop", ..., exit_code=None)
    with pytest.raises(RestartLimitError) as failure:
        await run_daemon()
    assert "wrote no line with 'listening' within 5 s" in str(failure.value.__cause__)


async def test_a_program_that_is_not_there_is_not_tried_again(fake_processes, autojump_clock):
    fake_processes.on("shop", ..., error=FileNotFoundError)
    with pytest.raises(ProgramNotFoundError):
        await run_daemon()
    assert len(fake_processes.calls) == 1


async def test_a_server_that_ignores_sigterm_is_killed_after_its_grace_period(fake_processes, autojump_clock):
    fake_processes.on("shop", ..., lines=["listening"], exit_code=None, ignores=["SIGTERM"])
    async with Service() as service:
        server = await service.start("shop")
        await server.wait_for_line("listening")
        result = await server.stop(grace_period=30)
    assert (result.signal_name, result.duration) == ("SIGKILL", 30)


if __name__ == "__main__":
    command = [sys.executable, "-m", "pytest", "-q", "-o", "trio_mode=true", "-p", "no:cacheprovider", __file__]
    raise SystemExit(subprocess.run(command, check=False).returncode)

# Prints:
#
#   ..... [100%]
#   5 passed in ...s
