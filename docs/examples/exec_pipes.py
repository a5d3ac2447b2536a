"""Pipes of commands: the kernel moves the bytes, and the failure of any stage is a failure of the pipe.

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

    # a stage that stops reading early ends the stages before it, which doesn't count as a failure
    print(await (Command("yes") | Command("head", "-n", "2")).output())

    # the failure of any stage fails the pipe (pipefail); the error names the stage and quotes its stderr
    try:
        await (Command("cat", "/no/such/file") | Command("wc", "-l")).run()
    except CommandFailedError as error:
        print(error)

    # exit codes other than 0 can be a success: grep exits with 1 when nothing matches
    grep = Command("grep", "needle").with_options(ok_exit_codes=(0, 1))
    result = await (Command("echo", "hay") | grep).run()
    print("found:", bool(result.stdout), [stage.exit_code for stage in result.stages])

    # a time limit for the whole pipe, and input that is produced as it is read
    async def numbers() -> AsyncIterator[bytes]:
        for number in range(5):
            await trio.sleep(0.01)
            yield f"{number}\n".encode()

    print(await (Command("cat").with_stdin(numbers()) | Command("tail", "-n", "1")).with_timeout(30).output())


if __name__ == "__main__":
    trio.run(main)
