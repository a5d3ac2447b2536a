"""Holding back the last message of an answer until the app has returned."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, final

_Message = dict[str, Any]


@final
class LastMessage:
    """Wrapper of `send` that holds the last message of an answer back.

    quart-trio cancels the nursery in which its last `send` is finishing, so that hypercorn never gets to recycle the
    connection.

    Args:
        send: Sends a message of the answer.
    """

    __slots__ = ("_held", "_send")

    def __init__(self, send: Callable[[_Message], Awaitable[None]]) -> None:
        self._send = send
        self._held: _Message | None = None

    async def send(self, message: _Message) -> None:
        """Send a message, unless it is the last one of its answer."""
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self._held = message
        else:
            await self._send(message)

    async def release(self) -> None:
        """Send the message that was held back, if there is one."""
        if self._held is not None:
            await self._send(self._held)
