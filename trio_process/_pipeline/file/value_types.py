"""What the values of a pipeline file may be: each kind knows its check, its text for people and its JSON Schema."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final, final

import attrs

from .durations import DURATION_PATTERN, LARGEST, parse_duration

Report = Callable[..., None]
"""Called as `report(text, *where)` for each fault, `where` being the keys and indices below the value."""

_HIGHEST_CODE: Final = 255

_STRING: Final = {"type": "string"}
_FILLED_STRING: Final = {**_STRING, "minLength": 1}
_STRINGS: Final = {"type": "array", "items": _STRING}


def quoted(value: object) -> str:
    """Return a value of a TOML file as one would write it there, cut to a readable length."""
    import json  # noqa: PLC0415 - kept out of the import time

    try:
        text = json.dumps(value, ensure_ascii=False, default=str)
    except (ValueError, RecursionError):  # a number of thousands of digits, tables a thousand deep
        return "a very long value"
    return text if len(text) <= 80 else text[:77] + "..."


@final
@attrs.frozen(kw_only=True)
class Kind:
    """One kind of value.

    Args:
        expected: What people are told to write, "expected ..., got ...".
        read: Checks a value and returns it in its plainest shape; None if it reported a fault.
        schema: The same, as a JSON Schema.
    """

    expected: str
    read: Callable[[Any, Report], Any]
    schema: dict[str, Any]

    def check(self, value: object, report: Report) -> Any:
        """Return the value in its plainest shape, or None after reporting what is wrong with it."""
        found = self.read(value, report)
        if found is _WRONG:
            report(f"expected {self.expected}, got {quoted(value)}")
            return None
        return found


_WRONG: Final = object()


def _text(value: object, report: Report) -> Any:
    if not isinstance(value, str):
        return _WRONG
    return _without_nul(value, report)


def _without_nul(value: str, report: Report, *where: str | int) -> str | None:
    if "\0" in value:
        report("must not contain a NUL character", *where)
        return None
    return value


def _filled(value: object, report: Report) -> Any:
    return _text(value, report) if value else _WRONG


def _list(value: object, report: Report) -> Any:
    """Check a list of strings; every wrong item is reported at its own place."""
    if not isinstance(value, list):
        return _WRONG
    good = True
    for index, item in enumerate(value):
        if not isinstance(item, str):
            hint = f'; write "{item}"' if type(item) in (int, float) and len(quoted(item)) < 20 else ""
            report(f"expected a string, got {quoted(item)}{hint}", index)
            good = False
        elif _without_nul(item, report, index) is None:
            good = False
    return list(value) if good else None


def _words(value: object, report: Report) -> Any:
    return _WRONG if not value else _text(value, report) if isinstance(value, str) else _list(value, report)


def _paths(value: object, report: Report) -> Any:
    found = _list([value] if isinstance(value, str) else value, report)
    if found and found is not _WRONG and "" in found:
        report("expected the path of a file, got an empty string")
        return None
    return found


def _variables(value: object, report: Report) -> Any:
    if not isinstance(value, dict):
        return _WRONG
    good = True
    for name, item in value.items():
        if not name or "=" in name or "\0" in name:
            report("the name of a variable must not be empty, and has no '=' and no NUL", name)
        elif not isinstance(item, str):
            report(f"expected a string, got {quoted(item)}; write it in quotes", name)
        elif _without_nul(item, report, name) is not None:
            continue
        good = False
    return dict(value) if good else None


def _seconds(value: object, _report: Report, *, positive: bool = False) -> Any:
    if isinstance(value, str):
        found = None if value.isdecimal() else parse_duration(value)
    elif isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= LARGEST:
        found = float(value)
    else:
        found = None
    return _WRONG if found is None or (positive and found == 0) else found


def _positive_seconds(value: object, report: Report) -> Any:
    return _seconds(value, report, positive=True)


def _whole(least: int) -> Callable[[Any, Report], Any]:
    def read(value: object, _report: Report) -> Any:
        right = isinstance(value, int) and not isinstance(value, bool) and least <= value <= LARGEST
        return value if right else _WRONG

    return read


def _flag(value: object, _report: Report) -> Any:
    return value if isinstance(value, bool) else _WRONG


def _codes(value: object, report: Report) -> Any:
    if not isinstance(value, list) or not value:
        return _WRONG
    good = True
    for index, code in enumerate(value):
        if not isinstance(code, int) or isinstance(code, bool) or not 0 <= code <= _HIGHEST_CODE:
            report(f"expected an exit code from 0 to 255, got {quoted(code)}", index)
            good = False
    return tuple(value) if good else None


def _matrix(value: object, report: Report) -> Any:
    """Check a matrix; 3.10 without quotes is 3.1 to every parser, so that fractions are refused."""
    if not isinstance(value, dict) or not value:
        return _WRONG
    good = True
    for name, choices in value.items():
        if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
            report("the name of a matrix value is made of letters, digits, '_' and '-'", name)
            good = False
        if not isinstance(choices, list) or not choices:
            report(f"expected a list of values, got {quoted(choices)}", name)
            good = False
            continue
        for index, choice in enumerate(choices):
            if isinstance(choice, bool) or not isinstance(choice, (str, int)) or choice == "":
                report(f"expected a string or a whole number, got {quoted(choice)}; write it in quotes", name, index)
            elif isinstance(choice, int) and abs(choice) > LARGEST:
                report(f"expected a string or a whole number, got {quoted(choice)}", name, index)
            elif choice in choices[:index]:
                report(f"{quoted(choice)} stands in this list twice", name, index)
            elif isinstance(choice, int) or _without_nul(choice, report, name, index) is not None:
                continue
            good = False
    return {name: [str(choice) for choice in choices] for name, choices in value.items()} if good else None


_DURATION_SCHEMA: Final = {
    "anyOf": [
        {"type": "number", "minimum": 0, "maximum": LARGEST},
        {"type": "string", "pattern": f"^{DURATION_PATTERN}$"},
    ]
}

COMMAND: Final = Kind(
    expected='a command such as "pytest -q" or ["pytest", "-q"]',
    read=_words,
    schema={"anyOf": [{"type": "string", "minLength": 1}, {**_STRINGS, "minItems": 1}]},
)
SCRIPT: Final = Kind(
    expected='a script for the shell, such as "make && make install"',
    read=_filled,
    schema=_FILLED_STRING,
)
TEXT: Final = Kind(expected="a string", read=_text, schema=_STRING)
NAMES: Final = Kind(
    expected='a list of task names such as ["lint"]', read=_list, schema={**_STRINGS, "uniqueItems": True}
)
DIRECTORY: Final = Kind(expected='the path of a directory, such as "docs"', read=_filled, schema=_FILLED_STRING)
FILES: Final = Kind(
    expected='the path of a file, such as ".env", or a list of them',
    read=_paths,
    schema={"anyOf": [_FILLED_STRING, {"type": "array", "items": _FILLED_STRING}]},
)
VARIABLES: Final = Kind(
    expected='a table of strings such as { CI = "1" }',
    read=_variables,
    schema={"type": "object", "additionalProperties": _STRING},
)
DURATION: Final = Kind(
    expected='a duration: seconds such as 600, or a text such as "10m"', read=_seconds, schema=_DURATION_SCHEMA
)
POSITIVE_DURATION: Final = Kind(
    expected='a duration of more than 0: seconds such as 600, or a text such as "10m"',
    read=_positive_seconds,
    schema={"anyOf": [{"type": "number", "exclusiveMinimum": 0, "maximum": LARGEST}, _DURATION_SCHEMA["anyOf"][1]]},
)
COUNT: Final = Kind(
    expected="a whole number, 0 or more",
    read=_whole(0),
    schema={"type": "integer", "minimum": 0, "maximum": LARGEST},
)
WEIGHT: Final = Kind(
    expected="a whole number, 1 or more",
    read=_whole(1),
    schema={"type": "integer", "minimum": 1, "maximum": LARGEST},
)
FLAG: Final = Kind(expected="true or false", read=_flag, schema={"type": "boolean"})
CODES: Final = Kind(
    expected="a list of exit codes such as [0, 5]",
    read=_codes,
    schema={
        "type": "array",
        "items": {"type": "integer", "minimum": 0, "maximum": _HIGHEST_CODE},
        "minItems": 1,
    },
)
MATRIX: Final = Kind(
    expected='a table of lists such as { python = ["3.11", "3.12"] }',
    read=_matrix,
    schema={
        "type": "object",
        "minProperties": 1,
        "propertyNames": {"pattern": "^[A-Za-z0-9_-]+$"},
        "additionalProperties": {
            "type": "array",
            "items": {"anyOf": [_FILLED_STRING, {"type": "integer"}]},
            "minItems": 1,
            "uniqueItems": True,
        },
    },
)
