"""How one child is ended: the requests, the grace period, and the time limits, which make requests themselves."""

from __future__ import annotations

import sys
from collections.abc import Callable
from signal import SIGKILL
from typing import Protocol, final

import trio

from .._core import EndReason, end_if_forked
from . import backend
from .backend import Handle, LifecycleHost
from .end_reason import Request, reason_of
from .output import Backpressure
from .reactor import Timer
from .record import Record


class Child(Protocol):
    """What `Stopping` and `Limits` need of a lifecycle."""

    host: LifecycleHost
    record: Record
    handle: Handle
    last_output: float
    backpressure: Backpressure | None

    @property
    def is_alive(self) -> bool:
        """Whether it has started and not exited."""

    @property
    def is_signallable(self) -> bool:
        """Whether there is a process to signal, or a group that it has left."""

    def ask(self, request: Request) -> None:
        """Act on a request."""

    def release_consumers(self) -> None:
        """Stop waiting for slow consumers."""

    def kill_descendants(self) -> None:
        """End the grace period of the processes that a sweep has found."""

    def check_unkillable(self) -> None:
        """Report a child that SIGKILL has not ended."""


@final
class Stopping:
    """The requests to end one child, and when SIGKILL follows; made at the first request, so that an idle child has none.

    Args:
        child: The lifecycle.

    Attributes:
        kill_at: When SIGKILL follows, on Trio's clock; None while no stop was asked for.
    """

    __slots__ = ("_child", "_grace", "_requests", "_stuck", "kill_at")

    def __init__(self, child: Child) -> None:
        self._child = child
        self._requests: tuple[Request, ...] = ()
        self._grace: Timer | None = None
        self._stuck: Timer | None = None
        self.kill_at: float | None = None

    @trio.lowlevel.enable_ki_protection
    def act_on(self, request: Request) -> None:
        """Act on a request to stop or kill, or for a signal."""
        end_if_forked(sys.exception())  # else a cancellation in a fork would end the parent's child
        if request.signal is None:
            self._stop(request)
        elif request.reason is EndReason.KILLED:
            self._kill(request, request.signal)
        else:
            self._signal(request, request.signal)

    def _note(self, request: Request) -> None:
        """Remember a request, unless an earlier one explains every end that it could: a stop, or the same signal."""
        if not any(known.signal in (None, request.signal) for known in self._requests):
            self._requests += (request,)

    def _note_in_time(self, request: Request) -> None:
        """Remember a request that can still be the cause of the end; too much output is, even of a child that has exited."""
        running = self._child.is_alive and not self._child.handle.has_exited()
        if running or request.reason is EndReason.OUTPUT_LIMIT:
            self._note(request)

    def cause(self, exit_code: int) -> tuple[EndReason, str | None]:
        """Return why the child ended with `exit_code`, and the task that asked for it."""
        return reason_of(self._requests, exit_code)

    def _signal(self, request: Request, number: int) -> None:
        """Send a signal, once, to the group."""
        self._note_in_time(request)
        self._send(number)

    def _send(self, number: int) -> None:
        self._child.handle.signal(number, group=self._child.record.options.kill_group)

    def _kill(self, request: Request, number: int) -> None:
        """Send SIGKILL, and expect the end within a bounded time."""
        self._child.release_consumers()
        self._signal(request, number)
        if self.kill_at is not None:
            self._shorten(trio.current_time())  # for descendants, too
        self._expect_end()

    def _stop(self, request: Request) -> None:
        """Send the stop signal, and SIGKILL after the grace period. A repeated call can only make the end come sooner."""
        child = self._child
        grace = request.grace_period if request.grace_period is not None else child.record.options.grace_period
        if grace is None:
            grace = child.host.options.grace_period
        now = trio.current_time()
        until = min(now + grace, child.host.deadline.at)
        is_first = self.kill_at is None
        if not self._shorten(until):
            return
        child.release_consumers()
        self._note_in_time(request)
        if until <= now:
            self._end_grace()
            return
        if is_first:
            options = child.record.options
            child.handle.request_stop(request.stop_signal or options.stop_signal, group=options.kill_group)
        self._grace = child.host.reactor.call_at(until, self._end_grace)

    def _shorten(self, until: float) -> bool:
        """Let SIGKILL follow at `until`; return False if it follows sooner anyway."""
        if self.kill_at is not None and until >= self.kill_at:
            return False
        self.kill_at = until
        if self._grace is not None:
            self._grace.cancel()
        return True

    def shorten_grace(self) -> None:
        """End a grace period that lasts longer than the deadline of the whole shutdown."""
        if self.kill_at is not None and (deadline := self._child.host.deadline.at) < self.kill_at:
            at_once = deadline <= trio.current_time()
            self._child.ask(Request(EndReason.STOPPED, grace_period=0.0 if at_once else None))

    def cancel(self) -> None:
        """Cancel the timers."""
        for timer in (self._grace, self._stuck):
            if timer is not None:
                timer.cancel()

    def end(self) -> None:
        """Cancel the timers, and forget the child, which has ended: one that refers to it would keep its output alive."""
        self.cancel()
        self.kill_at = self._grace = self._stuck = None
        del self._child

    def _end_grace(self) -> None:
        if self._child.is_signallable:
            self._send(SIGKILL)
            self._expect_end()

    def _expect_end(self) -> None:
        self._child.kill_descendants()
        if self._stuck is None:
            due = trio.current_time() + backend.STUCK_AFTER
            self._stuck = self._child.host.reactor.call_at(due, self._check_unkillable)

    def _check_unkillable(self) -> None:
        self._stuck = None
        self._child.check_unkillable()


@final
class Limits:
    """The `timeout` and `idle_timeout` of one child; made only for a child that has one of them."""

    __slots__ = ("_child", "_idle", "_timeout")

    def __init__(self, child: Child) -> None:
        self._child = child
        options, now = child.record.options, trio.current_time()
        self._timeout = self._at(now, options.timeout, lambda: child.ask(Request(EndReason.TIMED_OUT)))
        self._idle = self._at(now, options.idle_timeout, self._check_idle)

    def _at(self, since: float, limit: float | None, callback: Callable[[], object]) -> Timer | None:
        return None if limit is None else self._child.host.reactor.call_at(since + limit, callback)

    def _check_idle(self) -> None:
        """Stop a child that has been silent for too long; while we don't read, the silence is ours."""
        child, now, limit = self._child, trio.current_time(), self._child.record.options.idle_timeout
        if child.backpressure:
            child.last_output = now
        if limit is not None and child.last_output + limit <= now:
            child.ask(Request(EndReason.IDLE))
        else:
            self._idle = self._at(child.last_output, limit, self._check_idle)

    def cancel(self) -> None:
        """Cancel both."""
        for timer in (self._timeout, self._idle):
            if timer is not None:
                timer.cancel()
