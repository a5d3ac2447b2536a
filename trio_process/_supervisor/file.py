"""`load_pipeline` and `load_services`: the tasks of a pipeline file as specs, and its services as units."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import attrs

from .._core import OptionError, RestartMode, RestartPolicy, nearest
from .._pipeline import PipelineFile, RunSpec, ServiceEntry, key_of, read_pipeline
from .faults import never_holds
from .probes import Probe
from .rules import UnitCondition
from .spec import UnitSpec


def load_pipeline(path: str | bytes | os.PathLike[str] | os.PathLike[bytes]) -> list[RunSpec]:
    r"""Return the specs of a pipeline file: TOML, `pyproject.toml`, or a Procfile.

    Args:
        path: The file. `pyproject.toml` is read below ``[tool.trio-process]``, `Procfile` as a Procfile, any other file
            as TOML.

    Returns:
        One spec per task, in the order of the file; for a task with a matrix, one per combination.

    Raises:
        PipelineError: The file can't be read or has faults, even in its services; `faults` lists all of them, each with
            file, line and key.
        OptionError: `path` is not a path.

    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     file = pathlib.Path(directory, "trio-process.toml")
    ...     _ = file.write_text('[tasks.hello]\nrun = "echo hello"\ntimeout = "10m"')
    ...     [spec] = load_pipeline(file)
    >>> spec.name, spec.command, spec.args, spec.timeout
    ('hello', 'echo', ('hello',), 600.0)
    """
    file = read_services(path)
    make_units(file)
    return file.specs


def load_services(path: str | bytes | os.PathLike[str] | os.PathLike[bytes]) -> list[UnitSpec]:
    r"""Return the units of a pipeline file: its ``[services]``, or the lines of a Procfile.

    Args:
        path: The file, as for `load_pipeline`.

    Returns:
        A unit for each service, in the order of the file; an empty list if there are none.

    Raises:
        PipelineError: The file can't be read or has faults, even in its tasks; `faults` lists all of them, each with
            file, line and key.
        OptionError: `path` is not a path.

    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     file = pathlib.Path(directory, "trio-process.toml")
    ...     _ = file.write_text('[services.web]\nrun = "python -m web"\nready = { tcp = "127.0.0.1:8000" }')
    ...     [unit] = load_services(file)
    >>> unit.name, unit.command, unit.args
    ('web', 'python', ('-m', 'web'))
    """
    return make_units(read_services(path))


def read_services(path: str | bytes | os.PathLike[str] | os.PathLike[bytes]) -> PipelineFile:
    """Return a pipeline file for `make_units`.

    Raises:
        PipelineError: It has faults; those that only units find are among them, unless there are no others.
    """
    return read_pipeline(path, find_faults=find_faults)


def find_faults(entries: Sequence[ServiceEntry]) -> list[UnitSpec]:
    """Report the faults of services that only their units can find; return the units of those without."""
    units = {entry.name: unit for entry in entries if (unit := _unit(entry)) is not None}
    for entry in entries:
        for name, condition in entry.after.items():
            if name in units and never_holds(UnitCondition(condition), units[name]):
                entry.report(f"{name!r} never completes, because it is always restarted", "after")
    return list(units.values())


def make_units(file: PipelineFile) -> list[UnitSpec]:
    """Return the units of a file that has been read.

    Raises:
        PipelineError: A service has faults that only its unit can find.
    """
    units = find_faults(file.services)
    if file.faults is not None:
        file.faults.raise_if_any()
    return units


def only(units: list[UnitSpec], names: Sequence[str]) -> list[UnitSpec]:
    """Return the units with only the named ones and their dependencies enabled; without names, return them unchanged.

    Raises:
        OptionError: No unit has one of the names.
    """
    if not names:
        return units
    known = {unit.name: unit for unit in units}
    wanted: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in known:
            raise OptionError(f"no service is named {name!r}{nearest(name, known)}")
        if name not in wanted:
            wanted.add(name)
            waiting += [needed for needed in known[name].after if needed in known]
    return [attrs.evolve(unit, enabled=unit.name in wanted) for unit in units]


def _unit(entry: ServiceEntry) -> UnitSpec | None:
    options: dict[str, Any] = dict(entry.options)
    for key, table in (("ready", entry.ready), ("live", entry.live)):
        if table is not None:
            try:
                options[key] = _probe(table)
            except OptionError as error:
                entry.report(str(error), key, *(key_of(error, table) or (table["kind"],)))
    if "ready" in entry.keys and "ready" not in options:
        options.pop("settle", None)  # its rules are for a unit without `ready`, which this one only lacks by a fault
    if entry.restart is not None:
        try:
            options["restart"] = _policy(entry.restart)
        except OptionError as error:
            entry.report(str(error), "restart", *key_of(error, entry.restart))
    try:
        return UnitSpec(name=entry.name, command=entry.command, args=entry.args, after=entry.after, **options)
    except OptionError as error:
        entry.report(str(error), *key_of(error, entry.keys))
        return None


def _probe(table: Mapping[str, Any]) -> Probe:
    """Return the probe of ``{ kind, target, keywords… }``."""
    keywords = {key.replace("-", "_"): value for key, value in table.items() if key not in ("kind", "target")}
    kind, target = table["kind"], table["target"]
    if kind == "command":
        return Probe.command(*target, **keywords)
    make: Any = getattr(Probe, kind)
    probe: Probe = make(target, **keywords)
    return probe


def _policy(table: Mapping[str, Any]) -> RestartPolicy:
    fields: dict[str, Any] = {key.replace("-", "_"): value for key, value in table.items()}
    return _shared_policy(**{**fields, "mode": RestartMode(fields["mode"].replace("-", "_"))})


@lru_cache(maxsize=128, typed=True)
def _shared_policy(**fields: Any) -> RestartPolicy:
    """Return one policy for all services that have the same."""
    return RestartPolicy(**fields)
