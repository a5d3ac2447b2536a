"""Define the value types of a pipeline file: each has its check, its description in error texts and its JSON Schema."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final, final

import attrs

from ..._core import checks, dumps, nearest
from .durations import DURATION_PATTERN, parse_duration

Report = Callable[..., None]
"""Called as ``report(text, *where)`` for each fault; `where` are the keys and indices below the value."""

_HIGHEST_CODE: Final = 255
_HOME_IN_PATH: Final = re.compile(r"(?:^|:)~(?=[/:]|$)")
_VARIABLE_IN_PATH: Final = re.compile(r"(?:^|[/:])(\$([A-Z_][A-Z0-9_]*))(?=[/:]|$)")
"""A whole component of a path, in capitals: a file may have a ``$`` in its name, as routes such as ``posts/$id`` do."""

_STRING: Final = {"type": "string"}
_FILLED_STRING: Final = {**_STRING, "minLength": 1}
_STRINGS: Final = {"type": "array", "items": _STRING}


def quoted(value: object) -> str:
    """Return a value in TOML notation, cut to a readable length."""
    try:
        text = dumps(value, ensure_ascii=False, default=str)
    except (ValueError, RecursionError):  # a number with thousands of digits, or tables nested a thousand deep
        return "a very long value"
    return text if len(text) <= 80 else text[:77] + "..."


@final
@attrs.frozen(kw_only=True)
class Kind:
    """One type of value.

    Args:
        expected: The expectation in the error text, "expected ..., got ...".
        read: Checks a value and returns it in its normal form; None if it reported a fault.
        schema: The same, as a JSON Schema.
    """

    expected: str
    read: Callable[[Any, Report], Any]
    schema: dict[str, Any]

    def check(self, value: object, report: Report) -> Any:
        """Return the value in its normal form, or None after reporting its faults."""
        found = self.read(value, report)
        if found is WRONG:
            report(f"expected {self.expected}, got {quoted(value)}")
            return None
        return found


WRONG: Final = object()


def _text(value: object, report: Report) -> Any:
    if not isinstance(value, str):
        return WRONG
    return _without_nul(value, report)


def _without_nul(value: str, report: Report, *where: str | int) -> str | None:
    if "\0" in value:
        report("must not contain a NUL character", *where)
        return None
    return value


def _filled(value: object, report: Report) -> Any:
    return _text(value, report) if value else WRONG


def _path(value: object, report: Report) -> Any:
    return _expanded(value, report) if isinstance(value, str) and value else WRONG


def _expanded(value: str, report: Report, *where: str | int) -> str | None:
    """Check a path, in which a shell would expand ``~`` and ``$NAME``; here they would be the name of a file."""
    variable = _VARIABLE_IN_PATH.search(value)
    if _HOME_IN_PATH.search(value):
        report("a `~` is not expanded here; write ${HOME}", *where)
    elif variable is not None:
        report(f"{variable[1]} is not expanded here; write ${{{variable[2]}}}", *where)
    else:
        return _without_nul(value, report, *where)
    return None


def _list(value: object, report: Report) -> Any:
    """Check a list of strings; every invalid item is reported at its own location."""
    if not isinstance(value, list):
        return WRONG
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
    return WRONG if not value else _text(value, report) if isinstance(value, str) else _list(value, report)


def _paths(value: object, report: Report) -> Any:
    found = _list([value] if isinstance(value, str) else value, report)
    if found and found is not WRONG and "" in found:
        report("expected the path of a file, got an empty string")
        return None
    if found and found is not WRONG:
        checked = [
            _expanded(path, report, *((index,) if isinstance(value, list) else ())) for index, path in enumerate(found)
        ]
        return None if None in checked else checked
    return found


def _variables(value: object, report: Report) -> Any:
    if not isinstance(value, dict):
        return WRONG
    good = True
    for name, item in value.items():
        if not name or "=" in name or "\0" in name:
            report("the name of a variable must not be empty, and has no '=' and no NUL", name)
        elif not isinstance(item, str):
            report(f"expected a string, got {quoted(item)}; write it in quotes", name)
        elif (_expanded if name.endswith("PATH") else _without_nul)(item, report, name) is not None:
            continue
        good = False
    return dict(value) if good else None


def _seconds(value: object, report: Report, *, positive: bool = False) -> Any:
    if isinstance(value, str):
        found = None if value.isdecimal() else parse_duration(value)
    else:
        found = value if isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0 else None
    if found is None or (positive and found == 0):
        return WRONG
    if found > checks.LONGEST:  # a typing error
        report(f"expected at most {checks.LONGEST} seconds, got {quoted(value)}")
        return None
    return float(found)


def _positive_seconds(value: object, report: Report) -> Any:
    return _seconds(value, report, positive=True)


def count(least: int, most: int = checks.LARGEST) -> Kind:
    """Return the type of a whole number from `least` to `most`."""

    def read(value: object, report: Report) -> Any:
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            return WRONG
        return _limited(value, report, most)

    expected = f"a whole number, {least} or more"
    return Kind(expected=expected, read=read, schema={"type": "integer", "minimum": least, "maximum": most})


def _limited(value: int, report: Report, most: int, *where: str | int) -> int | None:
    if value > most:
        report(f"expected at most {most}, got {quoted(value)}", *where)
        return None
    return value


def _flag(value: object, _report: Report) -> Any:
    return value if isinstance(value, bool) else WRONG


def _codes(value: object, report: Report) -> Any:
    if not isinstance(value, list) or not value:
        return WRONG
    good = True
    for index, code in enumerate(value):
        if not isinstance(code, int) or isinstance(code, bool) or not 0 <= code <= _HIGHEST_CODE:
            report(f"expected an exit code from 0 to 255, got {quoted(code)}", index)
            good = False
    return tuple(value) if good else None


def _matrix(value: object, report: Report) -> Any:
    """Check a matrix; fractions are refused, because every parser reads 3.10 without quotes as 3.1."""
    if not isinstance(value, dict) or not value:
        return WRONG
    good = True
    for name, choices in value.items():
        first: dict[object, int] = {}
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
            elif isinstance(choice, int) and abs(choice) > checks.LARGEST:
                largest = checks.LARGEST
                report(f"expected a whole number from -{largest} to {largest}, got {quoted(choice)}", name, index)
            elif first.setdefault(choice, index) != index:
                report(f"{quoted(choice)} stands in this list twice", name, index)
            elif isinstance(choice, int) or _without_nul(choice, report, name, index) is not None:
                continue
            good = False
    return {name: [str(choice) for choice in choices] for name, choices in value.items()} if good else None


_DURATION_SCHEMA: Final = {
    "anyOf": [
        {"type": "number", "minimum": 0, "maximum": checks.LONGEST},
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
DIRECTORY: Final = Kind(expected='the path of a directory, such as "docs"', read=_path, schema=_FILLED_STRING)
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
    schema={
        "anyOf": [{"type": "number", "exclusiveMinimum": 0, "maximum": checks.LONGEST}, _DURATION_SCHEMA["anyOf"][1]]
    },
)
COUNT: Final = count(0)
WEIGHT: Final = count(1)
REPLICAS: Final = count(0, checks.MOST)
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
            "items": {
                "anyOf": [
                    _FILLED_STRING,
                    {"type": "integer", "minimum": -checks.LARGEST, "maximum": checks.LARGEST},
                ]
            },
            "minItems": 1,
            "uniqueItems": True,
        },
    },
)


def _signal(value: object, _report: Report) -> Any:
    import signal  # noqa: PLC0415 - kept out of the import time

    if isinstance(value, str):
        name = value.upper()
        found = signal.Signals.__members__.get(name if name.startswith("SIG") else f"SIG{name}")
        return WRONG if found is None else int(found)
    return value if type(value) is int and value in set(signal.valid_signals()) else WRONG


def _choice(*choices: str) -> Callable[[Any, Report], Any]:
    return lambda value, _report: value if value in choices else WRONG


def _between(least: int, most: int) -> Callable[[Any, Report], Any]:
    return lambda value, _report: value if type(value) is int and least <= value <= most else WRONG


def _limits(value: object, report: Report) -> Any:
    """Check resource limits; the names are those of setrlimit(2) without RLIMIT_."""
    import resource  # noqa: PLC0415 - only if limits are configured

    if not isinstance(value, dict):
        return WRONG
    known = sorted(name[7:].lower() for name in dir(resource) if name.startswith("RLIMIT_"))
    found: dict[str, Any] = {}
    for name, given in value.items():
        pair = given if isinstance(given, list) else [given, given]
        numbers = [-1 if part == "unlimited" else part for part in pair]
        if name not in known:
            report(f"unknown limit{nearest(name, known) or '; known: ' + ', '.join(known)}", name)
        elif len(numbers) != _PAIR or any(type(number) is not int or number < -1 for number in numbers):
            report(f'expected a whole number, "unlimited", or [soft, hard], got {quoted(given)}', name)
        elif numbers[1] != -1 and (numbers[0] == -1 or numbers[0] > numbers[1]):
            report(f"the soft limit is above the hard one, got {quoted(given)}", name)
        elif max(numbers) > checks.LARGEST:
            report(f'expected at most {checks.LARGEST}, or "unlimited", got {quoted(given)}', name)
        else:
            found[name] = (numbers[0], numbers[1])
    return found if len(found) == len(value) else None


def _resources(value: object, report: Report) -> Any:
    if not isinstance(value, dict):
        return WRONG
    found: dict[str, int] = {}
    for name, given in value.items():
        if name not in _RESOURCES:
            report(f"unknown resource{nearest(name, _RESOURCES) or '; known: cpus, memory, gpus'}", name)
            continue
        number = _bytes(given) if name == "memory" else given
        if type(number) is not int or number < _RESOURCES[name]:
            expected = 'a size in bytes, or a text such as "8G"' if name == "memory" else "a whole number"
            report(f"expected {expected}, got {quoted(given)}", name)
        elif number > checks.LARGEST:
            report(f"expected at most {checks.LARGEST}, got {quoted(given)}", name)
        else:
            found[name] = number
    return found if len(found) == len(value) else None


def _bytes(value: object) -> object:
    match = re.fullmatch(r"([0-9]+)([KMGT])i?B?", value) if isinstance(value, str) else None
    if match is None:
        return value
    digits = match[1].lstrip("0") or "0"
    number = int(digits) if len(digits) < len(str(checks.LARGEST)) else checks.LARGEST  # which is then too much
    return number * 1024 ** ("KMGT".index(match[2]) + 1)


def _env_files(value: object, report: Report) -> Any:
    """Check env files; return each as a path and whether it may be missing."""
    if not isinstance(value, list):
        value = [value]
    found: list[tuple[str, bool]] = []
    for index, item in enumerate(value):
        where = (index,) if len(value) > 1 else ()
        table = {"path": item} if isinstance(item, str) else item
        if not isinstance(table, dict) or not isinstance(table.get("path"), str):
            return WRONG
        for key in table.keys() - {"path", "optional"}:
            report("unknown key; an env file has `path` and `optional`", *where, key)
        optional = table.get("optional", False)
        if not table["path"]:
            report("expected the path of a file, got an empty string", *where)
        elif not isinstance(optional, bool):
            report(f"expected true or false, got {quoted(optional)}", *where, "optional")
        elif _expanded(table["path"], report, *where) is not None:
            found.append((table["path"], optional))
    return found if len(found) == len(value) else None


def _variable_names(value: object, report: Report) -> Any:
    found = _list(value, report)
    if found and found is not WRONG:
        wrong = [name for name in found if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name)]
        for name in wrong:
            report(f"{quoted(name)} can't be the name of a variable; list names, not values")
        return None if wrong else found
    return found


def _paths_by_name(value: object, report: Report) -> Any:
    if not isinstance(value, dict):
        return WRONG
    good = True
    for name, path in value.items():
        if not re.fullmatch(r"[A-Za-z0-9_.-]+", name):
            report("the name of an include is made of letters, digits, '_', '.' and '-'", name)
        elif not isinstance(path, str) or not path:
            report(f"expected the path of a file, got {quoted(path)}", name)
        elif _expanded(path, report, name) is not None:
            continue
        good = False
    return dict(value) if good else None


def _user(value: object, report: Report) -> Any:
    return value if type(value) is int and 0 <= value < _NO_USER else _filled(value, report)


_NO_USER: Final = 2**32 - 1  # as an unsigned number; with it, setuid(2) fails
_PAIR: Final = 2
_RESOURCES: Final = {"cpus": 1, "memory": 0, "gpus": 0}
_LIMIT_SCHEMA: Final = {
    "anyOf": [{"type": "integer", "minimum": -1, "maximum": checks.LARGEST}, {"const": "unlimited"}]
}

SIGNAL: Final = Kind(
    expected='the name of a signal such as "INT", or its number',
    read=_signal,
    schema={"anyOf": [{"type": "string", "pattern": "^[A-Za-z0-9+-]+$"}, {"type": "integer", "minimum": 1}]},
)
WHEN: Final = Kind(
    expected='"success", "failure" or "always"',
    read=_choice("success", "failure", "always"),
    schema={"enum": ["success", "failure", "always"]},
)
NICENESS: Final = Kind(
    expected="a whole number from -20 to 19",
    read=_between(-20, 19),
    schema={"type": "integer", "minimum": -20, "maximum": 19},
)
USER: Final = Kind(
    expected="the name or the number of a user",
    read=_user,
    schema={"anyOf": [_FILLED_STRING, {"type": "integer", "minimum": 0, "maximum": _NO_USER - 1}]},
)
LIMITS: Final = Kind(
    expected="a table of limits such as { nofile = 4096 }",
    read=_limits,
    schema={
        "type": "object",
        "additionalProperties": {
            "anyOf": [*_LIMIT_SCHEMA["anyOf"], {"type": "array", "items": _LIMIT_SCHEMA, "minItems": 2, "maxItems": 2}]
        },
    },
)
RESOURCES: Final = Kind(
    expected='a table such as { cpus = 2, memory = "8G", gpus = 1 }',
    read=_resources,
    schema={
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "cpus": {"type": "integer", "minimum": 1, "maximum": checks.LARGEST},
            "memory": {
                "anyOf": [
                    {"type": "integer", "minimum": 0, "maximum": checks.LARGEST},
                    {"type": "string", "pattern": "^[0-9]+[KMGT]i?B?$"},
                ]
            },
            "gpus": {"type": "integer", "minimum": 0, "maximum": checks.LARGEST},
        },
    },
)
PATH: Final = Kind(expected='the path of a file, such as "logs/test.log"', read=_path, schema=_FILLED_STRING)
PATTERNS: Final = Kind(
    expected='a pattern of files such as "src/**/*.py", or a list of them',
    read=_paths,
    schema={"anyOf": [_FILLED_STRING, {"type": "array", "items": _FILLED_STRING}]},
)
SERVICE_NAMES: Final = Kind(
    expected='a list of the names of services such as ["db"]', read=_list, schema={**_STRINGS, "uniqueItems": True}
)
VARIABLE_NAMES: Final = Kind(
    expected='a list of the names of variables such as ["TOKEN"]',
    read=_variable_names,
    schema={"type": "array", "items": {"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*$"}},
)
_ENV_FILE_SCHEMA: Final = {
    "anyOf": [
        _FILLED_STRING,
        {
            "type": "object",
            "additionalProperties": False,
            "required": ["path"],
            "properties": {"path": _FILLED_STRING, "optional": {"type": "boolean"}},
        },
    ]
}
ENV_FILES: Final = Kind(
    expected='the path of a file, such as ".env", { path = ".env", optional = true }, or a list of them',
    read=_env_files,
    schema={"anyOf": [*_ENV_FILE_SCHEMA["anyOf"], {"type": "array", "items": _ENV_FILE_SCHEMA}]},
)
INCLUDES: Final = Kind(
    expected='a table of files such as { docs = "docs/tasks.toml" }',
    read=_paths_by_name,
    schema={
        "type": "object",
        "propertyNames": {"pattern": "^[A-Za-z0-9_.-]+$"},
        "additionalProperties": _FILLED_STRING,
    },
)
FILLED: Final = Kind(expected="a text that is not empty", read=_filled, schema=_FILLED_STRING)
STRATEGY: Final = Kind(
    expected='"one-for-one", "one-for-all" or "rest-for-one"',
    read=_choice("one-for-one", "one-for-all", "rest-for-one"),
    schema={"enum": ["one-for-one", "one-for-all", "rest-for-one"]},
)
