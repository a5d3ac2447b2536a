"""Check two hundred archives, eight at a time, and list those that are damaged."""

import gzip
import tempfile
from pathlib import Path

import trio

from trio_process import Runner, RunSpec, Service


async def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        for number in range(200):
            content = b"damaged" if number in (17, 170) else gzip.compress(b"content")
            Path(directory, f"{number}.gz").write_bytes(content)

        specs = [
            RunSpec(name=file.name, command="gzip", args=["--test", file.name], cwd=directory, timeout=60)
            for file in sorted(Path(directory).iterdir())
        ]
        async with Service() as service:
            report = await Runner(service, max_parallel=8).run_parallel(specs)

    print(f"{report.passed} passed, {report.failed} failed")
    for result in report.results:
        if result.failed:
            print(f"{result.name}: {result.error or f'exit code {result.exit_code}'}; {result.output.strip()}")


trio.run(main)

# Prints:
#
#   198 passed, 2 failed
#   17.gz: exit code 1; gzip: 17.gz: not in gzip format
#   170.gz: exit code 1; gzip: 170.gz: not in gzip format
