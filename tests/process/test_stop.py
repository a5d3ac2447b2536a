"""How processes end: stop, kill, signals, timeouts; what is swept; and why each says it ended."""

import os
import signal
import time
from functools import partial

import pytest
import trio
import trio.testing
from support import CLEAN_UP, CLEANED_UP, child_of, hold_launchers, is_gone, python, sh, state_of, wait_until

from trio_process import (
    ActionProcessExited,
    ActionProcessKilled,
    CommandFailedError,
    CommandTimeoutError,
    EndReason,
    OptionError,
    ProcessNotRunningError,
    Service,
    ServiceOptions,
    Status,
    StopFailedError,
)

STUBBORN = sh("trap '' TERM; echo ready; while :; do sleep 0.2; done")
WAITS_FOR_TERM = """
import signal, sys, time
def clean(*_):
    print("clean")
    sys.exit()
signal.signal(signal.SIGTERM, clean)
print("ready", flush=True)
while True: time.sleep(0.02)  # a signal just before a pause would be handled after it
"""
FAMILY = sh("sleep 1000 & echo $!; sleep 1000 & echo $!; wait")


def cleaned(text):
    return [line for line in text.splitlines() if line.startswith("clean")]


async def start_ready(service, *command, **options):
    process = await service.start(*command, **options)
    await process.wait_for_line("ready", timeout=20)
    return process


async def start_family(service, *command, count=2, **options):
    """Start a script that prints PIDs; return the process and those."""
    process = await service.start(*command, **options)
    lines = process.lines()
    return process, [int((await anext(lines)).text) for _ in range(count)]


async def test_stop_lets_a_child_clean_up_and_reads_all_of_it():
    with trio.fail_after(30):
        async with Service() as service:
            process = await start_ready(service, *sh(CLEAN_UP))
            result = await process.stop()
            assert cleaned(result.output) == CLEANED_UP
            assert (result.exit_code, result.status, result.reason, result.ok) == (0, Status.EXITED, "stopped", True)
            assert await process.wait() == 0


async def test_leaving_the_service_lets_a_child_clean_up():
    with trio.fail_after(30):
        async with Service() as service:
            process = await start_ready(service, *sh(CLEAN_UP))
        assert cleaned(process.output()) == CLEANED_UP
        assert (process.exit_code, process.reason) == (0, EndReason.STOPPED)


async def test_a_cancelled_scope_around_the_service_lets_a_child_clean_up():
    with trio.fail_after(30):
        with trio.CancelScope() as scope:
            async with Service() as service:
                process = await start_ready(service, *sh(CLEAN_UP))
                scope.cancel()
                await trio.sleep_forever()
        assert scope.cancelled_caught
        assert cleaned(process.output()) == CLEANED_UP
        assert process.exit_code == 0


async def test_a_cancelled_run_lets_a_child_clean_up():
    with trio.fail_after(30):
        async with Service() as service:
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(service.run, *sh(CLEAN_UP))
                    (process,) = await wait_until(service.running)
                    await process.wait_for_line("ready")
                    scope.cancel()
            assert cleaned(process.output()) == CLEANED_UP
            assert (process.exit_code, process.reason) == (0, EndReason.CANCELLED)
            assert not process.result().ok


async def test_a_timeout_lets_a_child_clean_up_and_tells_of_it():
    with trio.fail_after(30):
        async with Service() as service:
            with pytest.raises(CommandTimeoutError, match="ran into its timeout") as caught:
                await service.run(*sh(CLEAN_UP), timeout=2)
            result = caught.value.result
            assert cleaned(result.output) == CLEANED_UP
            assert (result.exit_code, result.reason, result.ok) == (0, EndReason.TIMED_OUT, False)


async def test_what_ignores_the_stop_is_killed_after_the_grace():
    with trio.fail_after(30):
        async with Service() as service:
            process = await start_ready(service, *STUBBORN)
            began = trio.current_time()
            result = await process.stop(grace_period=0.2)
            assert 0.2 <= trio.current_time() - began < 5
            assert (result.exit_code, result.status, result.reason) == (-9, Status.KILLED, EndReason.STOPPED)
            assert not result.ok  # it did not die of the stop signal
            with pytest.raises(CommandFailedError, match=r"was stopped \(died of SIGKILL\)"):
                await process.wait()
            assert await process.wait(check=False) == -9


async def test_death_by_the_stop_signal_is_ok_and_any_other_is_not():
    with trio.fail_after(30):
        async with Service() as service:
            for sig in ("SIGTERM", "SIGINT", "SIGUSR1"):
                process = await service.start("sleep", "1000", stop_signal=sig)
                result = await process.stop()
                assert (result.exit_code, result.signal_name, result.ok) == (-signal.Signals[sig], sig, True)
                assert await process.wait() == result.exit_code
            process = await service.start("sleep", "1000", stop_signal="SIGINT")
            process.terminate()
            assert (await process.stop()).ok is False


async def test_no_grace_kills_at_once():
    with trio.fail_after(30):
        async with Service() as service:
            process = await start_ready(service, *sh(CLEAN_UP))
            result = await process.stop(0)
            assert (result.exit_code, result.reason) == (-9, EndReason.STOPPED)
            assert cleaned(result.output) == []


async def test_stopping_again_can_only_hasten_it():
    with trio.fail_after(30):
        async with Service() as service:
            process = await start_ready(service, *STUBBORN, grace_period=1000)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(process.stop)
                await trio.testing.wait_all_tasks_blocked(0.01)
                nursery.start_soon(process.stop, 2000)
                await trio.testing.wait_all_tasks_blocked(0.01)
                assert process.is_running
                nursery.start_soon(process.stop, 0.05)
            assert process.exit_code == -9
            assert (await process.stop()).exit_code == -9  # of one that has ended, as it ended


async def test_a_cancelled_stop_cuts_the_grace():
    with trio.fail_after(30):
        async with Service() as service:
            process = await start_ready(service, *STUBBORN, grace_period=1000)
            with trio.move_on_after(0.1) as scope:
                await process.stop()
            assert scope.cancelled_caught
            assert (process.exit_code, process.reason) == (-9, EndReason.STOPPED)
            assert process.done.is_set()


async def test_stop_takes_the_reason_it_is_told():
    with trio.fail_after(30):
        async with Service() as service:
            process = await service.start("sleep", "1000")
            assert (await process.stop(reason="timed_out")).reason is EndReason.TIMED_OUT
            with pytest.raises(OptionError, match="reason must be one of"):
                await process.stop(reason="bored")
            with pytest.raises(OptionError, match="grace_period must be"):
                await process.stop(-1)


async def test_kill_strikes_the_group_and_says_so():
    with trio.fail_after(30):
        async with Service() as service:
            with service.subscribe(ActionProcessKilled, ActionProcessExited) as events:
                process, family = await start_family(service, *FAMILY)
                process.kill()
                assert await process.wait(check=False) == -9
                assert (process.reason, process.status) == (EndReason.KILLED, Status.KILLED)
                assert all(map(is_gone, family))
                assert await events.receive() == ActionProcessKilled(process.id, None, "SIGKILL")
                assert isinstance((await events.receive()).error, CommandFailedError)
                process.kill()
                process.terminate()
                with pytest.raises(ProcessNotRunningError, match="can't be sent SIGHUP: it is killed"):
                    process.signal("SIGHUP")
                for call in (process.suspend, process.resume):
                    with pytest.raises(ProcessNotRunningError):
                        call()


async def test_terminate_is_sent_once_and_does_not_escalate():
    with trio.fail_after(30):
        async with Service() as service:
            stubborn = await start_ready(service, *STUBBORN, grace_period=0.05)
            stubborn.terminate()
            process, family = await start_family(service, *FAMILY)
            process.terminate()
            assert await process.wait(check=False) == -15
            assert (process.reason, process.result().ok) == (EndReason.SIGNALLED, False)
            assert all(map(is_gone, family))
            assert stubborn.is_running


async def test_a_signal_goes_to_the_group_or_to_the_leader_alone():
    script = sh(
        "trap 'echo got; exit 0' USR1; sh -c 'trap \"echo child\" USR1; echo ready; while :; do sleep 0.02; done' & wait"
    )
    with trio.fail_after(30):
        async with Service() as service:
            process = await start_ready(service, *script)
            process.signal(signal.SIGUSR1)
            await process.wait_for_line("child")
            await process.wait_for_line("got")
            await process.stop(0)
            alone, family = await start_family(service, *FAMILY, kill_group=False)
            alone.signal("TERM")
            await alone.wait(check=False)
            assert not any(map(is_gone, family))
            for pid in family:
                os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("value", [0, -1, 1000, "SIGNOPE", None])
async def test_a_signal_that_is_none_is_refused(value):
    with trio.fail_after(30):
        async with Service() as service:
            process = await service.start("sleep", "1000")
            with pytest.raises(OptionError, match="must be a signal"):
                process.signal(value)
            assert process.is_running


async def test_a_suspended_group_goes_on_when_resumed_and_dies_when_stopped():
    with trio.fail_after(30):
        async with Service() as service:
            # no shell: one that is stopped while it starts a command is in state D, waiting for its stopped child
            process = await start_ready(service, *python(WAITS_FOR_TERM))
            process.suspend()
            await wait_until(lambda: state_of(process.pid) == "T")
            process.resume()
            await wait_until(lambda: state_of(process.pid) != "T")
            process.suspend()
            await wait_until(lambda: state_of(process.pid) == "T")
            result = await process.stop()
            assert (result.exit_code, result.output) == (0, "ready\nclean\n")
            other = await service.start("sleep", "1000")
            os.kill(other.pid, signal.SIGSTOP)  # by a stranger
            await wait_until(lambda: state_of(other.pid) == "T")
            assert (await other.stop()).exit_code == -15


async def test_a_stranger_s_signal_is_seen_as_one():
    with trio.fail_after(30):
        async with Service() as service:
            process = await service.start("sleep", "1000")
            os.kill(process.pid, signal.SIGHUP)
            assert await process.wait(check=False) == -1
            assert (process.reason, process.signal_name) == (EndReason.SIGNALLED, "SIGHUP")


async def test_a_signal_that_it_did_not_die_of_is_not_the_reason():
    with trio.fail_after(30):
        async with Service() as service:
            process = await start_ready(service, *sh("trap 'exit 7' TERM; echo ready; while :; do sleep 0.02; done"))
            process.terminate()
            assert await process.wait(check=False) == 7
            assert process.reason is EndReason.EXITED


async def test_an_exit_of_its_own_before_the_kill_is_one():
    with trio.fail_after(30):
        async with Service() as service:
            process = await service.start("true")
            while state_of(process.pid) != "Z":  # without giving the service a turn
                time.sleep(0.001)
            process.kill()
            assert await process.wait() == 0
            assert process.reason is EndReason.EXITED


async def test_the_first_request_is_the_reason():
    with trio.fail_after(30):
        async with Service() as service:
            process = await start_ready(service, *STUBBORN)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(process.stop)
                await trio.testing.wait_all_tasks_blocked(0.01)
                process.kill()
            assert (process.exit_code, process.reason) == (-9, EndReason.STOPPED)
            process = await start_ready(service, *STUBBORN)
            process.terminate()  # which it survives, so that it can't be the reason
            process.kill()
            await process.stop()
            assert process.reason is EndReason.KILLED


async def test_who_asked_is_told():
    with trio.fail_after(30):
        async with Service() as service:
            process = await service.start("sleep", "1000")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(process.stop, name="the reaper")
            assert process.result().requested_by == "the reaper"
            result = await service.run("true")
            assert result.requested_by is None


async def test_a_timeout_ends_what_hangs_with_all_that_it_started():
    with trio.fail_after(30):
        async with Service() as service:
            began = trio.current_time()
            process = await service.start(*sh("echo ready; sleep 30 & echo $!; wait; echo hi"), timeout=0.5)
            with pytest.raises(CommandTimeoutError):
                await process.wait()
            assert 0.5 <= trio.current_time() - began < 10
            said, pid = process.output().split()
            assert said == "ready"
            assert (process.reason, process.result().ok) == (EndReason.TIMED_OUT, False)
            assert is_gone(int(pid))


async def test_a_timeout_is_a_timeout_error_whatever_the_exit_code():
    with trio.fail_after(30):
        async with Service() as service:
            with pytest.raises(TimeoutError):
                await service.run("sleep", "1000", timeout=0)
            result = await service.run("sleep", "1000", timeout=0.05, check=False)
            assert (result.exit_code, result.reason) == (-15, EndReason.TIMED_OUT)
            assert (await service.run("true", timeout=float("inf"))).ok


async def test_an_idle_timeout_counts_from_the_last_output():
    with trio.fail_after(60):
        async with Service() as service:
            script = sh("for i in 1 2 3 4 5 6 7 8 9 10 11 12; do echo $i; sleep 0.2; done; sleep 1000")
            with pytest.raises(CommandTimeoutError, match="wrote nothing for its idle_timeout") as caught:
                await service.run(*script, idle_timeout=2)
            result = caught.value.result
            assert result.output.split() == [str(number) for number in range(1, 13)]
            assert result.reason is EndReason.IDLE
            assert result.duration > 11 * 0.2 + 1.9


async def test_a_background_child_does_not_hold_up_the_end():
    with trio.fail_after(30):
        async with Service() as service:
            process = await service.start(*sh("sleep 30 & echo hi $!"))
            assert await process.wait() == 0
            result = process.result()
            assert result.output.startswith("hi ")
            assert result.output_incomplete
            assert result.duration < 5
            assert is_gone(int(result.output.split()[1]))


async def test_the_end_comes_within_half_a_second_of_the_exit():
    with trio.fail_after(30):
        async with Service() as service:
            for _ in range(20):
                began = trio.current_time()
                await service.run(*sh("sleep 30 & echo hi"))
                if trio.current_time() - began < 0.5:
                    break  # the machine may be busy, not twenty times
            else:
                pytest.fail("it never came within half a second")


async def test_what_a_background_child_still_says_is_read_until_it_is_silent():
    with trio.fail_after(30):
        async with Service(options=ServiceOptions(drain_grace=10, drain_limit=20)) as service:
            script = sh("(for i in 1 2 3 4 5; do sleep 0.05; echo $i; done) & exit 0")
            result = await service.run(*script)
            assert result.output.split() == list("12345")
            assert not result.output_incomplete


async def test_a_chatty_background_child_is_cut_off():
    with trio.fail_after(30):
        async with Service(options=ServiceOptions(drain_grace=10, drain_limit=0.6)) as service:
            process = await service.start(*sh("(while :; do echo more; sleep 0.01; done) & echo $!"))
            began = trio.current_time()
            await process.wait()
            assert 0.5 < trio.current_time() - began < 6
            assert process.result().output_incomplete
            (pid,) = [int(line) for line in process.output().split() if line.isdecimal()]
            assert is_gone(pid)


async def test_a_drain_without_limit_ends_too():
    with trio.fail_after(30):
        async with Service(options=ServiceOptions(drain_limit=float("inf"))) as service:
            assert (await service.run(*sh("sleep 60 & echo hi"))).output_incomplete
            assert (await service.run(*sh("echo hi"))).output == "hi\n"


async def test_leftovers_stay_where_the_group_is_not_ours_to_kill():
    with trio.fail_after(30):
        async with Service(
            options=ServiceOptions(drain_grace=20, drain_limit=20)
        ) as service:  # until it has redirected
            result = await service.run(*sh("sleep 1000 >/dev/null 2>&1 & echo $!"), kill_group=False)
            pid = int(result.output)
            try:
                assert not is_gone(pid)
                assert not result.output_incomplete
            finally:
                os.kill(pid, signal.SIGKILL)


async def test_an_escapee_by_setsid_is_found():
    script = sh("setsid sh -c 'echo $$; exec sleep 1000' & wait")
    with trio.fail_after(30):
        async with Service() as service:
            process, (pid,) = await start_family(service, *script, count=1)
            process.kill()
            await process.wait(check=False)
            assert is_gone(pid)
            result = await service.run(*sh("setsid sleep 1000 >/dev/null 2>&1 & echo $!"))
            assert is_gone(int(result.output))


async def test_a_grandchild_has_the_rest_of_the_grace():
    script = sh(
        "sh -c 'trap \"sleep 0.3; echo saved; exit\" TERM; echo ready; while :; do sleep 0.02; done' & trap 'exit 0' TERM; wait"
    )
    with trio.fail_after(30):
        async with Service(options=ServiceOptions(drain_grace=5, drain_limit=10)) as service:
            process = await start_ready(service, *script)
            result = await process.stop()
            assert "saved" in result.output
            assert not result.output_incomplete


async def test_stop_returns_when_the_group_is_empty():
    script = sh("sh -c 'trap \"\" TERM; echo $$; while :; do sleep 0.02; done' & trap 'exit 0' TERM; wait")
    with trio.fail_after(30):
        async with Service() as service:
            process, (pid,) = await start_family(service, *script, count=1)
            await process.stop(0.3)
            assert is_gone(pid)


async def test_a_fork_storm_is_ended():
    script = sh("while :; do sleep 1000 & sleep 0.005; done")
    with trio.fail_after(30):
        async with Service() as service:
            process = await service.start(*script)
            await trio.sleep(0.2)
            await process.stop()
        # what it left is looked for by the fixture


async def test_what_does_not_die_is_named_and_holds_nobody_up(monkeypatch):
    monkeypatch.setattr("trio_process._process.backend.STUCK_AFTER", 0.2)
    with trio.fail_after(30):
        error = ValueError("body")
        with pytest.raises(ValueError) as caught:
            async with Service() as service:
                process = await start_ready(service, *STUBBORN, name="stuck")
                handle = child_of(process).handle
                # a process in state D takes no signal: here the signals are lost
                monkeypatch.setattr(type(handle), "signal", lambda *_, **__: None)
                with pytest.raises(StopFailedError, match=r"PID .*, state .: sh") as named:
                    await process.stop(0.05)
                assert named.value.processes[0][0] == process.pid
                with pytest.raises(ValueError) as body:
                    async with service.open(*STUBBORN, grace_period=0.1) as other:
                        await other.wait_for_line("ready")
                        raise error
                assert body.value is error
                raise error
        assert caught.value is error
        assert ["StopFailedError" in note for note in error.__notes__] == [True, True]
    assert service.statistics().running == 2
    for one in (process, other):
        os.killpg(one.pid, signal.SIGKILL)
        os.waitpid(one.pid, 0)  # descriptors are looked for by the fixture


async def test_many_are_stopped_side_by_side():
    with trio.fail_after(60):
        async with Service(options=ServiceOptions(grace_period=0.5)) as service:
            for _ in range(20):
                await start_ready(service, *STUBBORN)
            began = trio.current_time()
        assert trio.current_time() - began < 5
        assert all(process.exit_code == -9 for process in service.list())


async def test_python_children_are_interrupted_as_by_ctrl_c():
    script = """
import time
try:
    print("ready", flush=True)
    time.sleep(1000)
except KeyboardInterrupt:
    print("bye")
"""
    with trio.fail_after(30):
        async with Service() as service:
            process = await start_ready(service, *python(script), stop_signal="INT")
            result = await process.stop()
            assert (result.exit_code, result.output) == (0, "ready\nbye\n")


async def launching(service, nursery):
    """Return a process whose launcher still runs."""
    nursery.start_soon(partial(service.start, "sleep", "1000", nice=1))
    (process,) = await wait_until(service.list)
    assert process.status is Status.PENDING
    return process


async def test_a_stop_counts_although_the_launcher_is_still_running(monkeypatch):
    through = hold_launchers(monkeypatch)
    with trio.fail_after(30):
        async with Service() as service, trio.open_nursery() as nursery:
            process = await launching(service, nursery)

            async def let_go():
                await wait_until(lambda: child_of(process).handle.requests)
                through.set()

            nursery.start_soon(let_go)
            result = await process.stop()
            assert (result.reason, result.signal_name, result.ok) == (EndReason.STOPPED, "SIGTERM", True)


@pytest.mark.parametrize(("how", "reason"), [("kill", EndReason.KILLED), ("terminate", EndReason.SIGNALLED)])
async def test_a_kill_counts_although_the_launcher_is_still_running(monkeypatch, how, reason):
    through = hold_launchers(monkeypatch)
    with trio.fail_after(30):
        async with Service() as service, trio.open_nursery() as nursery:
            process = await launching(service, nursery)
            getattr(process, how)()
            with pytest.raises(ProcessNotRunningError, match="it is pending"):
                process.signal(signal.SIGHUP)
            through.set()
            await process.wait(check=False)
            assert process.reason is reason


async def test_thousands_of_signals_are_no_thousands_of_causes():
    with trio.fail_after(30):
        async with Service() as service:
            process = await service.start("sleep", "60")
            for _ in range(5000):
                process.signal("SIGCONT")
            assert len(child_of(process).stopping._requests) == 1
            process.signal("SIGTERM")
            assert await process.wait(check=False) == -signal.SIGTERM
    assert process.reason is EndReason.SIGNALLED
