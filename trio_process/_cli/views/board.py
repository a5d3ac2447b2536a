"""`Board`: the state of a run in progress, for its view."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Final, NamedTuple, TypeVar, final

import attrs
import trio

from ..._pipeline import RunAllResult, RunResult, RunSpec, RunUpdate, SpecState, make_plan
from ..text import glimpse

FINAL: Final = frozenset({SpecState.PASSED, SpecState.UP_TO_DATE, SpecState.FAILED, SpecState.SKIPPED})


@final
@attrs.define(eq=False)
class Row:
    """The state of one task; times are on the board's clock.

    Attributes:
        attempts: How often it was run.
        earlier: How many of these preceded its last restart.
        host: The machine that it runs or ran on; empty for this one.
    """

    spec: RunSpec
    state: SpecState = SpecState.PENDING
    attempts: int = 0
    earlier: int = 0
    started: float | None = None
    ended: float | None = None
    last_line: str = ""
    unfinished: str = ""
    host: str = ""
    result: RunResult | None = None

    def elapsed(self, now: float) -> float | None:
        """Return the seconds since its start, or its duration once it has ended; None before the start."""
        if self.result is not None and self.result.started is not None:
            return self.result.duration
        return None if self.started is None else (self.ended or now) - self.started


class Change(NamedTuple):
    """A change of a task, with its new state."""

    row: Row
    state: SpecState
    attempts: int
    result: RunResult | None
    was_running: bool = False


@final
class Board:
    """The tasks of one run, in the order in which they can start.

    Args:
        specs: The specs.
        clock: Seconds, monotonic.

    Attributes:
        rows: A row per task, by name: ordered by wave, and within a wave as in the file.
        counts: How many tasks are in each state.
        culprit: The first task whose failure was not allowed, or None.
        progress: Returns the host and the unfinished line of each running task, for `look`.
        interrupted: What requested an early end, such as "Ctrl-C"; empty if nothing has.
    """

    def __init__(self, specs: Sequence[RunSpec], clock: Callable[[], float]) -> None:
        waves = make_plan(specs).wave
        last = len(specs)
        order = sorted(range(last), key=lambda place: (last if (wave := waves[place]) is None else wave, place))
        self.specs = tuple(specs)
        self.rows = {specs[place].name: Row(specs[place]) for place in order}
        self.counts: Counter[SpecState] = Counter({SpecState.PENDING: last})
        self.running: dict[str, Row] = {}
        self.failed: dict[str, Row] = {}
        self.ended: dict[str, Row] = {}
        self.culprit: str | None = None
        self.interrupted = ""
        self.clock = clock
        self.progress: Callable[[], Iterable[tuple[str | None, str | None, str]]] = tuple
        self.started = clock()

    def update(self, update: RunUpdate) -> Change:
        """Apply an update, and return the change for the view."""
        row = self.rows[update.name]
        was_running = row.state is SpecState.RUNNING
        if update.state is SpecState.PENDING:
            self._reopen(row)
        self.counts[row.state] -= 1
        self.counts[update.state] += 1
        row.state = update.state
        if update.state is SpecState.RUNNING:
            row.attempts += 1
            row.started = row.started if row.started is not None else self.clock()
        if update.state in (SpecState.QUEUED, SpecState.RUNNING, SpecState.RETRYING):
            self.running[update.name] = row
        elif update.state in FINAL:
            self._end(update, row)
        return Change(row, update.state, row.attempts, update.result, was_running)

    def _reopen(self, row: Row) -> None:
        """Show a task as not yet started; its attempts still count, because the log contains all of them."""
        name = row.spec.name
        row.started = row.ended = row.result = None
        row.last_line = row.unfinished = row.host = ""
        row.earlier = row.attempts
        for rows in (self.running, self.failed, self.ended):
            rows.pop(name, None)
        if self.culprit == name:
            self.culprit = None

    def _end(self, update: RunUpdate, row: Row) -> None:
        row.result = update.result
        row.ended = self.clock()
        ended = None if update.result is None else update.result.command_result
        row.host = "" if ended is None or ended.host is None else ended.host
        self.running.pop(update.name, None)
        self.ended[update.name] = row
        if update.state is SpecState.FAILED:
            self.failed[update.name] = row
            if self.culprit is None and not self.interrupted and not row.spec.allow_failure:
                self.culprit = update.name

    def line(self, name: str | None, lines: Sequence[str]) -> None:
        """Apply the newest lines of a task."""
        row = self.rows.get(name or "")
        if row is not None:
            row.last_line = next((text for line in reversed(lines) if (text := glimpse(line).strip())), row.last_line)

    def look(self) -> None:
        """Update the hosts and the unfinished lines of running tasks."""
        for running in self.running.values():
            running.unfinished = running.host = ""
        for name, host, line in self.progress():
            row = self.running.get(name or "")
            if row is not None:
                row.host = host or ""
                row.unfinished = glimpse(line).strip()

    @property
    def done(self) -> int:
        """The number of tasks that have ended or were skipped."""
        return len(self.ended)

    @property
    def elapsed(self) -> float:
        """Seconds since the start of the run."""
        return self.clock() - self.started

    def waits_for(self, row: Row) -> list[str]:
        """Return the dependencies of a task that have not ended yet."""
        return [name for name in row.spec.after if name in self.rows and self.rows[name].result is None]

    def result(self) -> RunAllResult:
        """Return the results so far, for a run that was cut short."""
        known = [self.rows[spec.name].result for spec in self.specs]
        return RunAllResult(results=tuple([result for result in known if result is not None]), duration=self.elapsed)


_Item = TypeVar("_Item")


async def receive_all(channel: trio.MemoryReceiveChannel[_Item]) -> list[_Item]:
    """Wait for items, and return all that are available; an empty list at the end of the channel.

    With one item at a time, a view would fall behind a run of thousands of short tasks, several of which can pass in
    one turn of the event loop.
    """
    found: list[_Item] = []
    with suppress(trio.WouldBlock, trio.EndOfChannel):
        found.append(await channel.receive())
        while True:
            found.append(channel.receive_nowait())
    return found
