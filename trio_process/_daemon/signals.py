"""The signals of a daemon: the first stops, the second ends every grace, the third exits; SIGHUP reloads.

One set of handlers serves all daemons of the program: it is installed by the first and removed with the last, so that they
can be left in any order. A signal is passed to every daemon, the newest first, and each counts its own.

Why not `trio.open_signal_receiver`? The third signal must end the process even if the loop is stuck. And a receiver
passes signals that arrive while it closes to the default action, which would kill the process half-way out.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final, final

import trio

from .._core import Escalation, current_deadline, logger

_STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
_HANDLED: Final = (*_STOP_SIGNALS, signal.SIGHUP)


@final
class Signals:
    """How one daemon reacts to signals.

    Args:
        stop: Called in the loop with the first SIGTERM or SIGINT.
        hurry: Called in the loop with the second; the third exits.
        hang_up: Called in the loop on SIGHUP.
    """

    __slots__ = ("_escalation", "_hang_up", "_token")

    def __init__(
        self, stop: Callable[[int], object], hurry: Callable[[int], object], hang_up: Callable[[], object]
    ) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._escalation = Escalation(stop=stop, hurry=hurry, deliver=self._token.run_sync_soon)
        self._hang_up = hang_up

    @property
    def was_stopped(self) -> bool:
        """Whether SIGTERM or SIGINT has arrived."""
        return self._escalation.first is not None

    def receive(self, number: int) -> None:
        """Handle a signal; called by the handler, between any two instructions of the main thread."""
        try:
            if number in _STOP_SIGNALS:
                self._escalation.receive(number)
            else:
                self._token.run_sync_soon(self._hang_up, idempotent=True)
        except trio.RunFinishedError:
            pass  # left, in a run that has ended; others may still be there


@final
class _Handlers:
    """The signal handlers of the process, and the daemons that signals are passed to.

    A process forked without exec (`os.fork`, `multiprocessing`) gets the previous dispositions back. The signals are
    blocked during the fork, because CPython loses signals that reach a fork before its first instruction.
    """

    def __init__(self) -> None:
        self._listeners: list[Signals] = []
        self._previous: dict[int, Any] = {}
        self._masks: dict[int, set[Any]] = {}  # of the threads that fork, by their ids
        self._has_hooks = False

    def add(self, signals: Signals) -> None:
        if not self._has_hooks:
            self._has_hooks = True
            os.register_at_fork(before=self._block, after_in_parent=self._unblock, after_in_child=self._restore_in_fork)
        self._listeners.append(signals)
        if len(self._listeners) == 1:
            self._previous = {number: signal.signal(number, self._handle) for number in _HANDLED}

    def remove(self, signals: Signals) -> None:
        if signals not in self._listeners:
            return  # in a fork, which has none
        self._listeners.remove(signals)
        if not self._listeners:
            self._restore()

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        for signals in reversed(self._listeners.copy()):
            signals.receive(number)

    def _restore(self) -> None:
        for number, previous in self._previous.items():
            # None: it was set by other code than Python's, and can't be set again from here
            signal.signal(number, signal.SIG_DFL if previous is None else previous)
        self._previous = {}

    def _block(self) -> None:
        if self._listeners:
            self._masks[threading.get_ident()] = signal.pthread_sigmask(signal.SIG_BLOCK, _HANDLED)

    def _unblock(self) -> None:
        mask = self._masks.pop(threading.get_ident(), None)
        if mask is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def _restore_in_fork(self) -> None:
        self._listeners.clear()
        self._restore()
        self._unblock()


_handlers: Final = _Handlers()


@contextmanager
def handle_signals(signals: Signals) -> Iterator[None]:
    """Pass SIGTERM, SIGINT and SIGHUP to `signals` inside the block.

    After a stop by signal they are passed on until the blocks around the daemon have been left, too: a `Service` that was
    entered before it is then still stopping its processes, and a second signal must end their grace period, and not the
    program.
    """
    if threading.current_thread() is not threading.main_thread():
        logger.warning("signals are not handled: this daemon does not run in the main thread (signals=False says so)")
        yield
        return
    around = list(current_deadline().blocks())
    _handlers.add(signals)
    try:
        yield
    finally:
        if signals.was_stopped and around:
            around[-1].at_end(lambda: _handlers.remove(signals))
        else:
            _handlers.remove(signals)
