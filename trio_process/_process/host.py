"""`Host`: what the life of a child needs of the service that it belongs to."""

from __future__ import annotations

from typing import Protocol

from .._core import Bus, ShutdownDeadline
from .reactor import Reactor


class Settings(Protocol):
    """What a life takes from its service's options."""

    @property
    def grace_period(self) -> float:
        """Seconds between the stop signal and SIGKILL."""

    @property
    def drain_grace(self) -> float:
        """Seconds of silence after which what still holds a pipe is not waited for."""

    @property
    def drain_limit(self) -> float:
        """Seconds after the exit in which reading ends at the latest."""


class Host(Protocol):
    """What a life needs of its service."""

    bus: Bus
    reactor: Reactor
    deadline: ShutdownDeadline

    @property
    def settings(self) -> Settings:
        """The options that concern a life."""

    def ended(self, key: str) -> None:
        """Take note that the life of that id is over, or that its process can't be killed."""
