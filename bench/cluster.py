"""The same work here, and through one agent on this machine: what the wire and the second Trio loop cost."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import trio

from trio_process import ActionProcessOutput, Service
from trio_process.cluster import ClusterService, local_agents

from .harness import Benchmark, Contender, Figure, Goal, Values, cpu_key
from .rate import in_trio
from .runs import RUNS

SECONDS: Final = 1.0
LINES: Final = 1_000_000
MEGABYTES: Final = 100

LOCAL: Final = "trio_process, here"
REMOTE: Final = "trio_process, one agent"

Work = Callable[[Service, float], Awaitable[Values]]


def here(scale: float, work: Work) -> Values:
    """On a `Service`."""

    async def main() -> Values:
        async with Service() as service:
            return await work(service, scale)

    return trio.run(main)


def through_agent(scale: float, work: Work) -> Values:
    """On a `ClusterService` with one agent."""

    async def main() -> Values:
        async with ClusterService(local_agents(1, slots=64)) as cluster:
            return await work(cluster, scale)

    return trio.run(main)


async def steps(service: Service, scale: float) -> Values:
    """`true`, eight in flight."""
    return await in_trio(partial(service.run, "true"), 8, SECONDS * scale)


async def lines(service: Service, scale: float) -> Values:
    """A million lines to a subscriber."""
    wanted, count, began = int(LINES * scale), 0, time.perf_counter()
    with service.subscribe(ActionProcessOutput, buffer=100_000) as events:
        process = await service.start("seq", "1", str(wanted), disable_capture=True)
        while count < wanted:
            count += len((await events.receive_batch()).lines)
        await process.wait()
    return {"lines": count / (time.perf_counter() - began) / 1e6}


async def bulk(service: Service, scale: float) -> Values:
    """100 MB of output, of which the tail is kept."""
    size, began = int(MEGABYTES * scale * 1e6), time.perf_counter()
    await service.run("head", "-c", str(size), "/dev/zero")
    return {"bytes": size / (time.perf_counter() - began) / 1e6}


def _contenders(work: Work) -> tuple[Contender, ...]:
    return (
        Contender(LOCAL, partial(here, work=work)),
        Contender(REMOTE, partial(through_agent, work=work)),
    )


def _goal(text: str, figure: str, *, least: float | None = None, most: float | None = None) -> Goal:
    return Goal(text=text, figure=figure, peer=LOCAL, ours=REMOTE, least=least, most=most)


BENCHMARKS: Final = (
    Benchmark(
        name="agent-runs",
        title="`true` through one agent, 8 in flight",
        figures=(RUNS,),
        contenders=_contenders(steps),
        goals=(
            _goal("at least 0.7 x here", "runs", least=0.7),
            _goal("at most 0.4 x the processor time of here", cpu_key("runs"), most=0.4),
        ),
    ),
    Benchmark(
        name="agent-lines",
        title="a million lines through one agent",
        figures=(Figure("lines", "lines", "million a second"),),
        contenders=_contenders(lines),
        goals=(_goal("at least 0.5 x here", "lines", least=0.5),),
    ),
    Benchmark(
        name="agent-bytes",
        title="100 MB through one agent",
        figures=(Figure("bytes", "output", "MB a second"),),
        contenders=_contenders(bulk),
        goals=(_goal("at least 0.5 x here", "bytes", least=0.5),),
    ),
)
