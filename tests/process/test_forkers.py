"""Many runs at the same time: their forks are done in threads, and nothing else changes by that."""

import threading

import pytest
import trio

from trio_process import EndReason, ProgramNotFoundError, Service


def forkers():
    return [thread for thread in threading.enumerate() if thread.name == "trio_process fork"]


async def test_many_runs_at_once_get_each_its_own_output_and_code():
    with trio.fail_after(60):
        async with Service() as service:
            results = {}

            async def run(number):
                results[number] = await service.run("sh", "-c", f"echo {number}; exit {number}", check=False)

            async with trio.open_nursery() as nursery:
                for number in range(60):
                    nursery.start_soon(run, number)
            assert forkers()
        assert {number: (one.output, one.exit_code) for number, one in results.items()} == {
            number: (f"{number}\n", number) for number in range(60)
        }
        assert not forkers()


async def test_a_start_that_fails_in_a_thread_is_as_any_other():
    with trio.fail_after(60):
        async with Service() as service:

            async def fail(folder):
                with pytest.raises(ProgramNotFoundError, match="no file"):
                    await service.run(f"{folder}/nothing-here")

            async with trio.open_nursery() as nursery:
                for number in range(20):
                    nursery.start_soon(fail, f"/tmp/{number}")
            assert service.statistics().failed == 20
            assert service.statistics().running == 0


async def test_what_is_cancelled_in_the_midst_of_its_fork_is_stopped_and_reaped():
    with trio.fail_after(60):
        async with Service() as service:
            async with trio.open_nursery() as nursery:
                for _ in range(20):
                    nursery.start_soon(service.run, "sleep", "600")
                while len(service.list()) < 20:  # all have asked for their fork
                    await trio.lowlevel.checkpoint()
                nursery.cancel_scope.cancel()
            assert service.statistics().running == 0
            assert {process.reason for process in service.list()} <= {EndReason.CANCELLED}


async def test_a_service_that_is_left_in_the_midst_of_forks_leaves_nothing():
    with trio.fail_after(60):
        results = []
        async with trio.open_nursery() as nursery:
            async with Service() as service:

                async def run():
                    results.append(await service.run("sleep", "600"))

                for _ in range(20):
                    nursery.start_soon(run)
                while len(service.list()) < 20:
                    await trio.lowlevel.checkpoint()
        assert {result.reason for result in results} == {EndReason.STOPPED}
        assert len(results) == 20
        assert not forkers()
