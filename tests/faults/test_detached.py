"""Detached processes: they outlive the service, a cancellation and SIGKILL, and can be watched again."""

import os
import signal
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
import trio
import trio.testing
from harness import new_tag, program, read_line, running, some_with_tag
from support import hold_launchers, is_gone, runtime_of, sh, wait_gone, wait_until

from trio_process import (
    ActionProcessOutput,
    EndReason,
    OptionError,
    ProcessNotFoundError,
    RunOptions,
    Service,
    ServiceClosedError,
    ServiceOptions,
    Status,
)

_COUNTING = "i=0; while :; do i=$((i+1)); echo line $i; sleep 0.01; done"


@contextmanager
def killed_in_the_end():
    """Kill the processes that are appended to a list."""
    pids = []
    try:
        yield pids
    finally:
        for pid in pids:
            try:
                os.killpg(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            except (ProcessLookupError, ChildProcessError):
                pass


async def more_is_written(path):
    before = path.stat().st_size
    await wait_until(lambda: path.stat().st_size > before)


async def test_it_outlives_the_service_and_goes_on_writing(tmp_path):
    log = tmp_path / "log"
    with trio.fail_after(20), killed_in_the_end() as pids:
        async with Service() as service:
            process = await service.start(*sh(_COUNTING), detach=True, log_file=log)
            pids.append(process.pid)
            await process.wait_for_line("line 3")
        assert not is_gone(process.pid)
        assert os.getsid(process.pid) == process.pid
        await more_is_written(log)


async def test_it_outlives_a_cancellation(tmp_path):
    log = tmp_path / "log"
    with trio.fail_after(20), killed_in_the_end() as pids:
        with trio.CancelScope() as scope:
            async with Service() as service:
                process = await service.start(*sh(_COUNTING), detach=True, log_file=log)
                pids.append(process.pid)
                scope.cancel()
                await trio.sleep_forever()
        await more_is_written(log)


@pytest.mark.parametrize("guardian", [False, True])
async def test_it_outlives_sigkill_of_the_owner_and_goes_on_writing(tmp_path, guardian):
    log = tmp_path / "log"
    body = f"""
async with Service(options=ServiceOptions(guardian={guardian})) as service:
    kept = await service.start("sh", "-c", sys.argv[2], detach=True, log_file=sys.argv[1])
    other = await service.start("sleep", sys.argv[3])
    print(kept.pid, flush=True)
    await trio.sleep_forever()
"""
    tag = new_tag()
    with trio.fail_after(20), killed_in_the_end() as pids:
        async with running(program(body, str(log), _COUNTING, tag)) as owner:
            pids.append(int(await read_line(owner)))
            (other,) = await some_with_tag(tag)
            owner.send_signal(signal.SIGKILL)
            await owner.wait()
            if not guardian:
                os.kill(other, signal.SIGKILL)
            await wait_gone(other)
            await more_is_written(log)
            assert not is_gone(pids[0])
            os.killpg(pids[0], signal.SIGKILL)
            await wait_gone(pids[0])


async def test_it_is_followed_stopped_and_known_like_any_other(tmp_path):
    log = tmp_path / "log"
    log.write_text("from an earlier life\n")
    with trio.fail_after(20):
        async with Service() as service:
            with service.subscribe(ActionProcessOutput) as events:
                process = await service.start(
                    *sh("trap 'echo bye; exit 3' TERM; echo hello; while :; do sleep 0.01; done 2>/dev/null"),
                    detach=True,
                    log_file=log,
                )
                assert (await events.receive()).line == "hello"
                result = await process.stop()
                assert (await events.receive()).line == "bye"
            assert (result.exit_code, result.reason, result.output) == (3, EndReason.STOPPED, "hello\nbye\n")
    assert log.read_text() == "from an earlier life\nhello\nbye\n"


async def test_it_can_be_killed_and_times_out_while_we_live(tmp_path):
    with trio.fail_after(20):
        async with Service() as service:
            process = await service.start("sleep", "1000", detach=True)
            process.kill()
            assert await process.wait(check=False) == -9
            slow = await service.start("sleep", "1000", detach=True, timeout=0.05)
            assert await slow.wait(check=False) == -15
            assert slow.reason is EndReason.TIMED_OUT


async def test_a_big_log_is_followed_to_its_end(tmp_path):
    size = 8 * 2**20
    with trio.fail_after(20):
        async with Service() as service:
            result = await service.run(
                *sh(f"head -c {size} /dev/zero; echo; echo end"), detach=True, log_file=tmp_path / "log"
            )
            assert result.output.endswith("\nend\n")
            assert result.dropped + len(result.output_bytes) == size + 5


async def test_a_grandchild_that_writes_for_ever_does_not_hold_up_the_end(tmp_path):
    log = tmp_path / "log"
    with trio.fail_after(20), killed_in_the_end() as pids:
        async with Service() as service:
            process = await service.start(*sh("yes & exit 0"), detach=True, log_file=log)
            pids.append(process.pid)
            try:
                assert await process.wait() == 0
            finally:
                os.killpg(process.pid, signal.SIGKILL)
            assert process.duration < 5


async def test_a_log_that_is_emptied_is_followed_from_its_new_beginning(tmp_path):
    log = tmp_path / "log"
    with trio.fail_after(20):
        async with Service() as service:
            os.mkfifo(tmp_path / "fifo")
            process = await service.start(
                *sh("echo a long first line; read x < $1; echo new", str(tmp_path / "fifo")), detach=True, log_file=log
            )
            await process.wait_for_line("first line")
            os.truncate(log, 0)  # as logrotate's copytruncate does
            await trio.sleep(0.3)  # longer than it ever waits between two looks
            (tmp_path / "fifo").write_text("go\n")
            await process.wait_for_line("new")
            await process.wait()


async def test_a_later_life_adopts_it(tmp_path):
    log = tmp_path / "log"
    with trio.fail_after(20), killed_in_the_end() as pids:
        async with Service() as service:
            first = await service.start(*sh(_COUNTING), detach=True, log_file=log)
            pids.append(first.pid)
            await first.wait_for_line("line 3")
        async with Service(options=ServiceOptions(grace_period=1)) as service:
            again = service.adopt(first.pid, first.started_at, log_file=log, name="again")
            assert (again.pid, again.name, again.is_running) == (first.pid, "again", True)
            line = await again.wait_for_line("line")
            assert int(line.text.split()[1]) > 3
            result = await again.stop()
            assert (result.exit_code, result.signal_name, result.reason) == (-15, "SIGTERM", EndReason.STOPPED)
        assert is_gone(first.pid)


async def test_one_of_a_program_that_was_killed_is_adopted_too(tmp_path):
    body = """
async with Service() as service:
    kept = await service.start("sleep", "1000", detach=True)
    print(kept.pid, kept.started_at.isoformat(), flush=True)
    await trio.sleep_forever()
"""
    with trio.fail_after(20):
        async with running(program(body)) as owner:
            pid, started = (await read_line(owner)).split()
            owner.send_signal(signal.SIGKILL)
            await owner.wait()
            async with Service() as service:
                again = service.adopt(int(pid), datetime.fromisoformat(started))
                os.kill(int(pid), signal.SIGSTOP)  # it dies nevertheless
                result = await again.stop(5)
                assert result.reason is EndReason.STOPPED
                assert result.duration < 5
            await wait_gone(int(pid))


async def test_a_recycled_pid_is_refused(tmp_path):
    with trio.fail_after(20):
        async with Service() as service:
            stranger = await service.start("sleep", "1000")
            for started in (stranger.started_at - timedelta(seconds=10), datetime(2001, 1, 1, tzinfo=UTC)):
                with pytest.raises(ProcessNotFoundError, match=str(stranger.pid)):
                    service.adopt(stranger.pid, started)
            await stranger.stop()
            with pytest.raises(ProcessNotFoundError):
                service.adopt(stranger.pid, datetime.now(UTC))
            with pytest.raises(OptionError):
                service.adopt(0, datetime.now(UTC))
            with pytest.raises(OptionError):
                service.adopt(os.getpid(), datetime.now())
            assert len(service.list()) == 1


async def test_an_adoption_that_fails_leaves_nothing_open(tmp_path):
    log = tmp_path / "log"
    with trio.fail_after(20), killed_in_the_end() as pids:
        async with Service() as service:
            kept = await service.start("sleep", "1000", detach=True, log_file=log)
            pids.append(kept.pid)
            log.unlink()
            with pytest.raises(OptionError, match="log"):
                service.adopt(kept.pid, kept.started_at, log_file=log)
            await kept.stop()


async def test_nobody_waits_for_ever_for_one_whose_service_was_left():
    with trio.fail_after(20), killed_in_the_end() as pids:
        async with trio.open_nursery() as nursery:
            refused = []

            async def waits(wait, *args):
                with pytest.raises(ServiceClosedError, match="adopt it in another service"):
                    await wait(*args)
                refused.append(wait)

            async with Service() as service:
                process = await service.start("sleep", "1000", detach=True)
                pids.append(process.pid)
                nursery.start_soon(waits, process.wait)
                nursery.start_soon(waits, process.wait_for_line, "never")
                nursery.start_soon(service.wait_all)
                await trio.testing.wait_all_tasks_blocked()
        assert len(refused) == 2
        for asked in (process.wait, process.stop, partial(process.send_input, "x")):
            await waits(asked)
        for ask in (process.kill, process.terminate, process.suspend, partial(process.signal, "TERM")):
            with pytest.raises(ServiceClosedError):
                ask()
        assert [line async for line in process.lines()] == []
        await service.wait_all()
        assert (process.status, process.is_running, is_gone(process.pid)) == (Status.RUNNING, True, False)


async def test_a_run_of_one_outlives_its_cancellation_and_says_so_when_its_service_is_left():
    with trio.fail_after(20), killed_in_the_end() as pids:
        async with trio.open_nursery() as nursery:

            async def run():
                with pytest.raises(ServiceClosedError):
                    await service.run("sleep", "1001", detach=True)

            async with Service() as service:
                nursery.start_soon(run)
                with trio.CancelScope() as scope:
                    async with trio.open_nursery() as inner:
                        options = RunOptions(command="sleep", args=["1000"], detach=True)
                        cancelled = await inner.start(service.run_process, options)
                        scope.cancel()
                pids += [process.pid for process in service.list()]
                assert len(pids) == 2
                assert cancelled.is_running
        assert not any(map(is_gone, pids))


async def test_a_service_can_be_left_while_one_is_being_launched(monkeypatch):
    through = hold_launchers(monkeypatch)
    with trio.fail_after(20), killed_in_the_end() as pids:
        started = []

        async def start():
            started.append(await service.start("sleep", "1000", detach=True, nice=1))
            pids.append(started[0].pid)

        async def let_go():
            await wait_until(lambda: runtime_of(service).is_closing)
            assert service.list()[0].status is Status.PENDING
            through.set()

        async with trio.open_nursery() as nursery:
            async with Service() as service:
                nursery.start_soon(start)
                await wait_until(service.list)
                nursery.start_soon(let_go)
        assert started[0].status is Status.RUNNING
        assert not is_gone(pids[0])


async def test_one_whose_launch_took_long_is_adopted_like_any_other(monkeypatch):
    monkeypatch.setattr("trio_process._process.local.adopt.START_SLACK", 0.1)
    through = hold_launchers(monkeypatch)
    with trio.fail_after(20):
        async with Service() as service, trio.open_nursery() as nursery:

            async def let_go():
                await trio.sleep(0.5)  # much more than the slack
                through.set()

            nursery.start_soon(let_go)
            process = await service.start("sleep", "1000", detach=True, nice=1)
            assert process.duration >= 0.5
            again = service.adopt(process.pid, process.started_at)
            assert again.pid == process.pid
            await process.stop()


async def test_a_process_that_began_long_before_is_a_stranger_too():
    with trio.fail_after(20):
        async with Service() as service:
            process = await service.start("sleep", "1000", detach=True)
            assert process.started_at is not None
            for shift in (-3600, 3600):
                with pytest.raises(ProcessNotFoundError):
                    service.adopt(process.pid, process.started_at + timedelta(seconds=shift))
            assert service.adopt(process.pid, process.started_at).pid == process.pid
            await process.stop()


async def test_an_adopted_process_captures_as_much_as_was_asked_for_and_is_echoed(tmp_path, capfd):
    log = tmp_path / "log"
    with trio.fail_after(20), killed_in_the_end() as pids:
        async with Service() as service:
            process = await service.start(*sh(_COUNTING), detach=True, log_file=log)
            pids.append(process.pid)
        seen = ""
        async with Service() as service:
            again = service.adopt(process.pid, process.started_at, log_file=log, buffer_size=0, echo=True)
            while "line" not in seen:
                await trio.sleep(0.01)
                seen += capfd.readouterr().out
            assert again.output_bytes() == b""


async def test_the_echo_of_a_detached_process_does_not_hold_up_the_leaving():
    with trio.fail_after(20), killed_in_the_end() as pids:
        async with Service(options=ServiceOptions(drain_limit=15)) as service:
            process = await service.start("sleep", "60", detach=True, echo=True)
            pids.append(process.pid)
            began = trio.current_time()
        assert trio.current_time() - began < 10
