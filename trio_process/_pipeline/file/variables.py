"""Combine the variables of a task: its `env`, that of ``[defaults]``, our environment and env files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, final

from ..._core import Secret
from .allowance import Allowance
from .commands import as_path, as_text, as_utf8
from .env_file import read_env_file
from .interpolate import OWN, Names, interpolate
from .value_types import Report

EnvFiles = Iterable[tuple[str, bool]]
"""Paths, and whether the file may be missing."""


@final
class Variables:
    """Resolver of the variables that the tasks of a file see.

    Args:
        directory: The file's directory, absolute.
        environ: Our environment.
        allowance: How much they may add to the texts of the file.
    """

    __slots__ = ("_allowance", "_cache", "_default_env", "_default_files", "_default_secrets", "_directory", "_environ")

    def __init__(self, directory: str, environ: Mapping[str, str], allowance: Allowance) -> None:
        self._allowance = allowance
        self._directory = directory
        self._environ = {name: as_text(value) for name, value in environ.items()} | {"file.dir": as_text(directory)}
        self._cache: dict[tuple[str, bool], dict[str, str]] = {}
        self._default_files: dict[str, str] = {}
        self._default_env: dict[str, str] = {}
        self._default_secrets: dict[str, None] = {}

    @property
    def files(self) -> list[str]:
        """The env files that were read, or found missing."""
        return [path for path, _ in self._cache]

    def add_default_files(self, files: EnvFiles, report: Report) -> None:
        """Add env files that apply to all tasks."""
        self._default_files |= self._read(files, {}, report)

    def add_default_env(self, env: Mapping[str, str], report: Report) -> None:
        """Add variables that apply to all tasks."""
        names = Names({**self._default_files, **self._environ}, {}, self._allowance)
        for name, value in env.items():
            self._default_env[name] = interpolate(value, names, report, name)

    def add_default_secrets(self, names: Iterable[str]) -> None:
        """Add secrets that apply to all tasks."""
        self._default_secrets |= dict.fromkeys(names)

    def of_task(
        self, values: Mapping[str, Any], matrix: Mapping[str, str], report_for: Callable[[str], Report]
    ) -> tuple[Names, dict[str, str | Secret]]:
        """Return the names for ``${NAME}`` in a task, and the variables that override our environment for it."""
        files = self._default_files
        if "env-file" in values:
            files = files | self._read(values["env-file"], matrix, report_for("env-file"))
        variables = {**files, **self._environ, **self._default_env}
        names = Names(variables, matrix, self._allowance)
        # also those that are set already: they are part of the environment that the file names
        env = {key: self._environ.get(key, value) for key, value in files.items() if key not in OWN} | self._default_env
        for key, value in values.get("env", {}).items():
            env[key] = interpolate(value, names, report_for("env"), key)
        variables |= env
        given: dict[str, str | Secret] = {as_utf8(key): as_utf8(value) for key, value in env.items()}
        for name in dict.fromkeys((*self._default_secrets, *values.get("secrets", ()))):
            if variables.get(name):
                given[name] = Secret(as_utf8(variables[name]))
        return names, given

    def _read(self, files: EnvFiles, matrix: Mapping[str, str], report: Report) -> dict[str, str]:
        found: dict[str, str] = {}
        names = Names(self._environ, matrix, self._allowance)
        for path, optional in files:
            full = os.path.join(self._directory, as_path(interpolate(path, names, report)))
            key = (full, optional)
            if key not in self._cache:
                if optional and not os.path.exists(full):
                    self._cache[key] = {}
                else:
                    self._cache[key], faults = read_env_file(Path(full))
                    for fault in faults:
                        report(fault)
            found |= self._cache[key]
        return found
