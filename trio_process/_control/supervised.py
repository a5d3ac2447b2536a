"""What the control plane asks of a supervisor and its units; `Supervisor` and `Unit` are such."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from .._process import ManagedProcess, Service


class Spec(Protocol):
    """What a unit is told."""

    @property
    def name(self) -> str:
        """The service."""

    @property
    def after(self) -> Mapping[str, Any] | Iterable[str]:
        """What it waits for."""

    @property
    def replicas(self) -> int:
        """How many there are."""

    @property
    def essential(self) -> bool:
        """Whether its end is the end of the supervisor."""


class Info(Protocol):
    """A snapshot of a unit."""

    def to_dict(self) -> dict[str, Any]:
        """Return it, ready for JSON."""


class Unit(Protocol):
    """One replica of a service."""

    @property
    def spec(self) -> Spec:
        """What it is told."""

    @property
    def replica(self) -> int:
        """Its number, from 1."""

    @property
    def state(self) -> Any:
        """Its state."""

    @property
    def ready(self) -> bool:
        """Whether it is ready."""

    @property
    def process(self) -> ManagedProcess | None:
        """The process of its latest run."""

    @property
    def restarts(self) -> int:
        """How often it was restarted."""

    def info(self) -> Info:
        """Return a snapshot."""


class Supervisor(Protocol):
    """What keeps services running."""

    @property
    def service(self) -> Service | None:
        """What runs them."""

    @property
    def units(self) -> Mapping[str, Unit] | Iterable[Unit]:
        """All replicas."""

    async def start(self, name: str) -> Any:
        """Start a service."""

    async def stop(self, name: str) -> Any:
        """Stop a service."""

    async def restart(self, name: str) -> Any:
        """Restart a service."""

    async def scale(self, name: str, n: int, /) -> Any:
        """Set the number of replicas."""

    def hold(self, name: str) -> AbstractAsyncContextManager[Any]:
        """Keep a service running for the length of the block."""
