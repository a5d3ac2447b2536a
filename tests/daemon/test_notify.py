"""systemd's notification protocol, against a real datagram socket."""

import contextlib
import logging
import os
import re
import signal
import socket

import pytest
import trio
from support import wait_until

from trio_process._daemon import Daemon
from trio_process._daemon.systemd import Notifier


class Manager:
    """Stands for the service manager."""

    def __init__(self, sock):
        self.sock = sock

    async def receive(self):
        with trio.fail_after(10):
            while True:
                try:
                    return self.sock.recv(1000).decode()
                except BlockingIOError:
                    await trio.lowlevel.wait_readable(self.sock)

    def rest(self):
        found = []
        while True:
            try:
                found.append(self.sock.recv(1000).decode())
            except BlockingIOError:
                return found


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path, monkeypatch):
    name = str(tmp_path / "notify") if request.param == "path" else f"@trio-process-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.bind(name.replace("@", "\0"))
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        yield Manager(sock)


async def test_ready_is_told_with_readiness_and_only_once(manager):
    with trio.fail_after(30):
        async with Daemon(ready=False, signals=False) as daemon:
            assert manager.rest() == []
            daemon.set_ready(True)
            assert manager.rest() == ["READY=1"]
            daemon.set_ready(False)
            daemon.set_ready(True)
            assert manager.rest() == []
            daemon.stop()
            assert manager.rest() == ["STOPPING=1"]
        assert manager.rest() == []


async def test_a_daemon_that_is_ready_from_the_first_says_so_when_it_is_entered(manager):
    with trio.fail_after(30):
        async with Daemon(health_addr="127.0.0.1:0", signals=False) as daemon:
            assert manager.rest() == ["READY=1"]
            daemon.health.set_ready(False)
            daemon.health.set_ready(True)
        assert manager.rest() == ["STOPPING=1"]


async def test_readiness_set_on_the_health_server_counts_too(manager):
    with trio.fail_after(30):
        async with Daemon(health_addr="127.0.0.1:0", ready=False, signals=False) as daemon:
            daemon.health.set_ready(True)
            assert manager.rest() == ["READY=1"]


async def test_the_variables_are_taken_from_children_and_given_back(manager, monkeypatch):
    monkeypatch.setenv("WATCHDOG_USEC", "60000000")
    with trio.fail_after(30):
        for _ in range(2):
            async with Daemon(signals=False):
                assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC"} & os.environ.keys()
            assert {"NOTIFY_SOCKET", "WATCHDOG_USEC"} <= os.environ.keys()
            told = manager.rest()
            assert told[0] == "READY=1"
            assert told[-1] == "STOPPING=1\nWATCHDOG_USEC=0"


async def test_the_watchdog_is_kept_quiet_only_while_the_checks_pass(manager, monkeypatch):
    monkeypatch.setenv("WATCHDOG_USEC", "20000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    healthy = True
    asked = 0

    def check():
        nonlocal asked
        asked += 1
        return healthy

    with trio.fail_after(30):
        async with Daemon(health_checks=[check], signals=False):
            assert await manager.receive() == "READY=1"
            for _ in range(3):
                assert await manager.receive() == "WATCHDOG=1"
            healthy = False
            before = asked
            while asked < before + 2:
                await trio.sleep(0.01)
            manager.rest()
            before = asked
            while asked < before + 3:
                await trio.sleep(0.01)
            assert manager.rest() == []


@pytest.mark.parametrize("by", ["stop", "leave"])
async def test_the_watchdog_is_ended_by_the_stop_because_checks_may_fail_and_outer_blocks_take_long(
    manager, monkeypatch, by
):
    monkeypatch.setenv("WATCHDOG_USEC", "20000")
    with trio.fail_after(30):
        async with Daemon(signals=False) as daemon:
            assert await manager.receive() == "READY=1"
            assert await manager.receive() == "WATCHDOG=1"
            if by == "stop":
                daemon.stop()
        found = [message for message in manager.rest() if message != "WATCHDOG=1"]
    assert found == ["STOPPING=1\nWATCHDOG_USEC=0"]


@pytest.mark.parametrize(
    "variables",
    [
        {"WATCHDOG_USEC": "20000", "WATCHDOG_PID": "1"},
        {"WATCHDOG_USEC": "x"},
        {"WATCHDOG_USEC": "-5"},
        {"WATCHDOG_USEC": "9" * 400},
        {"WATCHDOG_USEC": "20000", "WATCHDOG_PID": "9" * 5000},
        {"WATCHDOG_USEC": "٢٠٠٠٠"},
        {},
    ],
)
def test_a_watchdog_that_is_not_for_us_gets_nothing(manager, monkeypatch, variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with Notifier.from_environment() as notifier:
        assert notifier.watchdog == 0


async def test_a_reload_is_told_with_its_time_and_its_end(manager):
    with trio.fail_after(30):
        async with Daemon() as daemon:
            daemon.on_reload(lambda: None)
            assert await manager.receive() == "READY=1"
            os.kill(os.getpid(), signal.SIGHUP)
            assert re.fullmatch(r"RELOADING=1\nMONOTONIC_USEC=\d+", await manager.receive())
            assert await manager.receive() == "READY=1"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("line 3:\n  no such key"), "ValueError: line 3: no such key"),
        (TimeoutError(), "TimeoutError"),
    ],
)
@pytest.mark.parametrize("is_async", [False, True])
async def test_a_reload_that_fails_is_the_status_until_one_succeeds(manager, error, text, is_async):
    errors = [error, error, None, None]

    def reload():
        if (found := errors.pop(0)) is not None:
            raise found

    async def reload_later():
        await trio.lowlevel.checkpoint()
        reload()

    async def reload_now():
        os.kill(os.getpid(), signal.SIGHUP)
        assert (await manager.receive()).startswith("RELOADING=1\n")
        return await manager.receive()

    with trio.fail_after(30):
        async with Daemon() as daemon:
            daemon.on_reload(reload_later if is_async else reload)
            assert await manager.receive() == "READY=1"
            assert await reload_now() == f"READY=1\nSTATUS=reloading failed: {text}"
            assert await reload_now() == "READY=1"
            assert await reload_now() == "READY=1\nSTATUS="
            assert await reload_now() == "READY=1"


def test_a_status_that_is_not_utf_8_is_sent_escaped(manager):
    with Notifier.from_environment() as notifier:
        notifier.ready()
        notifier.reloaded("no file \udcff")
    assert manager.rest() == ["READY=1", "READY=1\nSTATUS=no file \\udcff"]


async def test_a_reload_without_a_handler_is_answered_so_that_systemctl_does_not_wait(manager):
    with trio.fail_after(30):
        async with Daemon() as daemon:
            assert await manager.receive() == "READY=1"
            os.kill(os.getpid(), signal.SIGHUP)
            assert re.fullmatch(r"RELOADING=1\nMONOTONIC_USEC=\d+", await manager.receive())
            assert await manager.receive() == "READY=1\nSTATUS=nothing reloaded: no on_reload handler yet"
            daemon.on_reload(lambda: None)
            os.kill(os.getpid(), signal.SIGHUP)
            assert (await manager.receive()).startswith("RELOADING=1\n")
            assert await manager.receive() == "READY=1\nSTATUS="


async def test_nothing_is_reported_of_a_hangup_before_readiness(manager, caplog):
    caplog.set_level(logging.INFO, "trio_process")
    with trio.fail_after(30):
        async with Daemon(ready=False):
            os.kill(os.getpid(), signal.SIGHUP)
            await wait_until(lambda: "SIGHUP ignored: no on_reload handler yet" in caplog.text)
        assert manager.rest() == ["STOPPING=1"]


@pytest.mark.parametrize("address", ["/nonexistent/socket", "vsock:2:1234"])
async def test_a_manager_that_cannot_be_reached_is_a_log_record(monkeypatch, caplog, address):
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    with trio.fail_after(30):
        async with Daemon(signals=False):
            pass
    assert "service manager" in caplog.text


def fill(name):
    """Send until nothing more is taken from a new sender; return how many messages were."""
    sent = 0
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender, contextlib.suppress(BlockingIOError):
        sender.setblocking(False)
        while True:
            sender.sendto(b"FULL", name)
            sent += 1
    return sent


@pytest.fixture
def deaf(tmp_path, monkeypatch):
    """A service manager that reads nothing, and has no room left."""
    name = str(tmp_path / "deaf")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.bind(name)
        while fill(name):
            pass  # a queue of hundreds (net.unix.max_dgram_qlen) has room for more than one sender's buffer
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        yield Manager(sock)


def state_messages(found):
    """The messages about states, without the watchdog's pings and what filled the queue."""
    return [message.partition("=")[0] for message in found if message not in ("FULL", "WATCHDOG=1")]


def unsent(caplog):
    texts = [record.getMessage() for record in caplog.records if "could not be sent" in record.getMessage()]
    return [re.search(r"'(\w+)", text)[1] for text in texts]


async def test_a_manager_that_reads_nothing_never_blocks_the_loop(deaf, monkeypatch, caplog):
    monkeypatch.setenv("WATCHDOG_USEC", "20000")
    with trio.fail_after(60):
        began = trio.current_time()
        async with Daemon() as daemon:
            daemon.on_reload(lambda: None)
            os.kill(os.getpid(), signal.SIGHUP)
            await trio.sleep(0.1)  # ten pings, each of which took half a second of the loop
            assert trio.current_time() - began < 3
        # READY, RELOADING, READY and STOPPING have half a second each
        await wait_until(lambda: len(unsent(caplog)) == 4)
    assert unsent(caplog) == ["READY", "RELOADING", "READY", "STOPPING"]


async def test_what_found_no_room_at_first_is_sent_in_its_order(deaf):
    with trio.fail_after(60):
        async with Daemon(signals=False) as daemon:
            daemon.stop()
            found = []
            while len(state_messages(found)) < 2:
                found.append(await deaf.receive())
    assert state_messages(found) == ["READY", "STOPPING"]


async def test_a_reload_that_is_in_progress_at_the_stop_is_not_reported_any_more(manager):
    with trio.fail_after(60):
        async with Daemon(health_addr="127.0.0.1:0") as daemon:
            started, go_on, ended = trio.Event(), trio.Event(), trio.Event()

            @daemon.on_reload
            async def reload():
                started.set()
                await go_on.wait()
                ended.set()

            os.kill(os.getpid(), signal.SIGHUP)
            await started.wait()
            daemon.stop()
            daemon.set_ready(False)
            daemon.set_ready(True)
            go_on.set()
            await ended.wait()
        assert state_messages(manager.rest()) == ["READY", "RELOADING", "STOPPING"]


async def test_a_hangup_while_stopping_is_ignored(manager, caplog):
    caplog.set_level(logging.INFO, "trio_process")
    with trio.fail_after(60):
        async with Daemon() as daemon:
            daemon.on_reload(lambda: pytest.fail("reloaded while stopping"))
            daemon.stop()
            os.kill(os.getpid(), signal.SIGHUP)
            await wait_until(lambda: "SIGHUP ignored: the daemon is stopping" in caplog.text)
        assert state_messages(manager.rest()) == ["READY", "STOPPING"]
