"""A small daemon for tests that signal a real process: it says what happens, a line each.

python program.py STATE_DIRECTORY ADDRESS BEHAVIOUR
"""

import logging
import os
import sys
from pathlib import Path

import trio

from trio_process._daemon import Daemon, DaemonEntry, Registry


def say(text):
    os.write(1, f"{text}\n".encode())


async def polite():
    say("running")
    try:
        await trio.sleep_forever()
    finally:
        say("cancelled")


async def stubborn():
    """Shields itself: only a hurry of our package, or the third signal, gets past."""
    from trio_process._core import grace

    say("running")
    with grace(60, shield=True):
        await trio.sleep_forever()
    say("hurried")


async def deaf():
    say("running")
    with trio.CancelScope(shield=True):
        await trio.sleep_forever()


async def stuck():
    import time

    say("running")
    time.sleep(60)  # blocks the loop


async def crashing():
    say("running")
    raise ValueError("boom")


async def main(directory, addr, behaviour):
    state = Path(directory)
    daemon = Daemon(
        pid_file=state / "test.pid",
        health_addr=addr,
        registry=Registry(state / "daemons"),
        registry_entry=DaemonEntry("test", "program"),
        ready=behaviour != "starting",
        shutdown_timeout=30,
    )
    daemon.on_reload(lambda: say("reloaded"))
    async with daemon:
        say(daemon.health_addr)
        if behaviour == "starting":
            await trio.sleep_forever()
        await daemon.run(globals()[behaviour])
        say("after run")
    say("left")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    trio.run(main, *sys.argv[1:])
    say("end")
