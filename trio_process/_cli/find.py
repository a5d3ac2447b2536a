"""Find the pipeline file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from .._core import PipelineError
from .._pipeline import has_pipeline

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
