"""The interfaces between a session and the processes at its other end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol, get_args

import trio

from .._core import Stream
from .link import Link
from .messages import CloseStdin, Credit, Exited, Failed, Over, Refused, Started, Stuck

Answer = Started | Failed | Refused
"""The messages of which the first of a process is one."""

ANSWERS: Final = frozenset(get_args(Answer))

FromProcess = Answer | Credit | CloseStdin | Exited | Stuck | Over
"""The messages that concern one process."""


class Remote(Protocol):
    """A process at the other end, as its session sees it."""

    grace: float

    @property
    def has_readers(self) -> bool:
        """Whether lines or events of it are read as they come."""

    def receive(self, message: FromProcess) -> None:
        """Handle a message from the agent."""

    def take(self, stream: Stream, data: bytes) -> None:
        """Accept output of the process."""

    def lose(self, why: str) -> None:
        """End it without knowing how it ended: its agent was lost."""


class Connection(Protocol):
    """A session, as the processes that are started through it see it."""

    @property
    def link(self) -> Link:
        """The connection to the agent."""

    @property
    def nursery(self) -> trio.Nursery | None:
        """Runs the tasks of the session; None once it has ended."""

    @property
    def patience(self) -> float:
        """Seconds of silence after which the agent has given up the client, and has begun to end its processes."""

    @property
    def why_lost(self) -> str:
        """Why the processes of this agent are lost."""

    def call_soon(self, callback: Callable[[], object]) -> None:
        """Call back in two turns of Trio's loop: what is woken now, and what that wakes, has run by then."""

    def spawn(self, remote: Remote, packed: dict[str, object], *, prompt: bool) -> int:
        """Ask the agent to start a process, and to report that promptly; return its number in this session.

        Raises:
            WireError: Its arguments and environment are too long.
        """
