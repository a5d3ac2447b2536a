"""Our own output, and what is done when it can't be written any more."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final, TextIO

import click

BROKEN_PIPE: Final = 128 + 13
_FAILED: Final = 1
_PATIENCE: Final = 2000  # milliseconds


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


def report(text: str) -> None:
    """Write what was done, or what the exit status says as well. Where that can't be written it is true all the same.

    So the command goes on, and what it has to tell goes to stderr; a reader that left wanted no more of it.
    """
    try:
        write(text + "\n")
    except OutputLost as error:
        _mute(sys.stdout)
        if isinstance(error.__cause__, BrokenPipeError):
            return
        sys.stdout = sys.stderr  # for what comes later, too
        with suppress(OutputLost):  # it may be on the same disk
            write(f"trio-process: stdout can't be written ({error.__cause__}), so it is said here:\n{text}\n")


def print_error(text: str) -> None:
    """Say on stderr what is wrong; where that can't be, the exit status still does."""
    with suppress(OSError):  # it may be the terminal that is gone, or on the disk that is full
        if is_writable(sys.stderr, _PATIENCE):
            click.echo(text, err=True)


def is_writable(file: TextIO, patience: float) -> bool:
    """Return whether who reads a stream reads it, within some milliseconds: a pager that is left alone would hold us up."""
    try:
        descriptor = file.fileno()
    except (OSError, ValueError):  # in memory
        return True
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    return bool(poll.poll(patience))


def escape_unencodable() -> None:
    """Let what the encoding of our output lacks be escaped, not fail the run."""
    for file in (sys.stdout, sys.stderr):
        reconfigure = getattr(file, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def without_output(error: OutputLost) -> int:
    """Return the exit status of a run whose output is lost, after which nothing more is written there."""
    _mute(sys.stdout)
    if isinstance(error.__cause__, BrokenPipeError):
        return BROKEN_PIPE  # as a shell shows the end of a command by SIGPIPE, and as silent
    print_error(f"trio-process: stopped, as the output can't be written: {error.__cause__}")
    return _FAILED


def discard_unwritten() -> None:
    """Forget what can't be written: the interpreter tries once more at its end, and would exit with 120 for it."""
    for file in (sys.stdout, sys.stderr):
        try:
            file.flush()
        except OSError:
            _mute(file)


def _mute(file: TextIO) -> None:
    """Let what is written to a stream, and what its buffer holds, vanish."""
    with open(os.devnull, "w", encoding="utf-8") as null:
        os.dup2(null.fileno(), file.fileno())
