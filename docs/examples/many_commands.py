"""Check two hundred archives, eight at a time, and list those that are damaged."""

import gzip
import tempfile
from pathlib import Path

import trio

from trio_process import Runner, RunSpec, Service


async def check(archives: list[Path]) -> None:
    specs = [RunSpec(name=file.name, command="gzip", args=["--test", file], timeout=60) for file in archives]
    async with Service() as service:
        report = await Runner(service, max_parallel=8).run_parallel(specs)
    print(f"{report.passed} passed, {report.failed} failed")
    for result in report.results:
        if result.failed:
            print(f"{result.name}: {result.error or f'exit code {result.exit_code}'}: {result.output.strip()}")


with tempfile.TemporaryDirectory() as directory:
    archives = [Path(directory, f"{number}.gz") for number in range(200)]
    for file in archives:
        file.write_bytes(b"damaged" if file.stem in ("17", "170") else gzip.compress(b"content"))
    trio.run(check, archives)

# Prints:
#
#   198 passed, 2 failed
#   17.gz: exit code 1: gzip: .../17.gz: not in gzip format
#   170.gz: exit code 1: gzip: .../170.gz: not in gzip format
