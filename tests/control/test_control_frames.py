"""Frames of a WebSocket: those that break the protocol end it with the reason, and none comes within another."""

import gc
import json
import struct
import time
from contextlib import asynccontextmanager

import pytest
import trio
from asking import LIMIT, ask, connect, serving
from trio.testing import wait_all_tasks_blocked
from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection, Ping, Pong, TextMessage

FIN, TEXT, BINARY, CLOSE, PING = 0x80, 1, 2, 8, 9


def frame(first, payload=b"", length=None):
    """Return a frame of a client, masked with zeros."""
    length = len(payload) if length is None else length
    if length < 126:
        head = struct.pack("!BB", first, 0x80 | length)
    elif length < 2**16:
        head = struct.pack("!BBH", first, 0xFE, length)
    else:
        head = struct.pack("!BBQ", first, 0xFF, length)
    return head + bytes(4) + payload


def closing(code, reason=b""):
    return frame(FIN | CLOSE, struct.pack("!H", code) + reason)


BAD = [
    (b"\x81\x02hi", 1002),  # not masked
    (frame(FIN | 0x40 | TEXT, b"x"), 1002),  # a reserved bit
    (frame(FIN | 0x10 | TEXT, b"x"), 1002),
    (frame(FIN | 3), 1002),  # a reserved opcode
    (frame(FIN | 11), 1002),
    (frame(PING, b"x"), 1002),  # a control frame in fragments
    (frame(FIN | PING, b"x" * 126), 1002),
    (frame(FIN, b"x"), 1002),  # it continues nothing
    (frame(TEXT, b"x") + frame(FIN | TEXT, b"y"), 1002),
    (b"\x81\xfe\x00\x02" + bytes(4) + b"hi", 1002),  # a length in more bytes than it needs
    (frame(FIN | TEXT, length=2**63), 1002),
    (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", 1002),
    (frame(FIN | CLOSE, b"\x03"), 1002),
    (closing(999), 1002),
    (closing(1005), 1002),
    (closing(1000, b"\xff"), 1007),
    (frame(FIN | TEXT, b"\xff"), 1007),
    (frame(TEXT, b"\xe2\x82") + frame(FIN, b"x"), 1007),  # half a character
    (frame(FIN | BINARY, bytes(2**20 + 1)), 1009),
    (b"".join([frame(TEXT, b"x" * 65000), *[frame(0, b"x" * 65000)] * 16]), 1009),
    (closing(1000), 1000),
    (closing(3000, b"bye"), 3000),
    (frame(FIN | CLOSE), 1005),
    (closing(1000) + frame(FIN | TEXT, b"more"), 1000),
]


@asynccontextmanager
async def opened(control, after=b""):
    """Open a WebSocket, send frames right after the handshake, and give the stream and the client's half of the protocol."""
    lines = [
        "GET /api/process/events HTTP/1.1",
        "Host: localhost",
        "Connection: upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
        "Sec-WebSocket-Version: 13",
        f"Authorization: Bearer {control.token.reveal()}",
    ]
    with trio.fail_after(LIMIT):
        stream = await connect(control)
        async with stream:
            await stream.send_all("\r\n".join([*lines, "", ""]).encode())
            data = b""
            while b"\r\n\r\n" not in data:
                data += await stream.receive_some(1000)
            head, _, rest = data.partition(b"\r\n\r\n")
            assert b" 101 " in head
            await stream.send_all(after)
            yield stream, Connection(ConnectionType.CLIENT, trailing_data=rest)


async def received(stream, client):
    """Yield the events of a client until the server closes its connection."""
    while True:
        for event in client.events():
            yield event
        try:
            data = await stream.receive_some(2**16)
        except trio.BrokenResourceError:
            return  # it had not read everything
        if not data:
            return
        client.receive_data(data)


async def test_a_frame_that_breaks_the_protocol_ends_the_stream_with_its_code():
    async with serving() as (control, _):
        for data, code in BAD:
            async with opened(control) as (stream, client):
                await stream.send_all(data)
                codes = [event.code async for event in received(stream, client) if isinstance(event, CloseConnection)]
            assert codes == [code], data[:80]
        assert b"streams_open 0" in (await ask(control, "GET", "/metrics")).body


async def test_a_message_in_fragments_and_pings_between_them_is_no_fault():
    async with serving() as (control, _):
        pieces = [frame(TEXT, b"\xe2\x82"), frame(FIN | PING, b"mine"), frame(FIN, b"\xac"), closing(1000)]
        async with opened(control) as (stream, client):
            for piece in pieces:
                for byte in piece:
                    await stream.send_all(bytes([byte]))
            events = [event async for event in received(stream, client)]
        assert [bytes(event.payload) for event in events if isinstance(event, Pong)] == [b"mine"]
        assert events[-1].code == 1000


@pytest.fixture
def _no_collections():
    gc.disable()  # one of a large heap takes longer than what is measured
    yield
    gc.enable()


@pytest.mark.usefixtures("_no_collections")
async def test_a_flood_of_empty_frames_leaves_others_their_turn():
    longest = 0.0

    async def measure():
        nonlocal longest
        while True:
            began = time.thread_time()
            await trio.lowlevel.checkpoint()
            longest = max(longest, time.thread_time() - began)

    async with serving() as (control, _), opened(control, frame(TEXT)) as (stream, client):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(measure)
            await stream.send_all(frame(0) * 11_000 + closing(1000))
            events = [event async for event in received(stream, client)]
            nursery.cancel_scope.cancel()
    assert events[-1].code == 1000
    assert longest < 0.03


async def test_no_ping_comes_within_a_message_that_waits_for_a_slow_reader(tmp_path, caplog):
    async with serving(f"unix:{tmp_path}/s") as (control, service):
        long = ["x" * 100_000] * 8  # the snapshot is larger than the buffers of the socket
        await service.start("sh", "-c", "exec sleep 1000", *long)
        async with opened(control, frame(FIN | PING, b"mine") * 30) as (stream, client):
            await wait_all_tasks_blocked()
            await stream.send_all(closing(1000))
            text, pongs = "", 0
            async for event in received(stream, client):
                match event:
                    case TextMessage():
                        text += event.data
                    case Pong():
                        pongs += 1
                    case Ping() | CloseConnection():
                        pass
        assert json.loads(text)["type"] == "snapshot"
        assert pongs == 30
        assert not caplog.records
