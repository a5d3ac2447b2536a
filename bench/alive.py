"""5,000 children alive at once: what each costs us, and how long it takes to stop them all."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import time
from functools import partial
from pathlib import Path
from typing import Final

import trio

from trio_process import Service, ServiceOptions, Stdio

from .harness import Benchmark, Contender, Figure, Goal, Values

CHILDREN: Final = 5000
"""How many children are alive at full scale."""

_COMMAND: Final = ("sleep", "600")
_WARM: Final = 20  # children before the first look: what is made once is no cost of each


def _memory() -> int:
    """Return what is private to this process, in bytes (proc_pid_smaps(5))."""
    gc.collect()
    private = 0
    for line in Path("/proc/self/smaps_rollup").read_text("ascii").splitlines():
        if line.startswith("Private_"):
            private += int(line.split()[1]) * 1024
    return private


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


class _Costs:
    """Looks at this process before and after."""

    def __init__(self, scale: float) -> None:
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        self.count = max(1, int(CHILDREN * scale))
        self._memory = 0
        self._descriptors = 0
        self._began = 0.0
        self._values: dict[str, float] = {}

    def begin(self) -> None:
        self._memory, self._descriptors = _memory(), _descriptors()
        self._began = time.perf_counter()

    def all_run(self) -> None:
        self._values["start"] = (time.perf_counter() - self._began) / self.count * 1e6
        self._values["memory"] = (_memory() - self._memory) / self.count / 1000
        self._values["descriptors"] = (_descriptors() - self._descriptors) / self.count
        self._began = time.perf_counter()

    def all_ended(self) -> Values:
        self._values["stop"] = time.perf_counter() - self._began
        return self._values


def ours(scale: float, stdin: Stdio) -> Values:
    """`service.start`, and leaving the block."""

    async def main() -> Values:
        costs = _Costs(scale)
        async with Service(options=ServiceOptions(retain=10)) as service:
            for _ in range(_WARM):
                await (await service.start(*_COMMAND, stdin=stdin)).stop()
            costs.begin()
            for _ in range(costs.count):
                await service.start(*_COMMAND, stdin=stdin)
            costs.all_run()
        return costs.all_ended()

    return trio.run(main)


def with_trio(scale: float) -> Values:
    """`trio.run_process` in a nursery, both streams captured; cancelled in the end."""

    async def main() -> Values:
        costs = _Costs(scale)

        async def start(nursery: trio.Nursery) -> None:
            await nursery.start(partial(trio.run_process, _COMMAND, capture_stdout=True, capture_stderr=True))

        async with trio.open_nursery() as nursery:
            for _ in range(_WARM):
                await start(nursery)
            nursery.cancel_scope.cancel()
        async with trio.open_nursery() as nursery:
            costs.begin()
            for _ in range(costs.count):
                await start(nursery)
            costs.all_run()
            nursery.cancel_scope.cancel()
        return costs.all_ended()

    return trio.run(main)


def with_asyncio(scale: float) -> Values:
    """`create_subprocess_exec` with two pipes; terminated and waited for in the end."""

    async def main() -> Values:
        costs = _Costs(scale)
        pipe = asyncio.subprocess.PIPE

        async def start() -> asyncio.subprocess.Process:
            null = asyncio.subprocess.DEVNULL
            return await asyncio.create_subprocess_exec(*_COMMAND, stdin=null, stdout=pipe, stderr=pipe)

        async def stop(processes: list[asyncio.subprocess.Process]) -> None:
            for process in processes:
                process.terminate()
            await asyncio.gather(*[process.communicate() for process in processes])

        await stop([await start() for _ in range(_WARM)])
        costs.begin()
        processes = [await start() for _ in range(costs.count)]
        costs.all_run()
        await stop(processes)
        return costs.all_ended()

    return asyncio.run(main())


BENCHMARKS: Final = (
    Benchmark(
        name="alive",
        title="5,000 children alive (`sleep`), and the end of them all",
        figures=(
            Figure("memory", "memory of each in our process", "kB", more_is_better=False),
            Figure("descriptors", "descriptors of each", "", more_is_better=False),
            Figure("start", "time to start each", "µs", more_is_better=False),
            Figure("stop", "time until all are stopped and reaped", "s", more_is_better=False),
        ),
        contenders=(
            Contender("trio_process", partial(ours, stdin=Stdio.NULL)),
            Contender("trio_process, with a pipe as stdin", partial(ours, stdin=Stdio.PIPE)),
            Contender("trio.run_process", with_trio),
            Contender("asyncio", with_asyncio),
        ),
        goals=(
            Goal(text="4 kB each, 12 at most", figure="memory", most=4.0),
            Goal(text="three descriptors each", figure="descriptors", most=3.0),
            Goal(
                text="all stopped and reaped in a quarter of Trio's time",
                figure="stop",
                peer="trio.run_process",
                most=0.25,
            ),
        ),
    ),
)
