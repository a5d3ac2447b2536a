"""Run commands that depend on each other, as a graph."""

import sys

import trio

from trio_process import Runner, RunSpec, Service

PYTHON = sys.executable


async def main() -> None:
    specs = [
        RunSpec(name="lint", command=PYTHON, args=["-m", "tabnanny", __file__]),
        RunSpec(name="compile", command=PYTHON, args=["-m", "py_compile", __file__]),
        RunSpec(name="test", command="sh", args=["-c", "exit 1"], after=["lint", "compile"], retries=1),
        RunSpec(name="publish", command="echo", args=["published"], after=["test"]),
    ]
    async with Service() as service:
        report = await Runner(service).run_all(specs, timeout=60)
    for result in report.results:
        print(f"{result.name:8} {result.state:8} attempts: {result.attempts}, wave: {result.wave}")
    print("acceptable" if report.acceptable else f"{report.failed} failed, {report.skipped} skipped")


trio.run(main)

# Prints:
#
#   lint     passed   attempts: 1, wave: 0
#   compile  passed   attempts: 1, wave: 0
#   test     failed   attempts: 2, wave: 1
#   publish  skipped  attempts: 0, wave: 2
#   1 failed, 1 skipped
