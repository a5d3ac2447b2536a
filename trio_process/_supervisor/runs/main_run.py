"""`MainRun`: one run of an async function, in a task and a shield of its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, final

import trio

from ..._core import bad_option, end_if_forked, in_seconds, logger
from .run import Run

_WARN_EVERY: Final = 5.0  # seconds between two log records about tasks that have not ended
_TRIO: Final = str(Path(trio.__file__).parent)


@final
class MainRun(Run):
    """One run of an async function.

    Args:
        wake: Called whenever a fact has changed.
        name: The unit, for log records.
        main: The function.
        takes_task_status: Whether it reports its readiness itself.
        nursery: The nursery of its task.
    """

    __slots__ = ("_done", "_main", "_name", "_nursery", "_said_ready", "_scope", "_takes_task_status", "_task")

    def __init__(
        self,
        wake: Callable[[], object],
        name: str,
        main: Callable[..., Awaitable[object]],
        nursery: trio.Nursery,
        *,
        takes_task_status: bool,
    ) -> None:
        super().__init__(wake)
        self._name = name
        self._main = main
        self._nursery = nursery
        self._takes_task_status = takes_task_status
        self._scope = trio.CancelScope(shield=True)  # a cancellation from outside reaches it as the supervisor's stop
        self._done = trio.Event()
        self._task: trio.lowlevel.Task | None = None
        self._said_ready = False

    @property
    def has_said_ready(self) -> bool:
        """Whether it has called `started`; a function that doesn't take `task_status` never does."""
        return self._said_ready or not self._takes_task_status

    async def begin(self) -> None:
        """Start the task."""
        self._nursery.start_soon(self._work, name=f"unit {self._name}")
        self.started_at = trio.current_time()
        await trio.lowlevel.cancel_shielded_checkpoint()

    @trio.lowlevel.enable_ki_protection
    async def _work(self) -> None:
        self._task = trio.lowlevel.current_task()
        failure: BaseException | None = None
        try:
            with self._scope:
                await _call(self._main, {"task_status": self} if self._takes_task_status else {})
        except BaseException as error:  # noqa: BLE001 - judged by the unit's task; an error that is not an Exception ends the supervisor
            failure = error
        end_if_forked(failure)
        self._done.set()
        self._finish(failure)

    def started(self, value: object = None) -> None:  # noqa: ARG002 - the protocol of trio.TaskStatus
        """Called by the function when it is ready: this object is its `task_status`."""
        if self._said_ready:
            raise RuntimeError("called 'started' twice on the same task status")
        self._said_ready = True
        self._wake()

    async def collect(self) -> None:
        """Do nothing: everything is known."""
        await trio.lowlevel.cancel_shielded_checkpoint()

    async def stop(self) -> None:
        """Cancel it and wait; a function that shields itself can't be abandoned, and is named in the log every 5 s."""
        self._scope.cancel()
        began = trio.current_time()
        while not self._done.is_set():
            with trio.move_on_after(_WARN_EVERY):
                await self._done.wait()
            if not self._done.is_set():
                logger.warning(
                    "unit %s still runs, %s after it was cancelled%s; a shield or a blocking call holds it",
                    self._name,
                    in_seconds(trio.current_time() - began),
                    _place(self._task),
                )


@trio.lowlevel.disable_ki_protection
async def _call(main: Callable[..., Awaitable[object]], keywords: dict[str, Any]) -> None:
    found = main(**keywords)
    if not isinstance(found, Awaitable):
        raise bad_option("main", f"must be an async function; {main!r} returned {found!r}, which can't be awaited")
    await found


def _place(task: trio.lowlevel.Task | None) -> str:
    """Return the innermost line of a task outside of Trio and this package."""
    place = ""
    if task is not None:
        for frame, line in task.iter_await_frames():
            file = frame.f_code.co_filename
            if not file.startswith(_TRIO) and file != __file__:
                place = f" at {file}:{line} in {frame.f_code.co_name}"
    return place
