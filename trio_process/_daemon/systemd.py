"""systemd's notification protocol (sd_notify(3)) and its watchdog (WatchdogSec= in systemd.service(5))."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Self, final

import trio

from .._core import logger, open_scope
from .health import HealthChecks

_VARIABLES: Final = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
_RETRY: Final = 0.5  # seconds; the manager's queue holds hundreds of messages and is hardly ever full
_LONGEST_NUMBER: Final = 18  # digits: the number fits into 64 bits


@final
class Notifier:
    """Reports to the service manager, if there is one.

    Args:
        address: The value of `NOTIFY_SOCKET`; a leading ``@`` stands for the abstract namespace (unix(7)).
        watchdog: Seconds between two watchdog pings, 0 for none.

    Messages keep their order, and STOPPING=1 is the last one.
    """

    __slots__ = ("_ready", "_sender", "_status", "_stopping", "watchdog")

    def __init__(self, address: str = "", watchdog: float = 0.0) -> None:
        self._sender = _Sender(address) if address else None
        self._status = ""
        self._ready = False
        self._stopping = False
        self.watchdog = watchdog if address else 0.0

    @classmethod
    @contextmanager
    def from_environment(cls) -> Iterator[Self]:
        """Remove the variables from the environment inside the block, so that no child can send notifications for us."""
        taken = {name: value for name in _VARIABLES if (value := os.environ.pop(name, None)) is not None}
        address = taken.get("NOTIFY_SOCKET", "")
        if address and address[0] not in "/@":
            logger.warning(
                "NOTIFY_SOCKET is %r; only unix sockets are supported, so nothing is reported to the service manager",
                address,
            )
            address = ""
        try:
            yield cls(address, _watchdog_interval(taken))
        finally:
            os.environ.update(taken)

    def ready(self) -> None:
        """Report readiness, once; the protocol has no message to withdraw it."""
        if not self._ready and not self._stopping:
            self._ready = True
            self._send("READY=1")

    def reloading(self) -> None:
        """Report that a reload is in progress (with the time that ``Type=notify-reload`` needs), unless readiness was never reported."""
        if self._ready and not self._stopping:
            self._send(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def reloaded(self, failure: str = "") -> None:
        """Report that the reload has ended.

        The protocol has no message for a failed reload, so `failure`, a single line, becomes the status text, until a
        reload succeeds.
        """
        if self._ready and not self._stopping:
            changed, self._status = failure != self._status, failure
            self._send(f"READY=1\nSTATUS={failure}" if changed else "READY=1")

    def stopping(self) -> None:
        """Report that the shutdown is in progress, and end the watchdog: TimeoutStopSec= limits the shutdown.

        A ping that systemd gets after it has sent SIGTERM arms the watchdog anew, until the process has exited. But checks
        may well fail during a shutdown, and blocks around the daemon's may take long to end.
        """
        self._stopping = True
        self._send("STOPPING=1\nWATCHDOG_USEC=0" if self.watchdog else "STOPPING=1")

    def alive(self) -> None:
        """Send a watchdog ping; if the socket is full it is dropped, because the next one follows soon."""
        if self._sender is not None and not self._stopping:
            self._sender.send("WATCHDOG=1", may_drop=True)

    def _send(self, message: str) -> None:
        if self._sender is not None:
            self._sender.send(message)


@final
class _Sender:
    """Sends datagrams in order, without blocking: if the socket is full, a thread keeps trying for half a second."""

    def __init__(self, address: str) -> None:
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._lock = threading.Lock()
        self._waiting: deque[str] = deque()  # sent by the thread, which lives while there are some

    def send(self, message: str, *, may_drop: bool = False) -> None:
        with self._lock:
            if self._waiting:
                if not may_drop:
                    self._waiting.append(message)
                return
            try:
                self._try(message, 0)
            except BlockingIOError:
                if not may_drop:
                    self._waiting.append(message)
                    threading.Thread(target=self._work_off, name="trio_process sd_notify").start()
            except OSError as error:
                _log_unsent(message, error)

    def _work_off(self) -> None:
        while True:
            message = self._waiting[0]
            try:
                self._try(message, _RETRY)
            except OSError as error:
                _log_unsent(message, error)
            with self._lock:
                self._waiting.popleft()
                if not self._waiting:
                    return

    def _try(self, message: str, timeout: float) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.settimeout(timeout)
            sock.sendto(message.encode(errors="backslashreplace"), self._address)


def _log_unsent(message: str, error: OSError) -> None:
    logger.warning("%r could not be sent to the service manager: %s", message, error)


def _watchdog_interval(variables: dict[str, str]) -> float:
    """Return half of the interval that sd_watchdog_enabled(3) gives, 0 if it is not meant for this process."""
    try:
        pid, usec = (
            _number(variables, name, default) for name, default in (("WATCHDOG_PID", os.getpid()), ("WATCHDOG_USEC", 0))
        )
    except ValueError as error:
        logger.warning("%s, so there are no watchdog pings", error)
        return 0.0
    return usec / 2e6 if pid == os.getpid() and usec > 0 else 0.0


def _number(variables: dict[str, str], name: str, default: int) -> int:
    text = variables.get(name, str(default))
    if len(text) > _LONGEST_NUMBER or not text.isascii() or not text.removeprefix("-").isdecimal():
        raise ValueError(f"{name} is not a number: {text:.40}")
    return int(text)


async def feed_watchdog(notifier: Notifier, checks: HealthChecks, stopping: trio.Event) -> None:
    """Send a watchdog ping every `notifier.watchdog` seconds, unless the last checks failed; until `stopping` is set.

    The checks run independently of the pings, because a check may take longer than the watchdog's interval. Until a check
    has a result, at the latest when it times out, its previous result counts. Waiting for the result would get a healthy
    daemon killed whose checks are slow but pass.
    """
    healthy: bool | None = None

    async def check() -> None:
        nonlocal healthy
        while True:
            started = trio.current_time()
            failed = [f"{result.name!r} ({result.why})" for result in await checks.results() if result.why]
            passed = not failed
            if failed and healthy is not False:
                logger.warning("no watchdog pings until all health checks pass; failed: %s", ", ".join(failed))
            elif passed and healthy is False:
                logger.info("all health checks pass again: watchdog pings are sent")
            if passed and not healthy:
                notifier.alive()  # at once: the last ping may have been long ago
            healthy = passed
            await trio.sleep_until(started + notifier.watchdog)

    async def ping() -> None:
        while True:
            await trio.sleep(notifier.watchdog)
            if healthy is not False:
                notifier.alive()

    async with open_scope() as nursery:
        nursery.start_soon(check, name="health checks for the watchdog")
        nursery.start_soon(ping, name="pings for the watchdog")
        await stopping.wait()
