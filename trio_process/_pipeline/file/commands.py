"""Parse the command of a task: the words of `run`, or the script of `shell`, with hints at syntax that needs a shell."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

from ..._core import Argument, Written
from .allowance import Allowance
from .interpolate import Names, interpolate, interpolate_matrix
from .value_types import Report

_OPERATORS: Final = frozenset(
    {"&&", "||", "|", "|&", ";", "&", "<", ">", ">>", "<<", "2>", "2>&1", "&>", "1>&2", ">&2"}
)
_BUILTINS: Final = {
    "cd": "write `dir`",
    "export": "write `env`",
    "source": "write `env-file`, or `shell`",
    ".": "write `env-file`, or `shell`",
    **dict.fromkeys(("alias", "unset", "pushd", "popd", "ulimit", "umask", "eval", "trap", "set"), "write `shell`"),
}
_OPERATOR: Final = re.compile(r"[|;]|&&|&$|<|>(?!=)")
"""Shell operators within a word, except ``>=`` (package requirements) and ``&`` (URLs): these are usually plain text."""

_QUOTED: Final = re.compile(r"'[^']*'|\"(?:[^\"\\]|\\.)*\"|\\.")
_LITERAL: Final = re.compile(r"'[^']*'|\\.")
_EXPANDED_IN_QUOTES: Final = (
    (re.compile(r"\$\("), "{0} would stay as it is; write `shell = ...`"),
    (re.compile(r"`"), "{0} would stay as it is; write `shell = ...`"),
)
"""Command substitution, which a shell performs even in double quotes; a plain ``$NAME`` in them is taken as text."""

_SHELL_ONLY: Final = (
    (re.compile(r"\$([A-Za-z_][A-Za-z0-9_]*)"), "{0} would stay as it is; write ${{{1}}}"),
    (re.compile(r"\$[?@#0-9]"), "{0} would stay as it is; write `shell = ...`"),
    (re.compile(r"^~(?=/|$)"), "{0} would stay as it is; write ${{HOME}}"),
    (re.compile(r"\*"), "{0} would stay as it is; write `shell = ...`"),
)
_KEYS: Final = re.compile(r"write (?:`|env = ).*")
_PLACE: Final = re.compile(r"\$\{[^}]*\}")
_PLAIN: Final = re.compile(r"[A-Za-z0-9_./:,+@%-]+(?: +[A-Za-z0-9_./:,+@%=-]+)*", re.ASCII)
"""A command without quotes or any other character that is special to a shell: only blanks separate its words."""

_SCRIPT: Final = ("-e", "-c", "the script")
_LONGEST: Final = 2**17  # characters, as execve(2) takes in one argument; `shlex` takes quadratic time for a word
_UTF8_NAMES: Final = frozenset({"utf-8", "utf8"})


def as_utf8(value: str, shown: str | None = None) -> str:
    """Return a text of the file in a form that reaches a child as UTF-8 in any locale, and that is shown as written."""
    given = value
    if not value.isascii() and sys.getfilesystemencoding() not in _UTF8_NAMES:
        given = os.fsdecode(value.encode("utf-8", "surrogateescape"))
    shown = value if shown is None else shown
    return given if given == shown else Written(given, shown)


def as_text(value: str) -> str:
    """Return a text of the system, such as a variable, in the form of texts of the file: `as_utf8` gives the same bytes."""
    if value.isascii() or sys.getfilesystemencoding() in _UTF8_NAMES:
        return value
    return os.fsencode(value).decode("utf-8", "surrogateescape")


def as_path(value: str) -> str:
    """Return the path of a file, as written in UTF-8, in a form that the system takes in any locale."""
    return str(as_utf8(value))


def read_command(values: Mapping[str, Any], names: Names, report: Report) -> list[str]:
    """Return the command of a task, `run` or `shell` in `values`; an empty one has been reported."""
    if "shell" in values:
        script = interpolate_matrix(values["shell"], names, report, "shell")
        return ["sh", "-e", "-c", as_utf8(script)]
    run = values.get("run", [])
    if isinstance(run, list):
        _check_program(run, report)
        words = [_word(word, names, report, "run", index) for index, word in enumerate(run)]
    else:
        words = [_word(word, names, report, "run") for word in _split(run, report)]
    if words and not words[0]:
        report("command must not be empty", "run")
        return []
    return words


def _word(word: str, names: Names, report: Report, *where: str | int) -> str:
    if "${" not in word:
        return as_utf8(word)
    value = interpolate(word, names, report, *where)
    faults: list[str] = []  # these faults were reported with the value
    shown = Names({}, names.matrix, Allowance())
    return as_utf8(value, interpolate_matrix(word, shown, lambda text, *_: faults.append(text)))


def _split(text: str, report: Report) -> Sequence[str]:
    """Return the words of a command, split as by a shell; syntax that needs a shell is reported."""
    if _PLAIN.fullmatch(text):
        words = text.split()
        if words[0] not in _BUILTINS:
            return words
    if len(text) <= _LONGEST:
        return _split_quoted(text, report)
    report(f"expected a command of at most {_LONGEST} characters; write a list of its words, or a script", "run")
    return []


def _split_quoted(text: str, report: Report) -> Sequence[str]:
    """Return the words of a command with quotes or other special characters."""
    try:
        words = shlex.split(text)
        raw = shlex.shlex(text, posix=False, punctuation_chars=False)
        raw.whitespace_split, raw.commenters = True, ""
        unquoted = list(raw)
    except ValueError as error:
        report(f"can't be split into words: {str(error).lower()}", "run")
        return []
    operator = next((word for word in unquoted if word in _OPERATORS or _OPERATOR.search(_QUOTED.sub("", word))), None)
    if operator is not None:
        report(f"no shell runs here, so that {operator} would be an argument; write `shell = ...`, or quote it", "run")
        return []
    if not words:
        report("expected a command, got only blanks", "run")
        return []
    fault = _shell_only(words, unquoted)
    if fault:
        report(f"no shell runs here: {fault}, or put it in single quotes", "run")
        return []
    return words


def _shell_only(words: Sequence[str], unquoted: Sequence[str]) -> str:
    """Describe the shell syntax in a command, which has no effect without a shell; empty if there is none."""
    for first in (unquoted[0], words[0]):
        fault = _not_a_program(first, first)
        if fault:
            return fault
    for word in unquoted:
        for quoted, patterns in ((_LITERAL, _EXPANDED_IN_QUOTES), (_QUOTED, _SHELL_ONLY)):
            bare = quoted.sub("", word).replace("$$", "")
            for pattern, hint in patterns:
                match = pattern.search(bare)
                if match is not None:
                    return hint.format(word, *match.groups())
    return ""


def _check_program(run: Sequence[str], report: Report) -> None:
    """Report a list whose first item can't be meant as a program: ``["ruff check", "pytest -q"]``, ``["A=1", "make"]``."""
    first = _PLACE.sub("", run[0]) if run else ""
    fault = _not_a_program(first, run[0]) if run else ""
    if fault:
        fault = f"no shell runs here: {fault}"
    elif " " in first.strip():
        fault = (
            f"is one command, and {run[0]!r} would be its program; write each argument as an item of its own, or several"
            " commands as lines of `shell`"
        )
    if fault and "/" not in first and not shutil.which(first):
        report(fault, "run")


def _not_a_program(word: str, shown: str) -> str:
    """Describe a first word that only a shell understands: an assignment, or a command of its own."""
    assigned = re.fullmatch(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)", word, re.DOTALL)
    if assigned is not None:
        return f"{shown} would be the program; write env = {{ {assigned[1]} = ... }}"
    if word in _BUILTINS:
        return f"{shown!r} is a command of the shell itself; {_BUILTINS[word]}"
    return ""


def without_keys(fault: str) -> str:
    """Return a fault of `read_command` for a command that has no `shell`, `env` or `dir` beside it: that of a probe."""
    return _KEYS.sub('write ["sh", "-c", "..."]', fault)


def with_arguments(args: Sequence[Argument], extra: Sequence[str]) -> list[Argument]:
    """Return the arguments of a task's command with further ones appended; a script sees them as "$@"."""
    is_script = len(args) == len(_SCRIPT) and tuple(args[:2]) == _SCRIPT[:2]
    return [*args, *(["sh"] if is_script else []), *extra]
