"""The resident: what `daemon start` leaves in the background, a `Daemon` around a command that knows nothing of us.

    python -m trio_process._cli.resident ORDER_FILE

It tells who started it how that went, a JSON object per line on stdout, and lets go of that once it has nothing to say.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path
from typing import Final

import trio

from .._core import CommandResult, EndReason, ProcessError, RestartPolicy, RunOptions, Stdio
from .._daemon import Daemon, DaemonEntry
from .._process import Program, Service, ServiceOptions
from .place import Order, Place

LOG_SIZE: Final = 10 * 2**20
_POLICIES: Final = {
    "never": RestartPolicy.never,
    "on-failure": RestartPolicy.on_failure,
    "always": RestartPolicy.always,
}
_CAPTURED: Final = 65536  # enough to find a line that says the command is ready


def tell(**said: object) -> None:
    """Say something to who started us; if that one has left, nobody needs to know."""
    try:
        os.write(1, json.dumps(said).encode() + b"\n")
    except OSError:
        pass  # it was interrupted: the daemon runs on


def hang_up() -> None:
    """Let who started us see the end of what we have to say."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)


def main() -> int:
    """Run the daemon that an order file describes; return the exit status."""
    logging.basicConfig(format="%(asctime)s trio-process: %(message)s", level=logging.INFO)
    path = Path(sys.argv[1])
    order = Order(**json.loads(path.read_bytes()))
    try:
        result = trio.run(_live, order)
    except (ProcessError, OSError) as error:
        tell(failed=str(error))
        print(f"trio-process: {error}", file=sys.stderr)  # noqa: T201 - into the log
        return 1
    if result is None or result.reason is EndReason.STOPPED or result.reason is EndReason.CANCELLED:
        return 0
    assert result.exit_code is not None
    return result.exit_code if result.exit_code >= 0 else 128 - result.exit_code


async def _live(order: Order) -> CommandResult | None:
    place = Place(order.code, order.daemon)
    entry = DaemonEntry(
        code=order.code,
        daemon=order.daemon,
        health=_address(order.health_url),
        project=order.directory,
        binary=_binary(order),
    )
    last: list[CommandResult] = []

    async def serve() -> None:
        last[:] = [await _serve(order, place)]
        last[0].check()

    async with Daemon(pid_file=place.pid_file, registry_entry=entry, restart=_POLICIES[order.restart]()) as daemon:
        await daemon.run(serve)
    return last[0] if last else None


async def _serve(order: Order, place: Place) -> CommandResult:
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
        tell(running=process.pid)
        if order.ready_line:
            await process.wait_for_line(order.ready_line)
            tell(ready=True)
        hang_up()
        await process.wait(check=False)
        return process.result()


def _binary(order: Order) -> str:
    try:
        return str(Program(order.command[0]).find())
    except ProcessError:
        return order.command[0]  # the start will say what is wrong with it


def _address(url: str) -> str:
    """Return the host and port of a health URL, as registries have it."""
    return url.partition("://")[2].partition("/")[0]


if __name__ == "__main__":
    sys.exit(main())
