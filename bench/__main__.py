"""The command line: `python -m bench [NAME...] [--rounds N] [--scale F] [--only CONTENDER] [--quick] [--list]`."""

from __future__ import annotations

import argparse
import json
import math
import signal
import sys
import time
from pathlib import Path
from typing import Final

from . import (
    alive,
    capture,
    cluster,
    control,
    descriptors,
    engines,
    health,
    imports,
    lines,
    pipelines,
    plot,
    registry,
    report,
    runs,
    start,
    subscribers,
    supervisor,
    uptodate,
)
from .harness import Benchmark, Time, measure

BENCHMARKS: dict[str, Benchmark] = {
    one.name: one
    for module in (
        runs,
        descriptors,
        lines,
        capture,
        subscribers,
        alive,
        pipelines,
        uptodate,
        imports,
        start,
        health,
        registry,
        cluster,
        engines,
        control,
        supervisor,
    )
    for one in module.BENCHMARKS
}
"""All benchmarks, in the order of the table."""

HERE = Path(__file__).parent
MINUTES: Final = 15.0
"""How long all benchmarks take at most, on a machine that is slow or shared, too: there are fewer rounds then."""

QUICK_MINUTES: Final = 2.0
QUICK_SCALE: Final = 0.1


def _parse() -> tuple[list[Benchmark], argparse.Namespace]:
    """Return the benchmarks that were asked for, and the options; a wrong call ends the program."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of: {', '.join(BENCHMARKS)}; none means all")
    parser.add_argument("--rounds", type=int, default=5, help="samples of each contender (default 5)")
    parser.add_argument("--scale", type=float, help=f"how much work in a sample (default 1.0, {QUICK_SCALE} if quick)")
    parser.add_argument("--only", action="append", default=[], metavar="CONTENDER", help="only these; writes no files")
    parser.add_argument("--minutes", type=float, help=f"the time there is for all of it (default {MINUTES:g})")
    parser.add_argument(
        "--quick",
        action="store_true",
        help=f"{QUICK_MINUTES:g} minutes: less work, and only the contenders that goals compare; writes no files",
    )
    parser.add_argument("--list", action="store_true", help="name the benchmarks and their contenders")
    parser.add_argument("--dry", action="store_true", help="write no files")
    parser.add_argument("--sample", metavar="CONTENDER", help="one sample, in this process: for a profiler")
    given = parser.parse_args()
    unknown = [name for name in given.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"no such benchmark: {', '.join(unknown)}; there are: {', '.join(BENCHMARKS)}")
    if given.scale is None:
        given.scale = QUICK_SCALE if given.quick else 1.0
    if given.minutes is None:
        given.minutes = QUICK_MINUTES if given.quick else MINUTES
    if given.rounds < 1:
        parser.error("--rounds must be at least 1")
    for option in ("scale", "minutes"):
        if not 0 < getattr(given, option) < math.inf:
            parser.error(f"--{option} must be a number above 0")
    chosen = [BENCHMARKS[name] for name in given.names] or list(BENCHMARKS.values())
    if given.sample and len(given.names) != 1:
        parser.error("--sample takes one benchmark, such as `runs --sample trio_process`")
    known = {contender.name for one in chosen for contender in one.contenders}
    strangers = {*given.only, *([given.sample] if given.sample else [])} - known
    if strangers:
        parser.error(f"no such contender: {', '.join(sorted(strangers))}; see --list")
    if given.sample and (missing := chosen[0].contender(given.sample).missing()):
        parser.error(f"{given.sample} is not installed: {', '.join(missing)}")
    return chosen, given


def main() -> None:
    chosen, given = _parse()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where a shell has put us into the background
    if given.sample:
        print(json.dumps(dict(chosen[0].contender(given.sample).run(given.scale))))
    elif given.list:
        for one in chosen:
            print(f"{one.name}: {one.title}\n    {', '.join(contender.name for contender in one.contenders)}")
    else:
        run(chosen, given)


def run(chosen: list[Benchmark], given: argparse.Namespace) -> None:
    """Measure, print the tables, and write results.json, .md and .svg; rows not measured now keep their figures."""

    def tell(text: str) -> None:
        if sys.stderr.isatty():
            print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)

    path = HERE / "results.json"
    end = time.monotonic() + 60 * given.minutes
    for place, benchmark in enumerate(chosen):
        seconds = (end - time.monotonic()) / (len(chosen) - place)
        if seconds <= 0:
            print(f"\n{benchmark.name}: left out, as the {given.minutes:g} minutes are over", flush=True)
            continue
        only = given.only or (benchmark.compared if given.quick else ())
        outcome = measure(benchmark, given.rounds, given.scale, tell, only, Time(seconds, end))
        tell("")
        row = report.summarize(outcome)
        print(report.table(row), flush=True)
        if not (given.dry or given.only or given.quick):
            results = report.merge(path, row, list(BENCHMARKS))
            path.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
            (HERE / "results.md").write_text(report.markdown(results), encoding="utf-8")
            (HERE / "results.svg").write_text(plot.draw(results), encoding="utf-8")


if __name__ == "__main__":
    main()
