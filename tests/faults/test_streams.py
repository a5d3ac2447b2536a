"""Output under faults: nothing that was written is lost, and nobody waits for a stream that nobody writes to."""

import os
import signal
import time

import pytest
import trio
from harness import new_tag, some_with_tag, with_tag
from support import CLEAN_UP, CLEANED_UP, runtime_of, sh, state_of, wait_until

from trio_process import ActionProcessOutput, CommandTimeoutError, EndReason, Service, ServiceOptions, Status, Stream


async def test_a_leader_killed_while_grandchildren_write_loses_nothing(tmp_path):
    # each grandchild says in a file how far it came before it wrote that far: the file is never ahead by more than one
    script = """
for name in a b c; do
    sh -c 'i=0; while :; do i=$((i+1)); echo $0 $i; done' $name &
done
echo ready; wait
"""
    with trio.fail_after(20):
        async with Service(options=ServiceOptions(drain_grace=0.05, drain_limit=0.3)) as service:
            with service.subscribe(ActionProcessOutput, buffer=100) as events:
                process = await service.start(*sh(script), buffer_size=float("inf"))
                seen = []
                async for event in events:
                    seen.append(event.line)
                    if len(seen) == 500:
                        os.kill(process.pid, signal.SIGKILL)
                        break
                async with trio.open_nursery() as nursery:

                    async def rest():
                        async for event in events:
                            seen.append(event.line)

                    nursery.start_soon(rest)
                    assert await process.wait(check=False) == -9
                    await service.wait_all()
                    nursery.cancel_scope.deadline = trio.current_time() + 0.1
            assert seen == process.output().splitlines()[: len(seen)]
            for name in "abc":
                numbers = [
                    int(line.split()[1]) for line in process.output().splitlines() if line.startswith(name + " ")
                ]
                assert numbers[:-1] == list(range(1, len(numbers)))  # the last one may be torn by SIGKILL
            assert process.reason is EndReason.SIGNALLED


async def test_a_child_that_stops_itself_runs_on_or_dies_when_it_is_told_to():
    with trio.fail_after(20):
        async with Service(options=ServiceOptions(grace_period=5)) as service:
            process = await service.start(*sh("echo one; kill -STOP $$; echo two; kill -STOP $$; sleep 1000"))
            await wait_until(lambda: state_of(process.pid) == "T")
            assert process.is_running
            process.resume()
            await process.wait_for_line("two")
            await wait_until(lambda: state_of(process.pid) == "T")
            result = await process.stop()
            assert (result.signal_name, result.reason) == ("SIGTERM", EndReason.STOPPED)
            assert result.duration < 5


async def test_a_child_that_stops_itself_still_times_out():
    with trio.fail_after(20):
        async with Service(options=ServiceOptions(grace_period=5)) as service:
            with pytest.raises(CommandTimeoutError):
                await service.run(*sh("kill -STOP $$; echo never"), timeout=0.1)


async def test_a_child_that_closes_its_streams_runs_on():
    with trio.fail_after(20):
        async with Service() as service:
            began = trio.current_time()
            process = await service.start(*sh("echo said; exec >&- 2>&-; read x; exit 7"))
            await process.wait_for_line("said")
            with trio.move_on_after(0.1):
                await process.wait()
            assert process.is_running
            await process.send_input("go\n")
            assert await process.wait(check=False) == 7
            assert trio.current_time() - began < 10
            assert not process.result().output_incomplete


async def test_a_flood_on_stderr_while_stdout_is_silent():
    size = 20 * 2**20
    with trio.fail_after(20):
        async with Service(options=ServiceOptions(buffer_size=1000)) as service:
            result = await service.run(*sh(f"head -c {size} /dev/zero >&2; echo the end >&2; echo done"))
            assert (result.stdout, result.stderr[-8:]) == ("done\n", "the end\n")
            assert result.dropped + len(result.stdout_bytes) + len(result.stderr_bytes) >= size


async def test_a_flood_does_not_delay_another_child():
    with trio.fail_after(20):
        async with Service(options=ServiceOptions(buffer_size=1000, grace_period=0.5)) as service:
            flood = await service.start("yes")
            slowest = 0.0
            for _ in range(10):
                began = time.monotonic()
                assert (await service.run("echo", "hello")).output == "hello\n"
                slowest = max(slowest, time.monotonic() - began)
            assert slowest < 2
            await flood.stop()


@pytest.mark.parametrize("end", ["stop", "timeout", "cancel", "left"])
async def test_clean_up_is_heard_to_its_last_line(end):
    with trio.fail_after(20):
        async with Service(options=ServiceOptions(grace_period=8)) as service:
            with service.subscribe(ActionProcessOutput) as events:
                if end == "stop":
                    process = await service.start(*sh(CLEAN_UP))
                    await process.wait_for_line("ready")
                    await process.stop()
                elif end == "timeout":
                    with pytest.raises(CommandTimeoutError):
                        await service.run(*sh(CLEAN_UP), timeout=2)
                elif end == "cancel":
                    with trio.CancelScope() as scope:
                        async with trio.open_nursery() as nursery:
                            nursery.start_soon(service.run, *sh(CLEAN_UP))
                            assert (await events.receive()).line == "ready"
                            scope.cancel()
                else:
                    process = await service.start(*sh(CLEAN_UP))
                    await process.wait_for_line("ready")
                    runtime_of(service)._close()  # what leaving the block does first
                    await process.wait(check=False)
                (process,) = service.list()
                assert process.result().stdout.splitlines() == ["ready", *CLEANED_UP]
                assert process.exit_code == 0
                assert process.status is Status.EXITED


async def test_members_of_the_group_have_the_rest_of_the_grace():
    with trio.fail_after(20):
        async with Service(options=ServiceOptions(grace_period=8)) as service:
            process = await service.start(*sh('sh -c "$1" & wait', CLEAN_UP))
            await process.wait_for_line("ready")
            result = await process.stop()
            assert result.signal_name == "SIGTERM"  # of the leader, at once
            assert result.stdout.splitlines() == ["ready", *CLEANED_UP]
            assert not result.output_incomplete


async def test_members_that_take_longer_than_the_grace_are_killed():
    tag = new_tag()
    with trio.fail_after(20):
        async with Service() as service:
            process = await service.start(*sh("(trap '' TERM; sleep $1; sleep $1) & exec sleep $1", tag))
            await some_with_tag(tag, 2)
            began = trio.current_time()
            await process.stop(0.3)
            assert 0.3 <= trio.current_time() - began < 5
            assert with_tag(tag) == []


async def test_the_end_is_told_when_the_child_ends_not_when_a_grandchild_lets_go():
    with trio.fail_after(20):
        async with Service() as service:
            began = trio.current_time()
            result = await service.run(*sh("sleep 1000 & echo hi"))
            assert (result.output, result.exit_code, result.output_incomplete) == ("hi\n", 0, True)
            assert trio.current_time() - began < 5


async def test_a_grandchild_that_writes_for_ever_is_cut_off_at_the_limit():
    with trio.fail_after(20):
        async with Service(options=ServiceOptions(drain_limit=0.3, buffer_size=10_000)) as service:
            began = trio.current_time()
            result = await service.run(*sh("(while :; do echo on and on; sleep 0.01; done) & exit 0"))
            assert 0.25 < trio.current_time() - began < 5
            assert result.output_incomplete


async def test_a_slow_reader_is_not_the_childs_idleness():
    with trio.fail_after(20):
        async with Service() as service:
            with service.subscribe(ActionProcessOutput, buffer=1) as events:
                process = await service.start(*sh("yes | head -n 200000; read x"), idle_timeout=1.5)
                await events.receive()
                await trio.sleep(2)  # the pipe is full all that time
                assert process.is_running
                assert process.reason is None
                async with trio.open_nursery() as nursery:

                    async def read():
                        async for _ in events:
                            pass

                    nursery.start_soon(read)
                    await process.send_input("go\n")
                    assert await process.wait(check=False) in (0, -15)
                    nursery.cancel_scope.cancel()


async def test_the_oldest_lose_first_their_output_then_their_record():
    with trio.fail_after(20):
        async with Service(options=ServiceOptions(retain=3, retain_bytes=2500)) as service:
            ids = []
            for _ in range(4):
                ids.append((await service.run("head", "-c", "1000", "/dev/zero")).id)
            assert [process.id for process in service.list()] == ids[1:]
            assert [len(process.output()) for process in service.list()] == [0, 1000, 1000]
            assert service.statistics().remembered_bytes == 2000


async def test_both_streams_are_told_apart_and_each_is_in_order():
    script = "i=0; while [ $i -lt 500 ]; do i=$((i+1)); echo out $i; echo err $i >&2; done"
    with trio.fail_after(20):
        async with Service() as service:
            with service.subscribe(ActionProcessOutput) as events:
                async with trio.open_nursery() as nursery:
                    seen = {Stream.STDOUT: [], Stream.STDERR: []}

                    async def read():
                        for _ in range(1000):
                            event = await events.receive()
                            seen[event.stream].append(event.line)

                    nursery.start_soon(read)
                    await service.run(*sh(script))
            assert seen[Stream.STDOUT] == [f"out {n}" for n in range(1, 501)]
            assert seen[Stream.STDERR] == [f"err {n}" for n in range(1, 501)]
