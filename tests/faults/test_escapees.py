"""Descendants that leave the group: found and killed however their process ends, and nobody else is."""

import subprocess

import pytest
import trio
from harness import a_stranger, new_tag, none_with_tag, some_with_tag, with_tag
from support import sh

from trio_process import CommandTimeoutError, EndReason, Service, ServiceOptions

# each leaves a `sleep` that has left the group, and a shell that goes on as long as its stdin says
_ESCAPES = {
    "setsid": "setsid sleep $1 &",
    "nohup": "nohup sleep $1 >/dev/null 2>&1 &",
    "double fork": "(setsid sh -c 'sleep $1 & exit' sh $1 &);",
    "daemon": "setsid sh -c 'setsid sh -c \"sleep $1 >/dev/null 2>&1 <&1 & exit\" sh $1 & exit' sh $1 >/dev/null 2>&1 <&1 &",
    "three deep": "setsid sh -c 'setsid sh -c \"setsid sleep $1 & wait\" sh $1 & wait' sh $1 &",
    "holds the pipe": "setsid sh -c 'sleep $1; :' sh $1 &",
}


@pytest.fixture(params=[*_ESCAPES])
def escape(request):
    return _ESCAPES[request.param]


def options():
    return ServiceOptions(drain_grace=0.02, grace_period=0.5)


async def test_an_escapee_dies_when_its_process_ends(escape):
    tag = new_tag()
    with trio.fail_after(20), a_stranger("sleep", "3599"):
        async with Service(options=options()) as service:
            result = await service.run(*sh(escape + " echo done", tag))
            assert result.output == "done\n"
            assert with_tag(tag) == []


async def test_an_escapee_dies_with_a_process_that_is_killed(escape):
    tag = new_tag()
    with trio.fail_after(20):
        async with Service(options=options()) as service:
            process = await service.start(*sh(escape + " cat", tag))
            await some_with_tag(tag)
            process.kill()
            assert await process.wait(check=False) == -9
            assert with_tag(tag) == []


async def test_an_escapee_dies_with_a_process_that_times_out(escape):
    tag = new_tag()
    with trio.fail_after(20):
        async with Service(options=options()) as service:
            with pytest.raises(CommandTimeoutError):
                await service.run(*sh(escape + " sleep $1", tag), timeout=0.1, grace_period=0.1)
            assert with_tag(tag) == []


async def test_an_escapee_dies_when_the_service_is_left(escape):
    tag = new_tag()
    with trio.fail_after(20):
        async with Service(options=ServiceOptions(grace_period=0.1)) as service:
            await service.start(*sh(escape + " cat", tag))
            await some_with_tag(tag)
        assert with_tag(tag) == []


async def test_an_escapee_dies_when_everything_is_cancelled(escape):
    tag = new_tag()
    with trio.fail_after(20):
        with trio.CancelScope() as scope:
            async with Service(options=ServiceOptions(grace_period=0.1)) as service:
                await service.start(*sh(escape + " cat", tag))
                await some_with_tag(tag)
                scope.cancel()
                await trio.sleep_forever()
        assert scope.cancelled_caught
        assert with_tag(tag) == []


async def test_no_escapee_slips_through_while_it_forks_and_execs():
    tag = new_tag()
    with trio.fail_after(60):
        async with Service(options=ServiceOptions(drain_grace=0.0)) as service:
            for number in range(100):
                # at its end the leader has just forked: its child is between fork, setsid and exec
                await service.run(
                    *sh(["setsid sleep $1 &", "(setsid sh -c 'sleep $1 & exit' sh $1 &)"][number % 2], tag)
                )
                assert with_tag(tag) == []


async def test_what_forks_on_and_on_is_caught():
    # each generation is in a session of its own, and gone after a millisecond or two
    hydra = 'i=0; while [ $i -lt 2000 ]; do i=$((i+1)); setsid sh -c "sleep 0.005; :" & done; wait'
    with trio.fail_after(20):
        async with Service(options=options()) as service:
            process = await service.start(*sh(f"setsid sh -c '{hydra}' & echo ready; cat"))
            await process.wait_for_line("ready")
            await process.stop(0)
            assert process.reason is EndReason.STOPPED
    # the fixture of all tests looks for what is left


async def test_what_is_not_ours_is_never_touched():
    tag = new_tag()
    with trio.fail_after(20):
        with a_stranger("sleep", tag, start_new_session=True) as one, a_stranger("sleep", tag) as two:
            async with Service(options=options()) as service:
                await service.run(*sh("setsid sleep $1 & exit", tag))
                process = await service.start(*sh("setsid sleep $1 & cat", tag))
                await some_with_tag(tag, 3)
                await process.stop(0)
                assert sorted(with_tag(tag)) == sorted([one.pid, two.pid])


async def test_an_escapee_of_one_process_outlives_the_end_of_another():
    tag = new_tag()
    with trio.fail_after(20):
        async with Service(options=options()) as service:
            process = await service.start(*sh("setsid sleep $1 & cat", tag))
            (escapee,) = await some_with_tag(tag)
            await service.run(*sh("sleep 0.01 & exit"))
            await service.run(*sh("setsid sleep 1000 & exit"))
            assert with_tag(tag) == [escapee]
            await process.stop()
            assert with_tag(tag) == []


async def test_with_kill_group_off_what_is_left_lives_on():
    tag = new_tag()
    with trio.fail_after(20):
        async with Service(options=options()) as service:
            result = await service.run(*sh("sleep $1 & echo $!", tag), kill_group=False)
            assert result.output_incomplete
        (left,) = with_tag(tag)
        assert left == int(result.output)
        subprocess.run(["kill", "-9", str(left)], check=True)
        await none_with_tag(tag)
