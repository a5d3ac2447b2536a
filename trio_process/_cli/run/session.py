"""Run a file, from the first task to the exit status; with ``--watch``, one run after another."""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final, final

import attrs
import trio
from rich.console import RenderableType

from ..._pipeline import Memory, PipelineFile, RunSpec
from ..._supervisor import make_units
from ..find import read_file
from ..instance import instance_of
from ..job_control import SuspendableClock
from ..limits import raise_descriptor_limit
from ..output import OutputLost, print_error, show, without_output, write
from ..screen import Screen, asks_for_colours, wants_live_view
from ..terminal import Terminal
from ..views import (
    Board,
    Group,
    LiveView,
    PlainView,
    Prefix,
    Raw,
    Style,
    View,
    account,
    as_text,
    commands_of,
    summarize,
    terminal_console,
)
from .drive import Outcome, RunSettings, drive
from .last_run import remember
from .logs import logged_to
from .remembered import Chosen, begin, choose, open_memory, remember_ends
from .reports import write_reports
from .watch import check_watch, resting

FAILED: Final = 1
_PLAIN_WIDTH: Final = 120


@final
class Runs:
    """The run of a file; with ``--watch``, another one each time the file itself has changed.

    Args:
        settings: The settings that do not depend on the file.
        reports: The kinds and files of reports.
        output: The style of output, None to choose a suitable one.
        logs: The directory for the output of each task.
        is_watching: Whether to continue after the run.
    """

    def __init__(
        self,
        settings: RunSettings,
        reports: Sequence[tuple[str, Path]],
        output: str | None,
        logs: Path | None,
        *,
        is_watching: bool,
    ) -> None:
        self._settings = settings
        self._reports = reports
        self._output = output
        self._logs = logs
        self._is_watching = is_watching
        self._next: tuple[PipelineFile, Chosen] | None = None

    def run(self, file: PipelineFile, chosen: Chosen, memory: Memory | None, *, force: bool) -> int:
        """Run the selection, and return the exit status.

        Raises:
            OptionError: The selection can't be watched.
        """
        if self._is_watching:
            check_watch(chosen.specs, self._settings.schedule)
        while True:
            begin(memory, chosen, force=force)
            specs = chosen.specs if self._logs is None else logged_to(self._logs, chosen.specs)
            settings = self._settings_for(file, chosen, memory)
            status = _OneRun(file, specs, settings, self._reports, self._output).run()
            if status is not None:
                return status
            assert self._next is not None, "a run is only outdated by a file that was read again"
            file, chosen = self._next
            memory, force = open_memory(file), False
            show(f"\n{file.path} has changed; starting over\n")

    def _settings_for(self, file: PipelineFile, chosen: Chosen, memory: Memory | None) -> RunSettings:
        settings = self._settings
        is_local = settings.launcher is None

        units = make_units(file) if any(spec.uses for spec in chosen.specs) else ()

        def reload() -> bool:
            found = read_file(file.path)
            again = choose(found, None, chosen.tasks, chosen.arguments, only_failed=False, resuming=False)
            check_watch(again.specs, settings.schedule)
            self._next = found, again
            is_same = again.specs == chosen.specs and found.cleanup_timeout == file.cleanup_timeout
            return not is_same or (bool(units) and make_units(found) != units)

        return attrs.evolve(
            settings,
            jobs=_default_jobs(file) if settings.jobs is None and is_local else settings.jobs,
            cleanup_timeout=settings.cleanup_timeout if file.cleanup_timeout is None else file.cleanup_timeout,
            memory=memory,
            units=units,
            reload=reload if self._is_watching else None,
            files=file.files,
            instance=instance_of(file.path) if file.is_regular else None,
        )


@final
class _OneRun:
    """One run, shown on a terminal through a `Screen`, which never blocks, else through `sys.stdout`."""

    def __init__(
        self,
        file: PipelineFile,
        specs: Sequence[RunSpec],
        settings: RunSettings,
        reports: Sequence[tuple[str, Path]],
        output: str | None,
    ) -> None:
        self._file = file
        self._specs = specs
        self._settings = settings
        self._reports = reports
        self._terminal = Terminal()
        self._screen = Screen(self._terminal) if sys.stdout.isatty() else None
        if output is None and settings.reload is not None:
            output = "prefix"  # the output of a failure must be visible before the end
        if output is None:
            output = "live" if wants_live_view(os.environ) and self._is_in_foreground() else "prefix"
        self._output = output
        self._console = terminal_console() if output == "live" else None

    def _is_in_foreground(self) -> bool:
        return not self._terminal.exists or self._terminal.is_ours

    def run(self) -> int | None:
        """Run the pipeline, report on it, and return the exit status; None if its file has changed."""
        clock = SuspendableClock()
        raise_descriptor_limit()
        if asks_for_colours(os.environ):
            os.environ["FORCE_COLOR"] = "1"  # not in the specs: fingerprints must not depend on our terminal
        try:
            outcome, board = trio.run(self._drive, clock, clock=clock)
            # before it is shown: if the terminal is lost, the next run still needs the record
            remember(self._file, outcome.result)
            remember_ends(self._settings.memory, outcome.result)
            if outcome.is_outdated and not outcome.signal and outcome.lost is None:
                return None
            faults = write_reports(self._reports, outcome.result)
            status = self._show(outcome, board)
        finally:
            if self._screen is not None:
                self._screen.close()
            self._terminal.close()
        for fault in faults:
            print_error(f"trio-process: {fault}")
        if status:
            return status
        if outcome.signal:
            return 128 + outcome.signal
        return FAILED if faults or not outcome.result.acceptable else 0

    async def _drive(self, clock: SuspendableClock) -> tuple[Outcome, Board]:
        board = Board(self._specs, trio.current_time)
        live = self._console is not None
        return await drive(self._specs, self._settings, board, self._view(board), clock, lossless=not live), board

    def _view(self, board: Board) -> View:
        if self._console is not None and self._screen is not None:
            return LiveView(board, self._console, self._screen)
        style: Style
        match self._output:
            case "group":
                style = Group(board.rows)
            case "raw":
                style = Raw()
            case _:
                style = Prefix(board.rows, commands_of(os.environ))
        write_text: Callable[[str], Awaitable[object]] = _write_in_thread

        def at_rest() -> str:
            return (
                resting(board)
                if self._settings.reload is not None and self._output != "raw" and not board.interrupted
                else ""
            )

        if self._screen is None:
            return PlainView(board, write_text, style, at_rest=at_rest)
        return PlainView(board, self._screen.write_soon, style, self._screen.limit_waits, at_rest)

    def _show(self, outcome: Outcome, board: Board) -> int:
        """Show the account; return the exit status for lost output, else 0."""
        try:
            if outcome.lost is not None:
                raise outcome.lost
            width = _PLAIN_WIDTH if self._console is None else self._console.width
            summary = summarize(outcome.result, board.culprit, interrupted=bool(outcome.signal))
            self._write(account(outcome.result, summary, width, board.interrupted))
        except OutputLost as error:
            status = without_output(error)
            if isinstance(error.__cause__, TimeoutError):
                return 0  # an unresponsive terminal doesn't change the exit status of the run
            return 128 + outcome.signal if outcome.signal else status
        return 0

    def _write(self, parts: Sequence[RenderableType]) -> None:
        if self._console is None:
            text = "\n" + as_text(parts, _PLAIN_WIDTH)
        else:
            with self._console.capture() as captured:
                self._console.print()
                for part in parts:
                    self._console.print(part)
            text = captured.get()
        if self._screen is None:
            write(text)
        else:
            self._screen.write(text)


async def _write_in_thread(text: str) -> None:
    await trio.to_thread.run_sync(write, text, abandon_on_cancel=True)


def _default_jobs(file: PipelineFile) -> int | None:
    """Return the default number of concurrent tasks: processors plus two, as in ninja; for a Procfile, all."""
    if file.procfile:
        return None
    ours = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1  # missing on macOS
    return ours + 2
