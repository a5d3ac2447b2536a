"""A registry with 10,000 entries: to list it, and to register one more."""

from __future__ import annotations

import json
import os
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Final

from trio_process import DaemonEntry, Registry

from .harness import Benchmark, Contender, Figure, Goal, Values

ENTRIES: Final = 10_000
FEW: Final = 10


def _fill(registry: Registry, count: int) -> None:
    for number in range(count):
        registry.register(DaemonEntry(code=f"code-{number}", daemon="server", health="127.0.0.1:9090"))


def ours(scale: float, entries: int) -> Values:
    """`Registry.list`, `register` and `unregister`."""
    count = entries if entries == FEW else max(FEW, int(entries * scale))
    with tempfile.TemporaryDirectory() as directory:
        registry = Registry(directory)
        _fill(registry, count)
        begin = time.perf_counter()
        found = len(registry.list())
        listing = time.perf_counter() - begin
        if found != count:
            raise RuntimeError(f"{found} entries were listed of {count}")
        times = []
        entry = DaemonEntry(code="one", daemon="more")
        for _ in range(max(5, int(200 * scale))):
            begin = time.perf_counter()
            registry.register(entry)
            registry.unregister("one", "more")
            times.append(time.perf_counter() - begin)
        times.sort()
        return {"list": listing, "register": times[len(times) // 2] * 1e6}


def reading_only(scale: float) -> Values:
    """Read and parse as many files: the limit."""
    with tempfile.TemporaryDirectory() as directory:
        registry = Registry(directory)
        _fill(registry, max(FEW, int(ENTRIES * scale)))
        begin = time.perf_counter()
        for name in os.listdir(directory):
            json.loads((Path(directory) / name).read_bytes())
        return {"list": time.perf_counter() - begin}


BENCHMARKS: Final = (
    Benchmark(
        name="registry",
        title="a registry with 10,000 entries",
        figures=(
            Figure("list", "list them all, alive or not", "s", more_is_better=False),
            Figure("register", "register and unregister one more", "µs", more_is_better=False),
        ),
        contenders=(
            Contender("trio_process", partial(ours, entries=ENTRIES)),
            Contender("trio_process, 10 entries", partial(ours, entries=FEW)),
            Contender("read and parse the files, nothing else", reading_only),
        ),
        goals=(
            Goal(
                text="list in at most 1.5 x the time to read and parse the files",
                figure="list",
                peer="read and parse the files, nothing else",
                most=1.5,
            ),
            Goal(
                text="register and unregister cost the same as with 10 entries (at most 1.3 x)",
                figure="register",
                peer="trio_process, 10 entries",
                most=1.3,
            ),
        ),
    ),
)
