"""Find and read the pipeline file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from .._core import PipelineError
from .._pipeline import PipelineFile, ServiceEntry, has_pipeline, read_pipeline

NAMES: Final = ("trio-process.toml", "pyproject.toml", "Procfile")


def find_file(start: Path) -> Path:
    """Return the pipeline file of a directory, or of its nearest parent with one.

    Raises:
        PipelineError: There is no pipeline file, or the working directory was removed.
    """
    try:
        start = start.absolute()
    except OSError as error:  # of getcwd(3)
        gone = f"the working directory can't be determined: {error.strerror}"
        raise PipelineError([f"{gone}; change to another, or name a file with -f"]) from error
    for directory in (start, *start.parents):
        for name in NAMES:
            path = directory / name
            # not path.is_file(), which raises without permission to search the directory
            if os.path.isfile(path) and (name != "pyproject.toml" or has_pipeline(path)):
                return Path(name) if directory == start else path
    known = "no trio-process.toml, no pyproject.toml with [tool.trio-process] and no Procfile"
    raise PipelineError([f"{known}, here or in a parent directory; name a file with -f"])


def read_file(path: str | Path | None, *, keep_in: str | None = None) -> PipelineFile:
    """Return what a pipeline file contains.

    Args:
        path: The file; None for the nearest one.
        keep_in: The directory beside a large file in which its checked values are kept, if that exists; None to keep none.

    Raises:
        PipelineError: The file can't be read or has faults, or there is none.
    """
    found = read_pipeline(find_file(Path()) if path is None else path, keep_in=keep_in, find_faults=_find_faults)
    if found.services:
        from .._supervisor import make_units  # noqa: PLC0415 - most files have no services, and need none of its imports

        make_units(found)
    return found


def _find_faults(services: Sequence[ServiceEntry]) -> None:
    if services:
        from .._supervisor import find_faults  # noqa: PLC0415 - as above

        find_faults(services)
