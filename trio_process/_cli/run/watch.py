"""``trio-process run --watch``: wait for changes of files, and find the tasks that they affect."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Final, final

import trio

from ..._core import OptionError, ProcessError, open_scope
from ..._pipeline import RunSpec, SpecState, Watched
from ..output import print_error
from ..views import Board
from .last_run import DIRECTORY

if TYPE_CHECKING:
    from watchfiles import Change

_QUIET: Final = 200
"""Milliseconds without a change after which a burst of changes is over; editors and `git checkout` write many files."""

_LONGEST: Final = 2000
"""Milliseconds after which a burst is treated as over although it continues."""

_FIRST_LOOK: Final = 500
"""Milliseconds after which changes that were made while the watch was being set up are checked for."""

_OURS: Final = f"/{DIRECTORY}/"
_GOES_ON: Final = "The run goes on with the file as it was."
_LARGEST: Final = 2**24
_INSTALL: Final = "--watch needs watchfiles; install it with: pip install 'trio-process[watch]'"


def check_watch(specs: Sequence[RunSpec], schedule: str) -> None:
    """Check that there are files to watch, and that the extra for watching is installed.

    Raises:
        OptionError: One of these is missing.
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
    """Return the line to show when every task has a result."""
    counts = {state: board.counts[state] for state in (SpecState.FAILED, SpecState.SKIPPED, SpecState.UP_TO_DATE)}
    words = [f"{board.counts[SpecState.PASSED]} passed"]
    words += [f"{count} {state.value.replace('_', ' ')}" for state, count in counts.items() if count]
    return f"\n{', '.join(words)}; waiting for changes\n\n"


@asynccontextmanager
async def open_watch(
    specs: Sequence[RunSpec], files: Sequence[str], reload: Callable[[], bool], start_over: Callable[[], None]
) -> AsyncIterator[trio.MemoryReceiveChannel[Collection[str]]]:
    """Watch files during the block; yield the channel of the specs whose inputs have changed, once per burst of changes.

    Args:
        specs: The specs.
        files: The files that the pipeline was read from.
        reload: Called in a thread when one of them has changed; returns whether the run has to start over, and raises
            `ProcessError` if there are faults: they are reported, and the run continues with the previous pipeline.
        start_over: Called when the run has to start over.
    """
    async with open_scope() as nursery:
        send, restarts = trio.open_memory_channel[Collection[str]](0)
        watch = _Watch(specs, files, reload, start_over)
        await nursery.start(watch.run, send)
        try:
            yield restarts
        finally:
            nursery.cancel_scope.cancel()


@final
class _Watch:
    """Watch of the files of one run; see `open_watch`."""

    def __init__(
        self, specs: Sequence[RunSpec], files: Sequence[str], reload: Callable[[], bool], start_over: Callable[[], None]
    ) -> None:
        self._specs = specs
        self._files = files
        self._reload = reload
        self._start_over = start_over

    async def run(
        self,
        restarts: trio.MemorySendChannel[Collection[str]],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Watch until cancelled."""
        contents = await trio.to_thread.run_sync(self._contents)
        watched = await trio.to_thread.run_sync(Watched, self._specs)
        changed, looking = trio.open_memory_channel[None](1)
        task_status.started()
        async with restarts, changed, looking:
            while True:
                directories = watched.directories()
                async with open_scope() as nursery:
                    self._notice(directories, changed, nursery)
                    while watched.directories() == directories:  # a created or removed directory requires a new watch
                        await looking.receive()
                        before, contents = contents, await trio.to_thread.run_sync(self._contents)
                        if contents != before and await self._is_reloaded():
                            return
                        concerned = await trio.to_thread.run_sync(watched.changes)
                        if concerned:
                            await restarts.send(list(concerned))
                    nursery.cancel_scope.cancel()

    def _contents(self) -> list[bytes | None]:
        return list(map(_read, self._files))

    async def _is_reloaded(self) -> bool:
        try:
            if not await trio.to_thread.run_sync(self._reload):
                return False
        except ProcessError as error:
            await trio.to_thread.run_sync(print_error, f"trio-process: {error}\n{_GOES_ON}")
            return False
        self._start_over()
        return True

    def _notice(
        self, directories: Sequence[tuple[str, bool]], changed: trio.MemorySendChannel[None], nursery: trio.Nursery
    ) -> None:
        found = dict(directories)
        for file in self._files:
            found.setdefault(os.path.dirname(file), False)
        for is_deep in (True, False):
            chosen = [directory for directory, deep in found.items() if deep is is_deep and os.path.isdir(directory)]
            if chosen:
                nursery.start_soon(_notice, chosen, is_deep, changed)


def _read(path: str) -> bytes | None:
    """Return the contents of a file; None if it is missing, so that a file being replaced is checked again."""
    try:
        with open(path, "rb") as file:
            return file.read(_LARGEST)
    except OSError:
        return None


async def _notice(directories: list[str], is_deep: bool, changed: trio.MemorySendChannel[None]) -> None:  # noqa: FBT001
    try:
        await _notice_all(directories, changed, is_deep=is_deep)
    except OSError as error:  # such as the kernel's limit on watches
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
                    pass  # the check that is due anyway covers this change


def _is_foreign(change: Change, path: str) -> bool:
    """Return whether a change is not in our own records of runs."""
    del change
    return _OURS not in f"{path}{os.sep}"
