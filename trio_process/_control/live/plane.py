"""`Plane`: the state that the handlers of one server share."""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from copy import copy
from typing import Any, Final, final

import trio

from ..._core import Subscription
from ..._daemon import Registry
from ..._process import ManagedProcess, Service, masker_of
from ..._supervisor import Supervisor
from ..gate import Access, Guard
from ..problem import Problem
from .hub import Hub, stamp
from .logstore import LogStore, Query
from .pipelines import Pipelines
from .samples import Samples
from .services import Services
from .watch import Daemons

MAX_STREAMS: Final = 64
_MOST_PASSES: Final = 100
"""Passes of the event loop that an answer waits for lines; in a flood there are always more."""


@final
class Plane:
    """The state that the handlers of one server share.

    Args:
        supervisor: The supervisor behind ``/services``, or None.
        service: The service behind ``/processes``; None for the supervisor's.
        registry: The registry behind ``/daemons``, or None.
        access: The access level of clients.
        max_streams: The maximum number of open streams.

    Attributes:
        instance: The name of this run of the server, new at every start: cursors of another run are meaningless here.
        closing: Set when the server is closing.
        guard: Set by the server once it knows its address.
        events: The events that have not been taken in yet, while the feed runs.
    """

    def __init__(
        self,
        *,
        supervisor: Supervisor | None,
        service: Service | None,
        registry: Registry | None,
        access: Access,
        max_streams: int,
    ) -> None:
        self.supervisor = supervisor
        self._service = service
        self.registry = registry
        self.access = access
        self.max_streams = max_streams
        self.instance = secrets.token_hex(8)
        self.began = time.time()
        self.hub = Hub()
        self.logs = LogStore()
        self.samples = Samples()
        self.services = Services(supervisor)
        self.pipelines = Pipelines(self.hub)
        self.daemons = Daemons(registry, self.hub)
        self.requests: Counter[tuple[str, str, int]] = Counter()
        self.streams = 0
        self.closing = trio.Event()
        self.guard: Guard | None = None
        self.events: Subscription[Any] | None = None
        self.nursery: trio.Nursery | None = None
        self._waiting: set[trio.CancelScope] = set()

    def beside(self, access: Access, max_streams: int) -> Plane:
        """Return the state of a further server that shows the same: the lines and cursors are shared, the streams are its own."""
        further = copy(self)
        further.access = access
        further.max_streams = max_streams
        further.streams = 0
        further.closing = trio.Event()
        further._waiting = set()
        return further

    @property
    def service(self) -> Service | None:
        """The observed service, as soon as there is one."""
        if self._service is not None or self.supervisor is None:
            return self._service
        return self.supervisor.service

    async def read_logs(self, services: Collection[str], query: Query) -> dict[str, Any]:
        """Return a page of lines, as `LogStore.read`, including those that were published before the call."""
        await self.catch_up()
        return await self.logs.read(services, query)

    async def catch_up(self) -> None:
        """Wait until the events that were published before the call have been taken in."""
        for _ in range(_MOST_PASSES):
            if self.events is None or not self.events.statistics().current_buffer_used:
                break
            await trio.lowlevel.checkpoint()

    def need_service(self) -> Service:
        """Return the service.

        Raises:
            Problem: There is none.
        """
        service = self.service
        if service is None:
            raise Problem("unavailable", "this server was given no service")
        return service

    def process(self, id: str) -> ManagedProcess:  # noqa: A002 - the contract's name
        """Return a process by its id, which is never an OS process id.

        Raises:
            Problem: There is none.
        """
        try:
            return self.need_service().get(id)
        except LookupError:
            raise Problem("not_found", f"there is no process with the id {id!r}") from None

    @contextmanager
    def interruptible(self, limit: float | None = None) -> Iterator[trio.CancelScope]:
        """Limit the block to `limit` seconds, and to the lifetime of the server.

        Raises:
            Problem: The server is closing.
        """
        with trio.CancelScope(deadline=trio.current_time() + (1e9 if limit is None else limit)) as scope:
            self._waiting.add(scope)
            if self.closing.is_set():
                scope.cancel()
            try:
                yield scope
            finally:
                self._waiting.discard(scope)
        if scope.cancelled_caught and self.closing.is_set():
            raise Problem("unavailable", "the server is being stopped")

    def close(self) -> None:
        """End waiting requests, and make streams send their last message."""
        self.hub.flush()
        self.closing.set()
        for scope in self._waiting:
            scope.cancel()
        for client in self.hub.clients:
            client.wake.set()

    @contextmanager
    def stream_place(self) -> Iterator[None]:
        """Occupy one of the slots for streams during the block.

        Raises:
            Problem: There is none.
        """
        if self.streams >= self.max_streams:
            raise Problem(
                "unavailable", f"no more than {self.max_streams} streams can be open at once; close another one"
            )
        if self.closing.is_set():
            raise Problem("unavailable", "the server is being stopped")
        self.streams += 1
        try:
            yield
        finally:
            self.streams -= 1

    def snapshot(self) -> dict[str, Any]:
        """Return the first message of a stream."""
        service = self.service
        return {
            "type": "snapshot",
            "instance": self.instance,
            "timestamp": stamp(time.time()),
            "data": {
                "instance": self.instance,
                "began": stamp(self.began),
                "access": self.access.value,
                "cursor": self.logs.cursor,
                "has": {
                    "services": self.supervisor is not None,
                    "processes": service is not None,
                    "daemons": self.registry is not None,
                },
                "services": self.services.rows(),
                "processes": []
                if service is None
                else [self.services.row_of(process) for process in service.running()],
                "daemons": self.daemons.rows(),
                "pipelines": self.pipelines.rows(),
                "samples": self.samples.history(),
            },
        }


def masked(process: ManagedProcess) -> Callable[[str], str] | None:
    """Return the function that masks the secrets of a process in a text, None if it has no secrets."""
    return masker_of(process) or None
