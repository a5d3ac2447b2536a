"""`true` from spawn to result, its output captured: one at a time, and 32 in flight."""

from __future__ import annotations

import asyncio
import subprocess
from functools import partial
from subprocess import DEVNULL
from typing import Final

import trio

from trio_process import Service

from .compiled import program
from .harness import Benchmark, Contender, Figure, Goal, Values, cpu_key
from .rate import in_asyncio, in_threads, in_trio

SECONDS: Final = 1.0
"""How long a sample lasts at full scale."""


def ours(scale: float, in_flight: int) -> Values:
    """`Service.run`, with capture, events, group, sweep and usage."""

    async def main() -> Values:
        async with Service() as service:
            return await in_trio(partial(service.run, "true"), in_flight, SECONDS * scale)

    return trio.run(main)


def with_trio(scale: float, in_flight: int) -> Values:
    """`trio.run_process`, both streams captured."""
    once = partial(trio.run_process, ["true"], capture_stdout=True, capture_stderr=True)
    return trio.run(in_trio, once, in_flight, SECONDS * scale)


def with_asyncio(scale: float, in_flight: int) -> Values:
    """`asyncio.create_subprocess_exec` and `communicate`."""

    async def once() -> None:
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec("true", stdin=DEVNULL, stdout=pipe, stderr=pipe)
        await process.communicate()

    return asyncio.run(in_asyncio(once, in_flight, SECONDS * scale))


def with_anyio(scale: float, in_flight: int) -> Values:
    """`anyio.run_process`, on Trio."""
    import anyio  # noqa: PLC0415 - a peer is imported where it runs

    return trio.run(in_trio, partial(anyio.run_process, ["true"]), in_flight, SECONDS * scale)


def with_shellous(scale: float, in_flight: int) -> Values:
    """shellous, on asyncio."""
    from shellous import sh  # noqa: PLC0415 - a peer is imported where it runs

    command = sh("true").result

    async def once() -> None:
        await command

    return asyncio.run(in_asyncio(once, in_flight, SECONDS * scale))


def with_processkit(scale: float, in_flight: int) -> Values:
    """processkit-py: Rust, on asyncio."""
    from processkit import Command  # noqa: PLC0415 - a peer is imported where it runs

    command = Command("true")

    async def once() -> None:
        await command.aoutput()

    return asyncio.run(in_asyncio(once, in_flight, SECONDS * scale))


def with_subprocess(scale: float, in_flight: int) -> Values:
    """`subprocess.run`, in as many threads as are in flight."""
    once = partial(subprocess.run, ["true"], stdin=DEVNULL, capture_output=True, check=False)
    return in_threads(once, in_flight, SECONDS * scale)


def with_plumbum(scale: float, in_flight: int) -> Values:
    """plumbum, synchronous."""
    from plumbum import local  # noqa: PLC0415 - a peer is imported where it runs

    return in_threads(local["true"].run, in_flight, SECONDS * scale)


def with_sh(scale: float, in_flight: int) -> Values:
    """sh, synchronous."""
    import sh  # noqa: PLC0415 - a peer is imported where it runs

    return in_threads(sh.Command("true"), in_flight, SECONDS * scale)


def in_c(scale: float, in_flight: int, descriptors: int = 0) -> Values:
    """posix_spawn and waitpid, nothing captured: the limit."""
    command = [program("spawn"), repr(SECONDS * scale), str(in_flight), str(descriptors)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    runs, microseconds = map(float, done.stdout.split())
    return {"runs": runs, cpu_key("runs"): microseconds}


def contenders(in_flight: int) -> tuple[Contender, ...]:
    """Return those who run `true` with so many in flight; plumbum and sh are made for one at a time."""
    at_once = [
        Contender("trio_process", partial(ours, in_flight=in_flight)),
        Contender("trio.run_process", partial(with_trio, in_flight=in_flight)),
        Contender("asyncio", partial(with_asyncio, in_flight=in_flight)),
        Contender("anyio.run_process", partial(with_anyio, in_flight=in_flight), ("anyio",)),
        Contender("shellous", partial(with_shellous, in_flight=in_flight), ("shellous",)),
        Contender("processkit-py", partial(with_processkit, in_flight=in_flight), ("processkit",)),
        Contender("subprocess.run", partial(with_subprocess, in_flight=in_flight)),
    ]
    if in_flight == 1:
        at_once += [
            Contender("plumbum", partial(with_plumbum, in_flight=1), ("plumbum",)),
            Contender("sh", partial(with_sh, in_flight=1), ("sh",)),
        ]
    return (*at_once, Contender("C: posix_spawn, waitpid", partial(in_c, in_flight=in_flight), ("/gcc",)))


RUNS: Final = Figure("runs", "runs of `true`", "a second", work="run")
_TRIO: Final = "trio.run_process"

BENCHMARKS: Final = (
    Benchmark(
        name="runs",
        title="run('true') with capture, events, group, sweep and usage, one at a time",
        figures=(RUNS,),
        contenders=contenders(1),
        goals=(
            Goal(
                text="at most 0.40 of the processor time of trio.run_process",
                figure=cpu_key("runs"),
                peer=_TRIO,
                most=0.4,
            ),
            Goal(text="at least 1.35 x trio.run_process", figure="runs", peer=_TRIO, least=1.35),
            Goal(text="level with subprocess.run", figure="runs", peer="subprocess.run", least=1.0),
        ),
    ),
    Benchmark(
        name="runs-32",
        title="the same with 32 in flight",
        figures=(RUNS,),
        contenders=contenders(32),
        goals=(Goal(text="at least 1.8 x trio.run_process", figure="runs", peer=_TRIO, least=1.8),),
    ),
)
