"""Programs that the tests of this folder start, signal and read."""

import os
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import forked
import trio

ROOT = str(Path(__file__).parents[2])


class Program:
    """A started program, its lines, and its end."""

    def __init__(self, process):
        self.process = process
        self.seen = []
        self._rest = b""

    async def line(self):
        while b"\n" not in self._rest:
            chunk = await self.process.stdout.receive_some()
            assert chunk, f"it ended before; {self.seen} {await self.errors()}"
            self._rest += chunk
        line, _, self._rest = self._rest.partition(b"\n")
        self.seen.append(line.decode())
        return self.seen[-1]

    async def lines_to_the_end(self):
        return " ".join(await self.rest()).split()

    async def rest(self):
        data = self._rest
        async for chunk in self.process.stdout:
            data += chunk
        return data.decode().splitlines()

    async def errors(self):
        return b"".join([chunk async for chunk in self.process.stderr]).decode()


@asynccontextmanager
async def started(*arguments):
    """Run ``python ARGUMENTS``, with the package at hand, in a fork of this process, and kill it in the end."""
    command = [sys.executable, *map(str, arguments)]
    options = forked.program_of_trio(command, {**os.environ, "PYTHONPATH": ROOT})
    process = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)
    with trio.fail_after(60):
        try:
            yield Program(process)
        finally:
            process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()
                for stream in process.stdout, process.stderr:  # else they live as long as the traceback of a failure
                    await stream.aclose()
