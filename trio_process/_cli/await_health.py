"""When a daemon that was just started counts as healthy: by URL, by a line, by a port, or by being alive."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable
from http import HTTPStatus
from typing import Any, Final

import trio

from .._core import DaemonError
from .._process import ManagedProcess
from .place import Order

_PAUSE: Final = 0.05
_ONE_ATTEMPT: Final = 5.0


async def messages(stream: trio.abc.ReceiveStream) -> AsyncIterator[dict[str, Any]]:
    """Yield what the resident says, until it hangs up or dies."""
    buffer = b""
    async for data in stream:
        *lines, buffer = (buffer + data).split(b"\n")
        for line in lines:
            yield json.loads(line)


async def wait_until_healthy(order: Order, resident: ManagedProcess, said: trio.abc.ReceiveStream) -> int:
    """Wait until the daemon is healthy; return the PID of its command.

    Raises:
        DaemonError: It ended, or was not healthy in time.
    """
    pid = 0
    ready = False
    with trio.move_on_after(order.timeout) as scope:
        async for message in messages(said):
            if "failed" in message:
                await resident.done.wait()
                raise DaemonError(str(message["failed"]))
            pid = message.get("running", pid)
            ready = ready or "ready" in message
        if order.ready_line and not ready:
            await resident.done.wait()
            raise DaemonError(f"it ended before it wrote a line with {order.ready_line!r}")
        if not pid:
            await resident.done.wait()
            raise DaemonError("it ended before its command ran")
        await _while_alive(resident, _condition(order))
    if scope.cancelled_caught:
        raise DaemonError(f"it was not healthy within {order.timeout:g} s")
    return pid


def _condition(order: Order) -> Callable[[], Awaitable[None]]:
    async def wait() -> None:
        if order.health_url:
            await _answers(order.health_url)
        if order.tcp:
            await _accepts(order.tcp)
        if not (order.health_url or order.tcp or order.ready_line):
            await trio.sleep(order.settle)

    return wait


async def _while_alive(resident: ManagedProcess, condition: Callable[[], Awaitable[None]]) -> None:
    async with trio.open_nursery() as nursery:

        async def watch() -> None:
            await resident.done.wait()
            nursery.cancel_scope.cancel()

        nursery.start_soon(watch)
        await condition()
        nursery.cancel_scope.cancel()
    if not resident.is_running:
        raise DaemonError("it ended before it was healthy")


async def _answers(url: str) -> None:
    """Ask until the answer is a success."""
    while not await trio.to_thread.run_sync(_ask, url, abandon_on_cancel=True):  # noqa: ASYNC110 - nothing tells of it
        await trio.sleep(_PAUSE)


def _ask(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=_ONE_ATTEMPT) as answer:  # noqa: S310 - the user's own URL
            return bool(answer.status < HTTPStatus.BAD_REQUEST)
    except (OSError, ValueError):
        return False  # nobody listens yet, or it says that it is not healthy (HTTPError is an OSError)


async def _accepts(address: str) -> None:
    """Connect until somebody accepts."""
    host, _, port = address.rpartition(":")
    while True:
        try:
            stream = await trio.open_tcp_stream(host.strip("[]") or "127.0.0.1", int(port))
        except OSError:
            await trio.sleep(_PAUSE)
        else:
            await stream.aclose()
            return
