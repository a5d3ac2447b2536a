"""Poll the daemons of the registry every two seconds while a stream is open, as no event reports them."""

from __future__ import annotations

from typing import Any, Final, final

import trio

from ..._core import RegistryError, logger
from ..._daemon import DaemonEntry, Registry, probe_health
from .hub import Hub

PERIOD: Final = 2.0
_PROBE_EVERY: Final = 5  # polls
_PROBE_TIMEOUT: Final = 2.0

_Key = tuple[str, str]


@final
class Daemons:
    """The daemons known to be running, and their health.

    Args:
        registry: The registry, or None.
        hub: Receives changes.
    """

    __slots__ = ("_health", "_hub", "_known", "_looks", "_registry")

    def __init__(self, registry: Registry | None, hub: Hub) -> None:
        self._registry = registry
        self._hub = hub
        self._known: dict[_Key, DaemonEntry] = {}
        self._health: dict[_Key, tuple[bool, str]] = {}
        self._looks = 0

    def rows(self) -> list[dict[str, Any]]:
        """Return the daemons of the latest poll, ready for JSON."""
        return [self.row(entry) for entry in self._known.values()]

    def row(self, entry: DaemonEntry) -> dict[str, Any]:
        """Return a daemon, ready for JSON, and its health at the latest poll."""
        found = entry.to_dict()
        health = self._health.get((entry.code, entry.daemon))
        return found if health is None else found | {"healthy": health[0], "reason": health[1]}

    async def look(self) -> list[DaemonEntry]:
        """Read the registry, and publish changes."""
        assert self._registry is not None, "looked at only where there is one"
        entries = await trio.to_thread.run_sync(self._registry.list)
        now = {(entry.code, entry.daemon): entry for entry in entries}
        for key, entry in now.items():
            before = self._known.get(key)
            if before is None or (before.pid, before.started) != (entry.pid, entry.started):
                self._health.pop(key, None)
                self._hub.publish("process.daemon.started", entry.to_dict())
        for key, entry in self._known.items():
            if key not in now:
                self._health.pop(key, None)
                self._hub.publish("process.daemon.stopped", {"code": key[0], "daemon": key[1], "pid": entry.pid})
        self._known = now
        return entries

    def note_health(self, entry: DaemonEntry, healthy: bool, reason: str) -> None:  # noqa: FBT001 - as returned by probe_health
        """Store the result of a probe, and publish it if it has changed."""
        key = (entry.code, entry.daemon)
        if self._health.get(key) != (healthy, reason):
            self._health[key] = (healthy, reason)
            data = {"code": entry.code, "daemon": entry.daemon, "healthy": healthy, "reason": reason}
            self._hub.publish("process.daemon.health", data)

    async def _probe(self, entry: DaemonEntry) -> None:
        healthy, reason = await probe(entry)
        self.note_health(entry, healthy, reason)

    async def run(self) -> None:
        """Poll until cancelled, but only while a stream is open."""
        if self._registry is None:
            return
        while True:
            await self._hub.wait_for_clients()
            try:
                await self.look()
            except RegistryError as error:
                logger.debug("control server: %s", error)
            if self._looks % _PROBE_EVERY == 0:
                async with trio.open_nursery() as nursery:
                    for entry in self._known.values():
                        if entry.health:
                            nursery.start_soon(self._probe, entry)
            self._looks += 1
            await trio.sleep(PERIOD)


async def probe(entry: DaemonEntry) -> tuple[bool, str]:
    """Query a daemon's health server once; return whether it is healthy, and why not."""
    try:
        return await probe_health(entry.health, _PROBE_TIMEOUT)
    except ValueError as error:  # an address written by other software
        return False, str(error)
