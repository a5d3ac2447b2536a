"""Keep the checked values of a large file, so that it need not be parsed and checked again before it has changed.

Only a file whose meaning depends on nothing but its own text and place is kept: one without variables of the environment,
env files, secrets, users, included files and services. So nothing of the environment is ever written down here.

The values are those of a file's text, of its place, and of the modules that check them; if one of the three differs, the
file is read anew.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, NamedTuple, NoReturn

import attrs

from ..derived import read_derived, write_derived
from ..spec import RunSpec, spec_like
from .resolve import Task

LARGE: Final = 2**15
"""The number of characters from which a file is worth it: a smaller one is read in 20 ms."""

_KIND: Final = "checked 1"
_VARIABLE: Final = re.compile(r"\$\{(?!matrix\.)")
_ELSEWHERE: Final = ("include", "services", "secrets", "env-file", "user")
"""The keys of a file or a task by which its meaning depends on more than its text."""

_OF_ONE: Final = ("name", "command", "args", "after", "inputs", "outputs")
"""The fields that differ from spec to spec; all others together make its kind."""

_OF_KIND: Final = tuple(field.name for field in attrs.fields(RunSpec) if field.init and field.name not in _OF_ONE)
_LAYER: Final = Path(__file__).parent.parent
_CODE: Final = (_LAYER, _LAYER.parent / "_core")


class Checked(NamedTuple):
    """The checked values of a file, as in `PipelineFile`."""

    tasks: tuple[Task, ...]
    default: tuple[str, ...] | None
    cleanup_timeout: float | None
    strategy: str | None


def read_checked(path: Path, text: str, directory: str) -> Checked | None:
    """Return the checked values of a file, or None if they are not known.

    Args:
        path: Where they are kept.
        text: The text of the file.
        directory: The directory of the file.
    """
    if len(text) < LARGE:
        return None
    found = read_derived(path, _KIND)
    try:
        if found is None or found[0] != _key(text, directory):
            return None
    except OSError:  # our modules are in an archive
        return None
    _, kinds, tasks, *others = found
    models = [RunSpec(name="x", command="x", **kind) for kind in kinds]
    made = [
        Task(spec_like(models[kind], *own), table, description, is_manual, takes_arguments)
        for kind, own, table, description, is_manual, takes_arguments in tasks
    ]
    return Checked(tuple(made), *others)


def write_checked(path: Path, text: str, directory: str, section: Mapping[str, Any], checked: Checked) -> None:
    """Keep the checked values of a file, if they depend on nothing else, and their directory exists.

    Args:
        path: Where to keep them.
        text: The text of the file.
        directory: The directory of the file.
        section: The table of the pipeline in it.
        checked: The values.
    """
    tables = [section, section.get("defaults", {}), *section.get("tasks", {}).values()]
    is_alone = not _VARIABLE.search(text) and not any(key in table for table in tables for key in _ELSEWHERE)
    if len(text) < LARGE or not is_alone or not path.parent.is_dir():
        return
    neutral = RunSpec(name="x", command="x")
    kinds: dict[str, tuple[int, dict[str, Any]]] = {}
    tasks = []
    for task in checked.tasks:
        kind = _kind_of(task.spec, neutral)
        number, _ = kinds.setdefault(repr(kind), (len(kinds), kind))
        own = tuple([getattr(task.spec, name) for name in _OF_ONE])
        tasks.append((number, own, task.table, task.description, task.is_manual, task.takes_arguments))
    shared = [kind for _, kind in kinds.values()]
    with suppress(OSError, ValueError):  # an unwritable directory; or a value of its locale
        write_derived(path, _KIND, (_key(text, directory), shared, tasks, *checked[1:]))


def _kind_of(spec: RunSpec, neutral: RunSpec) -> dict[str, Any]:
    kind: dict[str, Any] = {}
    for name in _OF_KIND:
        value = getattr(spec, name)
        if value != getattr(neutral, name):
            kind[name] = _plain(value)
    return kind


def _plain(value: Any) -> Any:
    """Return a value of a type that can be kept: no signal, path or mapping of a class of its own."""
    match value:
        case int() if not isinstance(value, bool):
            return int(value)
        case Path():
            return str(value)
        case dict():
            return dict(value)
    return value


def _key(text: str, directory: str) -> bytes:
    """Return a digest of all that the values depend on."""
    digest = blake2b(text.encode(), digest_size=32)
    for layer in _CODE:
        for folder, wings, names in os.walk(layer, onerror=_raise):
            wings.sort()
            for name in sorted(names):
                if name.endswith(".py"):
                    path = f"{folder}/{name}"
                    found = os.stat(path)
                    digest.update(f"{path} {found.st_size} {found.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
    digest.update(f"{sys.getfilesystemencoding()} {directory}".encode("utf-8", "surrogateescape"))
    return digest.digest()


def _raise(error: OSError) -> NoReturn:
    raise error
