"""The audit hook (PEP 578) of the testing kit: it sees every spawn of this Python process, from any code."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from .._core import ProcessError, command_line, escape_controls, shown

_SPAWNS: Final = frozenset(
    {"trio_process.spawn", "subprocess.Popen", "os.posix_spawn", "os.fork", "os.forkpty", "os.system"}
)
_INSIDE: Final = frozenset(
    {"trio_process", "trio", "subprocess", "multiprocessing", "contextlib", "threading", "outcome", "os"}
)

Listener = Callable[[str, str], None]

_listeners: list[Listener] = []
_installed = False


class RealProcessError(ProcessError, AssertionError):
    """The code under test tried to start a real process."""


@contextmanager
def no_real_processes() -> Iterator[list[str]]:
    """Refuse every spawn of this Python process with a `RealProcessError`, in all threads.

    Yields:
        The refused spawns, as texts, including those whose error the code under test caught.
    """
    refused: list[str] = []

    def refuse(event: str, what: str) -> None:
        text = f"{what}, by {event}{_caller()}"
        refused.append(text)
        raise RealProcessError(f"no real process may be started here; refused: {text}")

    _install()
    _listeners.append(refuse)
    try:
        yield refused
    finally:
        _listeners.remove(refuse)


def _install() -> None:
    """Add the hook, once, and only when it is needed: an audit hook can't be removed."""
    global _installed  # noqa: PLW0603 - it is the process that has the hook
    if not _installed:
        _installed = True
        sys.addaudithook(_hook)


def _hook(event: str, args: tuple[Any, ...]) -> None:
    if _listeners and event in _SPAWNS:
        for listener in tuple(_listeners):
            listener(event, _what(event, args))


def _what(event: str, args: tuple[Any, ...]) -> str:
    """Return the command of an audit event, as typed in a shell; see "Audit events table" of the Python manual."""
    if event == "trio_process.spawn":
        words = [args[0], *args[1]]
    elif event in ("subprocess.Popen", "os.posix_spawn"):
        words = [args[1]] if isinstance(args[1], (str, bytes)) else list(args[1])
    elif event == "os.system":
        words = [args[0]]
    else:
        return "a fork of this process"
    texts = [shown(word) for word in words]
    return f"`{escape_controls(command_line(texts[0], texts[1:]))}`"


def _caller() -> str:
    """Return the place of the call: the innermost frame outside of this package, Trio and the standard library."""
    frame = sys._getframe(2)
    while frame is not None:
        package = frame.f_globals.get("__name__", "").partition(".")[0]
        if package not in _INSIDE:
            return f" at {frame.f_code.co_filename}:{frame.f_lineno}"
        if frame.f_back is None:
            break
        frame = frame.f_back
    return " in a thread"
