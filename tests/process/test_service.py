"""The service: its block, its table, and what it remembers."""

import os
import select

import pytest
import trio
import trio.testing
from support import is_gone, open_descriptors, runtime_of, sh, wait_until

import trio_process
from trio_process import (
    DEFAULT_BUFFER_SIZE,
    Core,
    EndReason,
    Info,
    ManagedProcess,
    OptionError,
    Process,
    ProcessError,
    ProcessNotFoundError,
    Service,
    ServiceClosedError,
    ServiceOptions,
    Status,
)


async def test_leaving_stops_what_runs_and_keeps_what_is_known():
    with trio.fail_after(30):
        async with Service() as service:
            running = await service.start("sleep", "1000")
            done = await service.start("echo", "hi")
            await done.wait()
        assert (running.status, running.exit_code, running.reason) == (Status.KILLED, -15, EndReason.STOPPED)
        assert done.output() == "hi\n"
        assert service.get(done.id).result().ok
        assert service.running() == []


async def test_wait_all_lets_them_end_by_themselves():
    with trio.fail_after(30):
        async with Service() as service:
            await service.wait_all()
            processes = [await service.start(*sh(f"sleep 0.0{number}")) for number in range(5)]
            await service.wait_all()
            assert [process.exit_code for process in processes] == [0] * 5


async def test_a_service_is_entered_once_and_used_inside():
    service = Service()
    with pytest.raises(ServiceClosedError, match="is not entered; use it as"):
        await service.start("true")
    with trio.fail_after(30):
        async with service:
            with pytest.raises(ProcessError, match="entered once"):
                async with service:
                    pass
            assert (await service.run("true")).ok
        with pytest.raises(ServiceClosedError, match="closing or closed"):
            await service.start("true")
        with pytest.raises(ProcessError, match="entered once"):
            async with service:
                pass


async def test_processes_are_listed_in_start_order_and_are_themselves():
    with trio.fail_after(30):
        async with Service() as service:
            first = await service.start("sleep", "1000")
            second = await service.start("true")
            third = await service.start("sleep", "1000")
            await second.wait()
            assert service.list() == [first, second, third]
            assert service.running() == [first, third]
            assert service.get(first.id) is first
            assert len({first.id, second.id, third.id}) == 3
            for call in (service.get, service.kill, service.output, service.remove):
                with pytest.raises(ProcessNotFoundError, match="no process 'nope'"):
                    call("nope")
            with pytest.raises(ProcessNotFoundError):
                await service.stop("nope")
            with pytest.raises(LookupError):
                service.signal("nope", 15)
            with pytest.raises(OptionError, match="an id is a str"):
                service.get(first.pid)


async def test_processes_are_reached_by_their_id():
    with trio.fail_after(30):
        async with Service() as service:
            process = await service.start(*sh("trap 'echo usr; exit 4' USR1; echo ready; while :; do sleep 0.02; done"))
            await process.wait_for_line("ready")
            service.signal(process.id, "USR1")
            assert await process.wait(check=False) == 4
            assert process.result().stdout == "ready\nusr\n"
            assert service.output(process.id) == process.output()
            other = await service.start("sleep", "1000")
            service.kill(other.id)
            assert await other.wait(check=False) == -9
            another = await service.start("sleep", "1000")
            assert (await service.stop(another.id, 1)).exit_code == -15


async def test_finished_ones_can_be_forgotten():
    with trio.fail_after(30):
        async with Service() as service:
            running = await service.start("sleep", "1000")
            with pytest.raises(ProcessError, match="is still running; stop it before you remove it"):
                service.remove(running.id)
            ended = await service.start("true")
            await ended.wait()
            service.remove(ended.id)
            with pytest.raises(ProcessNotFoundError):
                service.get(ended.id)
            assert ended.exit_code == 0  # who holds it still has it
            await (await service.start("true")).wait()
            service.clear()
            assert service.list() == [running]
            await running.stop()
            service.remove(running.id)
            assert service.list() == []
            assert service.statistics().remembered_bytes == 0


async def test_the_oldest_are_forgotten_first():
    with trio.fail_after(30):
        async with Service(options=ServiceOptions(retain=3)) as service:
            running = await service.start("sleep", "1000")
            ids = []
            for number in range(6):
                process = await service.start("echo", str(number))
                await process.wait()
                ids.append(process.id)
            assert [process.id for process in service.list()] == [running.id, *ids[-3:]]
        async with Service(options=ServiceOptions(retain=0)) as service:
            result = await service.run("echo", "hi")
            assert (result.output, service.list()) == ("hi\n", [])


async def test_the_oldest_lose_their_output_first():
    with trio.fail_after(30):
        async with Service(options=ServiceOptions(retain_bytes=25)) as service:
            processes = []
            for number in range(4):
                process = await service.start("echo", str(number) * 9)
                await process.wait()
                processes.append(process)
            assert [process.output() for process in processes] == ["", "", "222222222\n", "333333333\n"]
            assert processes[0].result().truncated
            assert processes[0].result().dropped == 10
            lines = processes[0].lines()
            assert [line async for line in lines] == []
            assert lines.missed == 1
            assert service.statistics().remembered_bytes == 20
            await service.run("cat", stdin=b"x" * 100)
            assert service.statistics().remembered_bytes == 0
            assert len(service.list()) == 5


async def test_statistics_count():
    with trio.fail_after(30):
        async with Service() as service:
            await service.run("true")
            await service.start("sleep", "1000")
            with pytest.raises(ProcessError):
                await service.start("no-such-program")
            found = service.statistics()
            assert (found.running, found.started, found.failed, found.finished) == (1, 2, 1, 2)
            assert found.containment
            assert found.guardian_pid is None
            with pytest.raises(AttributeError):
                found.running = 2


async def test_one_service_in_another_and_two_side_by_side():
    with trio.fail_after(30):
        async with Service() as outer, Service() as inner:
            first, second = await outer.start("sleep", "1000"), await inner.start("sleep", "1000")
            assert first.id != second.id  # an id means one process on a core's bus too
            with pytest.raises(ProcessNotFoundError):
                inner.get(first.id)
            await second.stop()
            assert first.is_running


async def test_a_service_is_left_and_another_entered_without_a_trace():
    with trio.fail_after(60):
        async with Service() as service:
            await service.run("true")
        before = (open_descriptors(), trio.lowlevel.current_statistics().tasks_living)
        for _ in range(30):
            async with Service() as service:
                await service.run("true")
                await service.start("sleep", "1000")
        assert (open_descriptors(), trio.lowlevel.current_statistics().tasks_living) == before


async def test_what_a_service_is_made_of_is_checked():
    with pytest.raises(OptionError, match="options go into Service"):
        Service(ServiceOptions())
    with pytest.raises(OptionError, match="must be a ServiceOptions"):
        Service(options={"retain": 3})
    service = Service()
    assert (service.core, service.options, service.slots) == (None, ServiceOptions(), None)
    defaults = ServiceOptions()
    assert (defaults.buffer_size, defaults.grace_period, defaults.drain_grace, defaults.drain_limit) == (
        2**20,
        5.0,
        0.1,
        2.0,
    )
    assert (defaults.retain, defaults.retain_bytes, defaults.guardian) == (1000, 64 * 2**20, False)
    assert DEFAULT_BUFFER_SIZE == 2**20


async def test_the_aliases_are_the_same_classes():
    assert Process is ManagedProcess
    assert Info is trio_process.ProcessInfo


async def test_a_forked_helper_does_not_keep_the_service_busy(monkeypatch):
    """Whoever forks without exec holds our pipes and pidfds open, which must not make the epoll report them for ever."""
    with trio.fail_after(30):
        async with Service() as service:
            process = await service.start("sleep", "1000")
            read, write = os.pipe()
            helper = os.fork()
            if helper == 0:  # what the multiprocessing module does, too
                os.close(write)
                os.read(read, 1)
                os._exit(0)
            os.close(read)
            try:
                await process.stop()
                for _ in range(20):
                    assert (await service.run("echo", "hi")).output == "hi\n"
                turns = []
                monkeypatch.setattr(runtime_of(service).reactor, "_call_timers", lambda: turns.append(1))
                await trio.sleep(0.2)
                assert len(turns) < 5
            finally:
                monkeypatch.undo()
                os.close(write)
                os.waitpid(helper, 0)


async def test_a_process_that_somebody_else_reaps_still_ends(caplog):
    with trio.fail_after(30):
        async with Service() as service:
            process = await service.start(*sh("read x; exit 3"))
            await process.send_input("\n")
            os.waitpid(process.pid, 0)
            await process.wait(check=False)
            assert process.exit_code in (3, 255)
            assert "was reaped by something else" in caplog.text or process.exit_code == 3


async def test_a_core_leaves_its_service_with_everything_stopped():
    with trio.fail_after(30):
        async with Core(Service) as core:
            key = await core.process.start("sleep", "1000")
            pid = (await core.process.get(key)).pid
        assert is_gone(pid)


async def test_a_record_of_the_package_is_no_error_where_warnings_are(caplog):
    """Warnings of ours are log records: under `-W error` a warning would end the service."""
    with trio.fail_after(30):
        async with Service() as service:
            service.subscribe(buffer=0)
            await service.run(*sh("echo hi"))
            await wait_until(lambda: "garbage-collected" in caplog.text)
            assert (await service.run("true")).ok


async def test_without_epoll_entering_says_that_linux_is_needed(monkeypatch):
    with monkeypatch.context() as patch:
        patch.delattr(select, "epoll")
        service = Service()
        with pytest.raises(ProcessError, match="Service needs Linux"):
            async with service:
                pass
    async with service:  # one that could not be entered may be tried again
        assert (await service.run("true")).ok
