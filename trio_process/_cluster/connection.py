"""What a session is for a process at the other end, and such a process for its session."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import trio

from .._core import Stream
from .link import Link
from .messages import CloseStdin, Credit, Exited, Failed, Over, Refused, Started, Stuck

FromProcess = Started | Failed | Refused | Credit | CloseStdin | Exited | Stuck | Over
"""The messages that concern one process."""


class Remote(Protocol):
    """A process at the other end, as its session sees it."""

    grace: float

    def receive(self, message: FromProcess) -> None:
        """Do what a message of the agent's says."""

    def take(self, stream: Stream, data: bytes) -> None:
        """Take in what it wrote."""

    def lose(self, why: str) -> None:
        """End it without knowing how it ended: its agent was lost."""


class Connection(Protocol):
    """A session, as the processes that are started through it see it."""

    @property
    def link(self) -> Link:
        """What sends to the agent."""

    @property
    def nursery(self) -> trio.Nursery | None:
        """Runs the tasks of the session; None once it has ended."""

    @property
    def why_lost(self) -> str:
        """Why the processes of this agent are lost."""

    def call_soon(self, callback: Callable[[], object]) -> None:
        """Call back in two turns of Trio's loop: what is woken now, and what that wakes, has run by then."""

    def spawn(self, remote: Remote, packed: dict[str, object]) -> int:
        """Have a process started; return its number here.

        Raises:
            WireError: Its arguments and environment are too long.
        """
