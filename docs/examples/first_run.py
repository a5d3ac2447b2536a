"""Run one command and look at its result."""

import trio

from trio_process import CommandFailedError, Service


async def main() -> None:
    async with Service() as service:
        result = await service.run("echo", "hello")
        print(result.output.strip(), result.exit_code, result.reason)

        try:
            await service.run("sh", "-c", "echo no such luck >&2; exit 3", timeout=10)
        except CommandFailedError as error:
            print(error.result.exit_code, error.result.stderr.strip())


trio.run(main)

# Prints:
#
#   hello 0 exited
#   3 no such luck
