"""`json_schema`: the JSON Schema of a pipeline file, made from the tables of its keys."""

from __future__ import annotations

from typing import Any

from .keys import DEFAULT_KEYS, FILE_KEYS, TASK_KEYS, Key
from .service.keys import SERVICE_KEYS


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a pipeline file, for editors."""
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "trio-process pipeline",
        "description": "The tasks of `trio-process run`, and the services of `trio-process up`.",
        "type": "object",
        "additionalProperties": False,
        "anyOf": [{"required": [name]} for name in ("tasks", "services", "include")],
        "properties": {
            "tasks": {
                "description": "The tasks by name.",
                "type": "object",
                "minProperties": 1,
                "additionalProperties": {"$ref": "#/definitions/task"},
            },
            "services": {
                "description": "The services by name.",
                "type": "object",
                "additionalProperties": {"$ref": "#/definitions/service"},
            },
            "defaults": {
                "description": "The defaults of all tasks.",
                "type": "object",
                "additionalProperties": False,
                "properties": _properties(DEFAULT_KEYS),
            },
            **_properties(FILE_KEYS),
        },
        "definitions": {
            "task": _entry(TASK_KEYS),
            "service": _entry(SERVICE_KEYS),
        },
    }


def _entry(keys: dict[str, Key]) -> dict[str, Any]:
    """Return the schema of a task or a service: it has these keys, and one of the two ways to write a command."""
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": _properties(keys),
        "oneOf": [{"required": ["run"]}, {"required": ["shell"]}],
    }


def _properties(keys: dict[str, Key]) -> dict[str, Any]:
    return {name: {"description": key.about, **key.kind.schema} for name, key in keys.items()}
