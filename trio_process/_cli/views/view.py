"""`View`: the interface of everything that shows a run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any, Protocol

import trio

from ..._core import Subscription
from .board import Change


class View(Protocol):
    """A view of a run."""

    async def show(self, changes: trio.MemoryReceiveChannel[Change], output: Subscription[Any]) -> None:
        """Show changes and output until both channels have ended.

        Raises:
            OutputLost: The output can't be written.
        """

    def aside(self) -> AbstractAsyncContextManager[None]:
        """Leave the terminal to a task during the block."""

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """Leave the terminal to the shell during the block, which stops us."""

    def last_words(self) -> None:
        """Restore the terminal before an exit from a signal handler; never wait."""
