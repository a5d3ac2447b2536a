"""What a process forked without exec inherits, and must not use: `os.fork`, and `multiprocessing` with "fork".

The fork has copies of our descriptors, and our blocks are entered in it, too. A copy of the guardian's pipe keeps the
guardian waiting after our death, a copy of a child's stdin keeps the child from its end of file, and a block that is left
in the fork would stop the parent's processes and remove its files.
"""

from __future__ import annotations

import os
import sys
from typing import Final, NoReturn

_private: Final[set[int]] = set()  # closed in every fork
_installed = False


def close_in_forks(descriptor: int) -> None:
    """Have every later fork close its copy of `descriptor`, until `forget_descriptor`."""
    global _installed  # noqa: PLW0603 - a hook of the process, which can't be removed again
    if not _installed:
        _installed = True
        os.register_at_fork(after_in_child=_close_copies)
    _private.add(descriptor)


def forget_descriptor(descriptor: int) -> None:
    """Take back `close_in_forks`; to be called before the descriptor is closed, as its number is reused at once."""
    _private.discard(descriptor)


def _close_copies() -> None:
    for descriptor in _private:
        try:
            os.close(descriptor)
        except OSError:
            pass  # closed by other code: nothing is held any more
    _private.clear()


def end_fork(error: BaseException | None) -> NoReturn:
    """End this process, a fork that leaves a block of its parent's, with the exit status that `error` stands for.

    The loop can't go on here: Trio's epoll is the parent's, too, and whatever the fork changes in it is changed for both.
    """
    status = 0
    if isinstance(error, SystemExit):
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)  # noqa: T201 - as the interpreter does
    elif error is not None:
        sys.excepthook(type(error), error, error.__traceback__)
        status = 1
    for stream in sys.stdout, sys.stderr:
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            pass  # closed, full, or None: the exit status counts
    os._exit(status & 0xFF)
