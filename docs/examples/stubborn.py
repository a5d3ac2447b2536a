"""Stop a process that ignores SIGTERM, and one that needs another signal."""

import signal
import sys

import trio

from trio_process import EndReason, Service

STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('here', flush=True); time.sleep(1000)"
)
POLITE = """
import signal, sys, time
def leave(number, frame):
    print("closed the files", flush=True)
    sys.exit(0)
signal.signal(signal.SIGINT, leave)
print("here", flush=True)
while True:
    time.sleep(0.05)  # a signal that arrives just before a sleep is handled after it
"""


async def main() -> None:
    async with Service() as service:
        stubborn = await service.start(sys.executable, "-c", STUBBORN)
        await stubborn.wait_for_line("here", timeout=30)
        result = await stubborn.stop(grace_period=0.2)  # SIGTERM, 0.2 s, SIGKILL
        assert result.reason is EndReason.STOPPED
        print("stubborn:", result.signal_name)

        polite = await service.start(sys.executable, "-c", POLITE, stop_signal=signal.SIGINT, grace_period=30)
        await polite.wait_for_line("here", timeout=30)
        result = await polite.stop()
        print("polite:", result.exit_code, result.output.splitlines()[-1])

        # a whole tree: the shell and its background processes
        tree = await service.start("sh", "-c", "sleep 1000 & sleep 1000 & echo here; wait")
        await tree.wait_for_line("here", timeout=30)
        await tree.stop()  # returns when the whole tree has ended


trio.run(main)

# Prints:
#
#   stubborn: SIGKILL
#   polite: 0 closed the files
