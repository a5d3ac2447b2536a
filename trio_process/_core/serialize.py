"""How values become JSON: camelCase keys, ISO times, members as their values; `json` itself, loaded when needed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import Enum
from functools import cache
from typing import Any, Final

import attrs

_NO_NAMES: Final[Mapping[str, str]] = {}


def json_ready(value: Any, rename: Mapping[str, str] = _NO_NAMES) -> dict[str, Any]:
    """Return the public fields of an attrs instance or a named tuple as JSON can hold them, in their order.

    Args:
        value: The instance. A field whose name has an underscore in front is left out.
        rename: The keys of fields that don't take their own name in camelCase, e.g. ``{"cwd": "dir"}``.
    """
    kind: Any = type(value)
    return {rename.get(name) or key: _plain(getattr(value, name)) for name, key in _keys(kind)}


@cache
def _keys(kind: Any) -> tuple[tuple[str, str], ...]:
    """Return the public fields of a class, each with its key in camelCase."""
    named = attrs.fields_dict(kind) if attrs.has(kind) else kind._fields
    return tuple((name, _camel_case(name)) for name in named if not name.startswith("_"))


def _camel_case(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


def _plain(value: Any) -> Any:  # noqa: PLR0911 - one line a type
    if value is None or type(value) in (str, int, float, bool):
        return value
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, BaseException):
        return str(value)
    if hasattr(value, "to_dict"):
        return value.to_dict()
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return str(value)


def dumps(value: Any, **options: Any) -> str:
    """Return `value` as JSON; the options are those of `json.dumps`."""
    import json  # noqa: PLC0415 - kept out of the import time

    return json.dumps(value, **options)


def loads(text: str | bytes) -> Any:
    """Return the value of a JSON text; raise `json.JSONDecodeError`, a `ValueError`, if it is invalid."""
    import json  # noqa: PLC0415 - kept out of the import time

    return json.loads(text)
