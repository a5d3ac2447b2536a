"""Waits for the launcher of a child, which applies the options that only the child itself can, and execs the command."""

from __future__ import annotations

import os
from typing import Final

import trio

_CHUNK: Final = 65536


async def launcher_report(pipe: int) -> bytes:
    """Return the report of a launcher, empty if it has exec'd the command; `pipe` is closed.

    This takes some 15 ms and can't be cancelled: a child whose launcher is still running can't be handed over.
    """
    report = b""
    try:
        with trio.CancelScope(shield=True):
            while True:
                await trio.lowlevel.wait_readable(pipe)
                data = os.read(pipe, _CHUNK)
                if not data:
                    break
                report += data
    finally:
        os.close(pipe)
    return report
