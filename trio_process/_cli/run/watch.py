"""``trio-process run --watch``: waits for changes of files, and says which tasks they concern."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

import trio

from ..._core import OptionError, open_scope
from ..._pipeline import RunSpec, SpecState, Watched
from .board import Board
from .last_run import DIRECTORY

if TYPE_CHECKING:
    from watchfiles import Change

_QUIET: Final = 200
"""Milliseconds without a change after which a burst of changes is over; editors and `git checkout` write many files."""

_LONGEST: Final = 2000
"""Milliseconds after which a burst is taken for ended although it goes on."""

_FIRST_LOOK: Final = 500
"""Milliseconds after which is looked for changes that came while the watch was being set up."""

_OURS: Final = f"/{DIRECTORY}/"
_INSTALL: Final = "--watch needs watchfiles; install it with: pip install 'trio-process[watch]'"


def check_watch(specs: Sequence[RunSpec], schedule: str) -> None:
    """Check that there is something to watch, and something to watch it with.

    Raises:
        OptionError: There is not.
    """
    if not any(spec.inputs for spec in specs):
        raise OptionError(
            "--watch runs tasks again when their inputs change, and no chosen task has `inputs`; name some"
        )
    if schedule != "eager":
        raise OptionError("--watch begins a task when its own dependencies have ended; leave --schedule waves out")
    try:
        import watchfiles  # noqa: F401, PLC0415 - an extra
    except ImportError:
        raise OptionError(_INSTALL) from None


def resting(board: Board) -> str:
    """Return the line that is shown when every task has a result."""
    counts = {state: board.counts[state] for state in (SpecState.FAILED, SpecState.SKIPPED, SpecState.UP_TO_DATE)}
    words = [f"{board.counts[SpecState.PASSED]} passed"]
    words += [f"{count} {state.value.replace('_', ' ')}" for state, count in counts.items() if count]
    return f"\n{', '.join(words)}; waiting for changes\n\n"


async def watch(
    specs: Sequence[RunSpec],
    restarts: trio.MemorySendChannel[Collection[str]],
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Send the names of the specs whose inputs have changed, once per burst of changes, until cancelled."""
    watched = await trio.to_thread.run_sync(Watched, specs)
    changed, looking = trio.open_memory_channel[None](1)
    task_status.started()
    async with restarts, changed, looking:
        while True:
            directories = watched.directories()
            async with open_scope() as nursery:
                for is_deep in (True, False):
                    chosen = [directory for directory, deep in directories if deep is is_deep]
                    if chosen:
                        nursery.start_soon(_notice, chosen, is_deep, changed)
                while watched.directories() == directories:  # a new or lost directory has to be watched anew
                    await looking.receive()
                    concerned = await trio.to_thread.run_sync(watched.changes)
                    if concerned:
                        await restarts.send(list(concerned))
                nursery.cancel_scope.cancel()


async def _notice(directories: list[str], is_deep: bool, changed: trio.MemorySendChannel[None]) -> None:  # noqa: FBT001
    try:
        await _notice_all(directories, changed, is_deep=is_deep)
    except OSError as error:  # such as the kernel's limit of watches
        raise OptionError(f"--watch can't watch {', '.join(directories)}: {error}") from error


async def _notice_all(directories: list[str], changed: trio.MemorySendChannel[None], *, is_deep: bool) -> None:
    from watchfiles import awatch  # noqa: PLC0415 - an extra

    is_first = True
    changes = awatch(
        *directories,
        watch_filter=_is_foreign,
        debounce=_LONGEST,
        step=_QUIET,
        rust_timeout=_FIRST_LOOK,
        yield_on_timeout=True,
        recursive=is_deep,
        ignore_permission_denied=True,
    )
    async with aclosing(changes):
        async for found in changes:
            if found or is_first:
                is_first = False
                try:
                    changed.send_nowait(None)
                except trio.WouldBlock:
                    pass  # the look that is due anyway comes after this change


def _is_foreign(change: Change, path: str) -> bool:
    """Return whether a change is not of our own notes on runs."""
    del change
    return _OURS not in f"{path}{os.sep}"
