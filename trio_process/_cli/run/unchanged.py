"""Show a run in which nothing has changed: no service, no view and no event loop are needed for it."""

from __future__ import annotations

import os
import sys

from ..._core import in_seconds
from ..._pipeline import Memory, PipelineFile, finish_unchanged
from ..output import show
from ..views import Group, Prefix, Raw, Style, commands_of
from .last_run import remember
from .remembered import Chosen, begin


def show_unchanged(file: PipelineFile, chosen: Chosen, memory: Memory | None, output: str | None) -> bool:
    """Run the selection if all of it is up to date by the index of the memory, and stdout is not a terminal.

    Args:
        file: The file.
        chosen: The selection.
        memory: Its memory.
        output: The style of output, as given.

    Returns:
        Whether it was run. Otherwise nothing was written.
    """
    if memory is None or not chosen.specs or sys.stdout.isatty():
        return False
    result = finish_unchanged(chosen.specs, memory)
    if result is None:
        return False
    begin(memory, chosen, force=False)
    names = [one.name for one in sorted(result.results, key=lambda one: one.wave or 0)]
    memory.note_unchanged(names)
    memory.close(chosen.specs)
    remember(file, result)
    style: Style = Prefix(names, commands_of(os.environ))
    if output in ("group", "raw"):
        style = Group(names) if output == "group" else Raw()
    lines = [str(piece) for name in names for piece in style.news(name, "up to date", final=True)]
    show("".join(lines) + f"\n{len(names)} up to date in {in_seconds(result.duration)}")
    return True
