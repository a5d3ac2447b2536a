"""`true` in a process that has 15,000 descriptors open: each spawn copies and closes that table."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from functools import partial
from typing import Final

from . import runs
from .harness import Benchmark, Contender, Goal, Values

MANY: Final = 15_000
"""How many descriptors are open."""


def _with_many(run: Callable[..., Values], scale: float) -> Values:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    wanted = MANY if scale >= 1 else int(MANY * scale)
    opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(wanted)]
    try:
        return run(scale, in_flight=1)
    finally:
        for descriptor in opened:
            os.close(descriptor)


def _contenders() -> tuple[Contender, ...]:
    made = []
    for name, run in (
        ("trio_process", runs.ours),
        ("trio.run_process", runs.with_trio),
        ("asyncio", runs.with_asyncio),
        ("subprocess.run", runs.with_subprocess),
    ):
        made += [
            Contender(name, partial(_with_many, run)),
            Contender(f"{name}, few descriptors", partial(run, in_flight=1)),
        ]
    limits = [
        Contender("C: posix_spawn, waitpid", partial(runs.in_c, in_flight=1, descriptors=MANY), ("/gcc",)),
        Contender("C, few descriptors", partial(runs.in_c, in_flight=1), ("/gcc",)),
    ]
    return (*made, *limits)


BENCHMARKS: Final = (
    Benchmark(
        name="descriptors",
        title="run('true') one at a time with 15,000 descriptors open",
        figures=(runs.RUNS,),
        contenders=_contenders(),
        goals=(
            Goal(
                text="at most 1.5 x slower than with few (0.67 of the rate)",
                figure="runs",
                peer="trio_process, few descriptors",
                least=1 / 1.5,
            ),
        ),
    ),
)
