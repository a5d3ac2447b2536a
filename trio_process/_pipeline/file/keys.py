"""The keys of a pipeline file: one table, from which the loader checks and the JSON Schema is made."""

from __future__ import annotations

from typing import Any, Final, final

import attrs

from ..._core import nearest
from . import value_types
from .value_types import Kind


@final
@attrs.frozen
class Key:
    """One key of a task: its kind of value, what it is for, and whether `[defaults]` may have it."""

    name: str
    kind: Kind
    about: str
    default: bool = True


_KEYS: Final = (
    Key("run", value_types.COMMAND, "The program and its arguments; no shell runs.", default=False),
    Key("shell", value_types.SCRIPT, "A script for `sh -c`.", default=False),
    Key("after", value_types.NAMES, "The tasks that must have ended well before this one starts.", default=False),
    Key("dir", value_types.DIRECTORY, "Where it runs, relative to the file's directory."),
    Key("env", value_types.VARIABLES, "Variables laid over the environment."),
    Key("env-file", value_types.FILES, "Files of NAME=value lines, for variables that are not set."),
    Key("timeout", value_types.DURATION, "How long one attempt may take."),
    Key("idle-timeout", value_types.POSITIVE_DURATION, "How long one attempt may write nothing."),
    Key("grace-period", value_types.DURATION, "The time between the stop signal and SIGKILL."),
    Key("retries", value_types.COUNT, "How many more attempts after a failed one."),
    Key("retry-delay", value_types.DURATION, "The pause before each of them."),
    Key("allow-failure", value_types.FLAG, "Its failure fails neither what depends on it nor the whole."),
    Key("ok-exit-codes", value_types.CODES, "The exit codes that are a success."),
    Key("weight", value_types.WEIGHT, "How many of --jobs it takes."),
    Key("stdin", value_types.TEXT, "Text for its standard input, which is empty otherwise.", default=False),
    Key("description", value_types.TEXT, "Shown by --list.", default=False),
    Key("matrix", value_types.MATRIX, "One task per combination of these values.", default=False),
)

TASK_KEYS: Final = {key.name: key for key in _KEYS}
DEFAULT_KEYS: Final = {key.name: key for key in _KEYS if key.default}
TOP_KEYS: Final = ("tasks", "defaults", "env-file")

# How other tools spell it: Taskfile, just, GitHub Actions, GitLab, npm, docker compose, systemd, nox, this package's Python.
_FOREIGN_TASK: Final = {
    "after": "needs need deps dep dependencies depends depends_on depends-on dependsOn requires prerequisites",
    "run": "cmd cmds command commands args exec execute script scripts steps argv program entrypoint",
    "shell": "sh bash script-shell",
    "dir": "working-directory working_directory workingDirectory working-dir workdir cwd directory chdir path",
    "env": "environment vars variables envs env-vars",
    "env-file": "env_file envfile env-files dotenv envFile",
    "timeout": "timeout-minutes timeout_minutes timeout-seconds timeout_seconds time-limit max-time",
    "idle-timeout": "idle_timeout silence-timeout",
    "grace-period": "grace_period grace stop_grace_period kill-timeout stop-timeout",
    "retries": "retry max-attempts max_attempts attempts restarts",
    "retry-delay": "retry_delay backoff delay retry-interval",
    "allow-failure": "allow_failure continue-on-error continue_on_error ignore_error ignore-error ignore_errors"
    " ignore-errors optional",
    "ok-exit-codes": "ok_exit_codes exit-codes exit_codes success-codes success_exit_codes",
    "weight": "slots cost",
    "stdin": "input",
    "description": "desc help doc summary title",
    "matrix": "strategy parametrize variants for",
}
_FOREIGN_TOP: Final = {
    "tasks": "task targets target jobs job scripts commands services processes steps recipes",
    "defaults": "default settings global globals",
    "defaults.env": "env environment vars variables",
    "env-file": "env_file envfile dotenv",
}


def _inverted(spellings: dict[str, str]) -> dict[str, str]:
    return {foreign: right for right, listed in spellings.items() for foreign in listed.split()}


_OURS_FOR: Final = _inverted(_FOREIGN_TASK)
_OURS_FOR_TOP: Final = _inverted(_FOREIGN_TOP)


def unknown_task_key(name: str, *, defaults: bool = False) -> str:
    """Return the fault of a key that a task, or `[defaults]`, does not have."""
    if defaults and name in TASK_KEYS:
        return "can't have a default; say it in each task"
    right = _OURS_FOR.get(name)
    if right is not None:
        return f"unknown key; this is written `{right}` here"
    return f"unknown key{nearest(name, DEFAULT_KEYS if defaults else TASK_KEYS)}"


def unknown_top_key(name: str) -> str:
    """Return the fault of a key that the top of a file does not have."""
    right = _OURS_FOR_TOP.get(name)
    if right is not None:
        return f"unknown key; this is written `{right}` here"
    if name in TASK_KEYS:
        return f"unknown key here; say it in a task, `[tasks.NAME]`{', or in `[defaults]`' if name in DEFAULT_KEYS else ''}"
    return f"unknown key{nearest(name, TOP_KEYS)}; a task is written `[tasks.NAME]`"


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a pipeline file, for editors."""
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "trio-process pipeline",
        "description": "The tasks of `trio-process run`.",
        "type": "object",
        "additionalProperties": False,
        "required": ["tasks"],
        "properties": {
            "tasks": {
                "description": "The tasks by name.",
                "type": "object",
                "minProperties": 1,
                "additionalProperties": {"$ref": "#/definitions/task"},
            },
            "defaults": {
                "description": "What holds for every task that does not say otherwise.",
                "type": "object",
                "additionalProperties": False,
                "properties": _properties(DEFAULT_KEYS),
            },
            "env-file": _property(TASK_KEYS["env-file"]),
        },
        "definitions": {
            "task": {
                "type": "object",
                "additionalProperties": False,
                "properties": _properties(TASK_KEYS),
                "oneOf": [{"required": ["run"]}, {"required": ["shell"]}],
            }
        },
    }


def _properties(keys: dict[str, Key]) -> dict[str, Any]:
    return {name: _property(key) for name, key in keys.items()}


def _property(key: Key) -> dict[str, Any]:
    return {"description": key.about, **key.kind.schema}
