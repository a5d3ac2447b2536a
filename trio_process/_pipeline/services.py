"""Hold the services that specs use: from the first spec that uses a service until the last has ended or been skipped."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, final

import trio

from .._core import ProcessError, open_scope, uninterrupted
from .result import RunUpdate
from .spec import RunSpec


class Supervisor(Protocol):
    """The interface to a supervisor that a runner needs."""

    def hold(self, name: str, /) -> AbstractAsyncContextManager[Any]:
        """Keep a service running and ready for the length of the block.

        Entering starts it if necessary and waits until it is ready; a `ProcessError` means that it can't become ready,
        or that it ended for good during the block.
        """


class _Hold:
    """A service that is or was held."""

    __slots__ = ("failure", "ready", "released")

    def __init__(self) -> None:
        self.ready = trio.Event()
        self.released = trio.Event()
        self.failure: ProcessError | None = None


@final
class HeldServices:
    """The services that the specs of one run use.

    Args:
        supervisor: The supervisor that keeps them running; None if no spec uses a service.
        specs: The specs.
        on_failure: Called with a service that failed while it was held, and its error.
        keep: Whether to hold services until the whole run ends, because specs may be restarted.
    """

    def __init__(
        self,
        supervisor: Supervisor | None,
        specs: Sequence[RunSpec],
        on_failure: Callable[[str, ProcessError], object],
        *,
        keep: bool = False,
    ) -> None:
        self._is_keeping = keep
        self._supervisor = supervisor
        self._on_failure = on_failure
        self._uses = {spec.name: spec.uses for spec in specs if spec.uses}
        self._users = Counter(name for names in self._uses.values() for name in names)
        self._holds: dict[str, _Hold] = {}
        self._nursery: trio.Nursery

    def watching(self, report: Callable[[RunUpdate], None] | None) -> Callable[[RunUpdate], None] | None:
        """Return a wrapper of `report` that also releases services as their users end."""
        if not self._uses or self._is_keeping:
            return report

        def reporting(update: RunUpdate) -> None:
            if report is not None:
                report(update)
            if update.result is not None:
                self._forget(update.name)

        return reporting

    @uninterrupted
    async def open(self) -> AsyncIterator[None]:
        """Open the nursery of the holds; leaving waits until all of them are released."""
        if not self._uses:
            yield
            return
        async with open_scope(wait=True) as self._nursery:
            yield
            for hold in self._holds.values():
                hold.released.set()

    def are_ready(self, names: Iterable[str]) -> bool:
        """Return whether services are held and ready, and start to hold those that are not held yet."""
        return all([self._hold(name).ready.is_set() and self._hold(name).failure is None for name in names])

    def have_failed(self, names: Iterable[str]) -> bool:
        """Return whether any of these services can't become ready, or has ended for good."""
        return any([name in self._holds and self._holds[name].failure is not None for name in names])

    def forgive(self, names: Iterable[str]) -> None:
        """Allow failed services to be started again, for a spec that is restarted."""
        for name in names:
            if name in self._holds and self._holds[name].failure is not None:
                del self._holds[name]

    async def wait_ready(self, names: Iterable[str]) -> None:
        """Wait until services are ready.

        Raises:
            ProcessError: A service can't become ready, or has ended for good.
        """
        for name in names:
            hold = self._hold(name)
            await hold.ready.wait()
            if hold.failure is not None:
                raise hold.failure

    def _hold(self, name: str) -> _Hold:
        if name not in self._holds:
            self._holds[name] = _Hold()
            self._nursery.start_soon(self._keep, name, self._holds[name], name=f"pipeline: hold {name}")
        return self._holds[name]

    async def _keep(self, name: str, hold: _Hold) -> None:
        assert self._supervisor is not None, "the runner checks that there is one"
        try:
            async with self._supervisor.hold(name):
                hold.ready.set()
                await hold.released.wait()
        except ProcessError as error:
            hold.failure = error
            hold.ready.set()
            self._on_failure(name, error)

    def _forget(self, spec: str) -> None:
        """Release the services of which a spec was the last user."""
        for name in self._uses.get(spec, ()):
            self._users[name] -= 1
            if not self._users[name] and name in self._holds:
                self._holds[name].released.set()
