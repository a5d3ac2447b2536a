"""systemd's notification protocol (sd_notify(3)): readiness, stopping, reloading and the watchdog."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Self, final

from .._core import logger

_VARIABLES: Final = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
_PATIENCE: Final = 0.5  # seconds; the manager's queue holds hundreds of messages and is hardly ever full


@final
class Notifier:
    """Talks to the service manager; does nothing where there is none.

    Args:
        address: What `NOTIFY_SOCKET` says; a leading `@` stands for the abstract namespace (unix(7)).
        watchdog: Seconds between two signs of life, 0 for none.
    """

    __slots__ = ("_address", "_told_ready", "watchdog")

    def __init__(self, address: str = "", watchdog: float = 0.0) -> None:
        self._address = address
        self._told_ready = False
        self.watchdog = watchdog if address else 0.0

    @classmethod
    @contextmanager
    def from_environment(cls) -> Iterator[Self]:
        """Take the variables from the environment for the length of the block, so that no child speaks for us."""
        taken = {name: value for name in _VARIABLES if (value := os.environ.pop(name, None)) is not None}
        address = taken.get("NOTIFY_SOCKET", "")
        if address and address[0] not in "/@":
            logger.warning(
                "NOTIFY_SOCKET is %r; only unix sockets are supported, the service manager is not told", address
            )
            address = ""
        try:
            yield cls(address, _watchdog_interval(taken))
        finally:
            os.environ.update(taken)

    def ready(self) -> None:
        """Tell that we are ready, once; there is no message for the contrary."""
        if not self._told_ready:
            self._told_ready = True
            self._send("READY=1")

    def reloading(self) -> None:
        """Tell that a reload has begun (with the time that `Type=notify-reload` wants), unless we never were ready."""
        if self._told_ready:
            self._send(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def reloaded(self) -> None:
        """Tell that the reload is over."""
        if self._told_ready:
            self._send("READY=1")

    def stopping(self) -> None:
        """Tell that we are on our way out."""
        self._send("STOPPING=1")

    def alive(self) -> None:
        """Give the watchdog a sign of life."""
        self._send("WATCHDOG=1")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.settimeout(_PATIENCE)
                sock.sendto(message.encode(), address)
        except OSError as error:
            logger.warning("the service manager could not be told %r: %s", message, error)


def _watchdog_interval(variables: dict[str, str]) -> float:
    """Return half the time that sd_watchdog_enabled(3) gives, 0 if it is not meant for this process."""
    try:
        pid = int(variables.get("WATCHDOG_PID", os.getpid()))
        usec = int(variables.get("WATCHDOG_USEC", 0))
    except ValueError:
        logger.warning("WATCHDOG_USEC or WATCHDOG_PID is no number; there will be no signs of life")
        return 0.0
    return usec / 2e6 if pid == os.getpid() and usec > 0 else 0.0
