"""Render a run: the frame of the live view and the final summary, as rich renderables. Nothing here awaits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from io import StringIO
from typing import Final

from rich import box
from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ..._core import EndReason, in_seconds, last_lines, masker_for, may_have_run
from ..._pipeline import RootCause, RunAllResult, RunResult, SpecState
from ..._process import WANTS_TERMINAL
from ..text import clock, glimpse, listed, one_line, steady, typed, without_sequences
from .board import Board, Row
from .summary import Summary

SHOWN_LINES: Final = 20
"""The number of lines shown of a failed task's output, counted from its end."""

SHOWN_CAUSES: Final = 25
"""The number of failures shown in full; the reports contain all of them."""

SHOWN_SLOWEST: Final = 5

_SPINNER: Final = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_ASCII_SPINNER: Final = "|/-\\"
_FRAMES_A_SECOND: Final = 10
_MARKS: Final = {  # state: mark, the same in ASCII, style
    SpecState.PENDING: ("·", ".", "dim"),
    SpecState.QUEUED: ("◦", "q", "cyan"),
    SpecState.RUNNING: ("", "", "cyan"),
    SpecState.RETRYING: ("↻", "r", "yellow"),
    SpecState.PASSED: ("✓", "+", "green"),
    SpecState.UP_TO_DATE: ("✓", "=", "dim green"),
    SpecState.FAILED: ("✗", "x", "bold red"),
    SpecState.SKIPPED: ("–", "-", "dim"),  # noqa: RUF001 - the dash is intended
}
_WIDE_ENOUGH: Final = 60  # columns; a narrower row has no room for the task's last line
_LEAST_NAME: Final = 12
_MOST_HOST: Final = 16
_TAIL: Final = 4000  # characters
_FIXED_ROWS: Final = 4  # the fold line, an empty line, the bar, and the cursor's line


def terminal_console() -> Console:
    """Return a console on our terminal that prints texts unchanged, without markup, emoji codes or highlighting."""
    return Console(markup=False, emoji=False, highlight=False)


def as_text(parts: Iterable[RenderableType], width: int) -> str:
    """Return the output of a console without colours."""
    text = StringIO()
    console = Console(
        file=text, width=width, color_system=None, force_terminal=False, markup=False, emoji=False, highlight=False
    )
    for part in parts:
        console.print(part, soft_wrap=True)
    return "".join([line.rstrip() + "\n" for line in text.getvalue().split("\n")[:-1]])


def frame(board: Board, console: Console) -> RenderableType:
    """Return the live view of a run: a line per task, as many as fit, and a progress bar for the whole run."""
    plain = console.options.ascii_only
    rows, folded = choose_rows(board, max(1, console.height - _FIXED_ROWS))
    if folded is not None:
        folded.truncate(console.width, overflow="ellipsis")
    return Group(
        *_lines(board, rows, console.width, plain=plain),
        *([folded] if folded else []),
        Text(),
        bar(board, console.width),
    )


class _Drawn(StringIO):
    """What is drawn for a terminal."""

    def isatty(self) -> bool:
        return True


def frame_lines(board: Board, console: Console) -> tuple[list[str], list[int]]:
    """Return the frame as terminal lines, as many as fit, and the number of columns of each."""
    terminal, drawn = console.file, _Drawn()
    console.file = drawn  # `capture` ends with a write of nothing, which fails on a terminal that was closed
    try:
        console.print(frame(board, console))
    finally:
        console.file = terminal
    lines = drawn.getvalue().split("\n")[:-1][: max(1, console.height - 1)]
    return lines, [cell_len(without_sequences(line).rstrip()) for line in lines]


def _lines(board: Board, rows: list[Row], width: int, *, plain: bool) -> Iterator[Text]:
    """Yield a line per task: mark, name, time, host and note. Not a rich table, as each column has its own width rule."""
    names = {row.spec.name: steady(one_line(row.spec.name)) for row in rows}
    name_width = min(max(map(cell_len, names.values()), default=0), max(_LEAST_NAME, width // 3))
    host_width = min(max([cell_len(one_line(row.host)) for row in rows], default=0), _MOST_HOST)
    for row in rows:
        mark, style = _mark(row, board, plain=plain)
        name = Text(names[row.spec.name], "dim" if row.state is SpecState.PENDING else "")
        name.truncate(name_width, overflow="ellipsis", pad=True)
        elapsed = row.elapsed(board.clock())
        took = "" if elapsed is None else clock(elapsed)
        line = Text.assemble((mark, style), " ", name, (f" {took:>7}", "" if row.result is None else "dim"))
        if host_width and width >= _WIDE_ENOUGH:
            host = Text(one_line(row.host), "dim")
            host.truncate(host_width, overflow="ellipsis", pad=True)
            line.append("  ").append_text(host)
        note = _note(row, board)
        if note and width >= _WIDE_ENOUGH:
            line.append(f"  {note}", _note_style(row))
        line.truncate(width, overflow="ellipsis")
        yield line


def _mark(row: Row, board: Board, *, plain: bool) -> tuple[str, str]:
    mark, ascii_mark, style = _MARKS[row.state]
    if row.state is SpecState.RUNNING:
        spinner = _ASCII_SPINNER if plain else _SPINNER
        return spinner[int(board.elapsed * _FRAMES_A_SECOND) % len(spinner)], style
    if row.result is not None and row.result.allowed:
        style = "yellow"
    return (ascii_mark if plain else mark), style


def _note(row: Row, board: Board) -> str:
    """Return the last cell of a row: the last line of the task, or a note on its state."""
    match row.state:
        case SpecState.PENDING:
            waits = board.waits_for(row)
            return f"waits for {listed(waits, most=3)}" if waits else "waits for a free slot"
        case SpecState.QUEUED:
            return (
                f"waits for {listed(row.spec.uses, most=3)} to be ready"
                if row.spec.uses
                else "waits for a place or a service"
            )
        case SpecState.RETRYING:
            return f"failed; attempt {row.attempts + 1} of {row.spec.retries + 1} follows"
        case SpecState.FAILED | SpecState.SKIPPED if row.result is not None:
            return ending(row.result)
        case SpecState.RUNNING if row.unfinished:
            return row.unfinished
        case _:
            return row.last_line


def _note_style(row: Row) -> str:
    if row.result is None or row.state is not SpecState.FAILED:
        return "dim"
    return "yellow" if row.result.allowed else "red"  # in the style of its mark


def choose_rows(board: Board, height: int) -> tuple[list[Row], Text | None]:
    """Return the rows that fit, in order, and a line with the number of the others.

    Running tasks take precedence over failed ones, then waiting ones, then ended ones, the latest first.
    """
    if len(board.rows) <= height:
        return list(board.rows.values()), None
    chosen: dict[str, Row] = {}
    for rows in (
        board.running.values(),
        reversed(board.failed.values()),
        _pending(board),
        reversed(board.ended.values()),
    ):
        for row in rows:
            if len(chosen) >= height:
                break
            chosen.setdefault(row.spec.name, row)
    shown = [row for name, row in board.rows.items() if name in chosen]
    rest = {state: board.counts[state] - sum(row.state is state for row in shown) for state in SpecState}
    counted = [f"{count} {state.value}" for state, count in rest.items() if count]
    return shown, Text(f"  and {', '.join(counted)}", "dim")


def _pending(board: Board) -> Iterator[Row]:
    """Yield the waiting tasks; the first ones start next."""
    return (row for row in board.rows.values() if row.state is SpecState.PENDING)


def bar(board: Board, width: int) -> RenderableType:
    """Return the progress bar for the whole run, and its numbers."""
    skipped = board.counts[SpecState.SKIPPED]
    allowed = sum(row.result is not None and row.result.allowed for row in board.failed.values())
    failed = board.counts[SpecState.FAILED] - allowed
    words = Text.assemble((f"{board.done}/{len(board.rows)}", "bold"))
    for count, word, style in (
        (len(board.running), "running", "cyan"),
        (failed, "failed", "bold red"),
        (allowed, "failed as allowed", "yellow"),
        (skipped, "skipped", "dim"),
    ):
        if count:
            words.append(f"  {count} {word}", style)
    words.append(f"  {clock(board.elapsed)}", "dim")
    if board.interrupted:
        words.append(f"  {board.interrupted}", "bold yellow")
    if board.interrupted and board.running:
        words = Text(f"{board.interrupted}: stopping {len(board.running)}; once more to kill", "bold yellow")
    grid = Table.grid(padding=(0, 1), expand=False)
    grid.add_column(width=max(10, min(40, width // 3, width - words.cell_len - 1)))  # the words take precedence
    grid.add_column(no_wrap=True, overflow="ellipsis")
    style = "red" if failed or skipped else "green"
    progress = ProgressBar(
        total=max(1, len(board.rows)), completed=board.done, complete_style=style, finished_style=style
    )
    grid.add_row(progress, words)
    return grid


def ending(result: RunResult) -> str:
    """Describe how a task ended, in a few words."""
    ended = result.command_result
    if result.passed:
        words = "up to date" if result.state is SpecState.UP_TO_DATE else "passed"
    elif result.skipped or ended is None or result.error is None:
        words = (
            f"exited with code {result.exit_code}"
            if result.error is None
            else one_line(str(result.error).split("\n")[0])
        )
    elif WANTS_TERMINAL in ended.output[-_TAIL:]:
        words = "it wants the terminal"
    elif ended.reason in _ENDINGS:
        words = _ENDINGS[ended.reason]
    elif ended.lost is not None:
        words = f"{'was lost' if may_have_run(ended) else 'was not run'} ({one_line(ended.lost.splitlines()[0])})"
    elif ended.signal_name:
        words = f"died of {ended.signal_name}"
    else:
        words = one_line(str(result.error).split("\n")[0])
    return f"{words} (allowed to fail)" if result.allowed else words


def ended_after(result: RunResult) -> str:
    """Describe how a task ended, and after how long."""
    if not result.attempts or result.command_result is None:
        return ending(result)  # an error text: a duration after it would seem to belong to its last words
    return f"{ending(result)} {'in' if result.passed else 'after'} {in_seconds(result.duration)}"


_ENDINGS: Final = {
    EndReason.TIMED_OUT: "ran into its timeout",
    EndReason.IDLE: "wrote nothing for its idle-timeout",
    EndReason.STOPPED: "was stopped",
    EndReason.KILLED: "was killed",
    EndReason.CANCELLED: "was cancelled",
}


def account(result: RunAllResult, summary: Summary, width: int, interrupted: str = "") -> list[RenderableType]:
    """Return the final account: failures by root cause, the slowest tasks, the critical path, the numbers."""
    parts: list[RenderableType] = []
    for cause in summary.causes[:SHOWN_CAUSES]:
        parts += [_cause(cause), Text()]
    if len(summary.causes) > SHOWN_CAUSES:
        names = listed(cause.result.name for cause in summary.causes[SHOWN_CAUSES:])
        parts += [Text(f"more failed: {names}", "red"), Text()]
    if len(summary.slowest) > 1:
        parts += [_slowest(summary, width), _critical(summary, result), Text()]
    return [*parts, totals(result, summary, interrupted)]


def _cause(cause: RootCause) -> Text:
    result = cause.result
    style = "yellow" if result.allowed else "bold red"
    attempts = f", {result.attempts} attempts" if result.attempts > 1 else ""
    host = result.command_result.host if result.command_result is not None else None
    where = f", on {one_line(host)}" if host else ""
    name = (one_line(result.name), "bold")
    text = Text.assemble(("FAILED ", style), name, f": {ended_after(result)}{where}{attempts}")
    text.append("\n  $ ", "dim")
    text.append(typed(result.spec))
    output = masker_for(result.spec.options)(result.output)
    for line in last_lines(output, SHOWN_LINES):
        text.append("\n  | ", "dim")
        text.append(glimpse(line))
    if cause.stopped:
        text.append(f"\n  stopped because of it: {listed(cause.stopped)}", "yellow")
    if cause.skipped:
        text.append(f"\n  not run because of it: {listed(cause.skipped)}", "yellow")
    return text


def _slowest(summary: Summary, width: int) -> Table:
    critical = {result.name for result in summary.critical}
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="dim")
    table.add_column("slowest", no_wrap=True, overflow="ellipsis", max_width=max(_LEAST_NAME, width // 3))
    table.add_column("took", justify="right", no_wrap=True, min_width=7)
    table.add_column("critical", justify="center", no_wrap=True, min_width=8)
    if width >= _WIDE_ENOUGH:
        table.add_column("ended", no_wrap=True, overflow="ellipsis", max_width=width // 2)
    for result in summary.slowest[:SHOWN_SLOWEST]:
        cells = [one_line(result.name), clock(result.duration), "yes" if result.name in critical else ""]
        style = "" if result.passed else "yellow" if result.allowed else "red"
        table.add_row(*map(Text, cells), *([Text(ending(result), style)] if width >= _WIDE_ENOUGH else []))
    return table


def _critical(summary: Summary, result: RunAllResult) -> Text:
    took = sum(one.duration for one in summary.critical)
    names = [one_line(one.name) for one in summary.critical]
    if len(names) > SHOWN_SLOWEST + 2:
        names = [*names[:3], f"{len(names) - 6} more", *names[-3:]]
    path = " → ".join(names)
    return Text.assemble(("critical path  ", "dim"), path, (f"  {clock(took)} of {clock(result.duration)}", "dim"))


def totals(result: RunAllResult, summary: Summary, interrupted: str = "") -> Text:
    """Return the last line: the numbers."""
    may_fail = {one.name for one in result.results if one.allowed}
    unchanged = sum(one.state is SpecState.UP_TO_DATE for one in result.results)
    stopped = len({name for cause in summary.causes for name in cause.stopped} - may_fail)
    counts = [
        (result.passed - unchanged, "passed", "green"),
        (unchanged, "up to date", "green"),
        (result.failed - len(may_fail) - len(summary.interrupted) - stopped, "failed", "bold red"),
        (stopped, "stopped", "yellow"),
        (len(may_fail), "failed as allowed", "yellow"),
        (len(summary.interrupted), "interrupted", "yellow"),
        (result.skipped, "not run", "yellow"),
    ]
    text = Text()
    for count, word, style in counts:
        if count:
            text.append(", " if text else "")
            text.append(f"{count} {word}", style)
    nothing = "nothing has run, " if interrupted else "nothing to run, "
    text.append(f"{' ' if text else nothing}in {in_seconds(result.duration)}", "dim")
    if result.timed_out:
        text.append("; the --timeout ran out", "bold red")
    return Text.assemble((f"{interrupted}: ", "bold yellow"), text) if interrupted else text
