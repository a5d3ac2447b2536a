"""Let one part of a program run commands by name, and another watch them."""

import trio

from trio_process import (
    ActionNotRegisteredError,
    ActionProcessExited,
    ActionProcessKilled,
    ActionProcessOutput,
    ActionProcessStarted,
    Core,
    Service,
    Subscription,
)


async def watch(events: Subscription) -> None:
    async for event in events:
        match event:
            case ActionProcessStarted(name=name, command=command):
                print(f"{name}: {command} started")
            case ActionProcessOutput(name=name, line=line):
                print(f"{name}: {line}")
            case ActionProcessKilled(name=name, signal=signal):
                print(f"{name}: died of {signal}")
            case ActionProcessExited(name=name, exit_code=code):
                print(f"{name}: ended with {code}")


async def main() -> None:
    async with trio.open_nursery() as nursery, Core(Service) as core:
        nursery.start_soon(watch, core.subscribe())
        await core.process.run("echo", "hello", name="greeter")
        await core.process.run("sh", "-c", "printf 'one\\ntwo\\n'", name="counter")
        # the core is closed: the watcher reads the remaining events, and ends

    async with Core() as core:  # no Service: no command may be run
        try:
            await core.process.run("echo", "hello")
        except ActionNotRegisteredError:
            print("not allowed")


trio.run(main)

# Prints:
#
#   greeter: echo started
#   greeter: hello
#   greeter: ended with 0
#   counter: sh started
#   counter: one
#   counter: two
#   counter: ended with 0
#   not allowed
