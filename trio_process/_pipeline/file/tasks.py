"""From the tables of a pipeline file to `RunSpec`s: defaults, variables, matrices, and the names in `after`."""

from __future__ import annotations

import itertools
import math
import os
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, final

import attrs

from ..._core import OptionError
from ..spec import RunSpec
from .env_file import read_env_file
from .faults import Faults
from .interpolate import interpolate, interpolate_matrix
from .keys import DEFAULT_KEYS, TASK_KEYS, TOP_KEYS, Key, unknown_task_key, unknown_top_key
from .resolve import Task, UnresolvedTask, resolve
from .value_types import Report, quoted

MOST_COMBINATIONS: Final = 10_000
"""A larger matrix is a slip: nobody waits for it, and its specs would fill the memory."""

_OPERATORS: Final = frozenset(
    {"&&", "||", "|", "|&", ";", "&", "<", ">", ">>", "<<", "2>", "2>&1", "&>", "1>&2", ">&2"}
)
_PLAIN: Final = {  # keys whose value goes into the spec as it was read
    "timeout": "timeout",
    "idle-timeout": "idle_timeout",
    "grace-period": "grace_period",
    "retries": "retries",
    "retry-delay": "retry_delay",
    "allow-failure": "allow_failure",
    "ok-exit-codes": "ok_exit_codes",
    "weight": "weight",
}


@final
@attrs.define(eq=False)
class TaskReader:
    """Reads the tables of one file.

    Args:
        faults: Where everything that is wrong is noted.
        prefix: The keys above the tables: none, or `tool.trio-process`.
        directory: The file's directory, absolute.
        environ: The environment for `${NAME}`.
    """

    faults: Faults
    prefix: tuple[str, ...]
    directory: str
    environ: Mapping[str, str]
    _defaults: dict[str, Any] = attrs.field(factory=dict, init=False)
    _default_files: dict[str, str] = attrs.field(factory=dict, init=False)
    _default_env: dict[str, str] = attrs.field(factory=dict, init=False)
    _files: dict[str, dict[str, str]] = attrs.field(factory=dict, init=False)

    def read(self, section: Mapping[str, Any]) -> list[Task]:
        """Return the tasks of a file; they are of use only if no fault was noted."""
        for name in section:
            if name not in TOP_KEYS:
                self._report(name)(unknown_top_key(name))
        self._read_defaults(section)
        tables = section.get("tasks")
        if not isinstance(tables, dict) or not tables:
            if tables:
                self._report("tasks")(f"expected tables such as `[tasks.lint]`, got {quoted(tables)}")
            elif not self.faults:
                self._report()('no task here; one is written `[tasks.NAME]`, with `run = "..."` below it')
            return []
        unresolved = [task for name, table in tables.items() for task in self._read_task(name, table)]
        return resolve(unresolved, tables, lambda table: self._report("tasks", table))

    def _report(self, *path: str | int) -> Report:
        return self.faults.at(*self.prefix, *path)

    def _read_defaults(self, section: Mapping[str, Any]) -> None:
        self._defaults = self._checked(section.get("defaults", {}), DEFAULT_KEYS, "defaults")
        for path in (("env-file",), ("defaults", "env-file")):
            holder = section if len(path) == 1 else self._defaults
            if path[-1] in holder:
                report = self._report(*path)
                listed = TASK_KEYS["env-file"].kind.check(holder[path[-1]], report)
                self._default_files |= self._env_files(listed or [], {}, report)
        variables = {**self._default_files, **self.environ}
        for name, value in (self._defaults.get("env") or {}).items():
            self._default_env[name] = interpolate(value, variables, {}, self._report("defaults", "env"), name)

    def _checked(self, table: object, keys: Mapping[str, Key], *path: str) -> dict[str, Any]:
        """Return the values of a table that are as they should be."""
        if not isinstance(table, dict):
            self._report(*path)(f"expected a table, `[{'.'.join((*self.prefix, *path))}]`, got {quoted(table)}")
            return {}
        found: dict[str, Any] = {}
        for name, value in table.items():
            report = self._report(*path, name)
            if name not in keys:
                report(unknown_task_key(name, defaults=path == ("defaults",)))
            elif (good := keys[name].kind.check(value, report)) is not None:
                found[name] = good
        return found

    def _read_task(self, name: str, table: object) -> Iterator[UnresolvedTask]:
        """Yield a task, or one per combination of its matrix."""
        report = self._report("tasks", name)
        if not isinstance(table, dict):
            report(f'expected a table, `[tasks.NAME]` with `run = "..."` below it, got {quoted(table)}')
            return
        values = self._checked(table, TASK_KEYS, "tasks", name)
        if not name:
            report("the name of a task must not be empty")
        if "run" in table and "shell" in table:
            report("has both `run` and `shell`; leave one of them out")
        elif "run" not in table and "shell" not in table:
            report('has neither `run` nor `shell`; write what it runs, such as run = "pytest -q"')
        matrix: dict[str, list[str]] = values.get("matrix", {})
        if math.prod(map(len, matrix.values())) > MOST_COMBINATIONS:
            self._report("tasks", name, "matrix")(f"has more than {MOST_COMBINATIONS} combinations")
            return
        written = table.get("after")  # not `values`: the right names of a list that has wrong ones are looked up too
        after = (
            [(i, item) for i, item in enumerate(written) if isinstance(item, str)] if isinstance(written, list) else []
        )
        for combination in itertools.product(*matrix.values()):
            chosen = dict(zip(matrix, combination, strict=True))
            after_report = self._report("tasks", name, "after")
            yield UnresolvedTask(
                name="-".join((name, *combination)),
                table=name,
                spec=self._spec(name, "-".join((name, *combination)), values, chosen),
                description=values.get("description", ""),
                after=[(i, interpolate_matrix(item, chosen, after_report, i)) for i, item in after],
            )

    def _spec(self, table: str, name: str, values: dict[str, Any], matrix: Mapping[str, str]) -> RunSpec | None:
        report = self._report("tasks", table)
        files = self._default_files
        if "env-file" in values:
            files = files | self._env_files(values["env-file"], matrix, self._report("tasks", table, "env-file"))
        variables = {**files, **self.environ, **self._default_env}
        env = {key: value for key, value in files.items() if key not in self.environ} | self._default_env
        for key, value in values.get("env", {}).items():
            env[key] = interpolate(value, variables, matrix, report, "env", key)
        variables |= env
        command = self._command(values, variables, matrix, report)
        if not command:
            return None
        directory = self.directory
        holder = values if "dir" in values else self._defaults
        if "dir" in holder:
            where = ("tasks", table, "dir") if holder is values else ("defaults", "dir")
            directory = os.path.join(directory, interpolate(holder["dir"], variables, matrix, self._report(*where)))
        plain = {
            field: value
            for key, field in _PLAIN.items()
            if (value := values.get(key, self._defaults.get(key))) is not None
        }
        stdin = values.get("stdin")
        try:
            return RunSpec(
                name=name,
                command=command[0],
                args=tuple(command[1:]),
                cwd=directory,
                env=env,
                stdin=None if stdin is None else interpolate(stdin, variables, matrix, report, "stdin"),
                **plain,
            )
        except OptionError as error:  # what only shows once the variables are filled in, such as an empty command
            report(str(error))
            return None

    def _command(
        self, values: dict[str, Any], variables: Mapping[str, str], matrix: Mapping[str, str], report: Report
    ) -> list[str]:
        if "shell" in values:
            return ["sh", "-c", interpolate_matrix(values["shell"], matrix, report, "shell")]
        run = values.get("run", [])
        if isinstance(run, list):
            return [interpolate(word, variables, matrix, report, "run", index) for index, word in enumerate(run)]
        return [interpolate(word, variables, matrix, report, "run") for word in _split(run, report)]

    def _env_files(self, paths: list[str], matrix: Mapping[str, str], report: Report) -> dict[str, str]:
        found: dict[str, str] = {}
        for path in paths:
            full = os.path.join(self.directory, interpolate(path, self.environ, matrix, report))
            if full not in self._files:
                self._files[full], faults = read_env_file(Path(full))
                for fault in faults:
                    report(fault)
            found |= self._files[full]
        return found


def _split(text: str, report: Report) -> list[str]:
    """Return the words of a command, split as a shell would; what only a shell can do is reported."""
    try:
        words = shlex.split(text)
        raw = shlex.shlex(text, posix=False, punctuation_chars=False)
        raw.whitespace_split, raw.commenters = True, ""
        unquoted = list(raw)
    except ValueError as error:
        report(f"can't be split into words: {str(error).lower()}", "run")
        return []
    operator = next((word for word in unquoted if word in _OPERATORS), None)
    if operator is not None:
        report(f"no shell runs here, so that {operator} would be an argument; write `shell = ...`, or quote it", "run")
        return []
    if not words:
        report("expected a command, got only blanks", "run")
    return words
