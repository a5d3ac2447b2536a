"""Job control: handing our terminal to a child's process group, and taking it back (tcsetpgrp(3), credentials(7)).

A shell may move us between foreground and background at any time, and need not tell us: `bg` sends SIGCONT, `fg` of a job
that runs sends nothing. So nothing about the foreground is remembered; the terminal is asked at each hand-over. Only the
foreground job may change the terminal, so unless our group or the command's is in the foreground, every method does
nothing.
"""

from __future__ import annotations

import os
import signal
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from types import FrameType
from typing import Any, Final, final

import trio

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""The signals that ask a command to stop."""

WANTS_TERMINAL: Final = (signal.SIGTTIN, signal.SIGTTOU)
"""What stops a background process that reads the terminal or changes its settings (termios(3))."""


def heard(*numbers: int) -> tuple[int, ...]:
    """Return the signals that the caller has not had ignored (nohup(1), a background job of a script)."""
    return tuple([number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN])


@final
class Terminal:
    """Our controlling terminal (tty(4)), whether or not stdin is one; without one every method does nothing."""

    def __init__(self) -> None:
        self._descriptor = -1
        self._settings: list[Any] | None = None
        with suppress(OSError):  # ENXIO: there is none
            self._descriptor = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)

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
        """Return whether a descriptor is one of this terminal."""
        try:
            return self.exists and os.isatty(descriptor) and os.tcgetpgrp(descriptor) >= 0
        except OSError:  # ENOTTY: another terminal, which is not the one that controls us
            return False

    def is_with(self, group: int) -> bool:
        """Return whether `group` is the foreground group."""
        try:
            return self.exists and os.tcgetpgrp(self._descriptor) == group
        except OSError:  # it was hung up
            return False

    def give(self, group: int) -> bool:
        """Make `group` the foreground group; return whether it is.

        In the background it changes nothing.
        """
        if not self.is_with(group):
            if not self.is_with(os.getpgrp()):
                return False
            if self._settings is None:
                with suppress(termios.error):
                    self._settings = termios.tcgetattr(self._descriptor)
            with _background_may_write(), suppress(OSError):  # the group has ended in between
                os.tcsetpgrp(self._descriptor, group)
        return True

    def take(self, group: int, *, restore: bool) -> None:
        """Make ours the foreground group again if `group` is.

        Args:
            group: The command's group.
            restore: Whether to restore the settings that the terminal had: after a stop or a death by signal, when the
                command could not do so itself. After any other end they stay as the command left them.
        """
        if not (self.is_with(group) or self.is_with(os.getpgrp()) or self._is_with_nobody()):
            return
        with _background_may_write(), suppress(OSError, termios.error):  # the terminal was hung up
            os.tcsetpgrp(self._descriptor, os.getpgrp())
            if restore and self._settings is not None:
                termios.tcsetattr(self._descriptor, termios.TCSADRAIN, self._settings)

    def _is_with_nobody(self) -> bool:
        """Return whether the foreground group has ended: a shell that the command ran had given it to a job, say."""
        try:
            if self.exists:
                os.killpg(os.tcgetpgrp(self._descriptor), 0)
        except ProcessLookupError:
            return True
        except OSError:
            return False
        return False


@contextmanager
def _background_may_write() -> Iterator[None]:
    """Block SIGTTOU: a background group that sets the foreground group would be stopped by it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTTOU])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@final
class SuspendableClock(trio.abc.Clock):
    """Trio's clock without the time in which we were suspended: a timeout must not run out while nothing can run."""

    def __init__(self) -> None:
        self._skipped = 0.0
        self._continued = 0  # how often SIGCONT came
        self._asked: dict[int, int] = {}  # that, when a stop signal came last

    def start_clock(self) -> None:
        """Nothing has to be started."""

    def current_time(self) -> float:
        """Return the seconds since some moment, but for those that were skipped."""
        return time.monotonic() - self._skipped

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """Return the seconds until `deadline`."""
        return deadline - self.current_time()

    @contextmanager
    def following(self, *numbers: int) -> Iterator[None]:
        """Note in which order stop signals and SIGCONT come; to be entered once they have handlers."""
        with ExitStack() as stack:
            for number in (signal.SIGCONT, *numbers):
                stack.enter_context(self._noting(number))
            yield

    @contextmanager
    def _noting(self, number: int) -> Iterator[None]:
        before = signal.getsignal(number)

        def note(number: int, frame: FrameType | None) -> None:
            if number == signal.SIGCONT:
                self._continued += 1
            else:
                self._asked[number] = self._continued
            if callable(before):
                before(number, frame)

        with _handling(number, note):
            yield

    def suspend(self, number: int, *, group: bool) -> bool:
        """Stop this process by a job-control signal, and return once it goes on.

        Where no shell could continue us, the kernel doesn't stop us either (an orphaned process group, credentials(7)).
        Nor are we stopped if SIGCONT has come since the signal did: the kernel discards such stops, too (signal(7)).

        Args:
            number: SIGTSTP, SIGTTIN or SIGTTOU.
            group: Whether to stop our whole group, as the terminal does: the script or pipeline that we are a part of.

        Returns:
            Whether we were stopped.
        """
        before = self._continued
        if self._asked.pop(number, before) < before:
            return True
        started = time.monotonic()
        with _handling(number, signal.SIG_DFL):
            if group:
                os.killpg(0, number)
            else:
                os.kill(os.getpid(), number)
        if self._continued == before:
            return False
        self._skipped += time.monotonic() - started
        return True


@contextmanager
def _handling(number: int, handler: Callable[[int, FrameType | None], Any] | signal.Handlers) -> Iterator[None]:
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)
