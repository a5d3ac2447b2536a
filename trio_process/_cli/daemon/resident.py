"""The resident: what `daemon start` leaves in the background, a `Daemon` around a command that knows nothing of us.

    python -m trio_process._cli.daemon.resident ORDER_FILE

It tells who started it how that went, a JSON object per line on stdout, and lets go of that once it has nothing to say.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from logging.handlers import WatchedFileHandler
from pathlib import Path
from typing import Final, final
from urllib.parse import urlsplit

import trio

from ..._core import CommandResult, EndReason, ProcessError, RestartPolicy, RunOptions, Stdio
from ..._daemon import Daemon, DaemonEntry
from ..._process import Program, Service, ServiceOptions
from .files import Order, Place, read_order

LOG_SIZE: Final = 10 * 2**20
_POLICIES: Final = {
    "never": RestartPolicy.never,
    "on-failure": RestartPolicy.on_failure,
    "always": RestartPolicy.always,
}
_CAPTURED: Final = 65536  # enough to find a line that says the command is ready
_REAPING: Final = 5.0  # seconds that the shutdown takes beyond the command's own grace, at most


@final
class Starter:
    """Who started us, and waits at the other end of our stdout."""

    def __init__(self) -> None:
        self._listens = True

    def tell(self, **said: object) -> bool:
        """Say something; return whether there was anybody to hear it."""
        if self._listens:
            try:
                os.write(1, json.dumps(said).encode() + b"\n")
            except OSError:
                self.hang_up()  # it has left: the daemon runs on
        return self._listens

    def hang_up(self) -> None:
        """Let it see the end of what we have to say."""
        if self._listens:
            self._listens = False
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1)
            os.close(null)


def main() -> int:
    """Run the daemon that an order file describes; return the exit status."""
    path = Path(sys.argv[1])
    order = read_order(path)
    path.unlink()
    place = Place(order.code, order.daemon)
    # "watched": the log is rotated, and a message shall not end in the oldest part, or in one that is deleted
    logging.basicConfig(
        format="%(asctime)s trio-process: %(message)s",
        level=logging.INFO,
        handlers=[WatchedFileHandler(place.log_file, encoding="utf-8", errors="backslashreplace")],
    )
    starter = Starter()
    try:
        result = trio.run(_live, order, place, starter)
    except (ProcessError, OSError) as error:
        if not starter.tell(failed=str(error)):
            logging.getLogger("trio_process").error("%s", error)  # noqa: TRY400 - its text is for people
        return 1
    if result is None or result.reason is EndReason.STOPPED or result.reason is EndReason.CANCELLED:
        return 0
    assert result.exit_code is not None
    return result.exit_code if result.exit_code >= 0 else 128 - result.exit_code


async def _live(order: Order, place: Place, starter: Starter) -> CommandResult | None:
    entry = DaemonEntry(
        code=order.code,
        daemon=order.daemon,
        health=_address(order.health_url),
        project=order.directory,
        binary=_binary(order),
    )
    last: list[CommandResult] = []

    async def serve() -> None:
        last[:] = [await _serve(order, place, starter)]
        last[0].check()

    async with Daemon(
        pid_file=place.pid_file,
        registry_entry=entry,
        restart=_POLICIES[order.restart](),
        shutdown_timeout=order.grace + _REAPING,
    ) as daemon:
        place.keep(order)  # not before we are the one who runs: a start that is refused changes nothing
        await daemon.run(serve)
    return last[0] if last else None


async def _serve(order: Order, place: Place, starter: Starter) -> CommandResult:
    """Run the command once, and say when it runs and when it has written its ready line."""
    options = RunOptions(
        command=order.command[0],
        args=order.command[1:],
        cwd=order.directory,
        name=f"{order.code}/{order.daemon}",
        stdin=Stdio.NULL,
        buffer_size=_CAPTURED,
        log_file=place.log_file,
        log_max_bytes=LOG_SIZE,
    )
    async with Service(options=ServiceOptions(guardian=True, grace_period=order.grace)) as service:
        process = await service.start_with_options(options)
        starter.tell(running=process.pid)
        if order.ready_line:
            await process.wait_for_line(order.ready_line)
            starter.tell(ready=True)
        starter.hang_up()
        await process.wait(check=False)
        return process.result()


def _binary(order: Order) -> str:
    try:
        return str(Program(order.command[0]).find())
    except ProcessError:
        return order.command[0]  # the start will say what is wrong with it


def _address(url: str) -> str:
    """Return the host and port of a health URL, as registries have it; a user and password in it are nobody's business."""
    return urlsplit(url).netloc.rpartition("@")[2]


if __name__ == "__main__":
    sys.exit(main())
