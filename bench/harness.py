"""What a benchmark is, and how it is measured: each sample in a process of its own, the contenders in turn.

A sample in a fresh process has no heap, event loop or warm cache from another contender. The contenders alternate
(A B C A B C …), so that a machine that slows down meanwhile slows all of them down, and a ratio is taken within a round.
"""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from statistics import median
from typing import Final

import attrs

OURS: Final = "trio_process"
"""The contender that all others are compared with."""

_ROOT: Final = Path(__file__).resolve().parent.parent
_LIMIT: Final = 600.0  # seconds for one sample; more is a hang
_GRACE: Final = 10.0  # seconds to end in, after SIGTERM

Values = Mapping[str, float]


@attrs.frozen
class Figure:
    """One number that a sample yields.

    Args:
        key: Its key among the values.
        title: What it says.
        unit: Its unit.
        more_is_better: Whether more of it is better.
        work: What one unit of the work is called, where our own processor time for each is measured beside it.
    """

    key: str
    title: str
    unit: str
    more_is_better: bool = True
    work: str | None = None

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of its values: its own, and that of the processor time."""
        return (self.key,) if self.work is None else (self.key, cpu_key(self.key))


def cpu_key(key: str) -> str:
    """Return the key of the processor time that belongs to a figure, in µs for each unit of work."""
    return f"{key}.cpu"


@attrs.frozen
class Contender:
    """Somebody who does the work.

    Args:
        name: As it shows in the table.
        run: Takes the scale (1.0 is the full size) and returns the figures, by their keys.
        needs: Modules, programs and variables of the environment without which it is skipped; a program is written
            with a leading slash, a variable with a dollar sign.
    """

    name: str
    run: Callable[[float], Values]
    needs: tuple[str, ...] = ()

    def missing(self) -> list[str]:
        """Return what it needs and this machine has not."""
        return [need.removeprefix("/") for need in self.needs if not _is_there(need)]


def _is_there(need: str) -> bool:
    match need[0]:
        case "/":
            return tool(need[1:]) is not None
        case "$":
            return bool(os.environ.get(need[1:]))
    return find_spec(need) is not None


def tool(name: str) -> str | None:
    """Return where a program is: beside this interpreter, as a package brings it along, or on the PATH."""
    return which(name, path=os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", os.defpath)]))


@attrs.frozen(kw_only=True)
class Goal:
    """What the issue asks for.

    Args:
        text: In words.
        figure: The figure's key.
        peer: Whom ours is compared with, None to take the figure as it is.
        ours: Which contender is ours.
        least: The ratio (or the figure) must not be below this, …
        most: … or above this. Exactly one of the two is given.
        difference: Subtract the peer's figure, instead of dividing by it.
    """

    text: str
    figure: str
    peer: str | None = None
    ours: str = OURS
    least: float | None = None
    most: float | None = None
    difference: bool = False

    def reached(self, rounds: Sequence[Mapping[str, Values]]) -> float | None:
        """Return the median over the rounds, None where somebody was skipped."""
        found = []
        for results in rounds:
            if self.ours not in results or (self.peer is not None and self.peer not in results):
                continue
            value = results[self.ours][self.figure]
            if self.peer is not None:
                other = results[self.peer][self.figure]
                value = value - other if self.difference else value / other
            found.append(value)
        return median(found) if found else None

    def met(self, value: float) -> bool:
        """Return whether that is good enough."""
        return value >= self.least if self.least is not None else value <= (self.most or 0.0)


@attrs.frozen(kw_only=True)
class Benchmark:
    """One row of the table: who does what, what is counted, and what it should come to."""

    name: str
    title: str
    figures: tuple[Figure, ...]
    contenders: tuple[Contender, ...]
    goals: tuple[Goal, ...] = ()

    @property
    def compared(self) -> set[str]:
        """The contenders that a goal is about."""
        return {name for goal in self.goals for name in (goal.ours, goal.peer) if name is not None}

    def contender(self, name: str) -> Contender:
        """Return the contender of that name."""
        return next(one for one in self.contenders if one.name == name)


@attrs.define
class Outcome:
    """What was measured: the values of each round by contender and figure, who was skipped and why, and the noise."""

    benchmark: Benchmark
    scale: float = 1.0
    rounds: list[dict[str, dict[str, float]]] = attrs.field(factory=list)
    skipped: dict[str, str] = attrs.field(factory=dict)
    loads: list[float] = attrs.field(factory=list)
    spins: list[float] = attrs.field(factory=list)

    def values(self, contender: str, figure: str) -> list[float]:
        """Return the values of all rounds."""
        return [results[contender][figure] for results in self.rounds if figure in results.get(contender, {})]

    def ratio(self, contender: str, figure: str) -> float | None:
        """Return the median of ours to its value within each round, None where there is no such round."""
        found = []
        for results in self.rounds:
            ours, value = (results.get(name, {}).get(figure) for name in (OURS, contender))
            if ours is not None and value:
                found.append(ours / value)
        return median(found) if found else None


@attrs.frozen
class Time:
    """How long a benchmark may take.

    Args:
        share: Seconds: a round that would take longer than that together with the ones before is not started, but for the first.
        end: When all benchmarks must be done, by `time.monotonic`: a sample that is not done by then is ended.
    """

    share: float = math.inf
    end: float = math.inf

    def for_a_sample(self) -> float:
        """Return the seconds that a sample may take now."""
        return min(_LIMIT, self.end - time.monotonic())


def take_sample(benchmark: str, contender: str, scale: float, seconds: float = _LIMIT) -> dict[str, float]:
    """Measure once, in a process of its own.

    Raises:
        RuntimeError: The sample failed, or took too long; the text is what it wrote.
    """
    if seconds <= 0:
        raise RuntimeError("the time was over")
    command = [sys.executable, "-m", "bench", "--sample", contender, "--scale", repr(scale), benchmark]
    pipe = subprocess.PIPE
    # a group of its own, which ends with it: it may have thousands of children
    with subprocess.Popen(command, cwd=_ROOT, stdout=pipe, stderr=pipe, text=True, process_group=0) as sample:
        try:
            output, errors = sample.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"{benchmark}, {contender}: ended, as it took more than {seconds:.0f} seconds") from None
        finally:
            _end(sample)
    if sample.returncode:
        raise RuntimeError(f"{benchmark}, {contender}: exit code {sample.returncode}\n{errors[-2000:]}")
    values: dict[str, float] = json.loads(output.splitlines()[-1])
    return values


def _end(sample: subprocess.Popen[str]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        if sample.poll() is not None:
            return
        os.killpg(sample.pid, number)
        with suppress(subprocess.TimeoutExpired):
            sample.wait(_GRACE)


def measure(
    benchmark: Benchmark,
    rounds: int,
    scale: float,
    tell: Callable[[str], object],
    only: Iterable[str] = (),
    allowed: Time = Time(),
) -> Outcome:
    """Run all contenders in turn, `rounds` times.

    Args:
        benchmark: What to measure.
        rounds: How often; the median of five is the least that a ratio should rest on.
        scale: How much work; 1.0 is the full size.
        tell: Is told of the progress.
        only: Contenders; none means all.
        allowed: The time there is.
    """
    begin = time.monotonic()
    outcome = Outcome(benchmark, scale)
    chosen = []
    wanted = set(only)
    for contender in benchmark.contenders:
        missing = contender.missing()
        if wanted and contender.name not in wanted:
            continue
        if missing:
            outcome.skipped[contender.name] = f"not installed: {', '.join(missing)}"
        else:
            chosen.append(contender)
    for number in range(rounds):
        spent = time.monotonic() - begin
        if number and spent + spent / number > allowed.share:
            break
        outcome.loads.append(os.getloadavg()[0])
        outcome.spins.append(spin())
        results: dict[str, dict[str, float]] = {}
        for contender in chosen:
            tell(f"{benchmark.name}: round {number + 1} of {rounds}, {contender.name}")
            try:
                results[contender.name] = take_sample(benchmark.name, contender.name, scale, allowed.for_a_sample())
            except RuntimeError as error:
                outcome.skipped[contender.name] = str(error).strip().splitlines()[-1]
        outcome.rounds.append(results)
    return outcome


def spin() -> float:
    """Return how long a fixed piece of work takes, in milliseconds: the machine's noise, seen by nobody's program."""
    begin = time.perf_counter()
    total = 0
    for number in range(300_000):
        total += number
    return (time.perf_counter() - begin) * 1000
