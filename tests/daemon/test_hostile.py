"""The health server under hostile clients: it lives, and its stop stays within its bound."""

import logging
import os
import resource
import socket
import time
from contextlib import contextmanager

import pytest
import trio
import trio.testing

from trio_process._daemon import HealthServer, probe_health
from trio_process.testing import hostile

PROBE = b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
STOP_BOUND = 3.0


def descriptors():
    return len(os.listdir("/proc/self/fd"))


async def is_healthy(addr):
    ok, why = await probe_health(addr, timeout=5)
    assert ok, why


@pytest.mark.parametrize("attack", hostile.ATTACKS, ids=lambda attack: attack.__name__)
async def test_an_attacked_server_answers_others_stops_in_time_and_fills_no_log(attack, caplog):
    with trio.fail_after(30):
        async with HealthServer("127.0.0.1:0") as server:
            await is_healthy(server.addr)  # warm: what is imported late is imported
        before = descriptors()
        async with trio.open_nursery() as nursery:
            async with HealthServer("127.0.0.1:0") as server:
                for _ in range(3):
                    await nursery.start(attack, server.addr)
                await is_healthy(server.addr)
                await trio.sleep(0.05)  # let the attack go on for a while
                await is_healthy(server.addr)
                began = trio.current_time()
            assert trio.current_time() - began < STOP_BOUND
            nursery.cancel_scope.cancel()
        assert descriptors() <= before
    assert not any(record.exc_info for record in caplog.records if record.levelno > logging.DEBUG)


async def test_all_attacks_at_once_and_a_cancellation_from_outside():
    with trio.fail_after(30):
        async with trio.open_nursery() as attackers:
            with trio.CancelScope() as scope:
                async with HealthServer("127.0.0.1:0") as server:
                    for attack in hostile.ATTACKS:
                        await attackers.start(attack, server.addr)
                    await is_healthy(server.addr)
                    began = trio.current_time()
                    scope.cancel()
                    await trio.sleep_forever()
            assert scope.cancelled_caught
            assert trio.current_time() - began < STOP_BOUND
            attackers.cancel_scope.cancel()


async def test_a_client_that_connects_in_the_moment_in_which_the_server_is_left_does_no_harm():
    with trio.fail_after(30):
        for _ in range(20):  # which of two tasks that are woken together runs first is up to chance
            async with HealthServer("127.0.0.1:0") as server:
                await trio.testing.wait_all_tasks_blocked()
                host, port = server.addr.rsplit(":", 1)
                with socket.create_connection((host, int(port))):
                    await trio.lowlevel.checkpoint()  # it wakes the task that accepts, and us


async def test_a_hung_check_and_a_client_that_waits_for_it_do_not_hold_up_the_stop():
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            async with HealthServer("127.0.0.1:0", checks=[trio.sleep_forever], check_timeout=60) as server:
                answers = []

                async def ask():
                    answers.append(await hostile.exchange(server.addr, PROBE))

                nursery.start_soon(ask)
                while not server._state.checkup._round:
                    await trio.sleep(0.01)
                began = trio.current_time()
            assert trio.current_time() - began < STOP_BOUND
        assert b"503" in answers[0]
        assert b"being left" in answers[0]


async def test_a_client_that_never_reads_is_cut_off_while_the_server_lives(monkeypatch):
    from trio_process._daemon.health import connection

    monkeypatch.setattr(connection, "_SEND_TIMEOUT", 0.1)
    with trio.fail_after(30):
        async with (
            HealthServer("127.0.0.1:0") as server,
            await hostile.connect(server.addr, receive_buffer=4096) as stream,
        ):
            with pytest.raises(trio.BrokenResourceError):
                while True:
                    await stream.send_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n" * 1000)
            await is_healthy(server.addr)


@pytest.mark.parametrize(
    "sent", [b"", b"GET /hea", PROBE.replace(b"close", b"keep-alive")], ids=["silent", "half", "idle"]
)
async def test_idle_and_half_sent_connections_are_closed(monkeypatch, sent):
    from trio_process._daemon.health import accept as http

    monkeypatch.setattr(http, "_IDLE_LIMIT", 0.2)
    with trio.fail_after(30):
        async with HealthServer("127.0.0.1:0") as server, await hostile.connect(server.addr) as stream:
            await stream.send_all(sent)
            async for _ in stream:
                pass  # ends when the server closes


async def test_a_connection_whose_client_has_left_is_closed_at_once():
    with trio.fail_after(30):
        async with HealthServer("127.0.0.1:0") as server:
            await is_healthy(server.addr)
            before = descriptors()
            for _ in range(20):
                async with await hostile.connect(server.addr) as stream:
                    await stream.send_all(PROBE.replace(b"close", b"keep-alive"))
                    await stream.receive_some()
            with trio.fail_after(2):  # hypercorn's own keep-alive time is 5 s
                while descriptors() > before:
                    await trio.sleep(0.01)


@pytest.mark.parametrize(
    ("request_", "status", "ending"),
    [
        (b"GET /health HTTP/1.0\r\n\r\n", b"200", b"\r\n\r\nok\n"),
        (b"HEAD /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", b"200", b"\r\n\r\n"),
        (b"POST /health HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi", b"405", b""),
        (b"GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi", b"200", b"ok\n"),
        (b"GET /health?a=b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", b"200", b"ok\n"),
        (b"GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", b"404", b""),
        (b"GET /health HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 40_000, b"431", b""),
        (b"GET /health HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\nConnection: Upgrade, close\r\n\r\n", b"200", b"ok\n"),
        (b"NONSENSE\r\n\r\n", b"400", b""),
    ],
    ids=["http10", "head", "post", "get-with-body", "query", "not-found", "large-header", "h2c", "nonsense"],
)
async def test_a_request_out_of_the_ordinary_gets_its_answer(request_, status, ending):
    with trio.fail_after(30):
        async with HealthServer("127.0.0.1:0") as server:
            answer = await hostile.exchange(server.addr, request_)
            assert answer.split(b" ")[1] == status, answer
            assert answer.endswith(ending)


async def test_pipelined_requests_are_answered_in_order():
    with trio.fail_after(30):
        async with HealthServer("127.0.0.1:0", ready=False) as server:
            request = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\nGET /ready HTTP/1.1\r\nHost: x\r\n\r\n"
            answer = await hostile.exchange(server.addr, request * 50 + PROBE)
            assert [part[:3] for part in answer.split(b"HTTP/1.1 ")[1:]] == [b"200", b"503"] * 50 + [b"200"]


async def test_a_half_closed_client_still_gets_its_answer():
    with trio.fail_after(30):
        async with HealthServer("127.0.0.1:0") as server, await hostile.connect(server.addr) as stream:
            await stream.send_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            await stream.send_eof()
            answer = b""
            async for chunk in stream:
                answer += chunk
            assert answer.endswith(b"ok\n")


@pytest.mark.bound(240)
async def test_two_thousand_silent_connections_keep_no_probe_out():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 5000:
        pytest.skip("needs 5000 descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (5000, hard))
    try:
        with trio.fail_after(200):  # 2,000 connections at once take a busy machine long
            async with trio.open_nursery() as nursery:
                async with HealthServer("127.0.0.1:0", max_connections=100) as server:
                    await nursery.start(hostile.crowd, server.addr, 2000)
                    await is_healthy(server.addr)
                    began = trio.current_time()
                assert trio.current_time() - began < STOP_BOUND
                nursery.cancel_scope.cancel()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextmanager
def few_descriptors(left):
    """Leave this process `left` descriptors: the limit is put right above the highest that is open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1 + left, hard))
    filled = []
    try:
        while True:
            filled.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        pass  # EMFILE: that was the last
    for _ in range(left):
        os.close(filled.pop())
    try:
        yield
    finally:
        for descriptor in filled:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_a_server_out_of_descriptors_lives_says_so_once_and_serves_again(caplog):
    with trio.fail_after(30):
        async with HealthServer("127.0.0.1:0") as server:
            await is_healthy(server.addr)
            host, port = server.addr.split(":")
            client = socket.socket()
            client.settimeout(10)
            with client, caplog.at_level(logging.ERROR, "trio_process"):
                with few_descriptors(0):
                    client.connect((host, int(port)))
                    client.sendall(PROBE)
                    while not caplog.records:
                        await trio.sleep(0.01)
                    await trio.sleep(0.25)
                    assert len(caplog.records) == 1
                    assert "ulimit" in caplog.text
                # the one that had to wait is served now
                answer = await trio.to_thread.run_sync(client.recv, 1000)
                assert answer.startswith(b"HTTP/1.1 200")
            await is_healthy(server.addr)


async def test_an_idle_connection_makes_room_when_descriptors_run_out():
    with trio.fail_after(30):
        async with HealthServer("127.0.0.1:0") as server:
            await is_healthy(server.addr)
            host, port = server.addr.split(":")
            with socket.socket() as client:
                client.settimeout(10)
                async with await hostile.connect(server.addr):
                    await is_healthy(server.addr)  # so that the silent one has been accepted
                    with few_descriptors(0):
                        client.connect((host, int(port)))
                        client.sendall(PROBE)
                        while not (await readable(client)):
                            await trio.sleep(0.01)
                        assert client.recv(1000).startswith(b"HTTP/1.1 200")


async def readable(sock):
    with trio.move_on_after(0.05):
        await trio.lowlevel.wait_readable(sock)
        return True
    return False


async def test_a_thousand_probes_at_once_of_a_slow_check_share_its_run():
    calls = 0

    async def slow():
        nonlocal calls
        calls += 1
        await trio.sleep(0.3)

    answers = []
    with trio.fail_after(60):
        async with HealthServer("127.0.0.1:0", checks=[slow], max_connections=1100) as server:

            async def ask():
                answers.append(await hostile.exchange(server.addr, PROBE))

            async with trio.open_nursery() as nursery:
                for _ in range(400):
                    nursery.start_soon(ask)
        assert all(answer.startswith(b"HTTP/1.1 200") for answer in answers)
        assert len(answers) == 400
        assert calls <= 100  # a round per 0.3 s, and connecting takes half a minute at most; without sharing it is 400


async def test_a_probe_that_has_asked_makes_no_room_because_the_loop_was_held_up():
    with trio.fail_after(60):
        for _ in range(10):  # which of two tasks that are woken together runs first is up to chance
            async with HealthServer("127.0.0.1:0", max_connections=1) as server:
                host, port = server.addr.split(":")
                with socket.create_connection((host, int(port))) as first:
                    first.settimeout(20)
                    await trio.testing.wait_all_tasks_blocked(0.01)  # it has been accepted
                    first.sendall(PROBE)
                    with socket.create_connection((host, int(port))):
                        time.sleep(0.15)  # longer than a connection may be idle when others wait
                        answer = await trio.to_thread.run_sync(first.recv, 1000)
            assert answer.startswith(b"HTTP/1.1 200")


async def test_more_probes_than_connections_of_a_slow_check_all_get_their_answer(monkeypatch):
    from trio_process._daemon.health import accept as http

    # client and server share this loop: one that is held up between a connection and its request is no hostile one
    monkeypatch.setattr(http, "_MIN_IDLE", 20.0)
    answers = []

    with trio.fail_after(60):
        async with HealthServer("127.0.0.1:0", checks=[lambda: trio.sleep(0.1)], max_connections=8) as server:

            async def ask():
                answers.append(await hostile.exchange(server.addr, PROBE))

            async with trio.open_nursery() as nursery:
                for _ in range(40):
                    nursery.start_soon(ask)
        assert [answer[:12] for answer in answers] == [b"HTTP/1.1 200"] * 40
