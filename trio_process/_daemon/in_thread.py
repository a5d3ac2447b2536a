"""Enters and leaves synchronous context managers that may block, in a thread and for a bounded time."""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager, suppress
from typing import Any, Final, Generic, TypeVar

import outcome
import trio

from .._core import DaemonError, current_deadline, in_seconds, logger

_T = TypeVar("_T")

_LIMIT: Final = 5.0
_LIMIT_WHEN_DUE: Final = 1.0  # no waiting, but a step of the usual 100 µs is still done
_SLICE: Final = 0.05


@asynccontextmanager
async def entered_in_thread(
    what: str, manager: AbstractContextManager[_T], failures: list[BaseException]
) -> AsyncIterator[_T]:
    """Enter a synchronous context manager around the block.

    Args:
        what: Its name in errors.
        manager: The context manager, entered and left in a thread: its file system may be slow or hang.
        failures: A list for exceptions of the exit, so that they hide neither the body's error nor another failure.

    A cancellation, or Ctrl-C, is raised once it has been entered, and left again: else the program could end before.

    Raises:
        DaemonError: Entering took longer than 5 s. If it succeeds later, the manager is left again.
    """
    await trio.lowlevel.checkpoint_if_cancelled()
    entering = _Step(manager.__enter__, f"enter {what}")
    try:
        value = await entering.wait()
    except BaseException:
        entering.abandon(lambda: manager.__exit__(None, None, None))
        raise
    try:
        await trio.lowlevel.checkpoint_if_cancelled()
        yield value
    finally:
        with trio.CancelScope(shield=True):
            try:
                try:
                    leaving = _Step(lambda: manager.__exit__(None, None, None), f"leave {what}")
                except RuntimeError:  # no thread can be started: better to block than to leave it as it is
                    manager.__exit__(None, None, None)
                else:
                    await leaving.wait()
            except Exception as failure:  # noqa: BLE001 - whatever it is, the next step of the way out must be done
                failures.append(failure)


class _Step(Generic[_T]):
    """One call in a thread."""

    def __init__(self, function: Callable[[], _T], name: str) -> None:
        self._function = function
        self._name = name
        self._done = trio.Event()
        self._result: outcome.Outcome[_T] | None = None
        self._token = trio.lowlevel.current_trio_token()
        self._undo: Callable[[], Any] | None = None
        self._lock = threading.Lock()
        # not trio.to_thread: its pool may be full of other things that hang
        trio.lowlevel.start_thread_soon(self._work, self._deliver, name)

    def _work(self) -> None:
        result = outcome.capture(self._function)
        with self._lock:  # the second one to get here, this or `abandon`, undoes the effect
            self._result = result
            undo = self._undo
        self._undo_it(undo, result)

    def _deliver(self, _result: outcome.Outcome[None]) -> None:
        with suppress(trio.RunFinishedError):  # it took longer than the program
            self._token.run_sync_soon(self._done.set)

    async def wait(self) -> _T:
        """Return its value; nothing ends the wait but a limit in real time, on any Trio clock, as the kernel is waited for.

        Ctrl-C is raised after the wait. A cancellation is only raised instead of the error at the limit.
        """
        began = time.monotonic()
        interrupt: KeyboardInterrupt | None = None
        limit = _LIMIT
        while not self._done.is_set() and time.monotonic() - began < limit:
            try:
                with trio.move_on_after(_SLICE, shield=True):
                    await self._done.wait()
            except KeyboardInterrupt as error:  # a shield doesn't hold it off
                interrupt = error
            limit = _LIMIT_WHEN_DUE if trio.current_time() >= current_deadline().at else _LIMIT
        if interrupt is not None:
            raise interrupt
        if self._result is not None:
            return self._result.unwrap()
        await trio.lowlevel.checkpoint_if_cancelled()
        raise DaemonError(f"to {self._name} took longer than {in_seconds(limit)}; is its file system reachable?")

    def abandon(self, undo: Callable[[], Any]) -> None:
        """Undo its effect, now or as soon as the call returns."""
        with self._lock:
            self._undo = undo
            result = self._result
        self._undo_it(undo, result)

    def _undo_it(self, undo: Callable[[], Any] | None, result: outcome.Outcome[_T] | None) -> None:
        if undo is None or not isinstance(result, outcome.Value):
            return
        try:
            undo()
        except Exception:  # noqa: BLE001 - no task waits for it any more, or the original error is already being raised
            logger.exception("could not undo: %s", self._name)
