"""Serve on demand: the HTTP stack is imported when the first client connects, and until then the listeners only listen.

Its import takes three times as long as that of everything else, and as much memory. ``trio-process up`` starts its services
before that, and runs for weeks without a client.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import trio

from .._core import DaemonError, logger, open_scope


@asynccontextmanager
async def on_demand(
    listeners: Sequence[socket.socket],
    closing: trio.Event,
    serve: Callable[[], Awaitable[None]],
    nursery: trio.Nursery,
) -> AsyncIterator[None]:
    """Serve during the block, from the first connection on; `closing` must be set inside the block.

    Args:
        listeners: The listeners that clients connect to.
        closing: Set when the server is closing.
        serve: Serves until then.
        nursery: Runs it, and must not be cancelled before the block is left.
    """
    done = trio.Event()
    scope = trio.CancelScope()

    async def run() -> None:
        try:
            with scope:
                if await _wait_for_client(listeners, closing):
                    await serve()
        except DaemonError as error:
            logger.error("control server: %s", error)
        finally:
            done.set()

    nursery.start_soon(run)
    try:
        yield
    finally:
        try:
            await done.wait()
        except trio.Cancelled:
            scope.cancel()  # requests in progress get less time
            with trio.CancelScope(shield=True):
                await done.wait()
            raise


async def _wait_for_client(listeners: Sequence[socket.socket], closing: trio.Event) -> bool:
    """Return whether a client has connected before the server is closing."""
    async with open_scope() as nursery:

        async def watch(listener: socket.socket) -> None:
            await trio.lowlevel.wait_readable(listener)
            nursery.cancel_scope.cancel()

        for listener in listeners:
            nursery.start_soon(watch, listener)
        await closing.wait()
    return not closing.is_set()
