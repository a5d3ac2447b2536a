"""The rules for option values: each function raises an `OptionError` that says what is expected."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Mapping
from operator import is_
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar, final

from .errors import bad_option
from .secret import Secret
from .text import Written

Argument = str | bytes | os.PathLike[str] | os.PathLike[bytes] | Secret
EnvValue = str | bytes | os.PathLike[str] | os.PathLike[bytes] | Secret | None


@final
class FrozenDict(dict[str, Any]):
    """A dict that can't be changed, so that options keep their hash, and can share it; its contents have been checked."""

    __slots__ = ()

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise TypeError("options can't be changed; make new ones, by attrs.evolve")

    __setitem__ = __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self) -> tuple[type[FrozenDict], tuple[dict[str, Any]]]:
        return FrozenDict, (dict(self),)


_Item = TypeVar("_Item")

_OF_ENVIRONMENT: Final = frozenset({str, bytes, Secret, Written, type(None)})
_ONE_BY_ONE: Final = "; the command and its arguments are given one by one, not as a list"
LARGEST: Final = 2**63 - 1
"""The largest whole number: it fits into 64 bits, as a number of TOML does, and everything here can calculate with it."""

MOST: Final = 10_000
"""How many replicas, agents, or combinations of a matrix one option may ask for: they are made in one go, in seconds."""

LONGEST: Final = 10**9
"""The longest duration in a file, and the longest delay before a restart, in seconds: 31 years."""

_LONGEST_SHOWN: Final = 200
_MOST_DIGITS: Final = 4300  # Python converts no more by default (sys.set_int_max_str_digits)
NOTHING: Final = FrozenDict()
"""The mapping that is meant where none is given: a dict of its own for each option would take 64 bytes."""


def frozen_items(mapping: Mapping[str, object]) -> frozenset[tuple[str, object]]:
    """Return a hashable key by which attrs compares and hashes a field whose value is a mapping."""
    return frozenset(mapping.items())


def brief(value: object) -> str:
    """Return the repr of a value for an error, cut to a readable length; no value makes it raise."""
    try:
        text = repr(value)
    except ValueError:  # Python refuses to write a number of thousands of digits, also inside of a list
        return "a number with thousands of digits"
    except Exception:  # noqa: BLE001 - whatever the class of the value raises: the error is about the option
        return f"a value of the class {type(value).__qualname__}"
    return text if len(text) <= _LONGEST_SHOWN else text[: _LONGEST_SHOWN - 3] + "..."


def seconds(option: str, value: object, *, positive: bool = False, most: float = math.inf) -> float:
    """Return a duration in seconds: a number, not negative (above 0 with `positive`), at most `most`."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value:  # noqa: PLR0124 - not a number
        raise bad_option(option, f"must be a number of seconds, got {brief(value)}")
    if value < 0 or (positive and value == 0):
        least = "more than 0" if positive else "0 or more"
        raise bad_option(option, f"must be {least} seconds, got {brief(value)}")
    if value > most:
        raise bad_option(option, f"must be at most {most} seconds, got {brief(value)}")
    try:
        return float(value) + 0.0  # not -0.0, which errors would show
    except OverflowError:
        raise bad_option(
            option, "must be a number of seconds that a float can hold; use math.inf for no limit"
        ) from None


def whole(option: str, value: object, *, least: int = 0, most: int = LARGEST, infinite: bool = False) -> int | float:
    """Return a whole number from `least` to `most`; with `infinite`, `math.inf` is allowed."""
    if infinite and isinstance(value, float) and value == math.inf:
        return math.inf
    if isinstance(value, bool) or not isinstance(value, int):
        raise bad_option(option, f"must be a whole number{' or math.inf' if infinite else ''}, got {brief(value)}")
    if least <= value <= most:
        return int(value)  # also of a member of an enumeration
    bound = f"{least} or more" if value < least else f"at most {most}"
    expected = bound if most == LARGEST else f"{least} to {most}"
    hint = "; use math.inf for no limit" if infinite and value > most else ""
    raise bad_option(option, f"must be {expected}, got {brief(value)}{hint}")


def written(option: str, text: str, *, least: int = 0, most: int = LARGEST) -> int:
    """Return the whole number, from `least` to `most`, that a text of decimal digits stands for."""
    if not (text.isascii() and text.isdecimal()):
        raise bad_option(option, f"must be a whole number, got {brief(text)}")
    number = int(text) if len(text) <= _MOST_DIGITS else 10**_MOST_DIGITS
    return int(whole(option, number, least=least, most=most))


def plain(value: str) -> str:
    """Return a str itself in place of one of a subclass, such as a member of an `Enum`, which is formatted as its name."""
    return value if type(value) is str or isinstance(value, Written) else str.__str__(value)


def flag(option: str, value: object) -> bool:
    """Return a bool; other values are refused, whatever their truth value."""
    if not isinstance(value, bool):
        raise bad_option(option, f"must be True or False, got {brief(value)}")
    return value


def text(option: str, value: object, *, empty: bool = True) -> str:
    """Return a str without NUL."""
    if not isinstance(value, str):
        raise bad_option(option, f"must be a str, got {brief(value)}")
    if "\0" in value:
        raise bad_option(option, f"must not contain a NUL character, got {brief(value)}")
    if not value and not empty:
        raise bad_option(option, "must not be empty")
    return plain(value)


def pattern(option: str, value: object) -> str | re.Pattern[str]:
    """Return what is looked for in lines: a str without a line break, or a compiled regular expression of text."""
    if isinstance(value, re.Pattern) and isinstance(value.pattern, str):
        return value
    if not isinstance(value, str):
        raise bad_option(option, f"must be a str or a compiled regular expression, got {brief(value)}")
    if "\n" in value:
        raise bad_option(option, f"must not contain a line break, as no line does; got {brief(value)}")
    return plain(value)


def path(option: str, value: object) -> str | bytes:
    """Return the path of a str, bytes or `os.PathLike`, as the file system gets it."""
    if not isinstance(value, (str, bytes, os.PathLike)):
        hint = _ONE_BY_ONE if option == "command" and isinstance(value, (list, tuple)) else ""
        raise bad_option(option, f"must be a str, bytes or path, got {brief(value)}{hint}")
    found: str | bytes = os.fspath(value)
    if not found:
        raise bad_option(option, "must not be empty")
    if (b"\0" in found) if isinstance(found, bytes) else ("\0" in found):
        raise bad_option(option, f"must not contain a NUL character, got {brief(value)}")
    return plain(found) if isinstance(found, str) else found


def file_path(option: str, value: object) -> Path:
    """Return the path of a str, bytes or `os.PathLike` as a `Path`."""
    return Path(os.fsdecode(path(option, value)))


def argument(option: str, value: object) -> str | bytes | Secret:
    """Return one argument of a command line; it may be empty, and numbers are refused."""
    if type(value) is str:  # the common case first, as every argument of every command comes here
        if "\0" in value:
            raise bad_option(option, f"must not contain a NUL character, got {brief(value)}")
        return value
    if isinstance(value, Secret):
        if "\0" in value.reveal():
            raise bad_option(option, "(a Secret) must not contain a NUL character")
        return value
    if not isinstance(value, (str, bytes, os.PathLike)):
        hint = ""
        if isinstance(value, (int, float)):
            hint = "; numbers are not converted, write str(...)"
        elif isinstance(value, (list, tuple)):
            hint = _ONE_BY_ONE
        raise bad_option(option, f"must be a str, bytes, path or Secret, got {brief(value)}{hint}")
    found: str | bytes = os.fspath(value)
    if (b"\0" in found) if isinstance(found, bytes) else ("\0" in found):
        raise bad_option(option, f"must not contain a NUL character, got {brief(value)}")
    return plain(found) if isinstance(found, str) else found


def items(option: str, values: Iterable[_Item], of: str) -> Iterable[_Item]:
    """Return an iterable of several values, unchecked; a text, whose letters they would be, and a mapping are refused."""
    if isinstance(values, (str, bytes, Mapping)) or not isinstance(values, Iterable):
        raise bad_option(option, f"must be a list of {of}, got {brief(values)}")
    return values


def arguments(option: str, values: object) -> tuple[str | bytes | Secret, ...]:
    """Return the arguments as a tuple; a bare str is refused, as it would be a list of letters."""
    if isinstance(values, (str, bytes, Secret)) or not isinstance(values, Iterable):
        raise bad_option(option, f"must be a list or tuple of arguments, got {brief(values)}; write [{brief(values)}]")
    if isinstance(values, Mapping):
        raise bad_option(option, f"must be a list or tuple of arguments, got {brief(values)}")
    found = tuple([argument(option, value) for value in values])
    return (
        values if type(values) is tuple and all(map(is_, values, found)) else found
    )  # one for the spec and for all of its runs


def environment(option: str, values: object) -> dict[str, str | bytes | Secret | None]:
    """Return an environment overlay; a value of None removes the name."""
    if type(values) is FrozenDict and _OF_ENVIRONMENT.issuperset(map(type, values.values())):
        return values  # the environment of other options, but not their limits
    if not isinstance(values, Mapping):
        raise bad_option(option, f"must map names to values, got {brief(values)}")
    checked: dict[str, str | bytes | Secret | None] = {}
    for name, value in values.items():
        if not isinstance(name, str) or not name or "=" in name or "\0" in name:
            raise bad_option(f"{option}:", f"a name must be a non-empty str without '=' and NUL, got {brief(name)}")
        checked[plain(name)] = None if value is None else argument(f"{option}[{name!r}]", value)
    return FrozenDict(checked)
