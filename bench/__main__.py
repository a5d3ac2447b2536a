"""The command line: `python -m bench [NAME...] [--rounds N] [--scale F] [--only CONTENDER] [--list]`."""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path

from . import (
    alive,
    capture,
    cluster,
    control,
    descriptors,
    health,
    imports,
    lines,
    pipelines,
    plot,
    registry,
    report,
    runs,
    subscribers,
    uptodate,
)
from .harness import Benchmark, measure

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
        health,
        registry,
        cluster,
        control,
    )
    for one in module.BENCHMARKS
}
"""All benchmarks, in the order of the table."""

HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of: {', '.join(BENCHMARKS)}; none means all")
    parser.add_argument("--rounds", type=int, default=5, help="samples of each contender (default 5)")
    parser.add_argument("--scale", type=float, default=1.0, help="how much work in a sample (default 1.0)")
    parser.add_argument("--only", action="append", default=[], metavar="CONTENDER", help="only these; writes no files")
    parser.add_argument("--list", action="store_true", help="name the benchmarks and their contenders")
    parser.add_argument("--dry", action="store_true", help="write no files")
    parser.add_argument("--sample", metavar="CONTENDER", help="one sample, in this process: for a profiler")
    given = parser.parse_args()
    unknown = [name for name in given.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"no such benchmark: {', '.join(unknown)}; there are: {', '.join(BENCHMARKS)}")
    if given.rounds < 1 or not 0 < given.scale < math.inf:
        parser.error("--rounds must be at least 1, and --scale more than 0")
    chosen = [BENCHMARKS[name] for name in given.names] or list(BENCHMARKS.values())
    known = {contender.name for one in chosen for contender in one.contenders}
    strangers = {*given.only, *([given.sample] if given.sample else [])} - known
    if strangers:
        parser.error(f"no such contender: {', '.join(sorted(strangers))}; see --list")
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
    for benchmark in chosen:
        outcome = measure(benchmark, given.rounds, given.scale, tell, given.only)
        tell("")
        row = report.summarize(outcome)
        print(report.table(row), flush=True)
        if not given.dry and not given.only:
            results = report.merge(path, row, list(BENCHMARKS))
            path.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
            (HERE / "results.md").write_text(report.markdown(results), encoding="utf-8")
            (HERE / "results.svg").write_text(plot.draw(results), encoding="utf-8")


if __name__ == "__main__":
    main()
