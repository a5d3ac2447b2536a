"""Measure the running services every two seconds while a stream has selected samples, and when the metrics are read.

With a hundred services a measurement takes some 20 ms, so nothing is measured while no client needs it. An idle program is not
woken at all, so the delay of its event loop isn't measured either. A page that is opened again within a minute still finds its
history. The seconds of CPU of an ended process are those that the kernel reports at its end, so the total is right
however seldom it is looked at.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import trio

from ..._core import ProcessNotFoundError
from .plane import Plane
from .samples import measure, now

PERIOD: Final = 2.0
"""Seconds between two measurements."""

_LINGER: Final = 60.0  # seconds after the last look


async def sample(plane: Plane) -> None:
    """Measure while a stream is open that has selected samples, until cancelled."""
    selected = -math.inf
    while True:
        await plane.samples.wait_looked(_LINGER)
        due = trio.current_time() + PERIOD
        await trio.sleep_until(due)
        plane.samples.lag(trio.current_time() - due)
        if plane.hub.is_selected("sample"):
            selected = now()
            plane.samples.look()
        if now() - selected < _LINGER:
            await _measure(plane, 0.0)
            services = [each | _source(plane, each["name"]) for each in plane.samples.latest()]
            plane.hub.publish("sample", {"services": services, "loopLag": round(plane.samples.loop_lag, 4)})


async def refresh_samples(plane: Plane) -> None:
    """Measure, unless the latest measurement is recent."""
    plane.samples.look()
    await _measure(plane, PERIOD)


async def _measure(plane: Plane, age: float) -> None:
    samples = plane.samples
    async with samples.measuring:
        if now() - samples.measured < age:
            return
        pids: Mapping[str, int] = _leaders(plane)
        samples.begin()
        found = await trio.to_thread.run_sync(measure, pids, abandon_on_cancel=True) if pids else {}
        samples.add(pids, found, now())
        samples.forget({*pids, *(unit.name for unit in plane.services.units())})


def _leaders(plane: Plane) -> dict[str, int]:
    """Return the PIDs to measure: by name those of each replica, and by id those of each other running process."""
    found: dict[str, int] = {}
    for unit in plane.services.units():
        if unit.process is not None and unit.process.pid is not None and unit.process.is_running:
            found[unit.name] = unit.process.pid
    service = plane.service
    if service is not None:
        known = set(found.values())
        for process in service.running():
            if process.pid is not None and process.pid not in known:
                found[process.id] = process.pid
    return found


def _source(plane: Plane, name: str) -> dict[str, Any]:
    """Return the service and replica of what is measured by a name of `_leaders`."""
    for unit in plane.services.units():
        if unit.name == name:
            return {"service": unit.spec.name, "replica": unit.replica}
    service = plane.service
    try:
        label = None if service is None else service.get(name).name
    except ProcessNotFoundError:
        label = None  # it has been forgotten since
    filed, replica = plane.services.source_of(name, label)
    return {"service": filed, "replica": replica}
