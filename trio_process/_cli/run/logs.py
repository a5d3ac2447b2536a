"""Implement ``--logs DIR``: one file with the output of each task."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import attrs

from ..._core import OptionError
from ..._pipeline import RunSpec

_LONGEST: Final = 200  # the maximum length of a file name in bytes; the limit is 255
_PLAIN: Final = " +,=@:[](){}"  # characters kept in names, besides letters, digits and _.-~


def log_name(task: str) -> str:
    """Return the name of a task's log: the task's own name if it is a valid file name.

    >>> log_name("test-3.11"), log_name("docs/html"), log_name("..")
    ('test-3.11.log', 'docs%2Fhtml.log', '%2E..log')
    """
    name = "".join(char if char.isalnum() else quote(char, safe=_PLAIN, errors="backslashreplace") for char in task)
    if name.startswith("."):
        name = "%2E" + name[1:]
    if len(name.encode()) > _LONGEST:
        digest = hashlib.sha256(task.encode("utf-8", "surrogatepass")).hexdigest()[:12]
        name = name.encode()[: _LONGEST - 13].decode(errors="ignore") + "-" + digest
    return name + ".log"


def logged_to(directory: Path, specs: Iterable[RunSpec]) -> list[RunSpec]:
    """Return specs that write to files in a directory, which is created; files of an earlier run are truncated.

    A task with its own log file keeps it, and the directory gets a link to it unless it is there already; a task that has
    the terminal has no log.

    Raises:
        OptionError: The directory can't be written to.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        return [_logged(directory.absolute() / os.fsdecode(log_name(spec.name).encode()), spec) for spec in specs]
    except OSError as error:
        raise OptionError(f"--logs {str(directory)!r}: {error.strerror or error}") from error


def _logged(path: Path, spec: RunSpec) -> RunSpec:
    if spec.interactive:
        return spec
    own = spec.options.log_file
    if own is not None and _is_same(path, Path(own)):
        return spec
    with suppress(FileNotFoundError):
        path.unlink()
    if own is None:
        path.touch()
        changes: dict[str, Any] = {"log_file": path}  # a field only in the constructor
        return attrs.evolve(spec, **changes)
    path.symlink_to(Path(own).absolute())
    return spec


def _is_same(path: Path, own: Path) -> bool:
    """Return whether a log of ours would take the place of a task's own log file, or of a link on the way to it."""
    ours = os.path.join(os.path.realpath(path.parent), path.name)
    return ours in (os.path.join(os.path.realpath(own.parent), own.name), os.path.realpath(own))
