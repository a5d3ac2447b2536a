"""Format the lines of tasks in the plain log: ``--output prefix``, `group` and `raw`."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterable, Mapping
from typing import IO, Final, Protocol, final

from ..colour import Colour
from ..text import cell_ljust, cells, logged, one_line

_WIDEST: Final = 24  # columns; a longer name doesn't indent the other names' lines
_IN_MEMORY: Final = 2**20  # characters of one task beyond which its output is kept in a file

# commands that a CI system reads at the beginning of log lines: the variable that it sets, and their prefixes
_COMMANDS: Final = {
    "GITHUB_ACTIONS": ("::",),
    "TF_BUILD": ("##vso[", "##["),
    "TEAMCITY_VERSION": ("##teamcity[",),
}

Piece = str | IO[str]
"""A text of whole lines, or a file of them."""


class Style(Protocol):
    """A format of the log."""

    def command(self, name: str, command: str) -> Iterable[Piece]:
        """Show the command of a starting attempt."""

    def lines(self, name: str, lines: Iterable[str]) -> Iterable[Piece]:
        """Show lines of a task."""

    def news(self, name: str, text: str, *, final: bool) -> Iterable[Piece]:
        """Show how an attempt ended."""

    def end(self) -> Iterable[Piece]:
        """Show pending output."""


def commands_of(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the prefixes of lines that our CI system reads as commands."""
    found = [starts for name, starts in _COMMANDS.items() if environ.get(name, "").lower() not in {"", "false", "0"}]
    return tuple([start for starts in found for start in starts])


def _shown(line: str, front: str, colour: Colour, commands: tuple[str, ...]) -> str:
    """Return a formatted line; commands of the CI system get no prefix."""
    if line.startswith(commands):
        return f"{logged(line)}\n"
    return f"{front}{colour.feed(logged(line))}\n"


@final
class Prefix:
    """Each line is prefixed with its task's name, except commands of the CI system.

    Args:
        names: The tasks.
        commands: The beginnings of lines that are not prefixed.
    """

    def __init__(self, names: Iterable[str], commands: tuple[str, ...] = ()) -> None:
        labels = {name: one_line(name) for name in names}
        width = min(_WIDEST, max(map(cells, labels.values()), default=0))
        self._labels = {name: cell_ljust(label, width) for name, label in labels.items()}
        self._colours = {name: Colour() for name in labels}
        self._commands = commands

    def command(self, name: str, command: str) -> Iterable[Piece]:
        """Show ``NAME $ COMMAND``."""
        return (f"{self._labels[name]} $ {command}\n",)

    def lines(self, name: str, lines: Iterable[str]) -> Iterable[Piece]:
        """Show ``NAME | LINE`` for each."""
        front, colour = f"{self._labels[name]} | ", self._colours[name]
        if not self._commands:
            return ("".join([f"{front}{colour.feed(logged(line))}\n" for line in lines]),)
        return ("".join([_shown(line, front, colour, self._commands) for line in lines]),)

    def news(self, name: str, text: str, *, final: bool) -> Iterable[Piece]:
        """Show ``NAME = TEXT``."""
        del final
        return (f"{self._labels[name]} = {text}\n",)

    def end(self) -> Iterable[Piece]:
        """Nothing was held back."""
        return ()


@final
class Raw:
    """Only the lines of tasks, unchanged."""

    def command(self, name: str, command: str) -> Iterable[Piece]:
        """Show nothing."""
        del name, command
        return ()

    def lines(self, name: str, lines: Iterable[str]) -> Iterable[Piece]:
        """Show the lines."""
        del name
        return ("".join([f"{line}\n" for line in lines]),)

    def news(self, name: str, text: str, *, final: bool) -> Iterable[Piece]:
        """Show nothing; the final account shows the end."""
        del name, text, final
        return ()

    def end(self) -> Iterable[Piece]:
        """Nothing was held back."""
        return ()


@final
class Group:
    """All lines of a task in one piece when it has ended, folded on CI systems that support it.

    Args:
        names: The tasks.
        environ: The environment, from which GitHub Actions and GitLab CI are recognized.
    """

    def __init__(self, names: Iterable[str], environ: Mapping[str, str] = os.environ) -> None:
        self._numbers = {name: number for number, name in enumerate(names)}
        self._colours = {name: Colour() for name in self._numbers}
        self._commands = commands_of(environ)
        self._kept: dict[str, IO[str]] = {}
        self._github = environ.get("GITHUB_ACTIONS") == "true"
        self._gitlab = environ.get("GITLAB_CI") == "true"

    def command(self, name: str, command: str) -> Iterable[Piece]:
        """Keep ``NAME $ COMMAND``, the header of a group."""
        kept = self._kept.get(name)
        if kept is None:
            kept = self._kept[name] = tempfile.SpooledTemporaryFile(  # noqa: SIM115 - the writer closes it
                _IN_MEMORY, "w+", encoding="utf-8", errors="surrogateescape", newline=""
            )
            kept.write(self._head(name))
        kept.write(f"{one_line(name)} $ {command}\n")
        return ()

    def lines(self, name: str, lines: Iterable[str]) -> Iterable[Piece]:
        """Keep the lines."""
        colour = self._colours[name]
        self._kept[name].write("".join([_shown(line, "", colour, self._commands) for line in lines]))
        return ()

    def news(self, name: str, text: str, *, final: bool) -> Iterable[Piece]:
        """Show the group once its task has ended, followed by how it ended."""
        shown = f"{one_line(name)} = {text}\n"
        kept = self._kept.get(name)
        if kept is not None and not final:
            kept.write(shown)
            return ()
        return (*self._close(name), shown)

    def end(self) -> Iterable[Piece]:
        """Show the groups of tasks whose end was never reported."""
        return [piece for name in list(self._kept) for piece in self._close(name)]

    def _head(self, name: str) -> str:
        if self._github:
            return f"::group::{one_line(name)}\n"
        if self._gitlab:
            mark = f"section_start:{int(time.time())}:task_{self._numbers[name]}[collapsed=true]"
            return f"\x1b[0K{mark}\r\x1b[0K{one_line(name)}\n"
        return ""

    def _close(self, name: str) -> Iterable[Piece]:
        kept = self._kept.pop(name, None)
        if kept is None:
            return
        if self._github:
            kept.write("::endgroup::\n")
        elif self._gitlab:
            kept.write(f"\x1b[0Ksection_end:{int(time.time())}:task_{self._numbers[name]}\r\x1b[0K\n")
        kept.seek(0)
        yield kept
