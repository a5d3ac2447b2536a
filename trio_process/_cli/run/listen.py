"""``trio-process run --listen ADDR``: show the run on a control server while it lasts."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final

import trio

from ..._control import ControlServer
from ..._core import Secret
from ..._pipeline import RunSpec, RunUpdate
from ..._process import Service
from ..output import print_error

TOKEN_VARIABLE: Final = "TRIO_PROCESS_TOKEN"  # noqa: S105 - its name


def _ignore(update: RunUpdate) -> None:
    del update


@asynccontextmanager
async def shown_at(
    addr: str | None, service: Service, specs: Sequence[RunSpec], stopping: trio.Event
) -> AsyncIterator[Callable[[RunUpdate], None]]:
    """Show a run at an address for the length of the block.

    Args:
        addr: The address; None for no server.
        service: The service that runs the tasks.
        specs: The tasks.
        stopping: Stops the run; also set from the page.

    Yields:
        The channel for the updates of the run.

    Raises:
        OptionError: `addr` is not valid, or it is not loopback and the environment has no token.
        DaemonError: The address can't be bound.
    """
    if addr is None:
        yield _ignore
        return
    token = os.environ.pop(TOKEN_VARIABLE, None)  # tasks don't inherit the token
    async with ControlServer(addr, service=service, token=None if token is None else Secret(token)) as control:
        channel = control.pipeline(os.path.basename(os.getcwd()) or "run", specs, stopping=stopping)
        # a token may be shown on a terminal, but must not be written to a log
        own = token is None and not addr.startswith("unix:") and sys.stderr.isatty()
        print_error(f"trio-process: this run is shown at {control.login_url.reveal() if own else control.url}")

        def relay(update: RunUpdate) -> None:
            try:
                channel.send_nowait(update)
            except (trio.ClosedResourceError, trio.BrokenResourceError):
                pass  # the server was left: later updates only concern the summary

        with channel:
            yield relay
