"""When a daemon that was just started counts as healthy: by URL, by a line, by a port, or by being alive."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import AsyncIterator
from http import HTTPStatus
from http.client import HTTPException
from typing import Any, Final
from urllib.parse import urlsplit

import trio

from ..._core import DaemonError, OptionError, open_scope
from ..._daemon import parse_address
from ..._process import ManagedProcess
from .files import Order

_PAUSE: Final = 0.05
_ONE_ATTEMPT: Final = 5.0


def check_url(url: str) -> str:
    """Return a URL that can be asked, or raise an `OptionError`."""
    try:
        parts = urlsplit(url)
        # port: the attribute raises for one that is none
        fine = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fine = False
    if not fine or not url.isascii() or any(char.isspace() or not char.isprintable() for char in url):
        raise OptionError(f"takes http://HOST:PORT/PATH, got {url!r}")
    return url


def check_tcp(address: str) -> str:
    """Return an address that can be connected to, or raise an `OptionError`."""
    try:
        parsed = parse_address(address)
    except OptionError:
        parsed = None
    if parsed is None or parsed.path or not parsed.port:
        raise OptionError(f"takes HOST:PORT or :PORT, got {address!r}")
    return address


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
        await _while_alive(resident, order)
    if scope.cancelled_caught:
        raise DaemonError(f"it was not healthy within {order.timeout:g} s")
    return pid


async def _while_alive(resident: ManagedProcess, order: Order) -> None:
    """Wait for what the order asks for, as long as there is somebody who can fulfil it."""
    async with open_scope() as nursery:

        async def watch() -> None:
            await resident.done.wait()
            nursery.cancel_scope.cancel()

        nursery.start_soon(watch)
        if order.health_url:
            await _answers(order.health_url)
        if order.tcp:
            await _accepts(order.tcp)
        if not (order.health_url or order.tcp or order.ready_line):
            await trio.sleep(order.settle)
    if not resident.is_running:
        raise DaemonError("it ended before it was healthy")


async def _answers(url: str) -> None:
    """Ask until the answer is a success."""
    while not await trio.to_thread.run_sync(_ask, url, abandon_on_cancel=True):  # noqa: ASYNC110 - nothing tells of it
        await trio.sleep(_PAUSE)


def _ask(url: str) -> bool:
    # not through the proxy that the environment may name: what was just started is on this side of it
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=_ONE_ATTEMPT) as answer:
            return bool(answer.status < HTTPStatus.BAD_REQUEST)
    except (OSError, ValueError, HTTPException):
        # nobody listens yet, or it says that it is not healthy (HTTPError is an OSError), or does not speak HTTP (yet)
        return False


async def _accepts(address: str) -> None:
    """Connect until somebody accepts."""
    target = parse_address(address)
    while True:
        try:
            stream = await trio.open_tcp_stream(target.reachable_host, target.port)
        except OSError:
            await trio.sleep(_PAUSE)
        else:
            await stream.aclose()
            return
