"""The signals of a daemon: the first stops, the second ends every grace, the third exits; SIGHUP reloads."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final

import trio

from .._core import logger, signal_name

_STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
_AT_ONCE: Final = 3

_stays: Final[list[dict[signal.Signals, Any]]] = []  # what each found in place of its handlers, the newest last


@contextmanager
def handle_signals(on_stop: Callable[[str, int], object], on_hangup: Callable[[], object]) -> Iterator[None]:
    """Handle SIGTERM, SIGINT and SIGHUP for the length of the block.

    Args:
        on_stop: Called in the loop for SIGTERM and SIGINT, with the name and how many there have been.
        on_hangup: Called in the loop for SIGHUP.

    Handlers of our own, and not `trio.open_signal_receiver`: the third signal must end the process even if the loop is
    stuck, and a receiver would deliver what came while it closes to the default action, which kills us half-way out.
    """
    if threading.current_thread() is not threading.main_thread():
        logger.warning("signals are not handled: this daemon does not run in the main thread (signals=False says so)")
        yield
        return
    token = trio.lowlevel.current_trio_token()
    count = 0

    def stop(number: int, _frame: FrameType | None) -> None:
        nonlocal count
        count += 1
        if count >= _AT_ONCE:
            os._exit(128 + number)  # nothing else may be waited for: no finally, no atexit, no flush
        token.run_sync_soon(on_stop, signal_name(number), count)

    def hang_up(_number: int, _frame: FrameType | None) -> None:
        token.run_sync_soon(on_hangup, idempotent=True)

    handlers: dict[signal.Signals, Callable[[int, FrameType | None], None]] = dict.fromkeys(_STOP_SIGNALS, stop)
    if hasattr(signal, "SIGHUP"):
        handlers[signal.SIGHUP] = hang_up
    previous = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    _stays.append(previous)
    try:
        yield
    finally:
        place = next(place for place, found in enumerate(_stays) if found is previous)
        del _stays[place]
        if place < len(_stays):  # one that came later is still there: what it found is what we had found
            _stays[place].update(previous)
        else:
            for number, handler in previous.items():
                # None: it was set by other code than Python's, and can't be set again from here
                signal.signal(number, signal.SIG_DFL if handler is None else handler)
