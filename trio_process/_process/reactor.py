"""One task for all descriptors and timers of a service: an epoll with plain callbacks, and a heap of timers.

A task per stream would be the obvious design in Trio. It costs 10 kB and 20 µs a child, a nursery around it, and a shield
inside it; a thousand idle children would hold 10 MB. A callback costs none of that, and callbacks run one after another,
so what they share needs no lock.

Callbacks
    They are plain functions, called in the one task that runs `Reactor.run`. They must not block, not even for a
    millisecond: every other child of the service waits meanwhile, and a child whose pipe is full stops writing. They
    can't be cancelled, and an exception from one is logged and doesn't end the supervision of the other children.

    The same methods are called from other tasks, for requests; that is safe because nothing here awaits between looking
    and acting.

Descriptors
    The epoll is level-triggered: a callback may read once and return, and is called again while there is more. It reads
    as much as a pipe holds, so one call is the rule.

    A number is reused at once. One batch of events may hold the end of one child's pipe and news of a descriptor that a
    callback of the same batch closes; a third callback opens another one and gets the same number. `_fresh` holds the
    numbers watched since the batch was fetched; events for them are dropped, and come again if they hold for the new
    descriptor. For the same reason a field is set to -1 before its descriptor is closed, everywhere in this package.

    A descriptor is taken out of the epoll before it is closed (`close_watched`). The kernel does that by itself only for
    the last copy; a fork of this program without exec has a copy, and would keep the closed pipe readable for ever.

    The epoll itself is one descriptor that Trio waits for. Its own mask is never changed while it is waited for.

Timers
    A heap of times on Trio's clock, so that a `MockClock` drives them. Cancelling a timer leaves it in the heap without its
    callback; the heap is rebuilt when cancelled timers could fill half of it, since a service that runs many short
    commands with a long timeout would otherwise keep all of them until then.

    A timer may come before what is readable: after a blocked second both are due. Code that ends something by a
    timer reads first (`Drain.check`).

`stop`
    `run` is shielded and returns after `stop`, and only then. What it has fetched before is still served: the rest of the
    batch of events, and the timers that are due, once. So a callback may come to a child that was abandoned by the same
    call that stopped the reactor, and must do nothing there (`Phase.ABANDONED`).
"""

from __future__ import annotations

import heapq
import math
import os
import select
from collections.abc import Callable
from itertools import count
from typing import Final, final

import trio

from .._core import check_run, logger

Callback = Callable[[], object]

_FEW_TIMERS: Final = 256


@final
class Timer:
    """A callback that is due at a time on Trio's clock, unless it is cancelled before."""

    __slots__ = ("_callback", "deadline")

    def __init__(self, deadline: float, callback: Callback) -> None:
        self.deadline: float = deadline
        self._callback: Callback | None = callback

    def cancel(self) -> None:
        """Don't call it."""
        self._callback = None

    @property
    def callback(self) -> Callback | None:
        """The function to call, None once cancelled."""
        return self._callback


@final
class Reactor:
    """Watches descriptors and deadlines; `run` is its one task, and continues until `stop` even if it is cancelled."""

    def __init__(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callback] = {}
        # watched since the present batch of events was fetched, which is of other descriptors with these numbers
        self._fresh: set[int] = set()
        self._timers: list[tuple[float, int, Timer]] = []
        self._most_timers = _FEW_TIMERS
        self._order = count()
        self._stopped = False
        self._has_closed = False  # since the last call of epoll_wait(2)
        self._wait = trio.CancelScope()

    def check_run(self) -> None:
        """Raise unless this is the call of `trio.run` that it was made in."""
        check_run(self._token, "Service")

    def watch(self, descriptor: int, callback: Callback) -> None:
        """Call `callback` whenever the descriptor can be read.

        Raises:
            OSError: The kernel watches no more (epoll_ctl(2): ENOSPC, ENOMEM).
        """
        self._epoll.register(descriptor, select.EPOLLIN)
        self._callbacks[descriptor] = callback
        self._fresh.add(descriptor)

    def forget(self, descriptor: int) -> None:
        """Stop watching a descriptor, and leave it open."""
        if self._callbacks.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)

    def close_watched(self, descriptor: int) -> None:
        """Stop watching a descriptor and close it.

        Closing alone takes it out of the epoll only if it was the last copy (epoll(7), "Q6"). A fork of this program
        without exec, as multiprocessing makes, has another one: the end would be reported again and again.
        """
        self.forget(descriptor)
        os.close(descriptor)
        self._has_closed = True

    def call_at(self, deadline: float, callback: Callback) -> Timer:
        """Call `callback` at `deadline`, a time on Trio's clock; `inf` is never."""
        timer = Timer(deadline, callback)
        if deadline < math.inf:
            if len(self._timers) >= self._most_timers:
                self._throw_cancelled_away()
            heapq.heappush(self._timers, (deadline, next(self._order), timer))
            self._wait.deadline = min(self._wait.deadline, deadline)
        return timer

    def _throw_cancelled_away(self) -> None:
        """Forget cancelled timers."""
        self._timers = [entry for entry in self._timers if entry[2].callback is not None]
        heapq.heapify(self._timers)
        self._most_timers = max(_FEW_TIMERS, 2 * len(self._timers))

    def stop(self) -> None:
        """Let `run` return."""
        self._stopped = True
        self._wait.cancel()

    @trio.lowlevel.enable_ki_protection
    async def run(self) -> None:
        """Serve callbacks until `stop`; nothing cancels it."""
        while not self._stopped:
            deadline = self._timers[0][0] if self._timers else math.inf
            self._wait = trio.CancelScope(deadline=deadline, shield=True)
            with self._wait:
                await self._serve()
            self._call_timers()

    async def _serve(self) -> None:
        """Run the callbacks that are ready, until a timer is due; a cancel scope for each wait would take 10 µs."""
        descriptor = self._epoll.fileno()
        while True:
            await trio.lowlevel.wait_readable(descriptor)
            self._has_closed = True
            # a child that exits closes its pipes some microseconds before its pidfd is readable: that is looked for again at
            # once, as another pass of Trio takes 30 µs
            while self._has_closed:
                self._has_closed = False
                self._call_ready()

    def _call_ready(self) -> None:
        events = self._epoll.poll(0)
        self._fresh.clear()
        for ready, _ in events:
            callback = self._callbacks.get(ready)
            if callback is not None and ready not in self._fresh:
                self.call(callback)

    def close(self) -> None:
        """Close the epoll, once `run` has returned and nothing is watched any more."""
        self._epoll.close()

    def _call_timers(self) -> None:
        if not self._timers:
            return
        now = trio.current_time()
        while self._timers and self._timers[0][0] <= now:
            timer = heapq.heappop(self._timers)[2]
            if timer.callback is not None:
                self.call(timer.callback)
        while self._timers and self._timers[0][2].callback is None:
            heapq.heappop(self._timers)

    def call(self, callback: Callback) -> None:
        """Run a callback; its exceptions are logged."""
        try:
            callback()
        except Exception:  # noqa: BLE001 - one child's failure must not end the supervision of the others
            logger.exception("a callback of the service failed; this is a bug in trio_process, please report it")
