"""One entry into a daemon's block: its shutdown, its reloads, and its reports to systemd."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Final, final

import trio

from .._core import ShutdownDeadline, current_deadline, end_if_forked, enter_deadline, logger, signal_name
from .health import HealthState, reason_of
from .options import DaemonOptions
from .signals import Signals, handle_signals
from .systemd import Notifier, feed_watchdog

_NO_HANDLER: Final = "no on_reload handler yet"
_current: ContextVar[Session | None] = ContextVar("trio_process.session", default=None)


@final
class Session:
    """The state of one entry into a daemon's block.

    Args:
        options: The options of the daemon.
        state: Its readiness and its checks.
        notifier: Reports to the service manager.
        reloader: Returns the function last given to `on_reload`, or None.

    Attributes:
        stopping: Set when the daemon is asked to stop, or is being left.
        deadline: When everything inside must have ended.
        entry: Cancelled by a signal that arrives while the daemon is being entered.
        body: Cancelled by a signal outside of `run`, and by the second signal anywhere.
        running: Whether `run` is in progress.
        stopped_by: The signal that has stopped it, or 0.
        was_entered: Whether all parts of the daemon were entered.
    """

    def __init__(
        self,
        options: DaemonOptions,
        state: HealthState,
        notifier: Notifier,
        reloader: Callable[[], Callable[[], object] | None],
    ) -> None:
        self.stopping = trio.Event()
        self.entry = trio.CancelScope()
        self.body = trio.CancelScope()
        self.deadline = ShutdownDeadline()
        self.running = False
        self.was_entered = False
        self._around = list(current_deadline().blocks())
        self._outer = _current.get()
        self._inner = 0
        self.stopped_by = 0
        self._options = options
        self._state = state
        self._notifier = notifier
        self._reloader = reloader
        self._reload_requested = False
        self._reloading = False
        self._nursery: trio.Nursery | None = None  # for tasks that run beside the body

    def signals(self) -> AbstractContextManager[None]:
        """Return a context manager that handles the signals, if the options ask for it."""
        if not self._options.signals:
            return nullcontext()
        return handle_signals(Signals(self._on_stop, self._on_hurry, self._on_hangup))

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Make the session and its deadline current for everything that is entered inside the block."""
        leave = enter_deadline(self.deadline)
        token = _current.set(self)
        if self._outer is not None:
            self._outer._inner += 1
        try:
            yield
        finally:
            _current.reset(token)
            leave()
            if self._outer is not None:
                self._outer._inner -= 1
                self._outer._cancel_body()

    def begin(self, nursery: trio.Nursery) -> None:
        """Report readiness to the service manager, now or when it is reached, and send its watchdog pings."""
        self._nursery = nursery
        self.was_entered = True
        self._state.watch_ready(self._notifier.ready)
        if self._notifier.watchdog:
            nursery.start_soon(feed_watchdog, self._notifier, self._state.checkup, self.stopping)

    def leave(self) -> None:
        """Stop, and end reloads and reports of readiness."""
        self.stop()
        self._nursery = None
        self._state.watch_ready(None)

    def stop(self) -> None:
        """Begin the shutdown; a second call changes nothing."""
        if self.stopping.is_set():
            return
        self._state.set_stopping(True)
        self.deadline.advance(trio.current_time() + self._options.shutdown_timeout)
        self._notifier.stopping()
        self.stopping.set()

    def _on_stop(self, number: int) -> None:
        logger.info("%s: stopping", signal_name(number))
        self.stop()
        self.stopped_by = number
        if not self.was_entered:
            self.entry.cancel()
        self._cancel_body()
        self._advance_around()

    def _cancel_body(self) -> None:
        """Cancel the body after a signal, unless `run` or an inner daemon ends it in an orderly way."""
        if self.stopped_by and not self.running and not self._inner:
            self.body.cancel()

    def _on_hurry(self, number: int) -> None:
        logger.warning("%s again: all grace periods end now", signal_name(number))
        self.stop()
        self.deadline.advance(trio.current_time())
        if not self.was_entered:
            self.entry.cancel()
        self.body.cancel()
        self._advance_around()

    def _advance_around(self) -> None:
        for deadline in self._around:
            deadline.advance(self.deadline.at)

    def _on_hangup(self) -> None:
        if self.stopping.is_set():
            logger.info("SIGHUP ignored: the daemon is stopping")
        elif self._nursery is None or self._reloader() is None:
            logger.info("SIGHUP ignored: %s", _NO_HANDLER)
            self._notifier.reloading()  # `systemctl reload` waits for an answer to the signal (Type=notify-reload)
            self._notifier.reloaded(f"nothing reloaded: {_NO_HANDLER}")
        else:
            self._reload_requested = True
            if not self._reloading:
                self._reloading = True
                self._nursery.start_soon(self._reload)

    async def _reload(self) -> None:
        """Reload once for all signals that have arrived since the last reload began."""
        while self._reload_requested and not self.stopping.is_set():
            self._reload_requested = False
            function = self._reloader()
            assert function is not None
            logger.info("SIGHUP: reloading")
            self._notifier.reloading()
            failure = ""
            try:
                found = function()
                if isinstance(found, Awaitable):
                    await found
                end_if_forked(None)
            except Exception as error:  # noqa: BLE001 - a bad configuration must not end what runs with a good one
                end_if_forked(error)
                logger.exception("reloading failed; the daemon goes on as it was")
                failure = f"reloading failed: {reason_of(error)}"
            self._notifier.reloaded(failure)
        self._reloading = False
