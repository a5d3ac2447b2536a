"""Handle output as it arrives: a loop over lines, a callable for each line, and a logger.

Run it: python docs/examples/exec_lines.py
"""

import logging
import sys

import trio

from trio_process import CommandFailedError, Stream
from trio_process.exec import Command, StdlibLogger, set_default_logger


async def main() -> None:
    # leaving the block stops the command: this one would never end by itself
    async with Command("sh", "-c", "while :; do echo tick; sleep 0.05; done").lines() as lines:
        count = 0
        async for line in lines:
            count += 1
            print(line, count)
            if count == 3:
                break

    # both streams, distinguished
    async with Command("sh", "-c", "echo fine; echo careful >&2").lines("all") as lines:
        async for line in lines:
            print("!" if line.stream is Stream.STDERR else " ", line)

    # a callable for each line, while `run` waits for the end
    await Command("seq", "3").with_stdout(lambda line: print("got", line)).run()

    # a default logger reports every command; a structlog logger can be used unchanged
    logging.basicConfig(level=logging.DEBUG, format="%(levelname)s %(message)s", stream=sys.stdout)
    set_default_logger(StdlibLogger())
    try:
        await Command("false").run()
    except CommandFailedError:
        print("that was logged")


if __name__ == "__main__":
    trio.run(main)
