"""The public objects under misuse: copied, pickled, used in another call of `trio.run`, in a thread, and after the end."""

import copy
import os
import pickle
import threading
from functools import partial

import pytest
import trio
import trio.testing

from trio_process import (
    ControlServer,
    Core,
    Daemon,
    HealthServer,
    PIDFile,
    ProcessError,
    RingBuffer,
    Runner,
    RunOptions,
    Service,
    Supervisor,
    UnitSpec,
)
from trio_process.testing import FakeService

COPIES = (copy.copy, copy.deepcopy, pickle.dumps)


def refused(value):
    for make in COPIES:
        with pytest.raises(TypeError, match=f"^{type(value).__name__} objects can't be copied or pickled"):
            make(value)


def test_blocks_can_be_neither_copied_nor_pickled():
    for block in (
        Service(),
        FakeService(),
        Core(Service),
        Daemon(),
        HealthServer("127.0.0.1:0"),
        Supervisor([]),
        ControlServer("127.0.0.1:0"),
    ):
        refused(block)
    for make in COPIES[1:]:  # a configuration that holds one
        with pytest.raises(TypeError, match="Service objects can't be copied"):
            make({"runner": Runner(Service())})


async def test_what_stands_for_a_running_process_can_be_neither_copied_nor_pickled():
    async with FakeService() as fake:
        fake.on("serve", exit_after=1000)
        async with Supervisor([UnitSpec(name="web", command="serve")], service=fake) as supervisor:
            process = await fake.start("serve")
            with fake.subscribe() as events:
                for value in (process, process.lines(), events, supervisor["web"]):
                    refused(value)
                assert events.statistics().open_receive_channels == 1  # a copy that is collected would close it


async def test_an_action_can_be_neither_copied_nor_pickled():
    async with Core(FakeService) as core:
        refused(core.action("process.run"))


def test_the_copy_of_a_ring_buffer_is_independent():
    for size in (4, 10_000, float("inf")):
        ring = RingBuffer(size)
        ring.write(b"abcd")
        for twin in (copy.copy(ring), copy.deepcopy(ring), pickle.loads(pickle.dumps(ring))):
            twin.write(b"xy")
            assert twin.bytes().endswith(b"cdxy")
            assert twin.capacity == size
            assert ring.bytes() == b"abcd"
            assert ring.dropped == 0


def test_the_copy_of_a_pid_file_does_not_hold_it(tmp_path):
    with PIDFile(tmp_path / "a.pid") as pid_file:
        for twin in (copy.copy(pid_file), copy.deepcopy(pid_file), pickle.loads(pickle.dumps(pid_file))):
            assert twin.path == pid_file.path
            assert not twin.held
            twin.release()
            assert pid_file.path.exists()
            with pytest.raises(ProcessError, match=str(os.getpid())):
                twin.acquire()


async def test_facts_can_not_be_assigned():
    async with Core(FakeService) as core:
        fake = core.service(FakeService)
        fake.on("x")
        process = await fake.start("x")
        await process.wait()
        for value, names in [
            (fake, "core options slots calls"),
            (core, "actions"),
            (process, "name command args cwd env pid host started_at status exit_code duration reason done is_running"),
            (process.result(), "ok exit_code output stdout_bytes"),
            (process.info(), "status"),
            (Daemon(), "options ready health health_addr stopping"),
            (HealthServer(":0"), "addr ready app closing"),
            (Supervisor([]), "service units path"),
            (RingBuffer(1), "capacity dropped"),
        ]:
            for name in names.split():
                with pytest.raises(AttributeError):
                    setattr(value, name, None)


async def test_the_result_of_a_process_can_be_read_after_trio_run():
    def elsewhere():
        async def main():
            async with FakeService() as fake:
                fake.on("greet", lines=["hello"], exit_code=3)
                process = await fake.start("greet")
                await process.wait(check=False)
            return process

        process = trio.run(main)
        assert process.result().exit_code == process.info().exit_code == process.exit_code == 3
        assert process.result().output == process.output() == "hello\n"
        assert process.duration == process.info().duration >= 0
        process.kill()
        process.terminate()

    await in_new_thread(elsewhere)


async def in_new_thread(function, *args):
    """Run a function in a thread that is no thread of Trio's, so that `trio.from_thread` doesn't know it."""
    done, errors = trio.Event(), []
    token = trio.lowlevel.current_trio_token()

    def run():
        try:
            function(*args)
        except BaseException as error:
            errors.append(error)
        finally:
            token.run_sync_soon(done.set)

    thread = threading.Thread(target=run)
    thread.start()
    await done.wait()
    thread.join()
    for error in errors:
        raise error


def refused_elsewhere(name, calls):
    """Check that each call is refused in another call of `trio.run`; a sync one also in a thread without any."""
    message = f"this {name} belongs to another call of trio.run; from a thread, call its methods by trio.from_thread"

    async def call(function):
        with trio.fail_after(60):
            result = function()
            if hasattr(result, "__await__"):
                await result

    for function in calls:
        with pytest.raises(ProcessError) as caught:
            trio.run(call, function)
        assert str(caught.value) == message


async def test_a_service_refuses_calls_from_another_call_of_trio_run_and_goes_on():
    async with Core(Service) as core:
        service = core.service(Service)
        process = await service.start("cat")
        with service.subscribe() as events:
            lines = process.lines()
            of_the_service = [
                partial(service.start, "true"),
                partial(service.run, "true"),
                partial(service.run_process, RunOptions(command="true")),
                service.wait_all,
                service.subscribe,
                process.wait,
                process.stop,
                process.kill,
                process.terminate,
                process.suspend,
                partial(process.signal, "TERM"),
                partial(process.send_input, "x"),
                partial(process.wait_for_line, "x"),
                lines.__anext__,
                partial(core.process.run, "true"),
            ]
            await in_new_thread(refused_elsewhere, "Service", of_the_service)
            await in_new_thread(refused_elsewhere, "Subscription", [events.receive, events.receive_batch])
            await in_new_thread(refused_elsewhere, "Core", [partial(core.broadcast, 1), core.subscribe])
            with pytest.raises(ProcessError, match="belongs to another call"):
                await in_new_thread(process.kill)
            await process.send_input("hello\n")
            assert (await lines.__anext__()).text == "hello"
            assert (await events.receive()).line == "hello"
            assert (await service.run("true")).ok


async def test_the_event_of_an_end_that_a_foreign_task_waits_for_holds_nobody_up(caplog):
    async with Service() as service:
        process = await service.start("cat")
        waiting, ended = threading.Event(), threading.Event()

        async def wait():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(process.done.wait)
                await trio.testing.wait_all_tasks_blocked()
                waiting.set()
                await trio.to_thread.run_sync(ended.wait)
                nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(in_new_thread, trio.run, wait)
            await trio.to_thread.run_sync(waiting.wait)
            try:
                await process.close_stdin()
                assert await process.wait() == 0
                await service.wait_all()
            finally:
                ended.set()
    assert "a callback of the service failed" in caplog.text  # what Trio says of it: this test would be for nothing


def look_at(supervisor):
    """Read the states from a thread, as a health check does."""
    assert [str(unit.state) for unit in (supervisor["web"], *supervisor.units)] == ["ready", "ready"]
    assert supervisor["web"].info().ready


async def test_a_supervisor_and_a_daemon_refuse_calls_from_another_call_of_trio_run():
    async with FakeService() as fake:
        fake.on("serve", exit_after=1000)
        async with Supervisor([UnitSpec(name="web", command="serve")], service=fake) as supervisor:
            unit = supervisor["web"]
            await supervisor.wait_ready()
            await in_new_thread(look_at, supervisor)
            calls = [
                supervisor.wait_ready,
                supervisor.wait,
                partial(supervisor.start, "web"),
                partial(supervisor.stop, "web"),
                partial(supervisor.restart, "web"),
                partial(supervisor.scale, "web", 2),
                partial(supervisor.reload, []),
                partial(supervisor.plan, []),
            ]
            await in_new_thread(refused_elsewhere, "Supervisor", calls)
            await in_new_thread(refused_elsewhere, "FakeService", [partial(unit.wait, "failed"), unit.lines])
    async with Daemon(signals=False) as daemon:
        await in_new_thread(refused_elsewhere, "Daemon", [daemon.stop, daemon.run])
        assert not daemon.stopping.is_set()
        await trio.to_thread.run_sync(trio.from_thread.run_sync, daemon.stop)
        await daemon.run()


@pytest.mark.parametrize(
    "make",
    [
        Service,
        FakeService,
        Core,
        partial(Daemon, signals=False),
        partial(HealthServer, "127.0.0.1:0"),
        partial(Supervisor, []),
    ],
)
async def test_a_block_is_left_once_and_in_the_task_that_entered_it(make):
    block = make()
    name = type(block).__name__
    with pytest.raises(ProcessError, match=f"this {name} is not entered"):
        await block.__aexit__(None, None, None)

    async def leave_elsewhere():
        with pytest.raises(ProcessError, match=f"this {name} must be left in the task that entered it"):
            await block.__aexit__(None, None, None)

    async with block:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(leave_elsewhere)
    with pytest.raises(ProcessError, match=f"this {name} is not entered"):
        await block.__aexit__(None, None, None)
