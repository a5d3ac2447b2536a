"""Sending several messages of a connection in one write."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Protocol

import trio


class Corkable(Protocol):
    """A stream whose data can be held back."""

    held: bytearray | None

    async def flush(self) -> None:
        """Send the data that was held back, and hold none back from now on."""


current_stream: ContextVar[Corkable | None] = ContextVar("trio_process.current_stream", default=None)
"""The stream of the connection that the running task serves."""


@asynccontextmanager
async def corked() -> AsyncIterator[None]:
    """Buffer the data that the block sends to its client, and send it in one piece at the end.

    A client that has left is noticed by the block's next `receive`, as without this function.
    """
    stream = current_stream.get()
    if stream is None or stream.held is not None:
        yield
        return
    stream.held = bytearray()
    try:
        yield
    finally:
        try:
            await stream.flush()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the reader of this connection sees it, too, and notifies the application
