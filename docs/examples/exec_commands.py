"""One command: its output, its failure, its limits, its secrets.

Run it: python docs/examples/exec_commands.py
"""

import sys
import tempfile
from pathlib import Path

import trio

from trio_process import CommandFailedError, CommandTimeoutError, Secret, Stdio
from trio_process.exec import Command, run_quiet


async def main() -> None:
    # a command is a value: nothing runs until a verb is awaited, and each with_... returns a new one
    python = Command(sys.executable).with_env(LC_ALL="C").with_timeout(30)
    print((await Command("uname", "-s").output()).strip())

    # input, output and directory are set on the command
    with tempfile.TemporaryDirectory() as directory:
        await Command("sort").with_stdin("b\na\n").with_stdout(Path(directory, "sorted")).run()
        await Command("echo", "c").with_stdout(Path(directory, "sorted"), append=True).run()
        print((await Command("cat", "sorted").with_dir(directory).output()).split())

    # the error has the command, how it ended, and its last output
    try:
        await Command("ls", "/no/such/directory").run()
    except CommandFailedError as error:
        print(error)
        print("exit code", error.result.exit_code)

    # a time limit stops the command and every process that it started
    try:
        await Command("sh", "-c", "sleep 60; echo never").with_timeout(0.2).run()
    except CommandTimeoutError as error:
        print(error)

    # a secret is shown only to the command
    login = Command("sh", "-c", 'test -n "$TOKEN"').with_env(TOKEN=Secret("hunter2"))
    await login.run()
    print(Command("curl", "-u", Secret("me:hunter2"), "https://example.org"))

    # for the effect only: stdout is discarded, and stderr becomes the text of the error
    await run_quiet("true")
    try:
        await run_quiet("sh", "-c", "echo noise; echo 'disk is full' >&2; exit 1")
    except CommandFailedError as error:
        print("failed:", error)

    # a terminal's own streams, and a program read from a str
    await python.with_stdin("print('hello from a child')").with_stdout(Stdio.INHERIT).run()


if __name__ == "__main__":
    trio.run(main)
