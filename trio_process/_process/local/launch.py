"""Waits for the launcher of a child, which applies what only the child itself can, and then becomes the command."""

from __future__ import annotations

import os
from typing import Final

import trio

_CHUNK: Final = 65536


async def launcher_report(pipe: int) -> bytes:
    """Return what a launcher has to report, empty once it has become the command; `pipe` is closed.

    It takes some 15 ms, in which nothing cancels it: a child whose launcher still runs can't be handed over.
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
