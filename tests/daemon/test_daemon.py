"""The Daemon in this process: order, errors, stopping, restarts."""

import logging
import os
import signal
import socket
import threading
from itertools import pairwise

import pytest
import trio
import trio.testing
from support import free_port

from trio_process._core import (
    AlreadyRunningError,
    DaemonError,
    OptionError,
    ProgramNotFoundError,
    RegistryError,
    RestartLimitError,
    RestartPolicy,
    ShutdownDeadline,
    current_deadline,
)
from trio_process._daemon import (
    Daemon,
    DaemonEntry,
    DaemonOptions,
    HealthServer,
    PIDFile,
    Registration,
    Registry,
    probe_health,
    read_pid,
)
from trio_process._daemon.registry import registration
from trio_process.testing.hostile import exchange

ENTRY = DaemonEntry("code", "daemon")
FAST = {"backoff": 0.0, "jitter": 0.0}


@pytest.fixture(autouse=True)
def bounded():
    """Real time, not `trio.fail_after`: some tests are on a virtual clock."""

    def expired(*_):
        raise TimeoutError("this test hangs")

    before = signal.signal(signal.SIGALRM, expired)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def whole(tmp_path, **options):
    """A daemon with every part."""
    return Daemon(
        pid_file=tmp_path / "run" / "d.pid",
        health_addr="127.0.0.1:0",
        registry=Registry(tmp_path / "daemons"),
        registry_entry=ENTRY,
        **options,
    )


def is_undone(tmp_path):
    return not (tmp_path / "run" / "d.pid").exists() and Registry(tmp_path / "daemons").list() == []


async def test_entering_does_all_and_leaving_undoes_it_in_reverse(tmp_path):
    async with whole(tmp_path) as daemon:
        assert read_pid(tmp_path / "run" / "d.pid") == (os.getpid(), True)
        entry = Registry(tmp_path / "daemons").get("code", "daemon")
        assert entry.health == daemon.health_addr == daemon.health.addr
        assert entry.pid == os.getpid()
        assert entry.started is not None
        assert (entry.project, bool(entry.binary)) == (os.getcwd(), True)
        assert await probe_health(entry.health, 5) == (True, "")
        assert daemon.ready
        assert not daemon.stopping.is_set()
    assert is_undone(tmp_path)
    assert daemon.stopping.is_set()
    assert not (await probe_health(entry.health, 0.1))[0]


async def test_the_way_out_is_in_strict_reverse(tmp_path, monkeypatch):
    seen = []
    daemon = whole(tmp_path)

    def look(name):
        pid_file = (tmp_path / "run" / "d.pid").exists()
        entry = Registry(tmp_path / "daemons").get("code", "daemon") is not None
        seen.append((name, daemon.ready, entry, pid_file))

    release = PIDFile.release
    monkeypatch.setattr(PIDFile, "release", lambda self: (look("release"), release(self)))
    async with daemon:
        checkup = type(daemon.health._state.checkup)

        async def aclose(_):
            look("server")

        monkeypatch.setattr(checkup, "aclose", aclose)
        look("body")
    assert seen == [("body", True, True, True), ("server", False, False, True), ("release", False, False, True)]


async def test_what_the_user_gave_in_the_entry_is_kept(tmp_path):
    entry = DaemonEntry("code", "daemon", project="/p", binary="/b", health="10.0.0.1:80", extra={"more": 1})
    registry = Registry(tmp_path)
    async with Daemon(registry=registry, registry_entry=entry):
        found = registry.get("code", "daemon")
        assert (found.project, found.binary, found.health, found.extra) == ("/p", "/b", "10.0.0.1:80", {"more": 1})


async def test_nothing_at_all_is_a_daemon_too():
    async with Daemon() as daemon:
        assert (daemon.health, daemon.health_addr, daemon.ready) == (None, "", True)
        daemon.set_ready(False)
        assert not daemon.ready


async def test_no_check_outlives_a_daemon_without_a_server(tmp_path, monkeypatch):
    started, ended = trio.Event(), trio.Event()

    async def slow():
        started.set()
        try:
            await trio.sleep_forever()
        finally:
            ended.set()

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "200000")
        with trio.fail_after(30):
            async with Daemon(health_checks=[slow], signals=False):
                await started.wait()
            assert ended.is_set()


async def test_a_held_pid_file_is_a_bare_error(tmp_path):
    async with whole(tmp_path) as first:
        with pytest.raises(AlreadyRunningError) as caught:
            async with whole(tmp_path):
                pass
        assert caught.value.pid == os.getpid()
        assert await probe_health(first.health_addr, 5) == (True, "")


async def test_a_taken_port_undoes_the_pid_file(tmp_path):
    async with HealthServer("127.0.0.1:0") as server:
        with pytest.raises(DaemonError, match="another program listens"):
            async with Daemon(pid_file=tmp_path / "run" / "d.pid", health_addr=server.addr):
                pass
    assert is_undone(tmp_path)


async def test_an_unwritable_registry_undoes_everything(tmp_path):
    (tmp_path / "daemons").write_text("no directory")
    with pytest.raises(RegistryError):
        async with whole(tmp_path):
            pass
    assert not (tmp_path / "run" / "d.pid").exists()


async def test_it_can_be_entered_again_but_not_twice(tmp_path):
    daemon = whole(tmp_path, ready=False)
    for _ in range(2):
        async with daemon:
            assert not daemon.ready
            assert len(daemon.health._state.checkup) == 0
            daemon.health.add_check(lambda: "down")
            daemon.set_ready(True)
            with pytest.raises(DaemonError, match="already been entered"):
                await daemon.__aenter__()
            daemon.stop()
            await daemon.run(trio.sleep_forever)
            assert not daemon.ready
    assert is_undone(tmp_path)


async def test_the_error_of_the_body_leaves_it_as_the_same_object(tmp_path):
    boom = ValueError("boom")
    with pytest.raises(ValueError) as caught:
        async with whole(tmp_path):
            raise boom
    assert caught.value is boom
    assert is_undone(tmp_path)


@pytest.mark.parametrize("boom", [ValueError("boom"), KeyboardInterrupt(), ExceptionGroup("own", [ValueError()])])
async def test_the_error_of_main_leaves_run_and_the_block_as_the_same_object(tmp_path, boom):
    async def main():
        await trio.sleep(0)
        raise boom

    with pytest.raises(type(boom)) as caught:
        async with whole(tmp_path) as daemon:
            with pytest.raises(type(boom)) as inner:
                await daemon.run(main)
            assert inner.value is boom
            raise boom
    assert caught.value is boom
    assert is_undone(tmp_path)


async def test_cancelling_the_surrounding_scope_undoes_everything_and_goes_on(tmp_path):
    with trio.CancelScope() as scope:
        async with whole(tmp_path) as daemon:

            async def main():
                try:
                    scope.cancel()
                    await trio.sleep_forever()
                finally:
                    assert daemon.stopping.is_set() is False

            await daemon.run(main)
            raise AssertionError("unreachable")
    assert scope.cancelled_caught
    assert is_undone(tmp_path)


async def test_run_ends_with_its_main_and_can_be_called_again():
    async with Daemon(signals=False) as daemon:
        seen = []

        async def main(*args):
            seen.append(args)

        await daemon.run(main, 1, 2)
        await daemon.run(main)
        assert seen == [(1, 2), ()]
        assert daemon.ready
        assert not daemon.stopping.is_set()


async def test_run_without_a_main_waits_for_the_stop():
    async with Daemon(signals=False) as daemon, trio.open_nursery() as nursery:
        nursery.start_soon(daemon.run)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(DaemonError, match="already in progress"):
            await daemon.run()
        daemon.stop()
        daemon.stop()


async def test_of_two_runs_at_the_same_moment_one_is_refused():
    refused = []

    async def run():
        try:
            await daemon.run()
        except DaemonError:
            refused.append(1)
            daemon.stop()

    async with Daemon(signals=False) as daemon, trio.open_nursery() as nursery:
        nursery.start_soon(run)
        nursery.start_soon(run)
    assert refused == [1]


@pytest.mark.parametrize("main", ["serve", 5])
async def test_a_main_that_is_no_function_is_refused_and_not_restarted(main):
    async with Daemon(restart=RestartPolicy.always()) as daemon:
        with pytest.raises(OptionError, match="the function itself"):
            await daemon.run(main)
        with pytest.raises(OptionError, match="on_reload"):
            daemon.on_reload(main)


async def test_a_call_of_main_in_its_place_is_refused():
    async with Daemon() as daemon:
        called = trio.sleep_forever()
        with pytest.raises(OptionError, match=r"daemon\.run\(main, argument\)"):
            await daemon.run(called)
        called.close()


async def test_run_outside_of_the_block_is_refused():
    daemon = Daemon()
    daemon.stop()
    with pytest.raises(DaemonError, match="not entered"):
        await daemon.run()
    async with daemon:
        pass
    with pytest.raises(DaemonError, match="not entered"):
        await daemon.run()


async def test_stop_before_run_makes_it_return_at_once():
    async with Daemon(signals=False) as daemon:
        daemon.stop()
        assert daemon.stopping.is_set()
        await daemon.run(trio.sleep_forever)


async def test_on_a_stop_readiness_goes_first_and_main_may_end_by_itself_within_the_drain():
    async with Daemon(health_addr="127.0.0.1:0", drain=30, signals=False) as daemon:
        seen = []
        ask = b"GET /ready HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"

        async def main():
            await daemon.stopping.wait()
            seen.append(daemon.ready)
            seen.append(await probe_health(daemon.health_addr, 5))
            seen.append((await exchange(daemon.health_addr, ask)).split()[1])
            daemon.set_ready(True)  # of no use any more
            seen.append(daemon.ready)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(daemon.run, main)
            await trio.testing.wait_all_tasks_blocked()
            daemon.stop()
        assert seen == [False, (True, ""), b"503", False]


async def test_main_is_cancelled_after_the_drain(autojump_clock):
    async with Daemon(drain=7, shutdown_timeout=30, signals=False) as daemon:
        began = trio.current_time()

        async def main():
            daemon.stop()
            await trio.sleep_forever()

        await daemon.run(main)
        assert trio.current_time() - began == 7


async def test_the_shutdown_timeout_includes_the_drain(autojump_clock):
    async with Daemon(drain=50, shutdown_timeout=30, signals=False) as daemon:
        began = trio.current_time()

        async def main():
            daemon.stop()
            await trio.sleep_forever()

        await daemon.run(main)
        assert trio.current_time() - began == 30


async def test_a_pid_file_and_a_registry_work_on_a_virtual_clock(tmp_path, autojump_clock):
    """Their threads are waited for in real time: a clock that jumps does not make them late."""
    for _ in range(8):
        async with Daemon(
            pid_file=tmp_path / "p", registry=Registry(tmp_path), registry_entry=ENTRY, signals=False
        ) as daemon:
            with trio.move_on_after(3600):
                await daemon.run()


async def test_the_deadline_is_shared_with_every_grace_inside():
    async with Daemon(shutdown_timeout=30, signals=False) as daemon:
        deadline = current_deadline()
        assert isinstance(deadline, ShutdownDeadline)
        daemon.stop()
        assert deadline.at - trio.current_time() == pytest.approx(30, abs=5)
    assert current_deadline() is not deadline


async def test_a_main_that_shields_itself_is_named_every_five_seconds(autojump_clock, caplog):
    async def child():
        with trio.CancelScope(shield=True):
            await trio.sleep(18)

    async def main():
        daemon.stop()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child)

    with caplog.at_level(logging.WARNING, "trio_process"):
        async with Daemon(shutdown_timeout=2, signals=False) as daemon:
            await daemon.run(main)
    records = [record.getMessage() for record in caplog.records]
    assert len(records) == 4  # from 2.5 s on
    assert "child" in records[0]
    assert "test_daemon.py" in records[0]


async def test_a_main_that_fails_on_its_way_out_is_not_hidden():
    async def main():
        try:
            daemon.stop()
            await trio.sleep_forever()
        finally:
            raise ValueError("clean-up failed")

    with pytest.raises(ValueError, match="clean-up failed"):
        async with Daemon(signals=False, restart=RestartPolicy.always()) as daemon:
            await daemon.run(main)


# restarts


async def test_main_is_restarted_after_failures_with_growing_pauses(autojump_clock):
    starts = []

    async def main():
        starts.append(trio.current_time())
        if len(starts) < 5:
            raise ValueError

    async with Daemon(signals=False, restart=RestartPolicy.on_failure(jitter=0)) as daemon:
        await daemon.run(main)
    assert [later - earlier for earlier, later in pairwise(starts)] == [0.5, 1, 2, 4]


async def test_a_restart_storm_ends_in_an_error_with_the_last_failure_as_cause(tmp_path):
    failures = []

    async def main():
        failures.append(ValueError(len(failures)))
        raise failures[-1]

    with pytest.raises(RestartLimitError, match="5 restart") as caught:
        async with whole(tmp_path, restart=RestartPolicy.on_failure(**FAST)) as daemon:
            await daemon.run(main)
    assert len(failures) == 6
    assert caught.value.__cause__ is failures[-1]
    assert is_undone(tmp_path)


async def test_a_plain_return_is_restarted_only_by_always():
    for policy, runs in ((RestartPolicy.on_failure(**FAST), 1), (RestartPolicy.always(max_restarts=3, **FAST), 4)):
        count = 0

        async def main():
            nonlocal count
            count += 1

        async with Daemon(signals=False, restart=policy) as daemon:
            if runs == 1:
                await daemon.run(main)
            else:
                with pytest.raises(RestartLimitError):
                    await daemon.run(main)
        assert count == runs


async def test_what_cannot_get_better_is_not_restarted():
    for error in (ProgramNotFoundError("no"), KeyboardInterrupt(), SystemExit(3)):
        count = 0

        async def main(error=error):
            nonlocal count
            count += 1
            raise error

        with pytest.raises(type(error)) as caught:
            async with Daemon(signals=False, restart=RestartPolicy.always(**FAST)) as daemon:
                await daemon.run(main)
        assert caught.value is error
        assert count == 1


async def test_a_stop_during_the_pause_before_a_restart_ends_run_at_once():
    async def main():
        nursery.start_soon(stop_soon)
        raise ValueError

    async def stop_soon():
        await trio.testing.wait_all_tasks_blocked()
        daemon.stop()

    async with Daemon(signals=False, drain=60, restart=RestartPolicy.on_failure(backoff=50)) as daemon:
        async with trio.open_nursery() as nursery:
            began = trio.current_time()
            await daemon.run(main)
            assert trio.current_time() - began < 5


# failures of the way out


def failing_after(method, error):
    """`method`, followed by a failure."""

    def wrapper(*args):
        method(*args)
        raise error

    return wrapper


async def test_a_failure_of_the_way_out_is_raised_bare(tmp_path, monkeypatch):
    boom = DaemonError("cannot remove")
    with pytest.raises(DaemonError) as caught:
        async with whole(tmp_path):
            monkeypatch.setattr(PIDFile, "__exit__", failing_after(PIDFile.__exit__, boom))
    assert caught.value is boom


async def test_two_failures_of_the_way_out_are_a_group(tmp_path, monkeypatch):
    one, two = DaemonError("one"), DaemonError("two")
    with pytest.raises(ExceptionGroup) as caught:
        async with whole(tmp_path):
            monkeypatch.setattr(PIDFile, "__exit__", failing_after(PIDFile.__exit__, one))
            monkeypatch.setattr(Registration, "withdraw", failing_after(Registration.withdraw, two))
    assert set(caught.value.exceptions) == {one, two}


async def test_a_failure_of_the_way_out_does_not_hide_the_bodys_error(tmp_path, monkeypatch, caplog):
    boom = ValueError("boom")
    with pytest.raises(ValueError) as caught:
        async with whole(tmp_path):
            monkeypatch.setattr(PIDFile, "__exit__", failing_after(PIDFile.__exit__, DaemonError("cannot remove")))
            raise boom
    assert caught.value is boom
    assert "cannot remove" in boom.__notes__[0]
    assert "cannot remove" in caplog.text


async def test_what_was_entered_is_left_also_where_no_thread_can_be_started(tmp_path, monkeypatch):
    def refuse(*_):
        raise RuntimeError("can't start new thread")

    with trio.fail_after(30):
        async with Daemon(
            pid_file=tmp_path / "p", registry=Registry(tmp_path / "r"), registry_entry=ENTRY, signals=False
        ):
            monkeypatch.setattr(trio.lowlevel, "start_thread_soon", refuse)
        assert read_pid(tmp_path / "p") == (0, False)
        assert Registry(tmp_path / "r").list() == []


async def test_a_registry_that_does_not_answer_is_given_up_and_what_it_did_late_is_undone(tmp_path, monkeypatch):
    from trio_process._daemon import in_thread as blocking

    answer = threading.Event()
    write = registration.write_entry
    abandon = blocking._Step.abandon

    def slow(*args, **keywords):
        monkeypatch.setattr(blocking, "_LIMIT", 0.2)  # of this step alone: the PID file may take its time
        answer.wait(20)
        return write(*args, **keywords)

    def given_up(self, undo):
        monkeypatch.setattr(blocking, "_LIMIT", 20.0)
        abandon(self, undo)

    monkeypatch.setattr(blocking, "_LIMIT", 20.0)
    monkeypatch.setattr(blocking._Step, "abandon", given_up)
    monkeypatch.setattr(registration, "write_entry", slow)
    with pytest.raises(DaemonError, match="took longer than 200 ms"):
        async with whole(tmp_path):
            pass
    assert not (tmp_path / "run" / "d.pid").exists()
    gone = threading.Event()
    withdraw = Registration.withdraw
    monkeypatch.setattr(Registration, "withdraw", lambda *args: (withdraw(*args), gone.set()))
    answer.set()
    assert await trio.to_thread.run_sync(gone.wait, 10)
    assert is_undone(tmp_path)


async def test_what_is_done_at_the_moment_it_is_given_up_is_undone_once(monkeypatch):
    """The thread is through, but the loop has not heard of it yet."""
    from trio_process._daemon import in_thread as blocking

    through, heard = threading.Event(), threading.Event()
    deliver = blocking._Step._deliver

    def late(self, result):
        through.set()
        heard.wait(20)
        deliver(self, result)

    monkeypatch.setattr(blocking._Step, "_deliver", late)
    undone = []
    step = blocking._Step(lambda: "done", "do it")
    with trio.fail_after(20):
        while not through.is_set():  # not waited for in a thread: Trio may take the very one that is held up here
            await trio.sleep(0.001)
        step.abandon(lambda: undone.append(1))
        heard.set()
        assert await step.wait() == "done"
    assert undone == [1]


# signals, in this process


async def test_a_signal_cancels_a_body_that_has_not_reached_run(tmp_path):
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGHUP)
    async with whole(tmp_path) as daemon:
        os.kill(os.getpid(), signal.SIGTERM)
        await trio.sleep_forever()
    assert daemon.stopping.is_set()
    assert is_undone(tmp_path)
    assert before == (
        signal.getsignal(signal.SIGTERM),
        signal.getsignal(signal.SIGINT),
        signal.getsignal(signal.SIGHUP),
    )


async def test_a_signal_during_run_ends_run_and_lets_the_body_go_on():
    async with Daemon() as daemon:

        async def main():
            os.kill(os.getpid(), signal.SIGINT)
            await trio.sleep_forever()

        await daemon.run(main)
        await trio.sleep(0.01)
        after = True
    assert after


async def test_a_signal_after_run_cancels_the_rest_of_the_body():
    async with Daemon() as daemon:

        async def main():
            pass

        await daemon.run(main)
        os.kill(os.getpid(), signal.SIGTERM)
        await trio.sleep_forever()


async def test_daemons_left_in_the_order_they_were_entered_restore_the_handlers():
    def handlers():
        return [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)]

    async def stay(*, task_status):
        with trio.CancelScope() as scope:
            async with Daemon() as daemon:
                task_status.started((scope, daemon))
                await daemon.run()

    before = handlers()
    with trio.fail_after(30):
        async with trio.open_nursery() as first, trio.open_nursery() as second:
            leave, _ = await first.start(stay)
            _, newest = await second.start(stay)
            installed = handlers()
            leave.cancel()
            await trio.testing.wait_all_tasks_blocked()
            assert handlers() == installed
            signal.raise_signal(signal.SIGTERM)
            await newest.stopping.wait()
    assert handlers() == before


async def test_a_reload_is_called_sync_or_async_and_its_errors_are_logged(caplog):
    called = trio.Event()

    async def reload_later():
        await trio.sleep(0)
        called.set()
        raise ValueError("bad configuration")

    with caplog.at_level(logging.INFO, "trio_process"):
        async with Daemon() as daemon:
            os.kill(os.getpid(), signal.SIGHUP)
            while "ignored" not in caplog.text:
                await trio.sleep(0.01)

            @daemon.on_reload
            def reload():
                called.set()

            for function in (reload, reload_later):
                called = trio.Event()
                daemon.on_reload(function)
                os.kill(os.getpid(), signal.SIGHUP)
                await called.wait()
            while "bad configuration" not in caplog.text:
                await trio.sleep(0.01)
            assert not daemon.stopping.is_set()


def test_in_another_thread_signals_are_left_alone(caplog):
    async def main():
        async with Daemon():
            pass

    thread = threading.Thread(target=trio.run, args=(main,))
    thread.start()
    thread.join()
    assert "main thread" in caplog.text


# options


@pytest.mark.parametrize(
    "options",
    [
        {"shutdown_timeout": -1},
        {"drain": "long"},
        {"health_addr": "nonsense"},
        {"health_checks": ["check"]},
        {"health_checks": "check"},
        {"ready": 1},
        {"signals": None},
        {"restart": "always"},
        {"registry": "/tmp"},
        {"registry_entry": "code"},
        {"pid_file": 3},
        {"pidfile": "x"},
    ],
    ids=str,
)
def test_bad_options_are_refused_and_named(options):
    with pytest.raises(OptionError, match=next(iter(options))):
        Daemon(**options)


def test_options_of_another_kind_are_refused():
    with pytest.raises(OptionError, match="takes DaemonOptions"):
        Daemon.from_options({"drain": 1})


def test_a_registry_without_an_entry_is_refused(tmp_path):
    with pytest.raises(OptionError, match="registry_entry"):
        DaemonOptions(registry=Registry(tmp_path))


def test_an_unknown_option_names_the_nearest():
    with pytest.raises(OptionError, match="did you mean 'pid_file'"):
        Daemon(pidfile="x")


def test_the_empty_leaves_a_part_out_and_the_defaults_are_those_of_the_contract():
    options = DaemonOptions(pid_file="", health_addr="")
    assert options == DaemonOptions()
    assert (options.pid_file, options.shutdown_timeout, options.drain, options.health_addr) == (None, 30.0, 0.0, None)
    assert (options.health_checks, options.ready, options.signals) == ((), True, True)
    assert options.restart == RestartPolicy.never()
    assert Daemon.from_options(options).options is options


async def test_an_entry_without_a_registry_goes_into_the_default_one(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    async with Daemon(registry_entry=ENTRY, signals=False):
        assert Registry(tmp_path / ".core" / "daemons").get("code", "daemon") is not None


async def test_the_port_is_free_when_the_pid_file_is_released(tmp_path):
    port = free_port()
    for _ in range(20):
        async with Daemon(pid_file=tmp_path / "p", health_addr=f"127.0.0.1:{port}", signals=False) as daemon:
            assert await probe_health(daemon.health_addr, 5) == (True, "")


async def test_checks_of_an_earlier_call_of_main_are_gone():
    """A main that is restarted adds its checks again: those of its dead pool must not fail for ever."""
    calls = 0

    async def main():
        nonlocal calls
        calls += 1
        number = calls
        daemon.add_check(lambda: f"call {number}", name=f"call {number}")
        async with trio.open_nursery() as nursery:  # a task of main's adds on behalf of main
            nursery.start_soon(add_another, number)
        if calls < 3:
            raise RuntimeError("again")
        results.append(await probe_health(daemon.health_addr, 1))

    async def add_another(number):
        daemon.add_check(lambda: f"task {number}")

    results = []
    policy = RestartPolicy.on_failure(backoff=0.001)
    async with Daemon(health_addr="127.0.0.1:0", restart=policy, signals=False) as daemon:
        daemon.add_check(lambda: None, name="outer")
        await daemon.run(main)
    [(healthy, reason)] = results
    assert not healthy
    assert "call 3" in reason
    assert "task 3" in reason
    assert "call 1" not in reason
    assert "call 2" not in reason
    assert "task 2" not in reason


async def test_checks_work_without_a_server_and_an_unknown_name_is_refused():
    async with Daemon(signals=False) as daemon:
        daemon.add_check(lambda: "down", name="db")
        assert [result.why for result in await daemon._state.checkup.results()] == ["down"]
        with pytest.raises(OptionError, match="no health check is called 'bd'"):
            daemon.remove_check("bd")
        daemon.remove_check("db")
        assert await daemon._state.checkup.results() == []
