"""10,000 `true` in waves of 100, and a chain of 1,000, two at a time, against the tools made for it."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Final

import trio

from trio_process import Runner, RunSpec, Service

from .harness import Benchmark, Contender, Figure, Goal, Values, cpu_key, tool
from .meter import processor_time, processor_time_of

TASKS: Final = 10_000
WAVE: Final = 100
CHAIN: Final = 1000
JOBS: Final = 2

Graph = list[tuple[str, list[str]]]
"""Names and what each comes after."""


def waves(count: int) -> Graph:
    """Return tasks of which each comes after the one in its place of the wave before."""
    return [(f"t{n}", [f"t{n - WAVE}"] if n >= WAVE else []) for n in range(count)]


def chain(count: int) -> Graph:
    """Return tasks of which each comes after the one before."""
    return [(f"t{n}", [f"t{n - 1}"] if n else []) for n in range(count)]


def ours(graph: Graph, schedule: str) -> float:
    """`Runner.run_all` on a `Service`; as all of these, it returns its own processor time, without its children's."""
    before = processor_time()

    async def main() -> None:
        async with Service() as service:
            specs = [RunSpec(name=name, command="true", after=after) for name, after in graph]
            result = await Runner(service, max_parallel=JOBS).run_all(specs, schedule=schedule)
        if not result.success:
            raise RuntimeError(f"{result.failed} failed, {result.skipped} were skipped")

    trio.run(main)
    return processor_time() - before


def _in_directory(name: str, text: str, command: list[str]) -> float:
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / name).write_text(text, encoding="utf-8")
        return processor_time_of(command, cwd=directory, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def with_make(graph: Graph) -> float:
    """`make -j2`, which runs plain commands without a shell."""
    rules = [f"{name}: {' '.join(after)}\n\ttrue\n" for name, after in graph]
    names = " ".join(name for name, _ in graph)
    text = f"all: {names}\n.PHONY: all {names}\n" + "".join(rules)
    return _in_directory("Makefile", text, ["make", "-s", f"-j{JOBS}", "all"])


def with_ninja(graph: Graph) -> float:
    """`ninja -j2`, which runs each command by a shell."""
    text = "rule run\n  command = true\n" + "".join(f"build {name}: run {' '.join(after)}\n" for name, after in graph)
    return _in_directory("build.ninja", text, ["ninja", "--quiet", f"-j{JOBS}"])


def with_go_task(graph: Graph) -> float:
    """`task --concurrency 2`; its own shell has a `true` that starts nothing, so that the program is named by its path."""
    names = [name for name, _ in graph]
    rules = [f"  {name}: {{deps: {after!r}, cmds: [/bin/true]}}\n" for name, after in graph]
    text = f"version: '3'\nsilent: true\nrun: once\ntasks:\n  all: {{deps: {names!r}}}\n" + "".join(rules)
    return _in_directory("Taskfile.yml", text, [tool("task") or "task", "--concurrency", str(JOBS), "all"])


def with_doit(graph: Graph) -> float:
    """`doit -n2`."""
    lines = [
        f"def task_{name}(): return {{'actions': [['true']], 'task_dep': {after!r}, 'uptodate': [False]}}\n"
        for name, after in graph
    ]
    return _in_directory("dodo.py", "".join(lines), [sys.executable, "-m", "doit", "-n", str(JOBS), "-P", "thread"])


def with_xargs(graph: Graph) -> float:
    """`xargs -P2 -n1 true`, which knows no order."""
    names = "\n".join(name for name, _ in graph)
    return _with_names(names, ["xargs", f"-P{JOBS}", "-n1", "true"])


def with_parallel(graph: Graph) -> float:
    """GNU `parallel -j2`, which knows no order."""
    names = "\n".join(name for name, _ in graph)
    return _with_names(names, ["parallel", f"-j{JOBS}", "true"])


def _with_names(names: str, command: list[str]) -> float:
    with tempfile.TemporaryFile() as file:
        file.write(names.encode())
        file.seek(0)
        return processor_time_of(command, stdin=file, stderr=subprocess.DEVNULL)


def _timed(scale: float, share: float, tools: dict[str, partial[float]]) -> Values:
    """Return tasks a second; a slow tool does a share of the tasks, which its rate hardly shows."""
    values = {}
    for key, run in tools.items():
        full = {"waves": TASKS, "chain": CHAIN}[key]
        graph = (waves if key == "waves" else chain)(max(4, int(full * scale * share)))
        begin = time.perf_counter()
        used = run(graph)
        values[key] = len(graph) / (time.perf_counter() - begin)
        values[cpu_key(key)] = used / len(graph) * 1e6
    return values


def _contender(
    name: str, run: object, needs: tuple[str, ...] = (), *, share: float = 1.0, ordered: bool = True
) -> Contender:
    keys = ("waves", "chain") if ordered else ("waves",)
    assert callable(run)
    return Contender(name, partial(_timed, share=share, tools={key: partial(run) for key in keys}), needs)


_NINJA: Final = "ninja -j2"
_XARGS: Final = "xargs -P2 (no order)"

BENCHMARKS: Final = (
    Benchmark(
        name="pipeline",
        title="a pipeline of `true`, two at a time: 10,000 in waves of 100, and a chain of 1,000",
        figures=(
            Figure("waves", "10,000 in waves of 100", "tasks a second", work="task"),
            Figure("chain", "a chain of 1,000", "tasks a second", work="task"),
        ),
        contenders=(
            _contender("trio_process", partial(ours, schedule="waves")),
            _contender("trio_process, eager", partial(ours, schedule="eager")),
            _contender(_XARGS, with_xargs, ("/xargs",), ordered=False),
            _contender("make -j2", with_make, ("/make",)),
            _contender(_NINJA, with_ninja, ("/ninja",)),
            _contender("GNU parallel -j2 (no order)", with_parallel, ("/parallel",), share=0.2, ordered=False),
            _contender("go-task -C2", with_go_task, ("/task",)),
            _contender("doit -n2", with_doit, ("doit",)),
        ),
        goals=(
            Goal(text="at least 0.85 of ninja's rate", figure="waves", peer=_NINJA, least=0.85),
            Goal(text="in a chain, too", figure="chain", peer=_NINJA, least=0.85),
            Goal(text="level with xargs -P2", figure="waves", peer=_XARGS, least=1.0),
            Goal(text="ahead of GNU parallel", figure="waves", peer="GNU parallel -j2 (no order)", least=1.0),
            Goal(text="ahead of go-task", figure="waves", peer="go-task -C2", least=1.0),
            Goal(text="ahead of doit", figure="waves", peer="doit -n2", least=1.0),
        ),
    ),
)
