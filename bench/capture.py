"""The capture of 100-byte lines, nobody subscribed: from `yes`, from `cat FILE` and from `head -c`."""

from __future__ import annotations

import asyncio
import math
import os
import subprocess
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from subprocess import DEVNULL
from typing import Any, Final

import trio

from trio_process import DEFAULT_BUFFER_SIZE, Service

from .harness import Benchmark, Contender, Figure, Goal, Values, cpu_key
from .meter import Meter

SIZE: Final = 1_000_000_000
"""How many bytes are written at full scale by each source."""

LINE: Final = "x" * 99

Source = tuple[str, list[str], int]


def _sources(size: int, directory: str) -> list[Source]:
    file = Path(directory) / "lines"
    block = (LINE + "\n").encode() * 10_000
    with file.open("wb") as out:
        for _ in range(max(1, size // len(block))):
            out.write(block)
    length = file.stat().st_size
    return [
        ("yes", ["sh", "-c", f"yes {LINE} | head -c {length}"], length),
        ("cat", ["cat", str(file)], length),
        ("head", ["head", "-c", str(length), str(file)], length),
    ]


def _scratch() -> tempfile.TemporaryDirectory[str]:
    # in memory, so that no disk is measured
    return tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None)


async def _measure(size: int, run: Callable[[Sequence[str]], Awaitable[object]]) -> dict[str, float]:
    found: dict[str, float] = {}
    with _scratch() as directory:
        for key, command, length in _sources(size, directory):
            meter = Meter()
            await run(command)
            found.update(meter.rate(key, length / 1e6))
    return found


def ours(scale: float, buffer_size: float = DEFAULT_BUFFER_SIZE) -> Values:
    """`Service.run`, which keeps the last MiB, unless it is told to keep everything."""

    async def main() -> dict[str, float]:
        async with Service() as service:

            async def run(command: Sequence[str]) -> None:
                result = await service.run(*command, buffer_size=buffer_size)
                if len(result.output_bytes) != min(buffer_size, result.dropped + len(result.output_bytes)):
                    raise RuntimeError("the capture is not whole")

            return await _measure(int(SIZE * scale), run)

    return trio.run(main)


def with_trio(scale: float) -> Values:
    """`trio.run_process`, which keeps everything."""

    async def run(command: Sequence[str]) -> None:
        await trio.run_process(command, capture_stdout=True, capture_stderr=True)

    return trio.run(_measure, int(SIZE * scale / 4), run)


def with_asyncio(scale: float) -> Values:
    """`communicate`, which keeps everything."""

    async def run(command: Sequence[str]) -> None:
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*command, stdin=DEVNULL, stdout=pipe, stderr=pipe)
        await process.communicate()

    return asyncio.run(_measure(int(SIZE * scale / 4), run))


def with_subprocess(scale: float) -> Values:
    """`subprocess.run`, which keeps everything."""

    async def run(command: Sequence[str]) -> None:
        subprocess.run(command, stdin=DEVNULL, capture_output=True, check=False)  # noqa: ASYNC221 - nothing else runs

    return asyncio.run(_measure(int(SIZE * scale / 4), run))


def with_cat(scale: float) -> Values:
    """`cat > /dev/null` at the other end: the pipe's limit."""

    async def run(command: Sequence[str]) -> None:
        reading, writing = os.pipe()
        options: dict[str, Any] = {"stdin": reading, "stdout": DEVNULL}
        with subprocess.Popen(["cat"], **options), subprocess.Popen(command, stdout=writing):  # noqa: ASYNC220 - as above
            os.close(reading)
            os.close(writing)

    values = asyncio.run(_measure(int(SIZE * scale), run))
    return {key: value for key, value in values.items() if not key.endswith(cpu_key(""))}  # cat's own isn't ours


BENCHMARKS: Final = (
    Benchmark(
        name="capture",
        title="capture of 100-byte lines, nobody subscribed",
        figures=(
            Figure("yes", "from `yes LINE | head -c N`", "MB a second", work="MB"),
            Figure("cat", "from `cat FILE`", "MB a second", work="MB"),
            Figure("head", "from `head -c N FILE`", "MB a second", work="MB"),
        ),
        contenders=(
            Contender("trio_process", ours),
            Contender("trio_process, keeping everything", lambda scale: ours(scale / 4, math.inf)),
            Contender("trio.run_process, keeping everything", with_trio),
            Contender("asyncio, keeping everything", with_asyncio),
            Contender("subprocess.run, keeping everything", with_subprocess),
            Contender("cat > /dev/null", with_cat),
        ),
        goals=(
            Goal(text="at least 0.7 of `cat > /dev/null` behind yes", figure="yes", peer="cat > /dev/null", least=0.7),
            Goal(
                text="keeping everything, from `cat FILE`: the rate of trio.run_process",
                figure="cat",
                ours="trio_process, keeping everything",
                peer="trio.run_process, keeping everything",
                least=1.0,
            ),
        ),
    ),
)
