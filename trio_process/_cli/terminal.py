"""Job control: handing our terminal to a child's process group, and taking it back (tcsetpgrp(3), credentials(7))."""

from __future__ import annotations

import os
import signal
import termios
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final, final

STDIN: Final = 0
SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""The signals that ask a command to stop."""


@final
class Terminal:
    """Our controlling terminal, if stdin is one and we are its foreground group; else every method does nothing.

    Attributes:
        ours: Whether there is a terminal to hand over.
    """

    def __init__(self) -> None:
        self.ours = False
        with suppress(OSError):  # ENOTTY: a pipe, a file, or closed
            self.ours = os.isatty(STDIN) and os.tcgetpgrp(STDIN) == os.getpgrp()
        self._settings = termios.tcgetattr(STDIN) if self.ours else None

    def give(self, group: int) -> None:
        """Make `group` the foreground group, and wake it if it was stopped for reading before that (SIGTTIN)."""
        if not self.ours:
            return
        with _background_may_write(), suppress(OSError):  # the group has ended in between
            os.tcsetpgrp(STDIN, group)
            os.killpg(group, signal.SIGCONT)

    def take(self) -> None:
        """Make ours the foreground group again, with the settings that the terminal had."""
        if not self.ours:
            return
        with _background_may_write(), suppress(OSError):  # the terminal was hung up
            os.tcsetpgrp(STDIN, os.getpgrp())
            if self._settings is not None:
                termios.tcsetattr(STDIN, termios.TCSADRAIN, self._settings)


@contextmanager
def _background_may_write() -> Iterator[None]:
    """Block SIGTTOU: a background group that sets the foreground group would be stopped by it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTTOU])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
