"""Write the plain view: a log of the tasks' output, for files, pipes, CI and terminals without colours."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, final

import attrs
import trio

from ..._core import EventBatch, Subscription, open_scope
from ..._pipeline import SpecState
from ..text import typed
from .board import FINAL, Board, Change, receive_all
from .render import ended_after
from .styles import Piece, Style

MOST_PENDING: Final = 2**18
"""The number of queued characters at which reading pauses, and so do the tasks."""

_AT_ONCE: Final = 2**16  # characters read from a file at a time
_SETTLE: Final = 0.02  # seconds until the command of a starting task is written to the log


@final
class Writer:
    """Writer of texts in order, in a task of its own: timeouts and Ctrl-C must work while a slow reader blocks it.

    Args:
        write: Writes one text, and waits until it is accepted. Texts end with a newline, so lines are never split.
    """

    def __init__(self, write: Callable[[str], Awaitable[object]]) -> None:
        self._write = write
        self._pieces: deque[Piece] = deque()
        self._size = 0
        self._changed = trio.Condition()
        self._is_closed = False
        self._is_writing = False
        self._is_held = False

    def put(self, pieces: Iterable[Piece]) -> None:
        """Queue texts, to be written at the next call of `room` or `close`."""
        for piece in pieces:
            self._pieces.append(piece)
            self._size += len(piece) if isinstance(piece, str) else 0

    async def room(self) -> None:
        """Start writing the queued texts, and wait until there is room for more."""
        async with self._changed:
            self._changed.notify_all()
            while self._size > MOST_PENDING:
                await self._changed.wait()

    async def close(self) -> None:
        """Start writing the queued texts, after which `run` returns."""
        async with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Write all queued texts, and nothing more until the block ends."""
        async with self._changed:
            self._changed.notify_all()
            while self._pieces or self._is_writing:
                await self._changed.wait()
            self._is_held = True
        try:
            yield
        finally:
            self._is_held = False
            with trio.CancelScope(shield=True):
                async with self._changed:
                    self._changed.notify_all()

    async def run(self) -> None:
        """Write queued texts until `close`."""
        while True:
            async with self._changed:
                self._is_writing = False
                self._changed.notify_all()
                while self._is_held or not (self._pieces or self._is_closed):
                    await self._changed.wait()
                pieces, self._pieces, self._size = self._pieces, deque(), 0
                self._is_writing = bool(pieces)
                self._changed.notify_all()
            if not pieces:
                return
            for text in _joined(pieces):
                await self._write(text)


def _joined(pieces: Iterable[Piece]) -> Iterator[str]:
    """Yield texts joined, and files piece by piece; close each file at its end."""
    texts: list[str] = []
    for piece in pieces:
        if isinstance(piece, str):
            texts.append(piece)
            continue
        if texts:
            yield "".join(texts)
            texts = []
        with piece:
            while part := piece.read(_AT_ONCE):
                yield part
    if texts:
        yield "".join(texts)


@attrs.define(eq=False)
class _TaskLog:
    """The log of one task.

    Updates and lines arrive on different channels. The text of an update must follow the lines of its attempt, so each
    text waits until as many attempts have ended.

    Attributes:
        pending: Texts, each with whether it is the task's last, and how many attempts must have ended before; no text
            for the command of the next attempt.
        exits: How many attempts have ended.
        announced: The last attempt whose command was written.
    """

    pending: deque[tuple[int, str, bool]] = attrs.field(factory=deque)
    exits: int = 0
    announced: int = 0


@final
class PlainView:
    """Plain view of a run, as lines.

    Args:
        board: The state to show.
        write: Writes one text of whole lines.
        style: Formats the lines.
        finish: Called when the run has ended, and only queued texts remain to be written.
        at_rest: Returns the text to write whenever every task has a result.
    """

    def __init__(
        self,
        board: Board,
        write: Callable[[str], Awaitable[object]],
        style: Style,
        finish: Callable[[], object] = lambda: None,
        at_rest: Callable[[], str] = str,
    ) -> None:
        self._at_rest = at_rest
        self._is_resting = False
        self._board = board
        self._writer = Writer(write)
        self._style = style
        self._finish = finish
        self._logs = {name: _TaskLog() for name in board.rows}
        self._pending = 0  # the number of pending texts of all tasks
        self._ended = set[str]()  # as far as changes were received: the board is ahead of them

    async def show(self, changes: trio.MemoryReceiveChannel[Change], output: Subscription[Any]) -> None:
        """Write changes and output until both channels have ended."""
        async with open_scope(wait=True) as writing:
            writing.start_soon(self._writer.run)
            async with open_scope(wait=True) as reading:
                reading.start_soon(self._read_changes, changes)
                reading.start_soon(self._read_output, output)
            for name in self._logs:
                self._report(name, everything=True)
            self._writer.put(self._style.end())
            self._finish()
            await self._writer.close()

    def aside(self) -> Any:
        """Leave the terminal to a task."""
        return self._aside()

    @asynccontextmanager
    async def _aside(self) -> AsyncIterator[None]:
        await trio.sleep(_SETTLE)
        async with self._writer.held():
            yield

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """Leave the terminal to the shell; nothing has to be restored."""
        yield

    def last_words(self) -> None:
        """Do nothing: there is nothing to restore."""

    async def _read_changes(self, changes: trio.MemoryReceiveChannel[Change]) -> None:
        async with changes:
            while found := await receive_all(changes):
                for change in found:
                    self._note(change)
                    self._report(change.row.spec.name)
                await self._writer.room()

    async def _read_output(self, output: Subscription[Any]) -> None:
        with output:
            while True:
                try:
                    batch = await output.receive_batch()
                except trio.EndOfChannel:
                    return
                if batch.name in self._logs:
                    self._take(batch.name, batch)
                    await self._writer.room()

    def _take(self, name: str, batch: EventBatch) -> None:
        """Write lines of a task, or record the end of one of its attempts."""
        log = self._logs[name]
        if batch.stream is None:
            log.exits += 1
            self._report(name)
            return
        self._announce(name, log.exits + 1)
        self._writer.put(self._style.lines(name, batch.lines))

    def _note(self, change: Change) -> None:
        """Queue the text of a change, with the number of attempts that must have ended before."""
        name, text, before, is_final = change.row.spec.name, "", change.attempts, True
        if change.state in FINAL:
            self._ended.add(name)
        else:
            self._ended.discard(name)
        if change.state is SpecState.RUNNING:
            before, is_final = change.attempts - 1, False
        elif change.state is SpecState.RETRYING:
            attempts = f"attempt {change.attempts - change.row.earlier + 1} of {change.row.spec.retries + 1}"
            text, is_final = f"failed; {attempts} follows", False
        elif change.state is SpecState.PENDING and change.was_running:
            text = "stopped, because its inputs or dependencies have changed"
        elif change.state in FINAL and change.result is not None:
            text = ended_after(change.result)
        else:
            return
        self._logs[name].pending.append((before, text, is_final))
        self._pending += 1

    def _report(self, name: str, *, everything: bool = False) -> None:
        log = self._logs[name]
        while log.pending and (everything or log.pending[0][0] <= log.exits):
            exits, text, final = log.pending.popleft()
            self._pending -= 1
            if text:
                self._writer.put(self._style.news(name, text, final=final))
            else:
                self._announce(name, exits + 1)
        is_resting = self._board.done == len(self._ended) == len(self._logs) and not self._pending
        if is_resting and not self._is_resting:
            self._writer.put([text] if (text := self._at_rest()) else [])
        self._is_resting = is_resting

    def _announce(self, name: str, attempt: int) -> None:
        """Write the command of a task, once per attempt and before its first line."""
        log = self._logs[name]
        if log.announced < attempt:
            log.announced = attempt
            self._writer.put(self._style.command(name, typed(self._board.rows[name].spec)))
