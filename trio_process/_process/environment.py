"""The environment of a child, and the program that its PATH leads to."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, Final, final

from .._core import Secret

MARKER: Final = "TRIO_PROCESS_ID"
"""The variable that marks the descendants of a process; nested services append to it, separated by `;`."""

_MARKER: Final = MARKER.encode()


def encoded(argument: Any) -> bytes:
    """Return an argument as the child gets it; a secret is revealed here and nowhere else."""
    return os.fsencode(argument.reveal() if isinstance(argument, Secret) else argument)


@final
class Environment:
    """Our environment, encoded once for all children, until it changes."""

    def __init__(self) -> None:
        # a nested service passes on the marks of its ancestors
        self._ancestors = os.environb.get(_MARKER, b"")
        self._known: dict[bytes, bytes] = {}
        self._entries: list[bytes] = []

    def of(self, overlay: Mapping[str, Any], mark: str) -> tuple[list[bytes], str]:
        """Return the environment of a child as ``NAME=value``, and the PATH in it."""
        # os.environ decodes and checks each value every time, in 25 µs; comparing the underlying dict takes 1 µs
        ours: dict[bytes, bytes] = getattr(os.environb, "_data", None) or dict(os.environb)
        if ours != self._known:
            ours = self._known = dict(ours)  # a copy, made at once: another thread may change it
            self._entries = [name + b"=" + value for name, value in ours.items() if name != _MARKER]
        entries = self._entries
        path = ours.get(b"PATH")
        if overlay:
            merged = {name: value for name, value in ours.items() if name != _MARKER}
            for name, value in overlay.items():
                if value is None or name == MARKER:  # without our mark its descendants could not be found
                    merged.pop(os.fsencode(name), None)
                else:
                    merged[os.fsencode(name)] = encoded(value)
            entries = [name + b"=" + value for name, value in merged.items()]
            path = merged.get(b"PATH")
        if mark:
            own = mark.encode()
            entries = [*entries, _MARKER + b"=" + (self._ancestors + b";" + own if self._ancestors else own)]
        # a detached process has no mark: it belongs to no service, nor to the supervisor of this program
        return entries, os.defpath if path is None else os.fsdecode(path)


_MANY: Final = 256  # programs to remember


@final
class Programs:
    """Where programs were found on the PATH that a child has (environ(7)).

    The rule is that of `subprocess` (``child_exec`` in CPython's Modules/_posixsubprocess.c): the first file in the order
    of the PATH whose exec succeeds is the one that runs. execvp(3) agrees where a file is missing, may not be executed, or
    names an interpreter that is missing. It differs for a file that is busy or damaged, where it gives up, and for a
    script without a ``#!``, which it hands to a shell. If no exec succeeds, the error is that of the first file that this
    user may execute.

    A first start looks the program up, and execs what it finds. For each program a list of paths is remembered: those tried
    before it was found, then its own. Later starts exec these in this order, so a program that has been installed into an
    earlier directory since is the one that runs, and no remembered path has to be checked before the fork. If every exec
    fails, in a first start or a later one, all programs of that name on the PATH are tried one by one.
    """

    def __init__(self) -> None:
        self._found: dict[tuple[str | bytes, str], tuple[bytes, ...]] = {}

    def places(self, command: Any, path: str, cwd: Any) -> tuple[bytes, ...]:
        """Return where a program may be, in the order to try.

        A relative directory of `path`, or an empty one, is relative to `cwd`, the directory of the child.

        Raises:
            OSError: There is none; see `find_program`.
        """
        return self._found.get((command, path)) or (self.look_up(command, path, cwd),)

    def look_up(self, command: Any, path: str, cwd: Any) -> bytes:
        """Return where a program is now, and remember it; raises as `places` does."""
        name = os.fsdecode(command)
        if "/" in name:
            return os.fsencode(name)
        found = find_program(name, path, "" if cwd is None else os.fsdecode(cwd))
        place = os.fsencode(found)
        self.remember(command, path, place)
        return place

    def look_up_all(self, command: Any, path: str, cwd: Any) -> list[bytes]:
        """Return every place where a program of that name is now, in the order to try; raises as `places` does."""
        name, directory = os.fsdecode(command), "" if cwd is None else os.fsdecode(cwd)
        found = [os.fsencode(place) for place in _executables(name, path, directory)]
        return found or [os.fsencode(find_program(name, path, directory))]

    def remember(self, command: Any, path: str, place: bytes | None) -> None:
        """Remember that a program was found at `place`, one of `look_up_all`; None for nowhere."""
        self._found.pop((command, path), None)
        if place is None:
            return
        candidates = tuple(map(os.fsencode, _candidates(os.fsdecode(command), path)))
        if len(self._found) >= _MANY:
            self._found.clear()
        self._found[command, path] = candidates[: candidates.index(place) + 1]


def find_program(name: str, path: str, cwd: str = "") -> str:
    """Return the first executable file of that name in the directories of `path`; a name with a slash is its own path.

    Relative paths are relative to `cwd`, or to the directory of this program if that is empty.

    Raises:
        FileNotFoundError: There is none.
        PermissionError: There is one, but this user may not execute it.
    """
    for candidate in _executables(name, path, cwd):
        return candidate
    for candidate in _candidates(name, path):
        if os.path.isfile(os.path.join(cwd, candidate)):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), candidate)
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)


def _executables(name: str, path: str, cwd: str) -> Iterator[str]:
    """Yield the executable files of that name in the directories of `path`."""
    for candidate in _candidates(name, path):
        file = os.path.join(cwd, candidate) if cwd else candidate
        if os.access(file, os.X_OK) and os.path.isfile(file):
            yield candidate


@lru_cache
def _candidates(name: str, path: str) -> tuple[str, ...]:
    """Return the paths that a program of that name may have, in order; joining them takes longer than checking them."""
    if "/" in name:
        return (name,)
    return tuple([os.path.join(directory or os.curdir, name) for directory in path.split(os.pathsep)])
