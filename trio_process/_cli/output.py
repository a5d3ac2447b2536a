"""Our own output, and what is done when it can't be written any more."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

import click

BROKEN_PIPE: Final = 128 + 13
_FAILED: Final = 1


class OutputLost(Exception):  # noqa: N818 - caught by the command, an error of nobody else's
    """Our stdout can't be written to: its reader has left, the disk is full, the terminal is gone."""


@contextmanager
def writing() -> Iterator[None]:
    """Make an `OutputLost` of what goes wrong with writing."""
    try:
        yield
    except OSError as error:
        raise OutputLost from error


def write(text: str) -> None:
    """Write whole lines, at once."""
    with writing():
        sys.stdout.write(text)
        sys.stdout.flush()


def show(text: str) -> None:
    """Write a text that is all there is to tell; a command whose output is lost ends here."""
    try:
        write(text + "\n")
    except OutputLost as error:
        sys.exit(without_output(error))


def be_tolerant() -> None:
    """Let what the encoding of our output lacks be escaped, not fail the run."""
    for file in (sys.stdout, sys.stderr):
        reconfigure = getattr(file, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def without_output(error: OutputLost) -> int:
    """Return the exit status of a run whose output is lost, after which nothing more is written there."""
    with open(os.devnull, "w", encoding="utf-8") as null:
        os.dup2(null.fileno(), sys.stdout.fileno())  # the interpreter flushes stdout at its end, and would complain
    if isinstance(error.__cause__, BrokenPipeError):
        return BROKEN_PIPE  # as a shell shows the end of a command by SIGPIPE, and as silent
    with suppress(OSError):  # stderr may be the terminal that is gone
        click.echo(f"trio-process: stopped, as the output can't be written: {error.__cause__}", err=True)
    return _FAILED
