"""Define the keys of a pipeline file in one table, from which the loader's checks and the JSON Schema (schema.py) are derived."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, final

import attrs

from ..._core import nearest
from . import value_types
from .value_types import Kind


@final
@attrs.frozen
class Key:
    """One key of a task: its value type, its purpose, and whether ``[defaults]`` may contain it."""

    name: str
    kind: Kind
    about: str
    default: bool = True


_KEYS: Final = (
    Key("run", value_types.COMMAND, "The program and its arguments; no shell runs.", default=False),
    Key("shell", value_types.SCRIPT, "A script for `sh -e`.", default=False),
    Key("after", value_types.NAMES, "The tasks that must have ended before this one starts.", default=False),
    Key("when", value_types.WHEN, "Whether it runs after their success, after a failure, or always.", default=False),
    Key("dir", value_types.DIRECTORY, "Where it runs, relative to the file's directory."),
    Key("env", value_types.VARIABLES, "Variables laid over the environment."),
    Key("env-file", value_types.ENV_FILES, "Files of NAME=value lines, for variables that are not set."),
    Key("secrets", value_types.VARIABLE_NAMES, "Variables whose values are masked wherever they appear."),
    Key("timeout", value_types.DURATION, "How long one attempt may take."),
    Key("idle-timeout", value_types.POSITIVE_DURATION, "How long one attempt may write nothing."),
    Key("stop-signal", value_types.SIGNAL, "The signal that asks it to end."),
    Key("grace-period", value_types.DURATION, "The time between the stop signal and SIGKILL."),
    Key("retries", value_types.COUNT, "How many more attempts after a failed one."),
    Key("retry-delay", value_types.DURATION, "The pause before each of them."),
    Key("allow-failure", value_types.FLAG, "Its failure fails neither its dependents nor the run."),
    Key("ok-exit-codes", value_types.CODES, "The exit codes that are a success."),
    Key("weight", value_types.WEIGHT, "How many of --jobs it takes."),
    Key("resources", value_types.RESOURCES, "The resources that it needs on a machine of a cluster."),
    Key("interactive", value_types.FLAG, "Gives it the terminal; nothing else runs meanwhile.", default=False),
    Key("stdin", value_types.TEXT, "Text for its standard input, which is empty otherwise.", default=False),
    Key("log-file", value_types.PATH, "A file for its output, relative to the file's directory.", default=False),
    Key("limits", value_types.LIMITS, "Resource limits, as for setrlimit(2)."),
    Key("nice", value_types.NICENESS, "Its niceness."),
    Key("user", value_types.USER, "The user to run as."),
    Key("uses", value_types.SERVICE_NAMES, "The services that it uses, kept running meanwhile.", default=False),
    Key("inputs", value_types.PATTERNS, "The files that it reads; it is skipped while nothing changes.", default=False),
    Key("outputs", value_types.PATTERNS, "The files that it makes.", default=False),
    Key("arguments", value_types.FLAG, "Whether it takes the arguments after `--`."),
    Key("manual", value_types.FLAG, "Left out of a `run` without names.", default=False),
    Key("description", value_types.TEXT, "Shown by --list.", default=False),
    Key("matrix", value_types.MATRIX, "One task per combination of these values.", default=False),
)

TASK_KEYS: Final = {key.name: key for key in _KEYS}
DEFAULT_KEYS: Final = {key.name: key for key in _KEYS if key.default}
FILE_KEYS: Final = {
    key.name: key
    for key in (
        Key("default", value_types.NAMES, "The tasks of a `run` without names."),
        TASK_KEYS["env-file"],
        TASK_KEYS["secrets"],
        Key("cleanup-timeout", value_types.DURATION, 'The time for `when = "failure"` and `"always"` after a halt.'),
        Key("strategy", value_types.STRATEGY, "Which services are restarted together."),
        Key("include", value_types.INCLUDES, "Other files, whose tasks are prefixed with a name and a colon."),
    )
}
"""The top-level keys that are not tables of tasks."""

TOP_KEYS: Final = ("tasks", "services", "defaults", *FILE_KEYS)

# How others spell these keys: Taskfile, just, GitHub Actions, GitLab, npm, docker compose, systemd, nox, our Python API.
_FOREIGN_TASK: Final = {
    "after": "needs need deps dep dependencies depends depends_on depends-on dependsOn requires prerequisites pre",
    "when": "condition run-if run_if",
    "run": "cmd command args exec execute argv program entrypoint",
    "shell": "sh bash script-shell",
    "dir": "working-directory working_directory workingDirectory working-dir workdir cwd directory chdir path"
    " change_dir changedir",
    "env": "environment vars variables envs env-vars env_vars setenv set_env",
    "env-file": "env_file envfile env-files dotenv envFile",
    "timeout": "timeout-minutes timeout_minutes timeout-seconds timeout_seconds time-limit max-time",
    "idle-timeout": "idle_timeout silence-timeout",
    "grace-period": "grace_period grace stop_grace_period kill-timeout stop-timeout",
    "retries": "retry max-attempts max_attempts attempts restarts",
    "retry-delay": "retry_delay backoff delay retry-interval",
    "allow-failure": "allow_failure continue-on-error continue_on_error ignore_error ignore-error ignore_errors"
    " ignore-errors ignore_outcome optional",
    "ok-exit-codes": "ok_exit_codes exit-codes exit_codes success-codes success_exit_codes",
    "weight": "slots cost",
    "stdin": "stdin-text",
    "interactive": "tty terminal use-tty pty attach foreground",
    "inputs": "sources srcs file_dep watch",
    "outputs": "generates targets artifacts produces products",
    "stop-signal": "stop_signal stopsignal kill-signal kill_signal signal",
    "log-file": "log_file log_location log logfile stdout_logfile",
    "limits": "rlimits ulimit ulimits",
    "nice": "niceness priority",
    "user": "run-as run_as uid",
    "resources": "requests resource",
    "uses": "services uses-services",
    "secrets": "secret mask masked",
    "arguments": "accepts-args cli-args positional",
    "manual": "explicit hidden internal private",
    "description": "desc help doc summary title",
    "matrix": "strategy parametrize variants for",
}
_FOREIGN_TOP: Final = {
    "tasks": "task targets target jobs job scripts commands steps recipes",
    "services": "service processes units programs daemons",
    "defaults": "settings global globals",
    "defaults.env": "env environment vars variables",
    "env-file": "env_file envfile dotenv env-files",
    "default": "default-task default_task default-tasks main",
    "include": "includes import imports mod extends",
    "secrets": "secret mask",
    "cleanup-timeout": "cleanup_timeout",
}
_EXPLAINED: Final = {
    **dict.fromkeys(
        ("defer", "finally", "ensure", "after_script", "post", "cleanup"),
        'unknown key; what runs whatever happened is a task of its own, with `after = [...]` and `when = "always"`',
    ),
    **dict.fromkeys(
        ("on_failure", "on-failure", "rescue", "catch"),
        'unknown key; what runs after a failure is a task of its own, with `after = [...]` and `when = "failure"`',
    ),
    **dict.fromkeys(
        ("status", "preconditions", "skip-if", "only-if", "if", "creates"),
        "unknown key; a task is skipped while its `inputs` are unchanged and its `outputs` exist",
    ),
    **dict.fromkeys(
        ("vars", "variables"),
        "unknown key; variables are those of the environment: write `env`, and use them as ${NAME}",
    ),
    **dict.fromkeys(
        ("cmds", "commands", "script", "scripts", "steps", "recipe", "commands_pre", "commands_post"),
        "unknown key; several commands are the lines of one `shell`, a single one is written `run`",
    ),
    **dict.fromkeys(("silent", "quiet", "echo"), "unknown key; how output is shown is said by `--output` of `run`"),
    **dict.fromkeys(("prompt", "confirm"), "unknown key; let the script ask, in a task with `interactive = true`"),
    **dict.fromkeys(
        ("params", "parameters", "passenv"),
        "unknown key; a task sees the whole environment, and gets the arguments after `--`",
    ),
    **dict.fromkeys(
        ("input",), "unknown key; text for standard input is written `stdin`, files that it reads `inputs`"
    ),
}
"""Foreign keys that need more explanation than another name."""


def _inverted(spellings: dict[str, str]) -> dict[str, str]:
    return {foreign: right for right, listed in spellings.items() for foreign in listed.split()}


_OURS_FOR: Final = _inverted(_FOREIGN_TASK)
_OURS_FOR_TOP: Final = _inverted(_FOREIGN_TOP)


def unknown_task_key(name: str, *, defaults: bool = False) -> str:
    """Return the error text for a key that is not valid in a task or in ``[defaults]``."""
    if defaults and name in TASK_KEYS:
        return "can't have a default; say it in each task"
    return explain_unknown(name, _EXPLAINED, _OURS_FOR, DEFAULT_KEYS if defaults else TASK_KEYS)


def explain_unknown(name: str, explained: Mapping[str, str], ours_for: Mapping[str, str], known: Iterable[str]) -> str:
    """Return the error text for an unknown key: the one for this key, our key for a foreign one, or the most similar key."""
    if name in explained:
        return explained[name]
    right = ours_for.get(name)
    if right is not None:
        return f"unknown key; this is written `{right}` here"
    return f"unknown key{nearest(name, known)}"


def unknown_top_key(name: str) -> str:
    """Return the error text for a key that is not valid at the top level of a file."""
    right = _OURS_FOR_TOP.get(name)
    if right is not None:
        return f"unknown key; this is written `{right}` here"
    if name in TASK_KEYS:
        return f"unknown key here; say it in a task, `[tasks.NAME]`{', or in `[defaults]`' if name in DEFAULT_KEYS else ''}"
    return f"unknown key{nearest(name, TOP_KEYS)}; a task is written `[tasks.NAME]`"
