"""`Drain`: the pipes of a child that has exited are read until they are silent."""

from __future__ import annotations

from typing import Protocol, final

import trio

from ..reactor import Reactor


class Drained(Protocol):
    """The part of a lifecycle that a drain needs."""

    last_output: float

    def read_rest(self) -> None:
        """Read the available output; end of file on the last stream ends the drain."""

    def drained(self) -> None:
        """Called when the time is up, although a stream is still open."""


@final
class Drain:
    """Waits until no output has arrived for `grace` seconds, at most for `limit` seconds; each chunk restarts `grace`.

    Args:
        child: The lifecycle.
        reactor: Whose timers are used.
        grace: Seconds of silence.
        limit: Seconds in all.
    """

    __slots__ = ("_child", "_grace", "_is_over", "_reactor", "_since", "_until")

    def __init__(self, child: Drained, reactor: Reactor, grace: float, limit: float) -> None:
        self._child = child
        self._reactor = reactor
        self._grace = grace
        self._since = trio.current_time()
        self._until = self._since + limit
        self._is_over = False

    def check(self) -> None:
        """End the drain if its time is up, else check again later."""
        if self._ends_at() <= trio.current_time() and not self._is_over:
            self._child.read_rest()  # on a busy machine this timer may come before the content of the pipe was read
        if self._is_over:
            return
        until = self._ends_at()
        if until <= trio.current_time():
            self.cancel()
            self._child.drained()
        else:
            self._reactor.call_at(until, self.check)

    def _ends_at(self) -> float:
        return min(max(self._child.last_output, self._since) + self._grace, self._until)

    def cancel(self) -> None:
        """Stop waiting."""
        self._is_over = True
