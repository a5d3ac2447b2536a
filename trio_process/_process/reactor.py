"""One task for all descriptors and deadlines of a service: an epoll with plain callbacks, and a heap of timers.

A task per stream would cost 10 kB and 20 µs a child; a callback costs neither. Callbacks run one after another in the
service's own task, so that they need no locks; they never block.
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

from .._core import logger

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
        """Never call it."""
        self._callback = None

    @property
    def callback(self) -> Callback | None:
        """What to call, None once cancelled."""
        return self._callback


@final
class Reactor:
    """Watches descriptors and deadlines; `run` is its one task, and goes on whatever is cancelled until `stop`."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callback] = {}
        # A descriptor's number is reused at once: an event that was fetched for the old one must not reach the new.
        self._fresh: set[int] = set()
        self._timers: list[tuple[float, int, Timer]] = []
        self._most_timers = _FEW_TIMERS
        self._order = count()
        self._stopped = False
        self._wait = trio.CancelScope()

    def watch(self, descriptor: int, callback: Callback) -> None:
        """Call `callback` whenever the descriptor can be read.

        Raises:
            OSError: The kernel watches no more (epoll_ctl(2): ENOSPC, ENOMEM).
        """
        self._epoll.register(descriptor, select.EPOLLIN)
        self._callbacks[descriptor] = callback
        self._fresh.add(descriptor)

    def forget(self, descriptor: int) -> None:
        """Stop watching a descriptor that stays open."""
        if self._callbacks.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)

    def close_watched(self, descriptor: int) -> None:
        """Stop watching a descriptor and close it.

        Closing alone takes it out of the epoll only if nobody else has it (epoll(7), "Q6"): where the program forks
        without exec, as multiprocessing can, its end would be reported again and again, and nobody could stop that.
        """
        self.forget(descriptor)
        os.close(descriptor)

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
        """Forget cancelled timers: a service that runs much with a long timeout would hold all of them until then."""
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
        """Call what is ready, until there is a timer to look at; entering a scope for each wait would take 10 µs."""
        descriptor = self._epoll.fileno()
        while True:
            await trio.lowlevel.wait_readable(descriptor)
            events = self._epoll.poll(0)
            self._fresh.clear()
            for ready, _ in events:
                callback = self._callbacks.get(ready)
                if callback is not None and ready not in self._fresh:
                    self._call(callback)

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
                self._call(timer.callback)
        while self._timers and self._timers[0][2].callback is None:
            heapq.heappop(self._timers)

    def _call(self, callback: Callback) -> None:
        try:
            callback()
        except Exception:  # noqa: BLE001 - one child's trouble must not end the others' supervision
            logger.exception("a callback of the service failed; this is a bug in trio_process, please report it")
