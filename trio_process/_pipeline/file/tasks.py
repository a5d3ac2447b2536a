"""Turn the tables of a pipeline file into `RunSpec` objects: defaults, variables, matrices, and the names in `after`."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final, final

import attrs

from ..._core import OptionError
from ..plan import Suggestions
from ..spec import RunSpec
from .allowance import COMBINATIONS, Allowance
from .commands import as_path, as_utf8, read_command
from .faults import Faults, key_of
from .interpolate import Names, interpolate, interpolate_matrix
from .keys import DEFAULT_KEYS, FILE_KEYS, TASK_KEYS, TOP_KEYS, Key, unknown_task_key, unknown_top_key
from .resolve import Task, UnresolvedTask, resolve, resolve_names
from .value_types import Report, quoted
from .variables import Variables

_PLAIN: Final = {  # keys whose value is passed to the spec unchanged
    "when": "when",
    "timeout": "timeout",
    "idle-timeout": "idle_timeout",
    "stop-signal": "stop_signal",
    "grace-period": "grace_period",
    "retries": "retries",
    "retry-delay": "retry_delay",
    "allow-failure": "allow_failure",
    "ok-exit-codes": "ok_exit_codes",
    "weight": "weight",
    "resources": "resources",
    "interactive": "interactive",
    "limits": "limits",
    "nice": "nice",
    "user": "user",
    "uses": "uses",
}


@final
@attrs.define(eq=False)
class TaskReader:
    """Reader of the tables of one file.

    Args:
        faults: Where all faults are recorded.
        prefix: The keys above the tables: none, or ``tool.trio-process``.
        directory: The file's directory, absolute.
        environ: The environment for ``${NAME}``.
        allowance: How much the file may make.

    Attributes:
        defaults: The content of ``[defaults]``, once `read_top` was called.
        variables: The variables of the file, likewise.
    """

    faults: Faults
    prefix: tuple[str, ...]
    directory: str
    environ: Mapping[str, str]
    allowance: Allowance
    defaults: dict[str, Any] = attrs.field(factory=dict, init=False)
    variables: Variables = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.variables = Variables(self.directory, self.environ, self.allowance)

    def read_top(self, section: Mapping[str, Any]) -> dict[str, Any]:
        """Check the top-level keys, and return the values of those that are not tables of tasks."""
        found: dict[str, Any] = {}
        for name, value in section.items():
            if name not in TOP_KEYS:
                self._report(name)(unknown_top_key(name))
            elif name == "default" and isinstance(value, dict):
                self._report(name)("a table of defaults is written `[defaults]`; `default` is a list of tasks")
            elif name in FILE_KEYS and (good := FILE_KEYS[name].kind.check(value, self._report(name))) is not None:
                found[name] = good
        self._read_defaults(section, found)
        return found

    def read(self, section: Mapping[str, Any], included: Sequence[Task] = ()) -> list[Task]:
        """Return the tasks of a file, including those of included files; they are valid only if no fault was recorded."""
        others = included or "services" in section or "include" in section
        tables = section.get("tasks", {} if others else None)
        if not isinstance(tables, dict) or not (tables or others):
            if tables:
                self._report("tasks")(f"expected tables such as `[tasks.lint]`, got {quoted(tables)}")
            elif not self.faults:
                self._report()(
                    "no task and no service here; one is written `[tasks.NAME]` or `[services.NAME]`, "
                    'with `run = "..."` below it'
                )
            return []
        unresolved = [task for name, table in tables.items() for task in self._read_task(name, table)]
        return resolve(unresolved, tables, included, lambda table: self._report("tasks", table), self.allowance)

    def check_uses(self, tasks: Sequence[Task], services: Collection[str]) -> None:
        """Report tasks that use services missing from the file, if it has any services."""
        suggestions = Suggestions(services)
        for task in tasks if services else ():
            for name in task.spec.uses:
                if name not in services:
                    hint = suggestions.nearest(name)
                    self._report("tasks", task.table, "uses")(f"no service is named {quoted(name)}{hint}")

    def read_default(self, names: Sequence[str] | None, tasks: Sequence[Task]) -> tuple[str, ...] | None:
        """Return the tasks that `default` refers to, or None if the file has no `default`."""
        if names is None:
            return None
        return resolve_names(names, tasks, self._report("default"))

    def _report(self, *path: str | int) -> Report:
        return self.faults.at(*self.prefix, *path)

    def _read_defaults(self, section: Mapping[str, Any], top: Mapping[str, Any]) -> None:
        self.defaults = self._checked(section.get("defaults", {}), DEFAULT_KEYS, "defaults")
        for holder, path in ((top, ()), (self.defaults, ("defaults",))):
            self.variables.add_default_files(holder.get("env-file", ()), self._report(*path, "env-file"))
            self.variables.add_default_secrets(holder.get("secrets", ()))
        self.variables.add_default_env(self.defaults.get("env") or {}, self._report("defaults", "env"))

    def _checked(self, table: object, keys: Mapping[str, Key], *path: str) -> dict[str, Any]:
        """Return the valid values of a table."""
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
        self._check_task(name, table, values)
        matrix: dict[str, list[str]] = values.get("matrix", {})
        count = math.prod(map(len, matrix.values())) if matrix else 0
        if not self.allowance.take(COMBINATIONS, count, self._report("tasks", name, "matrix")):
            return
        written = table.get("after")  # not `values`: in a list with invalid names, the valid ones are still looked up
        after = (
            [(i, item) for i, item in enumerate(written) if isinstance(item, str)] if isinstance(written, list) else []
        )
        for combination in itertools.product(*matrix.values()):
            chosen = dict(zip(matrix, combination, strict=True))
            names = Names({}, chosen, self.allowance)
            after_report = self._report("tasks", name, "after")
            yield UnresolvedTask(
                name="-".join((name, *combination)),
                table=name,
                spec=self._spec(name, "-".join((name, *combination)), values, chosen),
                description=values.get("description", ""),
                is_manual=values.get("manual", False),
                takes_arguments=values.get("arguments", self.defaults.get("arguments", True)),
                after=[(i, interpolate_matrix(item, names, after_report, i)) for i, item in after],
            )

    def _check_task(self, name: str, table: Mapping[str, Any], values: Mapping[str, Any]) -> None:
        """Report keys that can't be combined."""
        report = self._report("tasks", name)
        if not name:
            report("the name of a task must not be empty")
        if "run" in table and "shell" in table:
            report("has both `run` and `shell`; leave one of them out")
        elif "run" not in table and "shell" not in table:
            grouping = '; a task that only groups others has run = "true"' if "after" in table else ""
            report(f'has neither `run` nor `shell`; write what it runs, such as run = "pytest -q"{grouping}')
        if values.get("when") == "failure" and not table.get("after"):
            report('when = "failure" needs `after`: the tasks whose failure it handles', "when")
        if values.get("interactive") and "stdin" in table:
            report("an interactive task reads from the terminal; leave `stdin` out", "stdin")
        if "outputs" in table and "inputs" not in table:
            report("`outputs` need `inputs`; name the files that they are made from, too", "outputs")

    def _spec(self, table: str, name: str, values: dict[str, Any], matrix: Mapping[str, str]) -> RunSpec | None:
        report = self._report("tasks", table)
        names, env = self.variables.of_task(values, matrix, lambda key: self._report("tasks", table, key))
        command = read_command(values, names, report)
        if not command:
            return None

        def fill(text: str, *where: str | int) -> str:
            return interpolate(text, names, report, *where)

        plain = {
            field: value
            for key, field in _PLAIN.items()
            if (value := values.get(key, self.defaults.get(key))) is not None
        }
        if "stdin" in values:
            plain["stdin"] = fill(values["stdin"], "stdin")
        if "log-file" in values:
            plain["log_file"] = os.path.join(self.directory, as_utf8(fill(values["log-file"], "log-file")))
        for key in ("inputs", "outputs"):
            if key in values:
                plain[key] = [as_path(fill(item, key)) for item in values[key]]
        if any(type(value) is not str for value in env.values()):
            plain["redact"] = True
        try:
            return RunSpec(
                name=name,
                command=command[0],
                args=tuple(command[1:]),
                cwd=self._directory(table, values, names),
                env=env,
                **plain,
            )
        except OptionError as error:  # only found once the values are put together, such as an unknown user
            report(str(error), *key_of(error, values))
            return None

    def _directory(self, table: str, values: Mapping[str, Any], names: Names) -> str:
        holder, *where = (values, "tasks", table) if "dir" in values else (self.defaults, "defaults")
        if "dir" not in holder:
            return self.directory
        report = self._report(*where, "dir")
        return os.path.join(self.directory, as_utf8(interpolate(holder["dir"], names, report)))
