"""Turn ``[services]`` of a pipeline file into entries from which a supervisor can make units.

This layer doesn't know about units: an entry holds the checked values, and reports faults that are found later.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Any, final

from ...._core import Secret
from ...plan import Suggestions, cycles, format_cycle
from ...spec import RunSpec
from ..commands import as_path, as_utf8, read_command, without_keys
from ..faults import Faults
from ..interpolate import Names, interpolate
from ..value_types import Report, quoted
from ..variables import Variables
from .entry import ServiceEntry
from .keys import OF_DEFAULTS, SERVICE_KEYS, unknown_service_key

_PLAIN = (
    "timeout", "idle-timeout", "stop-signal", "grace-period", "ok-exit-codes", "resources", "limits", "nice", "user",
    "settle", "start-timeout", "essential", "replicas", "enabled",
)  # fmt: skip


@final
class ServiceReader:
    """Reader of the services of one file.

    Args:
        faults: Where all faults are recorded.
        prefix: The keys above the tables.
        directory: The file's directory, absolute.
        variables: The variables of the file.
        defaults: The content of ``[defaults]``.
    """

    def __init__(
        self, faults: Faults, prefix: tuple[str, ...], directory: str, variables: Variables, defaults: Mapping[str, Any]
    ) -> None:
        self._faults = faults
        self._prefix = prefix
        self._directory = directory
        self._variables = variables
        self._defaults = {key: value for key, value in defaults.items() if key in OF_DEFAULTS}

    def read(self, tables: object, included: Sequence[ServiceEntry]) -> list[ServiceEntry]:
        """Return the services of a file, after those of included files."""
        if tables is None:
            return list(included)
        if not isinstance(tables, dict):
            self._report()(f"expected tables such as `[services.db]`, got {quoted(tables)}")
            return []
        entries = [entry for name, table in tables.items() if (entry := self._read_service(name, table)) is not None]
        for name in {entry.name for entry in included} & tables.keys():
            self._report(name)("this name is taken by a service of an included file")
        entries = [*included, *entries]
        self._check_names(entries, {*tables, *(entry.name for entry in included)})
        return entries

    def _report(self, *path: str | int) -> Report:
        return self._faults.at(*self._prefix, "services", *path)

    def _read_service(self, name: str, table: object) -> ServiceEntry | None:
        report = self._report(name)
        if not isinstance(table, dict):
            report(f'expected a table, `[services.NAME]` with `run = "..."` below it, got {quoted(table)}')
            return None
        values: dict[str, Any] = {}
        for key, value in table.items():
            if key not in SERVICE_KEYS:
                self._report(name, key)(unknown_service_key(key))
            elif (good := SERVICE_KEYS[key].kind.check(value, self._report(name, key))) is not None:
                values[key] = good
        if "run" in table and "shell" in table:
            report("has both `run` and `shell`; leave one of them out")
        elif "run" not in table and "shell" not in table:
            report('has neither `run` nor `shell`; write what it runs, such as run = "python -m web"')
        return self._entry(name, table, values)

    def _entry(self, name: str, table: Mapping[str, Any], values: Mapping[str, Any]) -> ServiceEntry | None:
        report = self._report(name)
        names, env = self._variables.of_task(values, {}, lambda key: self._report(name, key))
        command = read_command(values, names, report)
        if not command:
            return None

        def fill(text: str, *where: str | int) -> str:
            return interpolate(text, names, report, *where)

        options = {key.replace("-", "_"): values[key] for key in _PLAIN if key in values}
        if "grace-period" in self._defaults:
            options.setdefault("grace_period", self._defaults["grace-period"])
        where = values.get("dir", self._defaults.get("dir"))
        options["cwd"] = (
            self._directory if where is None else os.path.join(self._directory, as_utf8(fill(where, "dir")))
        )
        options["env"] = env
        if any(isinstance(value, Secret) for value in env.values()):
            options["redact"] = True
        if "stdin" in values:
            options["stdin"] = fill(values["stdin"], "stdin")
        if "log-file" in values:
            options["log_file"] = os.path.join(self._directory, as_utf8(fill(values["log-file"], "log-file")))
        return ServiceEntry(
            name=name,
            command=command[0],
            args=command[1:],
            options=options,
            after=values.get("after", {}),
            ready=self._probe("ready", values, names, report),
            live=self._probe("live", values, names, report),
            restart=values.get("restart"),
            description=values.get("description", ""),
            keys=tuple(table),
            report=report,
        )

    def _probe(self, key: str, values: Mapping[str, Any], names: Names, report: Report) -> dict[str, Any] | None:
        probe = values.get(key)
        if probe is None:
            return None
        kind, target = probe["kind"], probe["target"]
        if kind == "command":
            words = read_command({"run": target}, names, lambda text, *_: report(without_keys(text), key, kind))
            return {**probe, "target": words} if words else None
        wrong: list[str] = []

        def note(text: str, *where: str | int) -> None:
            wrong.append(text)
            report(text, *where)

        target = interpolate(target, names, note, key, kind)
        if wrong:
            return None
        if kind in ("unix", "file"):
            target = os.path.join(self._directory, as_path(target))
        return {**probe, "target": target}

    def _check_names(self, entries: Sequence[ServiceEntry], known: set[str]) -> None:
        suggestions = Suggestions(known)
        for entry in entries:
            for name in entry.after:
                if name == entry.name:
                    entry.report("a service can't wait for itself", "after")
                elif name not in known:
                    entry.report(f"no service is named {quoted(name)}{suggestions.nearest(name)}", "after", name)
        if self._faults:
            return
        try:
            TopologicalSorter({entry.name: entry.after for entry in entries}).prepare()
        except CycleError:
            self._report_cycles(entries)

    def _report_cycles(self, entries: Sequence[ServiceEntry]) -> None:
        specs = [RunSpec(name=entry.name, command="x", after=list(entry.after)) for entry in entries]
        for members in cycles(specs):
            names = [specs[place].name for place in members]
            text = f"a cycle, in which each waits for the next: {format_cycle(names)}"
            entries[members[0]].report(text, "after")
