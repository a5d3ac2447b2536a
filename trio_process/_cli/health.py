"""``trio-process health``: ask a health server."""

from __future__ import annotations

import click
import trio

from .._core import OptionError
from .._daemon import probe_health, probe_ready
from .output import print_error, report
from .text import Duration


@click.command(
    help="Ask a health server until it is healthy. The exit status is 0 if the server at ADDR is healthy in time, else 1."
)
@click.option("--ready", is_flag=True, help="Ask /ready instead of /health.")
@click.option("--timeout", type=Duration(), default=5.0, show_default=True, help="Seconds to keep asking.")
@click.argument("addr")
def health(addr: str, ready: bool, timeout: float) -> None:  # noqa: FBT001 - a flag of the command line
    """Ask the health server at ADDR until it is healthy."""
    try:
        well, why = trio.run(probe_ready if ready else probe_health, addr, timeout)
    except OptionError as error:
        raise click.UsageError(str(error)) from None
    if well:
        report(f"{addr}: {'ready' if ready else 'healthy'}")
    else:
        print_error(f"{addr}: {why}")
    raise SystemExit(0 if well else 1)
