"""A few threads that fork, so that a service with much to do goes on while a vfork waits for its exec.

vfork(2) suspends the thread that calls it until the child has exec'd. That is 0.2 ms on an idle machine; on a busy one the
child has to wait for a processor first, and so would all other children of the service. For a child alone it is not worth
it: the way to a thread and back costs more than there is to win.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Final, final

import outcome
import trio

from . import fork
from .fork import Image

_THREADS: Final = 2  # more win nothing: they wait for the interpreter then


@final
class Forkers:
    """Forks in threads of its own: Trio's shared ones may all be busy, and waiting for each other.

    Args:
        born: Is told the PID of each child at once, before anything else happens.
    """

    __slots__ = ("_born", "_done", "_jobs", "_threads", "_token", "under_way")

    def __init__(self, born: Callable[[int], None]) -> None:
        self._born = born
        self._jobs: SimpleQueue[tuple[Image, trio.lowlevel.Task] | None] = SimpleQueue()
        self._done: deque[tuple[trio.lowlevel.Task, outcome.Maybe[int]]] = deque()
        self.under_way = 0
        self._token = trio.lowlevel.current_trio_token()
        self._threads = [Thread(target=self._work, name="trio_process fork", daemon=True) for _ in range(_THREADS)]
        for thread in self._threads:
            thread.start()

    async def start(self, image: Image) -> int:
        """Start a child and return its PID; raises as `fork.start`, and nothing cancels it."""
        self.under_way += 1
        self._jobs.put((image, trio.lowlevel.current_task()))
        pid: int = await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.FAILED)
        return pid

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            image, task = job
            self._done.append((task, outcome.capture(fork.start, image)))
            self._token.run_sync_soon(self._collect, idempotent=True)

    def _collect(self) -> None:
        while self._done:
            task, result = self._done.popleft()
            self.under_way -= 1
            if isinstance(result, outcome.Value):
                self._born(result.value)
            trio.lowlevel.reschedule(task, result)

    def close(self) -> None:
        """Let the threads end; nothing is under way any more."""
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()
