"""Cancel a scope: the process in it is asked to end, its last output is read, and only then the scope is left."""

import sys

import trio

from trio_process import ActionProcessExited, ActionProcessOutput, RunOptions, Service

CHILD = """
import signal, sys, time
def clean_up(number, frame):
    for step in range(3):
        time.sleep(0.05)
        print("cleaning up", step, flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, clean_up)
print("working", flush=True)
while True:
    time.sleep(0.05)  # a signal that arrives just before a sleep is handled after it
"""
OPTIONS = RunOptions(command=sys.executable, args=["-c", CHILD], grace_period=30)


async def main() -> None:
    async with Service() as service:
        with service.subscribe(ActionProcessOutput, ActionProcessExited) as events:
            async with trio.open_nursery() as nursery:
                await nursery.start(service.run_process, OPTIONS)
                await events.receive()  # the process is working
                nursery.cancel_scope.cancel()
            while not isinstance(event := await events.receive(), ActionProcessExited):
                print(event.line)
            print(event.exit_code, event.reason)


trio.run(main)

# Prints:
#
#   cleaning up 0
#   cleaning up 1
#   cleaning up 2
#   0 cancelled
