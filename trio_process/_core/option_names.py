"""Advice for an option that doesn't exist: its name here, why it isn't needed, or the nearest name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from typing import Any, Final, TypeVar

import attrs

from .errors import OptionError
from .text import nearest

_Class = TypeVar("_Class", bound=type)

_NAMES_HERE: Final = {
    "cmd": "command",
    "dependencies": "after",
    "depends": "after",
    "depends_on": "after",
    "deps": "after",
    "dir": "cwd",
    "directory": "cwd",
    "env_vars": "env",
    "environ": "env",
    "environment": "env",
    "grace": "grace_period",
    "input": "stdin",
    "kill_timeout": "grace_period",
    "label": "name",
    "needs": "after",
    "requires": "after",
    "workdir": "cwd",
    "working_dir": "cwd",
}
"""What an option is called elsewhere, in subprocess, make, docker or go-process, and here."""

_NO_ORDER: Final = "a process waits for no other one; `RunSpec` and `UnitSpec` have `after`"
_TEXT: Final = "output is decoded already, by `encoding` and `errors`; the bytes are in `output_bytes`"
_CAPTURED: Final = "both streams are captured already, unless `disable_capture=True`"
_NOT_NEEDED: Final = {
    **dict.fromkeys(("after", "dependencies", "depends", "depends_on", "deps", "needs", "requires"), _NO_ORDER),
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


class CallError(OptionError, TypeError, shown_as=OptionError):
    """Options were given by names, or in places, that don't exist, which is a `TypeError` for every function of Python."""


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
    """Raise `CallError` for the first name that isn't among the known ones."""
    known = known if isinstance(known, (set, frozenset)) else frozenset(known)
    for name in given:
        if name not in known:
            raise CallError(unknown_option(name, sorted(known), what), option=name)


def refuse_unknown(**not_here: str) -> Callable[[_Class], _Class]:
    """Return a decorator that lets an attrs class raise `CallError` for arguments that it doesn't take, with advice.

    It comes before the decorator of attrs. A class made with ``init=False`` declares its signature for type checkers itself.

    Args:
        **not_here: Options of similar classes that this one does not take, each with the reason.
    """

    def decorated(cls: _Class) -> _Class:
        made: Callable[..., None] = cls.__dict__.get("__attrs_init__") or cls.__dict__["__init__"]

        @wraps(made)
        def __init__(self: Any, *args: object, **options: Any) -> None:  # noqa: N807 - it becomes the method
            try:
                made(self, *args, **options)
            except TypeError:
                _check_call(cls, args, options, not_here)
                raise  # of a converter or validator

        cls.__init__ = __init__  # type: ignore[misc] # what attrs made is called by it
        return cls

    return decorated


def _check_call(cls: type, args: tuple[object, ...], options: Mapping[str, Any], not_here: Mapping[str, str]) -> None:
    """Raise `CallError` if an attrs class can't be made with these arguments, whatever their values."""
    fields = {field.alias or field.name: field for field in attrs.fields(cls) if field.init}
    required = [name for name, field in fields.items() if field.default is attrs.NOTHING]
    positional = [name for name, field in fields.items() if not field.kw_only]
    example = ", ".join(name if name in positional else f"{name}=..." for name in required)
    advice = f"; write {cls.__name__}({example})" if example else ""
    for name in options:
        if name in not_here:
            raise CallError(f"unknown option {name!r}; {not_here[name]}", option=name) from None
        if name not in fields:
            raise CallError(unknown_option(name, sorted(fields)), option=name) from None
    if len(args) > len(positional):
        rest = f" after {' and '.join(positional)}" if positional else ""
        raise CallError(f"{cls.__name__} takes keywords only{rest}, got {args[len(positional)]!r}{advice}") from None
    given = positional[: len(args)]
    for name in given:
        if name in options:
            raise CallError(f"{name} is given twice{advice}", option=name) from None
    missing = [name for name in required if name not in options and name not in given]
    if missing:
        raise CallError(f"{cls.__name__} needs {' and '.join(missing)}{advice}") from None
