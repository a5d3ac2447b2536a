"""`load_services`: the services of a pipeline file as units."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import attrs

from .._core import OptionError, RestartMode, RestartPolicy, nearest
from .._pipeline import PipelineFile, ServiceEntry, key_of, read_pipeline
from .probes import Probe
from .spec import UnitSpec


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
        PipelineError: It has faults; those that only units find are among them.
    """

    def find_faults(entries: Sequence[ServiceEntry]) -> None:
        for entry in entries:
            _unit(entry)

    return read_pipeline(path, find_faults=find_faults)


def make_units(file: PipelineFile) -> list[UnitSpec]:
    """Return the units of a file that has been read.

    Raises:
        PipelineError: A service has faults that only its unit can find.
    """
    units = [unit for entry in file.services if (unit := _unit(entry)) is not None]
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
                entry.report(str(error), key)
    if entry.restart is not None:
        try:
            options["restart"] = _policy(entry.restart)
        except OptionError as error:
            entry.report(str(error), "restart")
    try:
        return UnitSpec(name=entry.name, command=entry.command, args=entry.args, after=entry.after, **options)
    except OptionError as error:
        entry.report(str(error), *key_of(error, {*options, "ready", "live"}))
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
