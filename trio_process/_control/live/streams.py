"""Serve the event stream: Server-Sent Events, or the same objects over a WebSocket."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import trio

from ..._core import ProcessError, open_scope
from ..._daemon import corked
from ..message import Receive, Request, Send, encode
from ..problem import Problem, invalid
from .hub import CHANNELS, Client, Wish, stamp
from .plane import Plane
from .services import of_failure

BEAT: Final = 15.0
"""Seconds of silence after which a heartbeat is sent."""

_Write = Callable[[Sequence[str]], Awaitable[None]]


def wish_of(request: Request) -> Wish:
    """Return the selection that a client requests in its query.

    Raises:
        Problem: The query names a channel that doesn't exist.
    """
    channels = request.names("channels")
    unknown = sorted(channels - set(CHANNELS))
    if unknown:
        raise invalid("channels", f"{unknown[0]!r} is not a channel; there are {', '.join(CHANNELS)}")
    return Wish(channels, request.names("service"), request.flag("batch"))


async def serve_events(plane: Plane, request: Request, receive: Receive, send: Send) -> None:
    """Answer ``GET /events`` as a stream of Server-Sent Events (HTML standard, section 9.2)."""
    wish = wish_of(request)

    async def write(messages: Sequence[str]) -> None:
        await body(send, b"".join([b"data: %b\n\n" % message.encode("ascii") for message in messages]) or b": beat\n\n")

    with plane.stream_place():
        await begin(send, b"text/event-stream")
        await _until_left(plane, wish, receive, write, "http.disconnect")
        await send({"type": "http.response.body", "body": b""})


async def begin(send: Send, content_type: bytes) -> None:
    """Send the head of a chunked answer."""
    headers = [(b"content-type", content_type), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})


async def body(send: Send, data: bytes) -> None:
    """Send a chunk of a body."""
    await send({"type": "http.response.body", "body": data, "more_body": True})


async def serve_websocket(plane: Plane, request: Request, receive: Receive, send: Send) -> None:
    """Answer a WebSocket handshake at ``/events``; messages from the client are ignored."""
    wish = wish_of(request)

    async def write(messages: Sequence[str]) -> None:
        async with corked():
            for message in messages:  # the heartbeat is a ping frame of the protocol
                await send({"type": "websocket.send", "text": message})

    with plane.stream_place():
        if (await receive())["type"] != "websocket.connect":
            return
        await send({"type": "websocket.accept"})
        await _until_left(plane, wish, receive, write, "websocket.disconnect")
        await send({"type": "websocket.close", "code": 1001 if plane.closing.is_set() else 1013})


async def _until_left(plane: Plane, wish: Wish, receive: Receive, write: _Write, farewell: str) -> None:
    await plane.catch_up()  # what the snapshot shows already must not come as an event after it
    client = plane.hub.join(wish)
    if plane.hub.is_selected("sample"):
        plane.samples.look()
    try:
        async with open_scope() as nursery:
            nursery.start_soon(watch_leaving, receive, farewell, nursery.cancel_scope)
            await _pump(plane, client, write)
    finally:
        plane.hub.leave(client)


async def watch_leaving(receive: Receive, farewell: str, scope: trio.CancelScope) -> None:
    """Cancel a scope when the client leaves."""
    while (await receive())["type"] != farewell:
        pass
    scope.cancel()


async def _pump(plane: Plane, client: Client, write: _Write) -> None:
    await write([encode(plane.snapshot()).decode("ascii")])
    while not client.hopeless:
        with trio.move_on_after(BEAT):
            await client.wake.wait()
        closing = plane.closing.is_set()
        messages = client.take()
        if closing:
            bye: dict[str, Any] = {
                "type": "bye",
                "reason": "the server is being stopped",
                "timestamp": stamp(time.time()),
            }
            messages.append(encode(bye).decode("ascii"))
        await write(messages)
        if closing:
            return


async def serve_hold(plane: Plane, request: Request, receive: Receive, send: Send) -> None:
    """Answer ``POST /services/NAME/hold``: hold the service for as long as the client reads."""
    name = request.path["name"]
    plane.services.named(name)
    started = False
    with plane.stream_place():
        try:
            async with open_scope() as nursery:
                nursery.start_soon(watch_leaving, receive, "http.disconnect", nursery.cancel_scope)
                with plane.interruptible():
                    async with plane.services.need().hold(name):
                        await begin(send, b"application/x-ndjson")
                        started = True
                        await body(send, encode({"success": True, "data": {"held": name}}) + b"\n")
                        await _beat(plane, send)
        except ProcessError as error:
            if not started:
                raise
            await body(send, encode(of_failure(error).envelope()) + b"\n")
        except Problem:
            if not started:
                raise
        await send({"type": "http.response.body", "body": b""})


async def _beat(plane: Plane, send: Send) -> None:
    while not plane.closing.is_set():
        with trio.move_on_after(BEAT):
            await plane.closing.wait()
            return
        await body(send, b"\n")


def refuse_websocket(problem: Problem) -> list[dict[str, Any]]:
    """Return the messages that answer a handshake with an error (ASGI ``websocket.http.response``)."""
    data = encode(problem.envelope())
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(data)), *problem.headers]
    headers.append((b"cache-control", b"no-store"))
    return [
        {"type": "websocket.http.response.start", "status": problem.status, "headers": headers},
        {"type": "websocket.http.response.body", "body": data},
    ]
