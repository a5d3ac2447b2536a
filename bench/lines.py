"""The lines of `seq 1 3000000`, handed to somebody who counts them."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from functools import partial
from typing import Final

import trio

from trio_process import ActionProcessOutput, Service

from .harness import Benchmark, Contender, Figure, Goal, Values
from .meter import Meter

LINES: Final = 3_000_000
"""How many lines are written at full scale."""


def _check(count: int, wanted: int) -> None:
    if count != wanted:
        raise RuntimeError(f"{count} lines came of {wanted}")


def _rate(count: int, meter: Meter) -> Values:
    return meter.rate("lines", count / 1000, per=1000)


def ours(scale: float, how: str) -> Values:
    """A subscription, read by batches or one by one; or the lines of one process."""
    wanted = int(LINES * scale)

    async def by_batches(service: Service) -> int:
        count = 0
        with service.subscribe(ActionProcessOutput, buffer=100_000) as events:
            process = await service.start("seq", "1", str(wanted))
            while count < wanted:
                count += len((await events.receive_batch()).lines)
            await process.wait()
        return count

    async def by_events(service: Service) -> int:
        count = 0
        with service.subscribe(ActionProcessOutput, buffer=100_000) as events:
            await service.start("seq", "1", str(wanted))
            async for _ in events:
                count += 1
                if count == wanted:
                    break
        return count

    async def by_lines(service: Service) -> int:
        process = await service.start("seq", "1", str(wanted), buffer_size=2**30)
        return sum([1 async for _ in process.lines()])

    async def main() -> Values:
        async with Service() as service:
            meter = Meter()
            count = await {"batches": by_batches, "events": by_events, "lines": by_lines}[how](service)
            _check(count, wanted)
            return _rate(count, meter)

    return trio.run(main)


def with_asyncio(scale: float) -> Values:
    """`async for line in process.stdout`."""
    wanted = int(LINES * scale / 3)

    async def main() -> Values:
        meter = Meter()
        process = await asyncio.create_subprocess_exec("seq", "1", str(wanted), stdout=asyncio.subprocess.PIPE)
        assert process.stdout is not None
        count = 0
        async for _ in process.stdout:
            count += 1
        await process.wait()
        _check(count, wanted)
        return _rate(count, meter)

    return asyncio.run(main())


def with_shellous(scale: float) -> Values:
    """`async for line in command`."""
    from shellous import sh  # noqa: PLC0415 - a peer is imported where it runs

    wanted = int(LINES * scale / 10)

    async def main() -> Values:
        meter = Meter()
        count = 0
        async for _ in sh("seq", "1", str(wanted)):
            count += 1
        _check(count, wanted)
        return _rate(count, meter)

    return asyncio.run(main())


def with_processkit(scale: float) -> Values:
    """`async for line in running.stdout_lines()`."""
    from processkit import Command  # noqa: PLC0415 - a peer is imported where it runs

    wanted = max(10, int(LINES * scale / 1000))

    async def main() -> Values:
        meter = Meter()
        running = await Command("seq", ["1", str(wanted)]).astart()
        count = 0
        async for _ in running.stdout_lines():
            count += 1
        _check(count, wanted)
        return _rate(count, meter)

    return asyncio.run(main())


def with_subprocess(scale: float) -> Values:
    """`for line in process.stdout`, as text: a thread that does nothing else."""
    wanted = int(LINES * scale)
    meter = Meter()
    count = 0
    with subprocess.Popen(["seq", "1", str(wanted)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in process.stdout:
            count += 1
    _check(count, wanted)
    return _rate(count, meter)


def in_plain_python(scale: float) -> Values:
    """Read, decode, split: the limit of the interpreter."""
    wanted = int(LINES * scale)
    meter = Meter()
    count = 0
    rest = b""
    with subprocess.Popen(["seq", "1", str(wanted)], stdout=subprocess.PIPE, bufsize=0) as process:
        assert process.stdout is not None
        descriptor = process.stdout.fileno()
        while data := os.read(descriptor, 65536):
            block, _, rest = (rest + data).rpartition(b"\n")
            count += len(block.decode().split("\n"))
    _check(count, wanted)
    return _rate(count, meter)


def through_a_pipe(scale: float) -> Values:
    """`seq | cat > /dev/null`: the pipe's limit."""
    wanted = int(LINES * scale)
    begin = time.perf_counter()
    subprocess.run(["sh", "-c", f"seq 1 {wanted} | cat > /dev/null"], check=True)
    return {"lines": wanted / (time.perf_counter() - begin) / 1e6}


BENCHMARKS: Final = (
    Benchmark(
        name="lines",
        title="lines of `seq 1 3000000` to a subscriber as texts (EventBatch.lines)",
        figures=(Figure("lines", "lines", "million a second", work="thousand lines"),),
        contenders=(
            Contender("trio_process", partial(ours, how="batches")),
            Contender("asyncio", with_asyncio),
            Contender("shellous", with_shellous, ("shellous",)),
            Contender("processkit-py", with_processkit, ("processkit",)),
            Contender("subprocess, for line in stdout", with_subprocess),
            Contender("plain Python: read, decode, split", in_plain_python),
            Contender("seq | cat > /dev/null", through_a_pipe),
        ),
        goals=(
            Goal(
                text="at least 0.75 of plain Python's read, decode, split",
                figure="lines",
                peer="plain Python: read, decode, split",
                least=0.75,
            ),
        ),
    ),
    Benchmark(
        name="events",
        title="the same lines one by one, `async for event in events`",
        figures=(Figure("lines", "lines", "million a second", work="thousand lines"),),
        contenders=(
            Contender("trio_process", partial(ours, how="events")),
            Contender("trio_process, process.lines()", partial(ours, how="lines")),
            Contender("asyncio", with_asyncio),
            Contender("shellous", with_shellous, ("shellous",)),
            Contender("processkit-py", with_processkit, ("processkit",)),
        ),
        goals=(
            Goal(text="at least 3.5 x asyncio's reader", figure="lines", peer="asyncio", least=3.5),
            Goal(
                text="process.lines() at least 0.9 of the events",
                figure="lines",
                ours="trio_process, process.lines()",
                peer="trio_process",
                least=0.9,
            ),
        ),
    ),
)
