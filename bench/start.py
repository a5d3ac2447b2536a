"""What a command line costs that starts one program, beside the interpreter that it runs in."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from functools import partial
from typing import Final

from .harness import Benchmark, Contender, Figure, Goal, Values

_BARE: Final = ("-c", "pass")


def beyond_bare(scale: float, arguments: tuple[str, ...]) -> Values:
    """Return what an interpreter takes beyond one that does nothing: the least of some starts, in turn."""
    times: list[float] = []
    used: list[float] = []
    bare: list[float] = []
    bare_used: list[float] = []
    with tempfile.TemporaryDirectory() as cache:
        # compiled beforehand, as an installed package is, whatever this environment says of that
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": cache}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        _start(arguments, environment)
        for _ in range(max(2, int(5 * scale))):
            for command, walls, processor in ((arguments, times, used), (_BARE, bare, bare_used)):
                wall, cpu = _start(command, environment)
                walls.append(wall)
                processor.append(cpu)
    return {"wall": min(times) - min(bare), "cpu": min(used) - min(bare_used)}


def _start(arguments: tuple[str, ...], environment: dict[str, str]) -> tuple[float, float]:
    """Return the milliseconds by the clock, and of processor time with that of what it starts."""
    begin, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], check=True, env=environment, stdin=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return (time.perf_counter() - begin) * 1000, used * 1000


BENCHMARKS: Final = (
    Benchmark(
        name="start",
        title="the command line from its start to its end, beyond `python -c pass`",
        figures=(
            Figure("cpu", "processor time", "ms", more_is_better=False),
            Figure("wall", "time", "ms", more_is_better=False),
        ),
        contenders=(
            Contender("trio_process", partial(beyond_bare, arguments=("-m", "trio_process", "exec", "--", "true"))),
            Contender("import trio", partial(beyond_bare, arguments=("-c", "import trio"))),
            Contender("import trio_process", partial(beyond_bare, arguments=("-c", "import trio_process"))),
        ),
        goals=(
            Goal(
                text="`python -m trio_process exec -- true`: at most Trio's import + 40 %",
                figure="cpu",
                peer="import trio",
                most=1.4,
            ),
        ),
    ),
)
