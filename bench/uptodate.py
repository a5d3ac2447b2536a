"""10,000 tasks with 50,000 inputs of which nothing has changed: how long it takes to find that out."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import trio

from trio_process import CommandResult, Runner, RunOptions, RunSpec, load_pipeline

from .harness import Benchmark, Contender, Figure, Goal, Values, tool

TASKS: Final = 10_000
INPUTS: Final = 5
_PER_DIRECTORY: Final = 100
_AGE: Final = 3600  # seconds: a file that is younger than the clock's grain would have to be read again

Task = tuple[str, list[str], str]
"""Its name, its inputs and its output."""


def graph(count: int) -> list[Task]:
    """Return tasks that have nothing in common."""
    return [
        (
            f"t{n}",
            [f"src/d{n // _PER_DIRECTORY}/f{n}_{i}.c" for i in range(INPUTS)],
            f"out/d{n // _PER_DIRECTORY}/f{n}.o",
        )
        for n in range(count)
    ]


@contextmanager
def tree(tasks: list[Task]) -> Iterator[None]:
    """Make the files of tasks, outputs younger than inputs, and work among them."""
    before = os.getcwd()
    with tempfile.TemporaryDirectory() as directory:
        for _, inputs, output in tasks:
            for place, path in enumerate((*inputs, output)):
                file = Path(directory, path)
                if not place or path is output:
                    file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(path)
                at = time.time() - _AGE + (60 if path is output else 0)
                os.utime(file, (at, at))
        os.chdir(directory)
        try:
            yield
        finally:
            os.chdir(before)


def _timed_again(work: Callable[[], object]) -> Values:
    """Time the second of two checks: the first one may write down what makes the next ones faster."""
    work()
    cpu, begin = _cpu(), time.perf_counter()
    work()
    return {"wall": time.perf_counter() - begin, "cpu": _cpu() - cpu}


def _cpu() -> float:
    return sum(os.times()[:4])  # ours, and that of children that have ended


def _write_ours(tasks: list[Task]) -> None:
    def text(task: Task) -> str:
        name, inputs, output = task
        listed = ", ".join(f'"{path}"' for path in inputs)
        return f'[tasks.{name}]\nrun = "true"\ninputs = [{listed}]\noutputs = ["{output}"]\n'

    Path("trio-process.toml").write_text("".join(map(text, tasks)))


class _Passing:
    """An executor whose commands do nothing and pass."""

    slots = 2

    async def run_process(
        self,
        options: RunOptions,
        *,
        check: bool = True,
        task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED,
    ) -> CommandResult:
        del check
        task_status.started()
        await trio.lowlevel.checkpoint()
        return CommandResult(command=str(options.command), exit_code=0, ok=True)


def _run_ours(specs: list[RunSpec], memory: str) -> int:
    async def main() -> int:
        result = await Runner(_Passing(), memory=memory).run_all(specs, schedule="eager")
        return sum(one.attempts for one in result.results)

    return trio.run(main)


def runner(scale: float) -> Values:
    """`Runner.run_all` in a running interpreter: the memory is read, every file looked at, every spec gets a result."""
    tasks = graph(max(2, int(TASKS * scale)))
    with tree(tasks):
        _write_ours(tasks)
        specs = load_pipeline("trio-process.toml")
        _run_ours(specs, "memory")

        def work() -> None:
            if _run_ours(specs, "memory"):
                raise RuntimeError("something was run again")

        return _timed_again(work)


def command(scale: float) -> Values:
    """``trio-process run``: a new interpreter, the file, the check, and a line for each task."""
    tasks = graph(max(2, int(TASKS * scale)))
    with tree(tasks):
        _write_ours(tasks)
        Path(".trio-process").mkdir()
        _run_ours(load_pipeline("trio-process.toml"), ".trio-process/trio-process.toml.memory")
        return _timed_again(
            lambda: _quiet([sys.executable, "-m", "trio_process", "run"], expected=f"{len(tasks)} up to date")
        )


def _quiet(command: list[str], expected: str = "") -> None:
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    if expected not in done.stdout:
        raise RuntimeError(f"{command[0]} ran something: {done.stdout[-200:]}")


def ninja(scale: float) -> Values:
    """``ninja``: its process, `build.ninja`, a look at every file."""
    tasks = graph(max(2, int(TASKS * scale)))
    rules = [f"build {output}: run {' '.join(inputs)}\n" for _, inputs, output in tasks]
    with tree(tasks):
        Path("build.ninja").write_text("rule run\n  command = true\n" + "".join(rules))
        program = tool("ninja") or "ninja"
        _quiet([program])
        return _timed_again(lambda: _quiet([program], "no work to do"))


def make(scale: float) -> Values:
    """``make``: it compares times, and knows no command that has changed."""
    tasks = graph(max(2, int(TASKS * scale)))
    rules = [f"{output}: {' '.join(inputs)}\n\ttrue\n" for _, inputs, output in tasks]
    with tree(tasks):
        names = " ".join(output for _, _, output in tasks)
        Path("Makefile").write_text(f"all: {names}\n" + "".join(rules))
        return _timed_again(lambda: _quiet(["make", "all"], "Nothing to be done"))


BENCHMARKS: Final = (
    Benchmark(
        name="uptodate",
        title="10,000 tasks with 50,000 inputs, of which nothing has changed",
        figures=(
            Figure("wall", "time until that is known", "s", more_is_better=False),
            Figure("cpu", "processor time for it", "s", more_is_better=False),
        ),
        contenders=(
            Contender("trio_process", runner),
            Contender("trio_process, the command", command),
            Contender("ninja", ninja, ("/ninja",)),
            Contender("make", make, ("/make",)),
        ),
        goals=(
            Goal(text="at most 1.5 x ninja's no-op build", figure="cpu", peer="ninja", most=1.5),
            Goal(
                text="the same for the whole command",
                figure="cpu",
                peer="ninja",
                ours="trio_process, the command",
                most=1.5,
            ),
        ),
    ),
)
