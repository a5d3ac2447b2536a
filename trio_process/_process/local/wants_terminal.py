"""Ends children that the kernel has stopped because they use the terminal, and says so: nothing else would wake them.

Children run in background groups of our session, so that signals reach whole groups. A background process that reads its
controlling terminal is stopped by SIGTTIN, one that changes its settings by SIGTTOU (termios(3)): a password prompt of
ssh, sudo, git or gpg, `stty`, `less`. Seen from here, such a child is just silent, for ever.

A stop is reported only to the parent, by SIGCHLD, whose handler belongs to the application, and a pidfd doesn't report
it. So while we have a controlling terminal (most services don't), the running children are polled a few times a second,
at 0.8 µs each.
"""

from __future__ import annotations

import os
import signal
from typing import Final, Protocol, final, runtime_checkable

import trio

from ..._core import EndReason, Stream, stopped_by
from ..end_reason import Request
from ..reactor import Reactor

INTERVAL: Final = 0.2
"""Seconds between two looks."""

_WANTS: Final = (signal.SIGTTIN, signal.SIGTTOU)
WANTS_TERMINAL: Final = (
    "it wants the terminal: run it by `trio-process exec`, or by a task with `interactive = true`, "
    "or give it what it asks for by stdin"
)
"""The line that is appended to the output of such a child."""

_keepers: Final[set[int]] = set()


def keep_terminal(pid: int) -> None:
    """Don't end this child: its owner lends it the terminal."""
    _keepers.add(pid)


class Child(Protocol):
    """A child, as the watch sees it."""

    @property
    def pid(self) -> int | None:
        """Its PID, not reaped yet."""

    def signal(self, number: int, *, group: bool) -> None:
        """Signal it, or its group."""


@runtime_checkable
class Owner(Protocol):
    """An owner that can be asked to end its child; an agent's tap can't, but agents have no terminal."""

    def received(self, stream: Stream, data: bytes) -> None:
        """Take in output."""

    def ask(self, request: Request) -> None:
        """Act on a request."""


@final
class TerminalWatch:
    """Watches the children of one service.

    Args:
        reactor: Calls it.
    """

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor
        self._children: dict[Child, Owner] = {}
        self._warned: set[Child] = set()
        self._is_due = False
        self._has_terminal: bool | None = None

    def add(self, child: Child, owner: object) -> None:
        """Watch a child, if we have a terminal."""
        if self._has_terminal is None:
            self._has_terminal = _has_terminal()
        if not self._has_terminal or not isinstance(owner, Owner):
            return
        self._children[child] = owner
        if not self._is_due:
            self._is_due = True
            self._reactor.call_at(trio.current_time() + INTERVAL, self._look)

    def discard(self, child: Child) -> None:
        """Stop watching a child."""
        if self._children.pop(child, None) is not None:
            self._warned.discard(child)
            if child.pid is not None:
                _keepers.discard(child.pid)

    def _look(self) -> None:
        self._is_due = bool(self._children)
        if not self._children:
            self._has_terminal = None  # asked again with the next child: a terminal can be lost, or acquired
            return
        for child, owner in list(self._children.items()):
            if child.pid is not None and child.pid not in _keepers and stopped_by(child.pid) in _WANTS:
                self._end(child, owner)
        self._reactor.call_at(trio.current_time() + INTERVAL, self._look)

    def _end(self, child: Child, owner: Owner) -> None:
        if child in self._warned:  # it handles its stop signal, and asks again
            child.signal(signal.SIGKILL, group=True)
            return
        self._warned.add(child)
        owner.received(Stream.STDERR, WANTS_TERMINAL.encode() + b"\n")
        owner.ask(Request(EndReason.KILLED, by="terminal"))  # however it exits now, it doesn't count as a success


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC | os.O_NONBLOCK))
    except OSError:
        return False
    return True
