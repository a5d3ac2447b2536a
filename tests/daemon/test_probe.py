"""Asking a health server from outside."""

import math
import socket
from contextlib import suppress
from functools import partial

import pytest
import trio

from trio_process._core import OptionError
from trio_process._daemon import HealthServer, probe_health, probe_ready, wait_for_health, wait_for_ready
from trio_process.testing.hostile import connect


@pytest.fixture
async def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]  # bound, but nobody listens


TRIED = 0.7  # seconds, of which a probe that fails takes all: so many are made at once


async def side_by_side(*probes):
    """Make all probes at once; return what they found, in order."""
    found = [None] * len(probes)

    async def make(number, probe):
        found[number] = await probe

    async with trio.open_nursery() as nursery:
        for number, probe in enumerate(probes):
            nursery.start_soon(make, number, probe)
    return found


async def raw_server(nursery, answer):
    """The address of a server that answers everything with `answer`, or nothing if that is None."""

    async def serve(stream):
        async with stream:
            await stream.receive_some()
            if answer is None:
                await trio.sleep_forever()
            with suppress(trio.BrokenResourceError):  # enough was read of it
                await stream.send_all(answer)

    [listener] = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
    return f"127.0.0.1:{listener.socket.getsockname()[1]}"


@pytest.mark.parametrize("addr", ["127.0.0.1:0", ":0", "unix"])
async def test_a_healthy_and_ready_server_is_found(addr, tmp_path):
    with trio.fail_after(30):
        async with HealthServer(addr if addr != "unix" else f"unix:{tmp_path}/s") as server:
            assert await wait_for_health(server.addr, 5)
            assert await wait_for_ready(server.addr, timeout=5)
            assert await probe_health(server.addr, 5) == (True, "")
            assert await probe_ready(server.addr, 5) == (True, "")
            assert await wait_for_health(server.addr, math.inf)


async def test_the_reason_is_what_the_server_says():
    with trio.fail_after(30):
        async with HealthServer("127.0.0.1:0", checks=[lambda: "down"], ready=False) as server:
            server.add_check(lambda: "full", name="disk")
            health, ready, waited = await side_by_side(
                probe_health(server.addr, 2), probe_ready(server.addr, 2), wait_for_ready(server.addr, TRIED)
            )
            assert health == (False, "unhealthy: check 1: down; unhealthy: disk: full")
            assert ready == (False, "not ready")
            assert not waited


async def test_it_waits_until_the_server_gets_ready():
    with trio.fail_after(30):
        async with HealthServer("127.0.0.1:0", ready=False) as server, trio.open_nursery() as nursery:

            async def get_ready():
                await trio.sleep(0.3)
                server.set_ready(True)

            nursery.start_soon(get_ready)
            began = trio.current_time()
            assert await wait_for_ready(server.addr, 10)
            assert 0.25 < trio.current_time() - began < 5


async def test_nobody_there_is_a_refused_connection(free_port):
    with trio.fail_after(30):
        began = trio.current_time()
        number, name, path = await side_by_side(
            probe_health(f"127.0.0.1:{free_port}", TRIED),
            probe_health(f"localhost:{free_port}", TRIED),
            probe_health("unix:/nonexistent/s", TRIED),
        )
        assert TRIED - 0.05 < trio.current_time() - began < 10 * TRIED
        assert number == name == (False, "connection refused")
        assert not path[0]
        assert "No such file" in path[1]


OTHERS = [
    (None, "no answer within 700 ms"),
    (b"", "the server closed the connection without an answer"),
    (b"SSH-2.0-OpenSSH_9\r\n", "the server does not speak HTTP"),
    (b"HTTP/1.1 500 Oh no\r\n\r\n", "HTTP status 500 Oh no"),
    (b"HTTP/1.1 503 x\r\n\r\n" + b"y" * 1000, "y" * 500),
    (b"HTTP/1.1 200 OK\r\n\r\n" + b"y" * 1_000_000, ""),
]


async def test_other_servers_do_not_confuse_it():
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            addresses = [await raw_server(nursery, answer) for answer, _ in OTHERS]
            found = await side_by_side(
                *[
                    probe_health(addr, 2 if answer is not None else TRIED)
                    for addr, (answer, _) in zip(addresses, OTHERS, strict=True)
                ]
            )
            assert found == [(not why, why) for _, why in OTHERS]
            nursery.cancel_scope.cancel()


async def test_it_never_takes_longer_than_its_timeout():
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            addr = await raw_server(nursery, None)
            began = trio.current_time()
            assert not await wait_for_health(addr, 0.2)
            assert not await wait_for_health(addr, 0)
            assert trio.current_time() - began < 2
            nursery.cancel_scope.cancel()


async def test_a_name_that_idna_does_not_allow_is_a_reason():
    with trio.fail_after(30):
        healthy, reason = await probe_health("\N{SNOWMAN}.net:80", 0.1)
    assert not healthy
    assert "not a valid host name" in reason


@pytest.mark.parametrize(
    ("addr", "timeout"), [("nonsense", 1), ("h:0", 1), (":0", 1), ("h:1", -1), ("h:1", math.nan), ("h:1", "soon")]
)
async def test_bad_arguments_are_refused(addr, timeout):
    with pytest.raises(OptionError):
        await probe_health(addr, timeout)


async def test_probes_leave_nothing_behind_at_the_server():
    with trio.fail_after(30):
        async with HealthServer("127.0.0.1:0", max_connections=2) as server:
            async with await connect(server.addr):
                for _ in range(10):
                    assert await wait_for_health(server.addr, 5)
