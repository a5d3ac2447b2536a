"""Counting how often something can be done in a second: in Trio, in asyncio, in threads."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Final

import trio

_WARM: Final = 10  # runs before the clock starts: caches fill, and modules that are imported late


async def in_trio(once: Callable[[], Awaitable[object]], in_flight: int, seconds: float) -> float:
    """Return how often `once` was done a second, with so many at a time."""
    for _ in range(_WARM):
        await once()
    count = 0
    begin = time.perf_counter()

    async def work() -> None:
        nonlocal count
        while time.perf_counter() < begin + seconds:
            await once()
            count += 1

    async with trio.open_nursery() as nursery:
        for _ in range(in_flight):
            nursery.start_soon(work)
    return count / (time.perf_counter() - begin)


async def in_asyncio(once: Callable[[], Awaitable[object]], in_flight: int, seconds: float) -> float:
    """Return how often `once` was done a second, with so many at a time."""
    for _ in range(_WARM):
        await once()
    count = 0
    begin = time.perf_counter()

    async def work() -> None:
        nonlocal count
        while time.perf_counter() < begin + seconds:
            await once()
            count += 1

    await asyncio.gather(*[work() for _ in range(in_flight)])
    return count / (time.perf_counter() - begin)


def in_threads(once: Callable[[], object], in_flight: int, seconds: float) -> float:
    """Return how often `once` was done a second, by so many threads (by this one, if it is one)."""
    for _ in range(_WARM):
        once()
    counts = [0] * in_flight
    begin = time.perf_counter()

    def work(place: int) -> None:
        while time.perf_counter() < begin + seconds:
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
    return sum(counts) / (time.perf_counter() - begin)
