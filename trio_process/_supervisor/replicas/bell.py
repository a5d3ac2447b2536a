"""`Bell`: wakes one sleeping task, or starts the task if there is none."""

from __future__ import annotations

from typing import Protocol, final

import trio


class Answerer(Protocol):
    """The object whose task answers."""

    def begin(self) -> None:
        """Start the task."""


@final
class Bell:
    """Rung by any task, answered by one task, at the latest when it next waits.

    A `trio.Event` for each sleep would cost every idle unit half a kilobyte, and a task that sleeps for ever three.

    Attributes:
        answerer: Starts the task that answers when the bell rings and there is none.
    """

    __slots__ = ("_is_attended", "_listener", "_rung", "answerer")

    def __init__(self) -> None:
        self.answerer: Answerer | None = None
        self._is_attended = False
        self._listener: trio.lowlevel.Task | None = None
        self._rung = False

    @trio.lowlevel.enable_ki_protection
    def ring(self) -> None:
        """Wake the task, prevent it from going to sleep, or start it."""
        self._rung = True
        if self._listener is not None:
            listener, self._listener = self._listener, None
            trio.lowlevel.reschedule(listener)
        elif not self._is_attended and self.answerer is not None:
            self._is_attended = True
            self.answerer.begin()

    def hush(self) -> None:
        """Forget that it was rung: the task is looking at the changes."""
        self._rung = False

    def leave(self) -> bool:
        """Return whether the task may end, because the bell has not rung; if so, the next ring starts another task."""
        self._is_attended = self._rung
        return not self._rung

    async def wait(self, until: float) -> None:
        """Sleep until the bell rings, or until a time on Trio's clock."""
        if self._rung:
            await trio.lowlevel.checkpoint()
            return
        with trio.CancelScope(deadline=until):
            self._listener = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._abort)

    def _abort(self, _: object) -> trio.lowlevel.Abort:
        self._listener = None
        return trio.lowlevel.Abort.SUCCEEDED
