"""Feed the events of a service's bus into the log store and to the hub, at the pace of the bus."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

import trio

from ..._core import (
    ActionProcessExited,
    ActionProcessKilled,
    ActionProcessStarted,
    EventBatch,
    Overflow,
    ProcessNotFoundError,
    Subscription,
)
from ..._process import Service, processor_time_of
from ..._supervisor import UnitChanged
from .logstore import Source
from .plane import Plane, masked
from .services import row

_BUFFER: Final = 200_000  # lines that may wait for us; a child never waits
_CHANNEL_OF: Final = {
    ActionProcessStarted: "process.started",
    ActionProcessKilled: "process.killed",
    ActionProcessExited: "process.exited",
}


class _Origin:
    """The known facts about a running process."""

    __slots__ = ("mask", "source")

    def __init__(self, source: Source, mask: Callable[[str], str] | None) -> None:
        self.source = source
        self.mask = mask


class Feed:
    """Consumer of the events of one service.

    Args:
        plane: The state that the events update.
    """

    __slots__ = ("_dropped", "_known", "_origins", "_plane", "_service")

    def __init__(self, plane: Plane) -> None:
        self._plane = plane
        self._service: Service | None = None
        self._origins: dict[str, _Origin] = {}
        self._dropped = 0
        self._known: set[str] = set()

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Consume all events until the service is left; it has started once no further event is missed."""
        service = self._plane.service
        if service is None:
            task_status.started()
            return
        self._service = service
        self._learn_services()
        with service.subscribe(buffer=_BUFFER, overflow=Overflow.DROP_OLDEST) as events:
            self._plane.events = events
            task_status.started()
            try:
                while True:
                    self._take(await events.receive_batch())
                    self._note_dropped(events)
            except trio.EndOfChannel:
                return
            finally:
                self._plane.events = None

    def _note_dropped(self, events: Subscription[Any]) -> None:
        missed = events.dropped - self._dropped
        if missed:
            self._dropped = events.dropped
            self._plane.hub.miss(None, missed)

    def _take(self, batch: EventBatch) -> None:
        if batch.stream is not None:
            origin = self._origin(batch.id, batch.name)
            lines = batch.lines if origin.mask is None else [origin.mask(line) for line in batch.lines]
            at = time.time()
            first = self._plane.logs.append(origin.source, batch.stream.value, lines, at)
            self._plane.hub.output(first, lines, batch.stream.value, origin.source, at)
            return
        event = batch[0]
        channel = _CHANNEL_OF.get(type(event))
        if channel is not None:
            source = self._origin(event.id, event.name).source
            data = event.to_dict() | {"service": source.service, "replica": source.replica}
            if isinstance(event, ActionProcessStarted):
                data["startedAt"] = data["at"]
            self._plane.hub.publish(channel, data, process=event.id, service=source.service)
            if isinstance(event, ActionProcessExited):
                self._ended(event, source)
        elif isinstance(event, UnitChanged):
            self._changed(event)

    def _ended(self, event: ActionProcessExited, source: Source) -> None:
        self._origins.pop(event.id, None)
        if source.service not in self._known:
            return  # its usage is shown only while it runs
        assert self._service is not None, "events come once there is a service"
        try:
            process = self._service.get(event.id)
        except ProcessNotFoundError:
            return
        unit = source.service if source.replica == 1 else f"{source.service}.{source.replica}"
        self._plane.samples.ended(unit, process.pid, processor_time_of(process))

    def _changed(self, event: UnitChanged) -> None:
        units = self._plane.services.units()
        unit = next((each for each in units if each.name == event.name), None)
        service = event.name.removesuffix(f".{event.replica}") if event.replica > 1 else event.name
        if unit is not None and service not in self._known:
            self._learn_services()
        data = event.to_dict() | {"service": service, "unit": None if unit is None else row(unit)}
        self._plane.hub.publish("service.changed", data, service=service)

    def _learn_services(self) -> None:
        """Update the names of the services, after the start or a reload; no other process is filed under one of them."""
        self._known = {unit.spec.name for unit in self._plane.services.units()}
        self._plane.logs.protect(self._known)
        for id_, origin in self._origins.items():
            service, replica = self._plane.services.source_of(id_, origin.source.service)
            origin.source = Source(service, replica, id_)

    def _origin(self, id: str, name: str | None) -> _Origin:  # noqa: A002 - named as in the event
        found = self._origins.get(id)
        if found is None:
            service, replica = self._plane.services.source_of(id, name)
            found = self._origins[id] = _Origin(Source(service, replica, id), self._mask(id))
        return found

    def _mask(self, id: str) -> Callable[[str], str] | None:  # noqa: A002 - named as in the event
        assert self._service is not None, "events come once there is a service"
        try:
            return masked(self._service.get(id))
        except ProcessNotFoundError:
            return None  # already forgotten: then it is not stored here either
