"""The contract between the runner and a real Service: real processes, on the real clock."""

import time

import pytest
import trio

from trio_process._core import CommandFailedError, CommandTimeoutError, EndReason, ProgramNotFoundError, is_alive
from trio_process._pipeline import Executor, Runner, RunSpec, SpecState
from trio_process._process import Service


def sh(name, script, *after, **options):
    return RunSpec(name=name, command="sh", args=["-c", script], after=after, **options)


async def test_a_service_is_an_executor():
    async with Service() as service:
        executor: Executor = service
        assert executor.slots is None


async def test_real_commands_end_as_they_should():
    specs = [
        sh("says", "echo out; echo err >&2"),
        sh("fails", "exit 3"),
        sh("allowed", "exit 3", ok_exit_codes=[3]),
        sh("after", "echo never", "fails"),
        sh("dies", "kill -9 $$"),
        sh("reads", "cat", "says", stdin=b"data"),
        sh("empty", "cat"),
        sh("hangs", "sleep 60", timeout=0.2),
        RunSpec(name="lost", command="no-such-program-anywhere", retries=3),
    ]
    with trio.fail_after(30):
        async with Service() as service:
            result = await Runner(service).run_all(specs)
    says, fails, allowed, after, dies, reads, empty, hangs, lost = result.results
    assert (says.passed, sorted(says.output.split())) == (True, ["err", "out"])
    assert (fails.state, fails.exit_code, fails.error) == (SpecState.FAILED, 3, None)
    assert allowed.passed
    assert after.skipped
    assert (dies.exit_code, dies.command_result.reason) == (-9, EndReason.SIGNALLED)
    assert isinstance(dies.error, CommandFailedError)
    assert reads.output == "data"
    assert (empty.passed, empty.output) == (True, "")
    assert isinstance(hangs.error, CommandTimeoutError)
    assert (lost.attempts, lost.exit_code) == (1, None)
    assert isinstance(lost.error, ProgramNotFoundError)


async def test_a_flaky_command_is_run_until_it_passes(tmp_path):
    script = "echo x >> runs; test $(wc -l < runs) -ge 3"
    with trio.fail_after(30):
        async with Service() as service:
            result = await Runner(service).run_all([sh("flaky", script, cwd=tmp_path, retries=5)])
    assert (result.results[0].attempts, result.success) == (3, True)
    assert (tmp_path / "runs").read_text() == "x\n" * 3


@pytest.mark.parametrize("how", ["kill", "timeout", "cancel"])
async def test_nothing_of_the_tree_is_left(how, tmp_path):
    tree = f"sleep 60 & echo $! >> {tmp_path}/pids; echo $$ >> {tmp_path}/pids; wait"
    bad = f"until test -e {tmp_path}/pids && test $(wc -l < {tmp_path}/pids) -ge 4; do sleep 0.01; done; exit 1"
    specs = [sh("one", tree), sh("two", f"trap '' TERM; {tree}; sleep 60", grace_period=0.1), sh("bad", bad)]
    with trio.fail_after(30):
        async with Service() as service:
            if how == "cancel":
                async with trio.open_nursery() as nursery:

                    async def run():
                        await Runner(service).run_all(specs)

                    nursery.start_soon(run)
                    while not (pids := tmp_path / "pids").exists() or len(pids.read_text().splitlines()) < 4:
                        await trio.sleep(0.01)
                    nursery.cancel_scope.cancel()
            else:
                mode = "kill" if how == "kill" else "continue"
                result = await Runner(service).run_all(specs, on_failure=mode, timeout=1 if how == "timeout" else None)
                reason = EndReason.STOPPED if how == "kill" else EndReason.TIMED_OUT
                assert [one.command_result.reason for one in result.results[:2]] == [reason, reason]
                assert result.timed_out is (how == "timeout")
            pids = [int(line) for line in (tmp_path / "pids").read_text().split()]
            assert how == "timeout" or len(pids) == 4  # on a busy machine the time may be up before all have started
            assert not [pid for pid in pids if is_alive(pid)]
            assert not list(service.running())


async def test_a_service_that_is_left_ends_the_run_in_results():
    results = []

    async def run(service):
        results.append(await Runner(service).run_all([sh("long", "sleep 60", retries=2), sh("after", "true", "long")]))

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            async with Service() as service:
                nursery.start_soon(run, service)
                while not service.running():
                    await trio.sleep(0.01)
    (result,) = results
    long, after = result.results
    assert (long.attempts, long.command_result.reason, after.skipped) == (1, EndReason.STOPPED, True)


async def test_many_run_side_by_side_within_their_room():
    began = time.monotonic()
    with trio.fail_after(60):
        async with Service() as service:
            result = await Runner(service, max_parallel=4).run_all([sh(f"t{n}", "exit 0") for n in range(200)])
    assert result.passed == 200
    assert time.monotonic() - began < 20
