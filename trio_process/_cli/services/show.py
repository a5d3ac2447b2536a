"""`Show`: the interface for showing the services of an instance; and the plain implementation, line by line."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any, Protocol, final

from .view import Lines


class Show(Protocol):
    """A view of the services of an instance."""

    async def emit(self, event: Any) -> None:
        """Show an event, an `ActionProcessOutput` batch or a `UnitChanged`; called in order.

        Raises:
            OutputLost: The output can't be written.
        """

    def announce(self, text: str) -> None:
        """Show a line of the instance itself."""

    def showing(self) -> AbstractAsyncContextManager[None]:
        """Return the context manager around everything that is shown."""

    def end(self) -> None:
        """Called when the services are being stopped."""


@final
class PlainShow:
    """Plain view that shows lines as they arrive.

    Args:
        lines: Formats them.
        write: Writes a text.
        announce: Shows a line of the instance itself.
    """

    def __init__(
        self, lines: Lines, write: Callable[[str], Awaitable[object]], announce: Callable[[str], object]
    ) -> None:
        self._lines = lines
        self._write = write
        self._announce = announce

    async def emit(self, event: Any) -> None:
        """Show an event."""
        await self._write(self._lines.event(event))

    def announce(self, text: str) -> None:
        """Show a line of the instance itself."""
        self._announce(text)

    def showing(self) -> AbstractAsyncContextManager[None]:
        """Return a context manager that does nothing."""
        return nullcontext()

    def end(self) -> None:
        """Do nothing: all output is written immediately."""
