"""The plain view: lines with the task's name in front, for logs, pipes and terminals without colours."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final, final

import trio

from ..._core import EventBatch, Subscription, open_scope
from ..._pipeline import RunUpdate, SpecState
from ..text import logged, one_line, typed
from .board import FINAL, Board, Row, receive_all
from .render import ended_after

MOST_PENDING: Final = 2**18
"""How many characters may wait to be written before reading pauses, and with it the tasks."""

_WIDEST: Final = 24  # columns that a name may push the others to the right


@final
class Writer:
    """Writes texts in order, in a thread: whoever reads our output may be slow, and timeouts and Ctrl-C must go on.

    Args:
        write: Writes one text, and may block. Texts end with a newline, so that no line is ever torn.
    """

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write
        self._texts: deque[str] = deque()
        self._size = 0
        self._changed = trio.Condition()
        self._closed = False

    def put(self, text: str) -> None:
        """Keep `text`, to be written with the next call of `room` or `close`."""
        self._texts.append(text)
        self._size += len(text)

    async def room(self) -> None:
        """Let what was put be written, and wait until there is room for more."""
        async with self._changed:
            self._changed.notify_all()
            while self._size > MOST_PENDING:
                await self._changed.wait()

    async def close(self) -> None:
        """Let what was put be written, and `run` end after it."""
        async with self._changed:
            self._closed = True
            self._changed.notify_all()

    async def run(self) -> None:
        """Write whatever comes, until it is closed."""
        while True:
            async with self._changed:
                while not self._texts and not self._closed:
                    await self._changed.wait()
                texts, self._texts, self._size = self._texts, deque(), 0
                self._changed.notify_all()
            if not texts:
                return
            await trio.to_thread.run_sync(self._write, "".join(texts), abandon_on_cancel=True)


@final
class PlainView:
    """Writes what happens on a board, line by line.

    Args:
        board: What is shown.
        write: Writes one text of whole lines, and may block.
    """

    def __init__(self, board: Board, write: Callable[[str], object]) -> None:
        self._board = board
        self._writer = Writer(write)
        names = {name: one_line(name) for name in board.rows}
        width = min(_WIDEST, max(map(len, names.values()), default=0))
        self._labels = {name: label.ljust(width) for name, label in names.items()}
        # What is told of a task must come after the lines of the attempt that it is about, and those come by another way:
        # each text waits until as many attempts have ended.
        self._told: dict[str, deque[tuple[int, str]]] = {name: deque() for name in board.rows}
        self._exits = dict.fromkeys(board.rows, 0)
        self._announced = dict.fromkeys(board.rows, 0)

    async def show(self, updates: trio.MemoryReceiveChannel[RunUpdate], output: Subscription[Any]) -> None:
        """Write what comes until both have ended."""
        async with open_scope(wait=True) as writing:
            writing.start_soon(self._writer.run)
            async with open_scope(wait=True) as reading:
                reading.start_soon(self._read_updates, updates)
                reading.start_soon(self._read_output, output)
            for name in self._told:
                self._tell(name, whatever=True)
            await self._writer.close()

    async def _read_updates(self, updates: trio.MemoryReceiveChannel[RunUpdate]) -> None:
        async with updates:
            while found := await receive_all(updates):
                for update in found:
                    self._note(self._board.update(update))
                    self._tell(update.name)
                await self._writer.room()

    async def _read_output(self, output: Subscription[Any]) -> None:
        with output:
            while True:
                try:
                    batch = await output.receive_batch()
                except trio.EndOfChannel:
                    return
                if batch.name in self._labels:
                    self._take(batch.name, batch)
                    await self._writer.room()

    def _take(self, name: str, batch: EventBatch) -> None:
        """Write some lines of a task, or note that an attempt of it has ended."""
        if batch.stream is None:
            self._exits[name] += 1
            self._tell(name)
            return
        self._announce(name, self._exits[name] + 1)
        front = f"{self._labels[name]} | "
        self._writer.put("".join([f"{front}{logged(line)}\n" for line in batch.lines]))

    def _note(self, row: Row) -> None:
        """Keep what a change is told as, and how many attempts must have ended before."""
        told = self._told[row.spec.name]
        if row.state is SpecState.RUNNING:
            told.append((row.attempts - 1, ""))
        elif row.state is SpecState.RETRYING:
            told.append((row.attempts, f"failed; attempt {row.attempts + 1} of {row.spec.retries + 1} follows"))
        elif row.state in FINAL and row.result is not None:
            told.append((row.attempts, ended_after(row.result)))

    def _tell(self, name: str, *, whatever: bool = False) -> None:
        told = self._told[name]
        while told and (whatever or told[0][0] <= self._exits[name]):
            exits, text = told.popleft()
            if text:
                self._writer.put(f"{self._labels[name]} = {text}\n")
            else:
                self._announce(name, exits + 1)

    def _announce(self, name: str, attempt: int) -> None:
        """Write the command of a task, once per attempt and before its first line."""
        if self._announced[name] < attempt:
            self._announced[name] = attempt
            self._writer.put(f"{self._labels[name]} $ {typed(self._board.rows[name].spec)}\n")
