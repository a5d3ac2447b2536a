"""Advice for an option that doesn't exist: its name here, why it isn't needed, or the nearest name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any, Final, TypeVar

import attrs

from .errors import OptionError
from .text import nearest

_Class = TypeVar("_Class", bound=type)

_NAMES_HERE: Final = {
    "cmd": "command",
    "depends": "after",
    "depends_on": "after",
    "dir": "cwd",
    "directory": "cwd",
    "env_vars": "env",
    "environ": "env",
    "environment": "env",
    "input": "stdin",
    "kill_timeout": "grace_period",
    "label": "name",
    "needs": "after",
    "requires": "after",
    "workdir": "cwd",
    "working_dir": "cwd",
}
"""What an option is called elsewhere, in subprocess, make, docker or go-process, and here."""

_TEXT: Final = "output is decoded already, by `encoding` and `errors`; the bytes are in `output_bytes`"
_CAPTURED: Final = "both streams are captured already, unless `disable_capture=True`"
_NOT_NEEDED: Final = {
    "capture": _CAPTURED,
    "capture_output": _CAPTURED,
    "capture_stderr": _CAPTURED,
    "capture_stdout": _CAPTURED,
    "check": "it is an argument of `run` and `wait`, and True by default",
    "close_fds": "no descriptor but the standard streams is inherited",
    "preexec_fn": "use `umask`, `user`, `nice` and `limits`",
    "process_group": "every process has its own group, and `detach=True` its own session",
    "shell": "there is no shell; run 'sh' with the arguments '-c' and the command line",
    "start_new_session": "every process has its own group, and `detach=True` its own session",
    "text": _TEXT,
    "universal_newlines": _TEXT,
}


def unknown_option(name: str, known: Iterable[str], what: str = "option") -> str:
    """Return the text of the error for a name that isn't among the known ones."""
    known = list(known)
    here = _NAMES_HERE.get(name)
    if here in known:
        return f"unknown {what} {name!r}; here it is called {here!r}"
    if name in _NOT_NEEDED:
        return f"unknown {what} {name!r}; {_NOT_NEEDED[name]}"
    return f"unknown {what} {name!r}{nearest(name, known)}"


def check_names(given: Iterable[str], known: Iterable[str], what: str = "option") -> None:
    """Raise `OptionError` for the first name that isn't among the known ones."""
    known = known if isinstance(known, (set, frozenset)) else frozenset(known)
    for name in given:
        if name not in known:
            raise OptionError(unknown_option(name, sorted(known), what))


def refuse_unknown(cls: _Class) -> _Class:
    """Let an attrs class of keywords raise `OptionError` for arguments that it doesn't take, not `TypeError`.

    A decorator for classes made with ``init=False``: they declare the signature for type checkers themselves.
    """
    made: Callable[..., None] = cls.__attrs_init__  # type: ignore[attr-defined] # init=False leaves it to us
    fields = [field for field in attrs.fields(cls) if field.init]
    known = frozenset(field.alias or field.name for field in fields)
    required = [field.name for field in fields if field.default is attrs.NOTHING]
    needed = frozenset(required)

    @wraps(made)
    def __init__(self: Any, *args: object, **options: Any) -> None:  # noqa: N807 - it becomes the method
        if args or not needed <= options.keys() <= known:
            if not args:
                check_names(options, known)
            name, example = cls.__name__, ", ".join(f"{name}=..." for name in required)
            got = f"takes keywords only, got {args[0]!r}" if args else "lacks an option that it can't do without"
            raise OptionError(f"{name} {got}; write {name}({example})")
        made(self, **options)

    cls.__init__ = __init__  # type: ignore[misc] # what attrs made is called by it
    return cls
