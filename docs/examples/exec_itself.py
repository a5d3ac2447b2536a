"""A daemon that replaces its program by a new version, and keeps its PID and its connection to systemd."""

import os
import sys

import trio

from trio_process import Daemon


async def main():
    async with Daemon() as daemon:
        print("NOTIFY_SOCKET" in os.environ)  # removed from the environment, so that no child can notify systemd
        daemon.stop()  # for example because the program's file has changed
        await daemon.run()


trio.run(main)
if len(sys.argv) < 2:
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, __file__, "again"])  # after the block, which restores the variables

# Prints:
#
#   False
#   False
