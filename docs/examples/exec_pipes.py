"""Pipes of commands: the kernel moves the bytes, and every stage has a say in the outcome.

Run it: python docs/examples/exec_pipes.py
"""

from collections.abc import AsyncIterator

import trio

from trio_process import CommandFailedError
from trio_process.exec import Command


async def main() -> None:
    # as in a shell, but without one: no quoting, no injection
    words = Command("tr", "-s", " ", "\n") | Command("sort") | Command("uniq", "-c") | Command("sort", "-rn")
    print(await words.with_stdin("the dog and the cat and the bird\n").output())

    # a stage that stops early ends those before it, and that is no failure
    print(await (Command("yes") | Command("head", "-n", "2")).output())

    # the failure of any stage is one of the pipe (pipefail); the error tells which, and what it said
    try:
        await (Command("cat", "/no/such/file") | Command("wc", "-l")).run()
    except CommandFailedError as error:
        print(error)

    # where a code above 0 is no failure, say so: grep exits with 1 when nothing matches
    grep = Command("grep", "needle").with_options(ok_exit_codes=(0, 1))
    result = await (Command("echo", "hay") | grep).run()
    print("found:", bool(result.stdout), [stage.exit_code for stage in result.stages])

    # a limit for the whole, and data as it is made
    async def numbers() -> AsyncIterator[bytes]:
        for number in range(5):
            await trio.sleep(0.01)
            yield f"{number}\n".encode()

    print(await (Command("cat").with_stdin(numbers()) | Command("tail", "-n", "1")).with_timeout(30).output())


if __name__ == "__main__":
    trio.run(main)
