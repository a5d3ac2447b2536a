"""One deadline down the tree: every wait of the package on the way out ends at the nearer of its own grace and this one.

A program that is asked to end has one time limit, not one per level. systemd kills the remaining processes
`TimeoutStopSec` after its SIGTERM, Kubernetes after `terminationGracePeriodSeconds`, a person at a terminal after a
second Ctrl-C. If a daemon gave its main 10 s, a service inside it 5 s more for its processes, and the health server 3 s
for its connections, the limits would add up, and the SIGKILL from outside would come in the middle: with orphans, a
stale PID file, lost output.

So a block that begins a shutdown holds a `ShutdownDeadline`, and everything inside it that waits on the way out looks
at that one object.

Owners
    `Daemon`, and the commands of the command line, make one per entry and put it in place with `enter_deadline`. It is a
    context variable: tasks started from there on inherit it, in whatever nursery they run, and a daemon inside another
    daemon has its own.

Readers
    ``grace(seconds)`` is the cancel scope for a wait: it ends after `seconds`, at the deadline, or as soon as the
    deadline is advanced, whichever comes first. A `Service` reads ``current_deadline()`` when it is entered and shortens
    the grace of each of its children through `watch`, since its children have timers in a reactor and no cancel scope.

Invariants
    1. The deadline is `inf` until a shutdown begins, and only `advance` moves it.
    2. It only ever comes nearer. The first signal sets it to now plus `shutdown_timeout`, the second to now; a call of
       `stop` after that can't give more time.
    3. Moving it wakes waits already in progress. Reading the deadline once at the start of a wait isn't enough: the
       second signal comes in the middle of one.
    4. Whatever it ends is still reaped and drained. "No time left" means SIGKILL at once, not that a child is left.

Why not a cancel scope around everything? `CancelScope.deadline` cancels the body, and the way out runs under shields so
that a cancellation can't interrupt it. A deadline must pass through those shields, and it must shorten waits rather than
abort them. Why not pass it down as an argument? User code stands between the levels: `main` of a daemon opens a service
that knows nothing of the daemon.

The deadline is on Trio's clock. Under a `MockClock` a whole shutdown takes no real time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import final

import trio


@final
class ShutdownDeadline:
    """A deadline on Trio's clock that can only be advanced, and the callbacks to run when it is.

    Args:
        outer: The deadline of a block around this one's, which a daemon inside of both may advance; see `block_deadline`.

    Attributes:
        at: When the last grace ends, on Trio's clock; `inf` until a shutdown begins.
    """

    __slots__ = ("_at_end", "_outer", "_watchers", "at")

    def __init__(self, outer: ShutdownDeadline | None = None) -> None:
        self.at: float = math.inf if outer is None else outer.at
        self._outer = outer
        self._watchers: set[Callable[[], object]] = set()
        self._at_end: list[Callable[[], object]] = []

    def advance(self, deadline: float) -> None:
        """End every grace at `deadline`; a deadline later than the current one changes nothing."""
        if deadline < self.at:
            self.at = deadline
            for watcher in tuple(self._watchers):
                watcher()

    def watch(self, watcher: Callable[[], object]) -> None:
        """Call `watcher` whenever the deadline is advanced."""
        self._watchers.add(watcher)

    def unwatch(self, watcher: Callable[[], object]) -> None:
        """Stop calling `watcher`."""
        self._watchers.discard(watcher)

    def blocks(self) -> Iterator[ShutdownDeadline]:
        """Yield this deadline and those around it, as far as they are deadlines of blocks; the outermost comes last."""
        found: ShutdownDeadline | None = self
        while found is not None and found._outer is not None:
            yield found
            found = found._outer

    def at_end(self, callback: Callable[[], object]) -> None:
        """Call `callback` when the block that this deadline belongs to has been left."""
        self._at_end.append(callback)

    def end(self) -> None:
        """Run the callbacks of `at_end`."""
        while self._at_end:
            self._at_end.pop()()


_current: ContextVar[ShutdownDeadline | None] = ContextVar("trio_process.deadline", default=None)
_NEVER = ShutdownDeadline()


def current_deadline() -> ShutdownDeadline:
    """Return the deadline of the enclosing daemon or command, or one that never comes."""
    return _current.get() or _NEVER


def enter_deadline(deadline: ShutdownDeadline) -> Callable[[], None]:
    """Put `deadline` in place for this task and the tasks it starts; call the returned function to restore the former one."""
    token = _current.set(deadline)
    return lambda: _current.reset(token)


@contextmanager
def block_deadline() -> Iterator[ShutdownDeadline]:
    """Put a deadline in place that follows the enclosing one, and that a daemon entered inside the block can advance, too.

    A block that was entered before the daemon is left after it, so its way out is a part of the same shutdown: a second
    signal, and the daemon's `shutdown_timeout`, must end its graces as well.
    """
    outer = current_deadline()
    deadline = ShutdownDeadline(outer)

    def follow() -> None:
        deadline.advance(outer.at)

    outer.watch(follow)
    leave = enter_deadline(deadline)
    try:
        yield deadline
    finally:
        leave()
        outer.unwatch(follow)
        deadline.end()


@contextmanager
def grace(seconds: float, *, shield: bool = False) -> Iterator[trio.CancelScope]:
    """Cancel the block after `seconds` or at the shutdown's deadline, whichever is sooner."""
    shutdown = current_deadline()
    with trio.CancelScope(deadline=min(trio.current_time() + seconds, shutdown.at), shield=shield) as scope:

        def shorten() -> None:
            scope.deadline = min(scope.deadline, shutdown.at)

        shutdown.watch(shorten)
        try:
            yield scope
        finally:
            shutdown.unwatch(shorten)
