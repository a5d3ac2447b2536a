"""Check bodies against the schemas in `openapi.json`, which use a small subset of JSON Schema."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from ..._core import nearest
from ..message import is_unicode
from ..problem import invalid

Schema = Mapping[str, Any]

NO_NUL: Final = "^[^\\x00]*$"
TEXT: Final[Schema] = {"type": "string", "pattern": NO_NUL}
NAME: Final[Schema] = {"type": "string", "minLength": 1, "pattern": NO_NUL}
FLAG: Final[Schema] = {"type": "boolean"}
SECONDS: Final[Schema] = {"type": "number", "minimum": 0}
TEXTS: Final[Schema] = {"type": "array", "items": TEXT}
ENVIRONMENT: Final[Schema] = {
    "oneOf": [
        {"type": "object", "additionalProperties": {"type": ["string", "null"]}},
        {"type": "array", "items": {"type": "string", "pattern": "^[^=\\x00]+=[^\\x00]*$"}},
    ],
    "description": "Names and values, as an object (null removes a name) or as a list of NAME=value.",
}


def whole(least: int, most: int) -> dict[str, Any]:
    """Return the schema of a whole number from `least` to `most`."""
    return {"type": "integer", "minimum": least, "maximum": most}


def record(properties: Mapping[str, Schema], *required: str) -> dict[str, Any]:
    """Return the schema of an object with these keys and no others."""
    found: dict[str, Any] = {"type": "object", "properties": dict(properties), "additionalProperties": False}
    return found | {"required": list(required)} if required else found


_WHOLE_FROM: Final = 2**53  # a float from here on has no fraction
_NAMES: Final = {
    str: "string",
    bool: "boolean",
    int: "integer",
    float: "number",
    list: "array",
    dict: "object",
    type(None): "null",
}


def check(schema: Schema, value: Any, field: str = "") -> None:
    """Check a value that was received as JSON.

    Raises:
        Problem: The value doesn't match; the message names the field.
    """
    if "oneOf" in schema:
        _check_one_of(schema["oneOf"], value, field)
        return
    wanted = schema.get("type")
    if wanted is None:
        return
    kinds = (wanted,) if isinstance(wanted, str) else tuple(wanted)
    found = _NAMES[type(value)]
    if isinstance(value, float) and "maximum" in schema and abs(value) >= _WHOLE_FROM:
        found = "integer"  # which is then too large
    if found not in kinds and not (found == "integer" and "number" in kinds):
        raise invalid(field, f"{_where(field)} must be {_said(kinds)}, not {_said((found,))}")
    if isinstance(value, str):
        _check_text(schema, value, field)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        _check_number(schema, value, field)
    elif isinstance(value, list):
        for place, each in enumerate(value):
            check(schema.get("items", {}), each, f"{field}[{place}]")
    elif isinstance(value, dict):
        _check_object(schema, value, field)


def _check_one_of(choices: Any, value: Any, field: str) -> None:
    for choice in choices:
        if choice.get("type") == _NAMES[type(value)]:
            check(choice, value, field)
            return
    kinds = tuple(choice["type"] for choice in choices)
    raise invalid(field, f"{_where(field)} must be {_said(kinds)}, not {_said((_NAMES[type(value)],))}")


def _check_text(schema: Schema, value: str, field: str) -> None:
    if len(value) < schema.get("minLength", 0):
        raise invalid(field, f"{_where(field)} must not be empty")
    if not is_unicode(value):
        raise invalid(field, f"{_where(field)} must not contain a lone surrogate")
    if "\0" in value and "pattern" in schema:
        raise invalid(field, f"{_where(field)} must not contain a NUL character")
    if schema.get("pattern", "").startswith("^[^=") and "=" not in value[1:]:
        raise invalid(field, f"{_where(field)} must be NAME=value")
    if "enum" in schema and value not in schema["enum"]:
        raise invalid(field, f"{_where(field)} must be one of {', '.join(schema['enum'])}, not {value!r}")


def _check_number(schema: Schema, value: float, field: str) -> None:
    is_finite = math.isfinite(value)
    if not is_finite and "maximum" not in schema:
        raise invalid(field, f"{_where(field)} must be a number that a float can hold")
    if not schema.get("minimum", value) <= value <= schema.get("maximum", value):
        least, most = schema.get("minimum", "any"), schema.get("maximum")
        limits = f"{least} or more" if most is None else f"{least} to {most}"
        shown = value if is_finite else "a number of hundreds of digits"
        raise invalid(field, f"{_where(field)} must be {limits}, not {shown}")


def _check_object(schema: Schema, value: dict[str, Any], field: str) -> None:
    properties: Mapping[str, Schema] = schema.get("properties", {})
    extra = schema.get("additionalProperties", True)
    for name, each in value.items():
        inner = f"{field}.{name}" if field else name
        if not is_unicode(name):
            inner = inner.encode("utf-8", "backslashreplace").decode()
            raise invalid(inner, f"{inner!r} must not contain a lone surrogate")
        if name in properties:
            check(properties[name], each, inner)
        elif extra is False:
            raise invalid(inner, f"{inner!r} is not known{nearest(name, properties)}")
        elif isinstance(extra, Mapping):
            check(extra, each, inner)
    for name in schema.get("required", ()):
        if name not in value:
            inner = f"{field}.{name}" if field else name
            raise invalid(inner, f"{inner} is missing")


def _where(field: str) -> str:
    return field or "the body"


def _said(kinds: tuple[str, ...]) -> str:
    said = {
        "array": "a list",
        "object": "an object",
        "integer": "a whole number",
        "null": "null",
        "boolean": "true or false",
    }
    return " or ".join(said.get(kind, f"a {kind}") for kind in kinds)
