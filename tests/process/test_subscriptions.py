"""Subscriptions of real processes: the order of events, who waits for whom, and how it all ends."""

import logging
import math

import pytest
import trio
import trio.testing
from support import CLEAN_UP, CLEANED_UP, child_of, python, sh, wait_until

from trio_process import (
    ActionProcessExited,
    ActionProcessKilled,
    ActionProcessOutput,
    ActionProcessStarted,
    Core,
    EndReason,
    Overflow,
    ProcessNotFoundError,
    Service,
    ServiceOptions,
    Stream,
)

CHATTY = python("import sys\nwhile True: sys.stdout.write('line\\n' * 100); sys.stdout.flush()")


def counting(count):
    return python(f"for i in range({count}): print(i)")


def drain(subscription):
    """Return what is in the backlog."""

    async def read():
        events = []
        while subscription.statistics().buffered:
            events += await subscription.receive_batch()
        return events

    return read()


async def test_events_come_in_their_order_and_exited_is_there_when_wait_returns():
    with trio.fail_after(30):
        async with Service() as service:
            with service.subscribe() as events:
                process = await service.start(*sh("echo a; printf b; kill -USR1 $$"), name="web")
                await process.wait(check=False)
                started, *lines, killed, exited = await drain(events)
                assert (type(started), started.pid, started.name) == (ActionProcessStarted, process.pid, "web")
                assert (started.at, started.args) == (process.started_at, process.args)
                assert lines == [
                    ActionProcessOutput(process.id, "web", "a", Stream.STDOUT),
                    ActionProcessOutput(process.id, "web", "b", Stream.STDOUT),
                ]
                assert killed == ActionProcessKilled(process.id, "web", "SIGUSR1")
                assert (type(exited), exited.exit_code, exited.reason) == (
                    ActionProcessExited,
                    -10,
                    EndReason.SIGNALLED,
                )
                assert exited.duration == process.duration
                assert exited.error.result.exit_code == -10


async def test_an_end_that_is_ok_has_no_error_and_no_killed():
    with trio.fail_after(30):
        async with Service() as service:
            with service.subscribe() as events:
                await service.run("true")
                assert [type(event) for event in await drain(events)] == [ActionProcessStarted, ActionProcessExited]
                await service.run("false", ok_exit_codes=[1])
                assert (await drain(events))[-1].error is None
                process = await service.start("sleep", "1000")
                await process.stop()  # Killed comes for any death by signal, also for one that is ok
                _, killed, exited = await drain(events)
                assert (killed.signal, exited.error, exited.reason) == ("SIGTERM", None, EndReason.STOPPED)
                await service.run("false", check=False)
                assert (await drain(events))[-1].error.result.exit_code == 1


async def test_exited_comes_once_for_every_process():
    with trio.fail_after(60):
        async with Service() as service:
            with service.subscribe(ActionProcessStarted, ActionProcessKilled, ActionProcessExited) as events:
                async with trio.open_nursery() as nursery:
                    for number in range(30):
                        process = await service.start(*sh(f"exit {number % 3}"))
                        nursery.start_soon(process.stop, 0.5)
                        process.terminate()
                by_process = {}
                for event in await drain(events):
                    by_process.setdefault(event.id, []).append(type(event).__name__.removeprefix("ActionProcess"))
                assert len(by_process) == 30
                assert {tuple(kinds) for kinds in by_process.values()} <= {
                    ("Started", "Exited"),
                    ("Started", "Killed", "Exited"),
                }


@pytest.mark.bound(100)
async def test_a_fast_writer_loses_no_line_and_no_order():
    count = 200_000
    with trio.fail_after(100):
        async with Service() as service:
            with service.subscribe(ActionProcessOutput, buffer=10) as events:
                process = await service.start(*counting(count))
                expected = 0
                while expected < count:
                    batch = await events.receive_batch()
                    assert list(batch.lines) == [str(number) for number in range(expected, expected + len(batch))]
                    expected += len(batch)
                await process.wait()


async def test_one_by_one_and_by_batches_give_the_same():
    with trio.fail_after(60):
        async with Service() as service:
            one, batches = service.subscribe(), service.subscribe()
            process = await service.start(*counting(5000))
            seen = []
            async with trio.open_nursery() as nursery:

                @nursery.start_soon
                async def read():
                    async for event in one:
                        seen.append(event)
                        if isinstance(event, ActionProcessExited):
                            return

                others = []
                while not others or not isinstance(others[-1], ActionProcessExited):
                    others += await batches.receive_batch()
            assert seen == others
            assert process.exit_code == 0
            one.close()
            batches.close()


async def test_a_slow_reader_that_waits_slows_the_child_and_loses_nothing():
    with trio.fail_after(60):
        async with Service() as service:
            with service.subscribe(ActionProcessOutput, buffer=10) as events:
                process = await service.start(*counting(100_000))
                await wait_until(lambda: events.statistics().buffered >= 10)
                await trio.sleep(0.2)
                assert process.is_running  # it waits for us
                held = events.statistics().buffered
                assert held < 50_000
                numbers = []
                while len(numbers) < 100_000:
                    numbers += [int(line) for line in (await events.receive_batch()).lines]
                assert numbers == list(range(100_000))
                assert events.dropped == 0
                await process.wait()


@pytest.mark.parametrize("overflow", Overflow)
async def test_leaving_a_service_under_a_reader_that_never_reads(overflow):
    with trio.fail_after(30):
        async with Service() as service:
            events = service.subscribe(buffer=5, overflow=overflow)
            process = await service.start(*CHATTY)
            await wait_until(lambda: events.statistics().buffered >= 5)
        assert (process.exit_code, process.reason) == (-15, EndReason.STOPPED)
        seen = [event async for event in events]  # the backlog is still there, and then it ends
        assert isinstance(seen[-1], ActionProcessExited)
        assert isinstance(seen[-2], ActionProcessKilled)
        assert (events.dropped > 0) is (overflow is not Overflow.WAIT)
        events.close()


@pytest.mark.parametrize("overflow", Overflow)
@pytest.mark.parametrize("how", ["kill", "stop", "timeout", "exit"])
async def test_the_end_waits_for_no_reader(overflow, how):
    command = counting(20_000) if how == "exit" else CHATTY
    with trio.fail_after(30):
        async with Service() as service:
            with service.subscribe(buffer=1, overflow=overflow) as events:
                process = await service.start(*command, timeout=2 if how == "timeout" else None)
                await process.wait_for_line("l" if how != "exit" else "0")
                if how == "kill":
                    process.kill()
                elif how == "stop":
                    await process.stop()
                elif how == "exit" and overflow is Overflow.WAIT:
                    events.close()  # a child that is still writing does wait for its reader
                await process.wait(check=False)
                if how == "exit":
                    assert process.output().count("\n") == 20_000
                if not (how == "exit" and overflow is Overflow.WAIT):
                    seen = await drain(events)
                    assert isinstance(seen[-1], ActionProcessExited)


async def test_clean_up_under_a_reader_that_never_reads_is_delivered():
    with trio.fail_after(30):
        async with Service() as service:
            events = service.subscribe(ActionProcessOutput, buffer=1)
            process = await service.start(*sh(CLEAN_UP))
            await process.wait_for_line("ready")
        lines = [event.line async for event in events if event.stream is Stream.STDOUT]
        assert lines == ["ready", *CLEANED_UP]
        events.close()


async def test_closing_in_the_middle_lets_the_child_go_on():
    with trio.fail_after(30):
        async with Service() as service:
            events = service.subscribe(ActionProcessOutput, buffer=1)
            process = await service.start(*counting(100_000))
            async for event in events:
                if event.line == "10":
                    break
            events.close()
            assert await process.wait() == 0
            assert process.output().endswith("99999\n")


async def test_one_subscriber_does_not_delay_another_that_drops():
    with trio.fail_after(30):
        async with Service() as service:
            slow = service.subscribe(ActionProcessOutput, buffer=1)
            with service.subscribe(ActionProcessOutput, buffer=1, overflow="drop_newest") as dropping:
                process = await service.start(*sh("echo a; echo b; sleep 0.05; echo c; echo d; sleep 1000"))
                assert (await dropping.receive()).line == "a"
                slow.close()
                await process.wait_for_line("d")
                await process.stop()
            assert dropping.dropped >= 1


async def test_one_that_raises_harms_only_itself():
    with trio.fail_after(30):
        async with Service() as service:
            with service.subscribe(ActionProcessOutput, buffer=math.inf) as other:

                async def fails(task_status):
                    with service.subscribe(buffer=1) as events:
                        task_status.started()
                        async for _ in events:
                            raise ValueError("mine")

                with pytest.RaisesGroup(ValueError):
                    async with trio.open_nursery() as nursery:
                        await nursery.start(fails)
                        process = await service.start(*counting(50_000))
                        await trio.sleep_forever()
                assert await process.wait() == 0
                assert len(await drain(other)) == 50_000


async def test_run_and_a_subscription_in_the_same_task_do_not_hang():
    with trio.fail_after(30):
        async with Service() as service:
            with service.subscribe(buffer=math.inf) as events:
                result = await service.run(*counting(10_000))
                seen = await drain(events)
            assert len(seen) == 10_002
            assert result.ok
            # nor with the default buffer, as long as what comes fits in
            with service.subscribe() as events:
                await service.run(*counting(100))
                assert len(await drain(events)) == 102


async def test_one_for_a_process_ends_with_it():
    with trio.fail_after(30):
        async with Service() as service:
            process = await service.start(*sh("read x; echo a; echo b"))
            other = await service.start("sleep", "1000")
            with service.subscribe(ActionProcessOutput, id=process.id) as events:
                await process.send_input("\n")
                assert [event.line async for event in events] == ["a", "b"]
            with service.subscribe(id=process.id) as late:
                assert [event async for event in late] == []
            with service.subscribe(id=other.id) as events:
                await other.stop()
                assert [type(event) async for event in events] == [ActionProcessKilled, ActionProcessExited]
            with pytest.raises(ProcessNotFoundError):
                service.subscribe(id="proc-0")


async def test_one_for_a_label_hears_of_all_that_bear_it():
    with trio.fail_after(30):
        async with Service() as service:
            with service.subscribe(ActionProcessOutput, name="web") as events:
                await service.run("echo", "no")
                await service.run("echo", "one", name="web")
                await service.run("echo", "other", name="db")
                await service.run("echo", "two", name="web")
                assert [event.line for event in await drain(events)] == ["one", "two"]


async def test_who_joins_in_the_middle_of_a_line_gets_it_whole():
    for options in ({}, {"encoding": "utf-16-le"}, {"disable_capture": True}):
        coded = "" if "encoding" not in options else "\\0"
        half, rest = (f"{coded}".join(text) + coded for text in ("half", " whole"))
        with trio.fail_after(30):
            async with Service() as service:
                script = sh(f"printf '{half}'; echo ready >&2; read x; printf '{rest}\\n{coded}'")
                process = await service.start(*script, **options)
                if coded:
                    await wait_until(lambda process=process: len(process.output_bytes()) == 14)
                else:
                    await wait_until(lambda process=process: child_of(process).output._splitters or process.output())
                    await trio.sleep(0.1)
                with service.subscribe(ActionProcessOutput, id=process.id) as events:
                    await process.send_input("\n")
                    assert "half whole" in [event.line async for event in events]


async def test_a_core_hears_what_its_services_hear():
    with trio.fail_after(30):
        async with Core(Service) as core:
            with core.subscribe(ActionProcessOutput) as events, core.service(Service).subscribe() as own:
                await core.process.run("echo", "hi")
                assert (await events.receive()).line == "hi"
                assert len(await drain(own)) == 3
            process = await core.service(Service).start("true")
            with core.subscribe(id=process.id) as events:
                await process.wait()
                async for _ in events:
                    pass
        late = core.subscribe()
        assert [event async for event in late] == []


async def test_a_subscription_that_holds_a_child_up_is_named_once(monkeypatch, caplog):
    monkeypatch.setattr("trio_process._process.output.backpressure.SLOW_READER", 0.05)
    with caplog.at_level(logging.WARNING, "trio_process"), trio.fail_after(30):
        async with Service() as service:
            with service.subscribe(ActionProcessOutput, buffer=1) as events:
                process = await service.start(*CHATTY, name="chatty")
                await wait_until(lambda: caplog.records)
                await events.receive_batch()
                await wait_until(lambda: events.statistics().buffered)
                await trio.sleep(0.2)
                await process.stop()
    (record,) = caplog.records
    text = record.getMessage()
    assert "test_subscriptions.py" in text
    assert "has held up process" in text
    assert "chatty" in text


async def test_a_forgotten_subscription_holds_nobody_up(caplog):
    with trio.fail_after(30):
        async with Service() as service:
            service.subscribe(ActionProcessOutput, buffer=1)
            assert (await service.run(*counting(50_000))).ok
    assert "garbage-collected" in caplog.text


async def test_idle_timeouts_do_not_count_while_a_reader_holds_the_child_up():
    with trio.fail_after(60):
        async with Service(options=ServiceOptions()) as service:
            with service.subscribe(ActionProcessOutput, buffer=1) as events:
                process = await service.start(*counting(100_000), idle_timeout=1.5)
                await wait_until(lambda: events.statistics().buffered)
                await trio.sleep(2)  # above the idle timeout
                assert process.is_running
                assert process.reason is None
                events.close()
                assert await process.wait() == 0


BOTH = """
import os, sys
for number in range(20_000):
    os.write(1 + number % 2, b"%s %d\\n" % (sys.argv[1].encode(), number))
"""


@pytest.mark.bound(100)
async def test_one_slow_reader_of_many_processes_loses_nothing():
    with trio.fail_after(100):
        async with Service() as service:
            with service.subscribe(buffer=7) as events:
                names = [str(number) for number in range(4)]
                for name in names:
                    await service.start(*python(BOTH, name), name=name)
                seen = {(name, stream): [] for name in names for stream in Stream}
                running = len(names)
                while running:
                    batch = await events.receive_batch()
                    if batch.stream is None:
                        running -= isinstance(batch[0], ActionProcessExited)
                    else:
                        seen[batch.name, batch.stream] += batch.lines
        for (name, stream), lines in seen.items():
            first = 0 if stream is Stream.STDOUT else 1
            assert lines == [f"{name} {number}" for number in range(first, 20_000, 2)]


@pytest.mark.bound(100)
async def test_who_comes_and_goes_sees_whole_lines_one_after_the_other():
    count = 300_000
    with trio.fail_after(100):
        async with Service() as service:
            process = await service.start(*counting(count), buffer_size=100_000)
            looks = 0
            while process.is_running:
                with service.subscribe(ActionProcessOutput, id=process.id, buffer=1) as events:
                    numbers = []
                    with trio.move_on_after(1):
                        for _ in range(2):
                            try:
                                numbers += [int(line) for line in (await events.receive_batch()).lines]
                            except trio.EndOfChannel:
                                break
                    if numbers:
                        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
                        looks += 1
            assert looks > 3
            assert process.exit_code == 0
            assert process.output().endswith(f"{count - 1}\n")
