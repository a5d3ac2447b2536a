"""Counting how often something can be done in a second: in Trio, in asyncio, in threads."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from .harness import Values
from .meter import Meter

_WARM: Final = 10  # runs before the clock starts: caches fill, and modules that are imported late


async def in_trio(once: Callable[[], Awaitable[object]], in_flight: int, seconds: float) -> Values:
    """Return how often `once` was done a second, with so many at a time, and the processor time for each."""
    for _ in range(_WARM):
        await once()
    count = 0
    begin, meter = time.perf_counter(), Meter()

    async def work() -> None:
        nonlocal count
        while not count or time.perf_counter() < begin + seconds:
            await once()
            count += 1

    async with trio.open_nursery() as nursery:
        for _ in range(in_flight):
            nursery.start_soon(work)
    return meter.rate("runs", count)


async def in_asyncio(once: Callable[[], Awaitable[object]], in_flight: int, seconds: float) -> Values:
    """Return how often `once` was done a second, with so many at a time, and the processor time for each."""
    for _ in range(_WARM):
        await once()
    count = 0
    begin, meter = time.perf_counter(), Meter()

    async def work() -> None:
        nonlocal count
        while not count or time.perf_counter() < begin + seconds:
            await once()
            count += 1

    await asyncio.gather(*[work() for _ in range(in_flight)])
    return meter.rate("runs", count)


def in_threads(once: Callable[[], object], in_flight: int, seconds: float) -> Values:
    """Return the same for `once` in so many threads (in this one, if it is one)."""
    for _ in range(_WARM):
        once()
    counts = [0] * in_flight
    begin, meter = time.perf_counter(), Meter()

    def work(place: int) -> None:
        while not counts[place] or time.perf_counter() < begin + seconds:
            once()
            counts[place] += 1

    if in_flight == 1:
        work(0)
    else:
        threads = [threading.Thread(target=work, args=(place,)) for place in range(in_flight)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return meter.rate("runs", sum(counts))
