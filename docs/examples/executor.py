"""A custom executor: each attempt runs in an empty directory that is removed afterwards, two at a time."""

import tempfile
from pathlib import Path

import attrs
import trio

from trio_process import CommandResult, ManagedProcess, Runner, RunOptions, RunSpec, Service


class CleanRoom:
    """Runs commands on a service, each in a directory of its own."""

    slots = 2

    def __init__(self, service: Service) -> None:
        self.service = service

    async def run_process(
        self,
        options: RunOptions,
        *,
        check: bool = True,
        task_status: trio.TaskStatus[ManagedProcess] = trio.TASK_STATUS_IGNORED,
    ) -> CommandResult:
        with tempfile.TemporaryDirectory() as room:  # removed only when the process tree has ended
            return await self.service.run_process(
                attrs.evolve(options, cwd=Path(room)), check=check, task_status=task_status
            )


async def main() -> None:
    specs = [
        RunSpec(name=name, command="sh", args=["-c", f"ls | wc -l; touch {name}; ls"])
        for name in ("one", "two", "three")
    ]
    async with Service() as service:
        report = await Runner(CleanRoom(service)).run_all(specs)
    for result in report.results:
        print(result.name, result.state, result.output.split())


trio.run(main)

# Prints:
#
#   one passed ['0', 'one']
#   two passed ['0', 'two']
#   three passed ['0', 'three']
