"""The shutdown's deadline, shared down the tree: every shielded wait of the package ends at min(its own, this)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import final

import trio


@final
class Hurry:
    """A deadline on Trio's clock that can only be brought forward, and who wants to know of it.

    Attributes:
        deadline: When the last grace ends; `inf` while nobody is in a hurry.
    """

    __slots__ = ("_watchers", "deadline")

    def __init__(self) -> None:
        self.deadline = math.inf
        self._watchers: set[Callable[[], object]] = set()

    def bring_forward(self, deadline: float) -> None:
        """Let every grace end at `deadline`, unless it ends sooner anyway."""
        if deadline < self.deadline:
            self.deadline = deadline
            for watcher in tuple(self._watchers):
                watcher()

    def watch(self, watcher: Callable[[], object]) -> None:
        """Call `watcher` whenever the deadline moves."""
        self._watchers.add(watcher)

    def unwatch(self, watcher: Callable[[], object]) -> None:
        """Forget `watcher`."""
        self._watchers.discard(watcher)


_current: ContextVar[Hurry | None] = ContextVar("trio_process.hurry", default=None)
_NEVER = Hurry()


def current_hurry() -> Hurry:
    """Return the hurry of the enclosing daemon, or one that never comes."""
    return _current.get() or _NEVER


def enter_hurry(hurry: Hurry) -> Callable[[], None]:
    """Make `hurry` the one that what starts from here on obeys; call the returned function to go back."""
    token = _current.set(hurry)
    return lambda: _current.reset(token)


@contextmanager
def grace(seconds: float, *, shield: bool = False) -> Iterator[trio.CancelScope]:
    """Cancel the block after `seconds`, or when the enclosing daemon's hurry comes, whichever is sooner."""
    hurry = current_hurry()
    with trio.CancelScope(deadline=min(trio.current_time() + seconds, hurry.deadline), shield=shield) as scope:

        def hasten() -> None:
            scope.deadline = min(scope.deadline, hurry.deadline)

        hurry.watch(hasten)
        try:
            yield scope
        finally:
            hurry.unwatch(hasten)
