"""Keep the states of the last run beside the pipeline file, for ``--only-failed``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from ..._core import PipelineError, logger, write_atomically
from ..._pipeline import PipelineFile, RunAllResult, is_not_needed

DIRECTORY: Final = ".trio-process"
_VERSION: Final = 1
_UNREADABLE: Final = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    RecursionError,
)  # RecursionError: JSON that is nested too deeply


def memory_path(file: PipelineFile) -> Path:
    """Return the path of the file with the last states of a pipeline file's tasks."""
    return Path(file.directory, DIRECTORY, f"{file.path.name}.json")


def failed_last_time(file: PipelineFile) -> list[str]:
    """Return the tasks of a file that didn't pass when they last ran.

    Raises:
        PipelineError: No last run is recorded.
    """
    if not file.is_regular:
        raise PipelineError([f"of {str(file.path)!r} no results are kept; leave --only-failed out"])
    path = memory_path(file)
    try:
        found = _read(path)
    except FileNotFoundError:
        raise PipelineError([f"nothing was run yet: {path} is not there; leave --only-failed out"]) from None
    except _UNREADABLE as error:  # or a file of another program
        raise PipelineError([f"can't read the last results, {path}: {error}; leave --only-failed out"]) from error
    return [task.spec.name for task in file.tasks if found.get(task.spec.name, "passed") != "passed"]


def _read(path: Path) -> dict[str, str]:
    document: Any = json.loads(path.read_bytes())
    if not isinstance(document["tasks"], dict):
        raise TypeError("tasks is not an object")
    if document["version"] != _VERSION:
        raise ValueError(f"version {document['version']!r} is not known")
    return {str(name): str(state) for name, state in document["tasks"].items()}


def remember(file: PipelineFile, result: RunAllResult) -> None:
    """Write the last state of each task; tasks that were not run this time keep their previous state.

    An unwritable directory is not an error: only ``--only-failed`` is lost. Nothing is kept for a pipeline that was
    read from a pipe.
    """
    if not file.is_regular:
        return
    path = memory_path(file)
    try:
        before = _read(path)
    except _UNREADABLE:
        before = {}  # the first run, or a file of another program
    now = {
        one.name: "passed" if one.passed or one.allowed or is_not_needed(one) else one.state.value
        for one in result.results
    }
    known = {task.spec.name for task in file.tasks}
    tasks = {name: state for name, state in {**before, **now}.items() if name in known}
    if tasks == before:
        return
    try:
        path.parent.mkdir(exist_ok=True)
        ignored = path.parent / ".gitignore"
        if not ignored.exists():
            ignored.write_text("*\n")  # as in the caches of pytest and ruff
        write_atomically(path, json.dumps({"version": _VERSION, "tasks": tasks}, indent=1).encode())
    except OSError as error:
        logger.info("the results are not kept for --only-failed: %s", error)
