"""The door to the accept loop: the HTTP stack is imported when it is opened, not before."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

from .server import import_http

if TYPE_CHECKING:
    from quart_trio import QuartTrio

    from .connection import Application, Refusal


@asynccontextmanager
async def serving(
    frontend: Application,
    app: QuartTrio,
    listeners: list[socket.socket],
    *,
    max_connections: int,
    refusal: Refusal,
) -> AsyncIterator[None]:
    """Serve an ASGI application on the listeners inside the block, as a `HealthServer` does.

    Args:
        frontend: Answers the requests.
        app: The Quart app that `frontend` passes some of them to.
        listeners: The listeners that clients connect to.
        max_connections: How many connections are served at once.
        refusal: Makes the answers to requests that don't reach `frontend`, as they aren't valid HTTP.

    Raises:
        DaemonError: The HTTP stack can't be imported.
    """
    await trio.to_thread.run_sync(import_http)
    from .accept import serve_application  # noqa: PLC0415 - the HTTP stack is most of the import time

    async with serve_application(frontend, app, listeners, max_connections=max_connections, refusal=refusal):
        yield
