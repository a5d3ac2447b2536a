"""Pass our terminal to a child's process group, and take it back (tcsetpgrp(3), credentials(7)).

A shell may move us between foreground and background at any time, without notice: `bg` sends SIGCONT, `fg` of a running
job sends nothing. So nothing about the foreground is remembered; the terminal is queried at each hand-over. Only the
foreground job may change the terminal, so unless our group or the command's is in the foreground, every method does
nothing.
"""

from __future__ import annotations

import os
import signal
import termios
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, final

WANTS_TERMINAL: Final = (signal.SIGTTIN, signal.SIGTTOU)
"""The signals that stop a background process that uses the terminal or changes its settings (termios(3))."""


def heard(*numbers: int) -> tuple[int, ...]:
    """Return the signals that were not ignored when we started (nohup(1), a background job of a script)."""
    return tuple([number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN])


@final
class Terminal:
    """Our controlling terminal (tty(4)), whether or not stdin is one; without one every method does nothing."""

    def __init__(self) -> None:
        self._descriptor = -1
        self._settings: list[Any] | None = None
        with suppress(OSError):  # ENXIO: no controlling terminal
            self._descriptor = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)

    @property
    def is_ours(self) -> bool:
        """Whether our own group is in the foreground."""
        return self.is_with(os.getpgrp())

    @property
    def exists(self) -> bool:
        """Whether there is a terminal to hand over."""
        return self._descriptor >= 0

    def close(self) -> None:
        """Close our descriptor of it."""
        if self.exists:
            os.close(self._descriptor)
            self._descriptor = -1

    def is_behind(self, descriptor: int) -> bool:
        """Return whether a descriptor refers to this terminal."""
        try:
            return self.exists and os.isatty(descriptor) and os.tcgetpgrp(descriptor) >= 0
        except OSError:  # ENOTTY: another terminal, not our controlling one
            return False

    def is_with(self, group: int) -> bool:
        """Return whether `group` is the foreground group."""
        try:
            return self.exists and os.tcgetpgrp(self._descriptor) == group
        except OSError:  # the terminal was hung up
            return False

    def give(self, group: int) -> bool:
        """Make `group` the foreground group; return whether it is.

        In the background it changes nothing.
        """
        if not self.is_with(group):
            if not self.is_ours:
                return False
            if self._settings is None:
                with suppress(termios.error):
                    self._settings = termios.tcgetattr(self._descriptor)
            with background_may_write(), suppress(OSError):  # the group has ended in between
                os.tcsetpgrp(self._descriptor, group)
        return True

    def take(self, group: int, *, restore: bool) -> None:
        """Make our group the foreground group again, if `group` is in the foreground.

        Args:
            group: The command's group.
            restore: Whether to restore the terminal's previous settings: after a stop or a death by signal, when the
                command could not do so itself. After any other end, the command's settings are kept.
        """
        if not (self.is_with(group) or self.is_ours or self._is_with_nobody()):
            return
        with background_may_write(), suppress(OSError, termios.error):  # the terminal was hung up
            os.tcsetpgrp(self._descriptor, os.getpgrp())
            if restore and self._settings is not None:
                termios.tcsetattr(self._descriptor, termios.TCSADRAIN, self._settings)

    def _is_with_nobody(self) -> bool:
        """Return whether the foreground group has ended, e.g. because the command was a shell that gave it to a job."""
        try:
            if self.exists:
                os.killpg(os.tcgetpgrp(self._descriptor), 0)
        except ProcessLookupError:
            return True
        except OSError:
            return False
        return False


@contextmanager
def background_may_write() -> Iterator[None]:
    """Block SIGTTOU, which would stop a background group that sets the foreground group."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTTOU])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
