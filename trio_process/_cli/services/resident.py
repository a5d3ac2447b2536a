"""Run the process that ``up -d`` leaves in the background: the instance of a file, without a terminal.

    python -m trio_process._cli.services.resident FILE [SERVICE...]

The variables `TRIO_PROCESS_LISTEN` and `TRIO_PROCESS_TOKEN` hold the address of ``--listen`` and its token, so that the
token is not in an argument vector; they are removed from the environment before the first service starts.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Final

import trio

from ..._core import ProcessError, Stream
from ..._process import LogFile
from ..._supervisor import Supervisor, names_of
from ..instance import Instance
from ..state import explain
from .serve import ServeSettings, serve
from .show import PlainShow
from .view import Lines

LISTEN: Final = "TRIO_PROCESS_LISTEN"
TOKEN: Final = "TRIO_PROCESS_TOKEN"  # noqa: S105 - the name of a variable
LOG_SIZE: Final = 10 * 2**20

_logger = logging.getLogger("trio_process")


class _Handler(logging.Handler):
    """Log handler that writes records into the log of the instance, between the lines of its services."""

    def __init__(self, log: LogFile) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        self._log.write(Stream.STDERR, f"{self.format(record)}\n".encode(errors="backslashreplace"))


def main() -> int:
    """Run the instance; return the exit status."""
    instance = Instance(Path(sys.argv[1]))
    settings = ServeSettings(
        names=tuple(sys.argv[2:]),
        listen=os.environ.pop(LISTEN, ""),
        token=os.environ.pop(TOKEN, None),
        until_done=False,
    )
    log = LogFile(instance.log_file, LOG_SIZE)
    logging.basicConfig(format="%(asctime)s trio-process: %(message)s", level=logging.INFO, handlers=[_Handler(log)])

    async def write(text: str) -> None:
        log.write(Stream.STDOUT, text.encode(errors="backslashreplace"))

    def make_show(supervisor: Supervisor) -> PlainShow:
        return PlainShow(Lines(names_of(supervisor), colour=False), write, _logger.info)

    try:
        return trio.run(serve, instance, settings, make_show)
    except (ProcessError, OSError) as error:
        _logger.error("%s", explain(error))  # noqa: TRY400 - its text is meant for users
        print(explain(error), file=sys.stderr)  # noqa: T201 - read by ``up -d``
        return 1
    finally:
        log.finish()


if __name__ == "__main__":
    sys.exit(main())
