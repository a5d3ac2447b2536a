"""Hostile HTTP clients over raw sockets, to test a health server or any other server with.

Each attack is an async function for `nursery.start`: it is in progress when that call returns, until it is cancelled.

>>> async with trio.open_nursery() as nursery:
...     for attack in ATTACKS:
...         await nursery.start(attack, server.addr)
...     assert await wait_for_health(server.addr, timeout=1)
...     nursery.cancel_scope.cancel()
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Awaitable
from typing import Final, Protocol

import trio

from .._core import open_unix_stream

__all__ = [
    "ATTACKS",
    "Attack",
    "bad_chunk",
    "bad_h2_preface",
    "bad_h2c_upgrade",
    "bad_path",
    "bad_websocket_upgrade",
    "connect",
    "crowd",
    "exchange",
    "garbage",
    "half_close",
    "half_header",
    "large_header",
    "never_reads",
    "reset_mid_response",
    "silent",
    "slow_body",
    "slow_chunks",
    "slow_header",
    "tls_hello",
]

_RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER with no time: close() sends a reset (socket(7))


class Attack(Protocol):
    """An async function that misbehaves at `addr` until it is cancelled."""

    __name__: str

    def __call__(self, addr: str, *, task_status: trio.TaskStatus[None] = ...) -> Awaitable[None]:
        """Misbehave."""


async def connect(addr: str, *, receive_buffer: int = 0) -> trio.SocketStream:
    """Return a connection to ``host:port`` or ``unix:/path``.

    Args:
        addr: The address.
        receive_buffer: The size of the kernel's receive buffer in bytes; a small one soon blocks a server whose responses
            are not read. 0 for the default.
    """
    if addr.startswith("unix:"):
        return await open_unix_stream(addr.removeprefix("unix:"))
    host, _, port = addr.rpartition(":")
    host = host.strip("[]") or "localhost"
    if not receive_buffer:
        return await trio.open_tcp_stream(host, int(port))
    sock = trio.socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)  # before connect: it limits the window
    await sock.connect((host, int(port)))
    return trio.SocketStream(sock)


async def exchange(addr: str, data: bytes) -> bytes:
    """Send `data` and return everything that is received until the server closes the connection."""
    async with await connect(addr) as stream:
        await stream.send_all(data)
        answer = b""
        try:
            async for chunk in stream:
                answer += chunk
        except trio.BrokenResourceError:
            pass  # a reset ends an answer, too
        return answer


def _sends(name: str, description: str, data: bytes, *, then: bytes = b"", pause: float = 0.05) -> Attack:
    """Return an attack that sends `data`, and then `then` bit by bit; it reads nothing."""

    async def attack(addr: str, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with await connect(addr) as stream:
            await stream.send_all(data)
            task_status.started()
            try:
                while then:
                    await stream.send_all(then)
                    await trio.sleep(pause)
            except trio.BrokenResourceError:
                pass  # the server has had enough
            await trio.sleep_forever()

    attack.__name__ = attack.__qualname__ = name
    attack.__doc__ = description
    return attack


silent: Attack = _sends("silent", "Connect and send nothing.", b"")
slow_header: Attack = _sends(
    "slow_header", "Send a header that never ends.", b"GET /health HTTP/1.1\r\nHost: x\r\n", then=b"A: b\r\n"
)
half_header: Attack = _sends("half_header", "Send half a request line.", b"GET /hea")
slow_body: Attack = _sends(
    "slow_body",
    "Announce a body and send it a byte at a time.",
    b"POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n",
    then=b"x",
)
slow_chunks: Attack = _sends(
    "slow_chunks",
    "Ask for the health with a body that never ends.",
    b"GET /health HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 40,
    then=b"1\r\nx\r\n",
)
bad_websocket_upgrade: Attack = _sends(
    "bad_websocket_upgrade",
    "Upgrade to WebSocket with a byte too many.",
    b"GET /health HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\nx",
)
bad_h2c_upgrade: Attack = _sends(
    "bad_h2c_upgrade",
    "Upgrade to HTTP/2 with settings that can't be decoded.",
    b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: a\r\n\r\n",
)
bad_h2_preface: Attack = _sends(
    "bad_h2_preface", "Speak HTTP/2 at once, with bad frames.", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 64
)
large_header: Attack = _sends(
    "large_header", "Send a header of 40 kB.", b"GET /health HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 40_000 + b"\r\n\r\n"
)
garbage: Attack = _sends("garbage", "Send bytes that are not HTTP.", bytes(range(256)) * 8)
tls_hello: Attack = _sends(
    "tls_hello", "Begin TLS with a server that does not speak it.", bytes.fromhex("16030100c8010000c40303") + bytes(200)
)
bad_chunk: Attack = _sends(
    "bad_chunk",
    "Send a chunk whose size is not a number.",
    b"POST /health HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
)
bad_path: Attack = _sends(
    "bad_path", "Ask for a path that is not valid.", b"GET http://[x/\xff%ff%00 HTTP/1.1\r\nHost: [\r\n\r\n"
)


async def never_reads(addr: str, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """Send a thousand requests, then more for as long as the server reads them, and never read a response."""
    async with await connect(addr, receive_buffer=4096) as stream:
        request = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
        with trio.move_on_after(0.2):
            await stream.send_all(request * 1000)
        task_status.started()
        try:
            while True:
                await stream.send_all(request * 1000)
        except trio.BrokenResourceError:
            await trio.sleep_forever()


async def reset_mid_response(addr: str, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """Send requests and reset the connection during the response, again and again."""
    while True:
        try:
            stream = await connect(addr)
            with stream.socket:
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                await stream.send_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n" * 20)
                await stream.receive_some(10)
        except (OSError, trio.BrokenResourceError):
            pass  # the server is gone, or going
        task_status.started()
        task_status = trio.TASK_STATUS_IGNORED
        await trio.sleep(0.01)


async def half_close(addr: str, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """Send a request, close the sending side, and stay connected."""
    async with await connect(addr) as stream:
        await stream.send_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        await stream.send_eof()
        task_status.started()
        await trio.sleep_forever()


async def crowd(addr: str, count: int = 2000, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """Open `count` connections and send nothing; a connection that the server closes is not opened again."""
    streams: list[trio.SocketStream] = []
    try:
        for _ in range(count):
            streams.append(await connect(addr))  # noqa: PERF401 - kept also if the next one fails
        task_status.started()
        await trio.sleep_forever()
    finally:
        for stream in streams:
            stream.socket.close()


ATTACKS: Final[tuple[Attack, ...]] = (
    silent,
    slow_header,
    half_header,
    slow_body,
    slow_chunks,
    bad_websocket_upgrade,
    bad_h2c_upgrade,
    bad_h2_preface,
    large_header,
    garbage,
    tls_hello,
    bad_chunk,
    bad_path,
    never_reads,
    reset_mid_response,
    half_close,
)
"""Every attack that needs one connection at a time; `crowd` is not among them, as it needs descriptors."""
