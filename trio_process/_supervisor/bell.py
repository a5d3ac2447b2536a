"""`Bell`: wakes one task, cheaply; a `trio.Event` per sleep would cost each idle unit half a kilobyte."""

from __future__ import annotations

from typing import final

import trio


@final
class Bell:
    """Rung by anybody, heard by one task, at the latest when it listens next."""

    __slots__ = ("_listener", "_rung")

    def __init__(self) -> None:
        self._listener: trio.lowlevel.Task | None = None
        self._rung = False

    def ring(self) -> None:
        """Wake the task, or keep it from going to sleep."""
        self._rung = True
        if self._listener is not None:
            listener, self._listener = self._listener, None
            trio.lowlevel.reschedule(listener)

    def hush(self) -> None:
        """Forget that it was rung: what was to be looked at is being looked at."""
        self._rung = False

    async def wait(self, until: float) -> None:
        """Sleep until it rings, or until a time on Trio's clock."""
        if self._rung:
            await trio.lowlevel.checkpoint()
            return
        if until == float("inf"):
            await self._park()
        else:
            with trio.CancelScope(deadline=until):
                await self._park()

    async def _park(self) -> None:
        self._listener = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(self._abort)

    def _abort(self, _: object) -> trio.lowlevel.Abort:
        self._listener = None
        return trio.lowlevel.Abort.SUCCEEDED
