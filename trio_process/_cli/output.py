"""Write our own output, and handle output that can't be written."""

from __future__ import annotations

import errno
import os
import select
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final, TextIO

import click

BROKEN_PIPE: Final = 128 + 13
_FAILED: Final = 1
_WRITE_TIMEOUT: Final = 2000  # milliseconds


class OutputLost(Exception):  # noqa: N818 - never leaves the command line
    """Our stdout can't be written: its reader has left, the disk is full, or the terminal is gone."""


@contextmanager
def writing() -> Iterator[None]:
    """Raise `OutputLost` if a write fails."""
    try:
        yield
    except OSError as error:
        raise OutputLost from error


def write(text: str) -> None:
    """Write whole lines, and flush them."""
    with writing():
        sys.stdout.write(text)
        sys.stdout.flush()


def show(text: str) -> None:
    """Write a text that is the purpose of the command; exit if it can't be written."""
    try:
        write(text + "\n")
    except OutputLost as error:
        sys.exit(without_output(error))


def report(text: str) -> None:
    """Report completed work. If the text can't be written, the command continues, because the work is done.

    The text then goes to stderr, unless stdout is a closed pipe, whose reader wants no more.
    """
    try:
        write(text + "\n")
    except OutputLost as error:
        _mute(sys.stdout)
        if isinstance(error.__cause__, BrokenPipeError):
            return
        sys.stdout = sys.stderr  # for later texts as well
        with suppress(OutputLost):  # stderr may be on the same disk
            write(f"trio-process: stdout can't be written ({error.__cause__}); the output is:\n{text}\n")


def print_error(text: str) -> None:
    """Print an error on stderr; if that can't be written, the exit status still reports it."""
    with suppress(OSError):  # stderr may be the lost terminal, or a file on the full disk
        if is_writable(sys.stderr, _WRITE_TIMEOUT):
            click.echo(text, err=True)


def is_writable(file: TextIO, timeout: float) -> bool:
    """Return whether a stream accepts a write within `timeout` milliseconds; an idle pager would block us."""
    try:
        descriptor = file.fileno()
    except (OSError, ValueError):  # an in-memory stream
        return True
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    return bool(poll.poll(timeout))


def escape_unencodable() -> None:
    """Escape characters that the encoding of our output can't represent, instead of failing."""
    for file in (sys.stdout, sys.stderr):
        reconfigure = getattr(file, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def is_hung_up(error: OutputLost) -> bool:
    """Return whether output was lost because the terminal is gone, so that SIGHUP has arrived or soon will."""
    cause = error.__cause__
    # not isatty, which fails for a lost terminal
    return (
        isinstance(cause, OSError) and cause.errno == errno.EIO and stat.S_ISCHR(os.fstat(sys.stdout.fileno()).st_mode)
    )


def without_output(error: OutputLost, *, silent: bool = False) -> int:
    """Discard all further output, and return the exit status for output that was lost."""
    _mute(sys.stdout)
    if silent or isinstance(error.__cause__, BrokenPipeError):
        return BROKEN_PIPE  # as a shell reports a death by SIGPIPE, and as silently
    print_error(f"trio-process: stopped, because the output can't be written: {error.__cause__}")
    return _FAILED


def discard_unwritten() -> None:
    """Discard unwritable output, which the interpreter would retry at its exit, and then exit with status 120."""
    for file in (sys.stdout, sys.stderr):
        try:
            file.flush()
        except OSError:
            _mute(file)


def _mute(file: TextIO) -> None:
    """Redirect a stream, including its buffered output, to the null device."""
    with open(os.devnull, "w", encoding="utf-8") as null:
        os.dup2(null.fileno(), file.fileno())
