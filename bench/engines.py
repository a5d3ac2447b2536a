"""Commands on a Slurm and on a Dask, by an agent and by the engine's own means.

The engines have to run already, and are found by the environment: ``SLURM_CONF=/etc/slurm/slurm.conf``, and
``DASK_ADDRESS=tcp://scheduler:8786``. Without them, these benchmarks are skipped.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
from functools import partial
from typing import Final

import trio

from trio_process import Service
from trio_process.cluster import ClusterService, dask_agents, slurm_agents

from . import cluster
from .harness import Benchmark, Contender, Figure, Goal, Values
from .rate import in_asyncio, in_trio
from .runs import RUNS

SECONDS: Final = 2.0
IN_FLIGHT: Final = 8

_SLURM: Final = ("/srun", "$SLURM_CONF")
_DASK: Final = ("distributed", "$DASK_ADDRESS")

OURS: Final = "trio_process, one agent"
SRUN: Final = "srun per command"
TASKS: Final = "Dask's own tasks"


def by_slurm(scale: float, work: cluster.Work) -> Values:
    """By an agent on Slurm, which calls back."""

    async def main() -> Values:
        async with ClusterService(slurm_agents(1, f"-c{IN_FLIGHT}")) as service:
            return await work(service, scale)

    return trio.run(main)


async def steps(service: Service, scale: float) -> Values:
    """`true`, eight in flight."""
    return await in_trio(partial(service.run, "true"), IN_FLIGHT, SECONDS * scale)


def by_srun(scale: float) -> Values:
    """A job step of its own for each command."""

    async def main() -> Values:
        async with Service() as service:
            return await in_trio(partial(service.run, "srun", "--ntasks=1", "true"), IN_FLIGHT, SECONDS * scale)

    return trio.run(main)


def by_dask(scale: float) -> Values:
    """By agents on the workers of a Dask."""

    async def main() -> Values:
        async with ClusterService(dask_agents(os.environ["DASK_ADDRESS"], plaintext=True)) as service:
            return await steps(service, scale)

    return trio.run(main)


def by_tasks(scale: float) -> Values:
    """A task of Dask's own for each command."""
    from distributed import Client  # noqa: PLC0415 - only this contender needs it

    async def main() -> Values:
        async with Client(os.environ["DASK_ADDRESS"], asynchronous=True) as client:

            async def once() -> None:
                await client.submit(subprocess.call, ["true"], pure=False)

            return await in_asyncio(once, IN_FLIGHT, SECONDS * scale)

    return asyncio.run(main())


BENCHMARKS: Final = (
    Benchmark(
        name="slurm-runs",
        title="`true` on Slurm, 8 in flight",
        figures=(RUNS,),
        contenders=(Contender(OURS, partial(by_slurm, work=steps), _SLURM), Contender(SRUN, by_srun, _SLURM)),
        goals=(Goal(text="at least 5 x srun per command", figure="runs", peer=SRUN, ours=OURS, least=5.0),),
    ),
    Benchmark(
        name="slurm-lines",
        title="a million lines from Slurm, by a call back",
        figures=(Figure("lines", "lines", "million a second"),),
        contenders=(
            Contender(cluster.LOCAL, partial(cluster.here, work=cluster.lines)),
            Contender(OURS, partial(by_slurm, work=cluster.lines), _SLURM),
        ),
        goals=(Goal(text="at least 0.5 x here", figure="lines", peer=cluster.LOCAL, ours=OURS, least=0.5),),
    ),
    Benchmark(
        name="dask-runs",
        title="`true` on Dask, 8 in flight",
        figures=(RUNS,),
        contenders=(Contender(OURS, by_dask, _DASK), Contender(TASKS, by_tasks, _DASK)),
        goals=(Goal(text="at least 3 x Dask's own tasks", figure="runs", peer=TASKS, ours=OURS, least=3.0),),
    ),
)
