"""`Screen`: our terminal while it shows the live view. It never blocks, and is always restored.

Every write goes through our own non-blocking descriptor: a terminal that isn't being read (Ctrl-S, a stuck ssh) would
otherwise block the whole program, including its signal handlers. Unwritten output is kept, and no new frame is drawn
until the terminal has accepted the rest of the last one.

While a frame is drawn, line wrapping is off: where the terminal counts a character as wider than we do, a line would
take two rows, and the next frame would start one row too low. While the view is on, typed characters are not echoed
into it, and a task that writes to the terminal is stopped (TOSTOP, termios(3)) instead of garbling it.
"""

from __future__ import annotations

import math
import os
import select
import sys
import termios
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, final

import trio

from .._core import reopened
from .output import OutputLost
from .terminal import Terminal, background_may_write

STDOUT: Final = 1
LOST_AFTER: Final = 2.0
"""Seconds after which a terminal that accepts no output counts as lost."""

_NO_WRAP: Final = "\x1b[?7l"  # DECAWM, as every terminal since the VT100 has it
_WRAP: Final = "\x1b[?7h"
_HIDE_CURSOR: Final = "\x1b[?25l"
_SHOW_CURSOR: Final = "\x1b[?25h"
_END_OF_LINE: Final = "\x1b[0m\x1b[K\n"
_CLEAR_BELOW: Final = "\x1b[J"
_CLEAR_LINE: Final = "\x1b[2K"
_CANCEL: Final = "\x18"  # ends a partially written escape sequence (ECMA-48, CAN)
_LFLAG: Final = 3
_LOOK: Final = 0.1  # seconds


@final
class Screen:
    """The terminal behind our stdout.

    Args:
        terminal: Our controlling terminal, which reports whether we are in the foreground.
    """

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._descriptor = reopened(STDOUT)
        self._pending = b""
        self._last_taken = time.monotonic()
        self._is_lost = False
        self._waits_are_limited = False
        self._settings: list[Any] | None = None
        self._rows: Sequence[int] = ()  # the cells of each line of the last frame
        self._width = 0
        self._is_on = False

    def enter(self) -> None:
        """Hide the cursor, and turn echo off."""
        if self._is_on or not self._is_ours():
            return
        self._is_on = True
        self._rows = ()
        with suppress(termios.error, OSError):
            self._settings = termios.tcgetattr(STDOUT)
            changed = [*self._settings]
            changed[_LFLAG] = (changed[_LFLAG] & ~termios.ECHO) | termios.TOSTOP
            with background_may_write():
                termios.tcsetattr(STDOUT, termios.TCSANOW, changed)
        self._put(_HIDE_CURSOR)

    def draw(self, lines: Sequence[str], cells: Sequence[int], width: int) -> None:
        """Replace the last frame; skipped until the terminal has accepted that frame."""
        if not self._is_on or not self._is_ours() or not self.flush():
            return
        up = self._height_now(width)
        body = "".join([line + _END_OF_LINE for line in lines])
        self._put((f"\x1b[{up}A" if up else "") + "\r" + _NO_WRAP + body + _CLEAR_BELOW + _WRAP)
        self._rows, self._width = tuple(cells), width

    def scroll(self, text: str, width: int) -> None:
        """Write whole lines in place of the last frame; the next frame is drawn below them."""
        if not text:
            return
        up = self._height_now(width) if self._is_on else 0
        self._put("\r" + _erased(up) + text)
        self._rows = ()

    def _height_now(self, width: int) -> int:
        """Return the current number of rows of the last frame, which a narrower window has rewrapped."""
        if width >= self._width:
            return len(self._rows)
        return sum(max(1, math.ceil(cells / width)) for cells in self._rows)

    def leave(self) -> None:
        """Show the cursor, and turn echo on; the last frame stays."""
        if self._is_on:
            self._is_on = False
            self._put(_WRAP + _SHOW_CURSOR)
            self._restore_settings()

    def give_up(self) -> None:
        """Do the same from a signal handler that exits: never wait, and skip unwritable output."""
        if self._is_on:
            self._restore_settings()
            with suppress(OSError):
                os.write(self._descriptor, f"{_CANCEL}\x1b[0m{_WRAP}{_SHOW_CURSOR}\r\n".encode())

    def write(self, text: str) -> None:
        """Write a text, and wait until the terminal has accepted it.

        Raises:
            OutputLost: The terminal is gone, or has accepted no output for some time.
        """
        self._put(text)
        self.drain()

    async def write_soon(self, text: str) -> None:
        """Write a text, and wait until the terminal has accepted it; the wait is limited only after `limit_waits`.

        Raises:
            OutputLost: As for `write`.
        """
        self._put(text)
        while not self.flush():
            if self._waits_are_limited:
                self._check_limit()
            with trio.move_on_after(_LOOK):
                await trio.lowlevel.wait_writable(self._descriptor)
                await trio.sleep(_LOOK / 10)  # it may say that it has room, and have none for a whole character

    def limit_waits(self) -> None:
        """Limit the wait of `write_soon` as well: the run has ended, and only the output is pending."""
        self._waits_are_limited = True
        self._last_taken = time.monotonic()

    def drain(self) -> None:
        """Wait until the terminal has accepted all output; raises as `write` does."""
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        while not self.flush():
            self._check_limit()
            if poll.poll(_LOOK * 1000):
                time.sleep(_LOOK / 10)  # it may say that it has room, and have none for a whole character

    def _check_limit(self) -> None:
        if time.monotonic() > self._last_taken + LOST_AFTER:
            self._is_lost = True
            self._pending = b""
            raise OutputLost from TimeoutError(f"the terminal has taken nothing for {LOST_AFTER:g} s")

    def flush(self) -> bool:
        """Write as much as the terminal accepts without blocking; return whether that was everything.

        Raises:
            OutputLost: The terminal is gone.
        """
        if not self._pending:
            self._last_taken = time.monotonic()
            return True
        try:
            written = os.write(self._descriptor, self._pending)
        except BlockingIOError:
            return False
        except OSError as error:
            self._pending = b""
            self._is_lost = True
            raise OutputLost from error
        self._pending = self._pending[written:]
        if written:
            self._last_taken = time.monotonic()
        return not self._pending

    def close(self) -> None:
        """Close our descriptor."""
        os.close(self._descriptor)

    def _put(self, text: str) -> None:
        if not self._is_lost:
            self._pending += text.encode("utf-8", "backslashreplace")

    def _is_ours(self) -> bool:
        """Return whether we may write: in the background, the terminal belongs to the shell."""
        return not self._terminal.exists or self._terminal.is_with(os.getpgrp())

    def _restore_settings(self) -> None:
        if self._settings is not None and self._is_ours():
            with suppress(termios.error, OSError), background_may_write():
                termios.tcsetattr(STDOUT, termios.TCSANOW, self._settings)
        self._settings = None


def _erased(rows: int) -> str:
    """Return what erases the rows above the cursor, and leaves it on the first of them.

    Row by row, as tmux keeps a screen in its history that is cleared from the first cell on.
    """
    return f"\x1b[{rows}A" + f"{_CLEAR_LINE}\n" * rows + f"\x1b[{rows}A" if rows else ""


def wants_live_view(environ: Mapping[str, str]) -> bool:
    """Whether to show the live view: on a capable terminal, unless `CI` is set; with `NO_COLOR`, without colours."""
    return environ.get("CI", "").lower() in {"", "0", "false"} and _has_capable_terminal(environ)


def asks_for_colours(environ: Mapping[str, str]) -> bool:
    """Whether to ask tasks for colours, because their output is shown on a terminal although they write to a pipe.

    An environment that enables or disables colours is passed to them unchanged (https://force-color.org,
    https://no-color.org).
    """
    return not environ.get("NO_COLOR") and "FORCE_COLOR" not in environ and _has_capable_terminal(environ)


def _has_capable_terminal(environ: Mapping[str, str]) -> bool:
    return sys.stdout.isatty() and environ.get("TERM", "") not in {"", "dumb", "unknown"}
