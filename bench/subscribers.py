"""Ten subscribers to one stream against one, by batches."""

from __future__ import annotations

import time
from functools import partial
from typing import Final

import trio

from trio_process import ActionProcessOutput, Service, Subscription

from .harness import Benchmark, Contender, Figure, Goal, Values
from .lines import LINES


def ours(scale: float, readers: int) -> Values:
    """So many tasks that read every batch."""
    wanted = int(LINES * scale)

    async def read(events: Subscription[ActionProcessOutput]) -> None:
        count = 0
        with events:
            while count < wanted:
                count += len((await events.receive_batch()).lines)

    async def main() -> Values:
        async with Service() as service:
            begin = time.perf_counter()
            async with trio.open_nursery() as nursery:
                for _ in range(readers):
                    nursery.start_soon(read, service.subscribe(ActionProcessOutput, buffer=100_000))
                await service.run("seq", "1", str(wanted))
            return {"time": (time.perf_counter() - begin) * 1000}

    return trio.run(main)


BENCHMARKS: Final = (
    Benchmark(
        name="subscribers",
        title="the lines of `seq 1 3000000` to ten subscribers, by batches",
        figures=(Figure("time", "until all have read all", "ms", more_is_better=False),),
        contenders=(
            Contender("trio_process", partial(ours, readers=10)),
            Contender("trio_process, two subscribers", partial(ours, readers=2)),
            Contender("trio_process, one subscriber", partial(ours, readers=1)),
            Contender("trio_process, none", partial(ours, readers=0)),
        ),
        goals=(
            Goal(text="at most 1.5 x the cost of one", figure="time", peer="trio_process, one subscriber", most=1.5),
        ),
    ),
)
