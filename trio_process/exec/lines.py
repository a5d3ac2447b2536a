"""`Line` and `Lines`: the output of a command while it runs."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from itertools import repeat
from typing import Self, final

from .._core import Stream, bad_option
from .execution import Execution


@final
class Line(str):
    r"""One line of output, without its ``\n`` or ``\r\n``: a str that knows which stream it was written to.

    Attributes:
        stream: `Stream.STDOUT` or `Stream.STDERR`.
    """

    __slots__ = ("stream",)

    stream: Stream

    def __new__(cls, text: str, stream: Stream = Stream.STDOUT) -> Self:
        """Create a line."""
        line = super().__new__(cls, text)
        line.stream = stream
        return line

    @property
    def text(self) -> str:
        """The line as a plain str, as `OutputLine` has it."""
        return str.__str__(self)


@final
class Lines:
    """An async iterator over the lines of a running command; made by ``lines()``.

    No line is lost: a slow reader delays the command. The iterator ends with the command, and raises if the command
    failed.
    """

    __slots__ = ("_end", "_execution", "_pending", "_streams")

    def __init__(self, execution: Execution, source: str, end: Callable[[], Awaitable[None]]) -> None:
        self._execution = execution
        self._streams = tuple(Stream) if source == "all" else (Stream(source),)
        self._end = end
        self._pending: deque[Line] = deque()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Line:
        while not self._pending:
            batch = await self._execution.receive()
            if batch is None:
                await self._end()
                raise StopAsyncIteration
            if batch.stream in self._streams:
                self._pending.extend(map(Line, batch.lines, repeat(batch.stream)))
        return self._pending.popleft()


def check_source(source: object) -> str:
    """Return `source` if it is valid."""
    if source not in ("stdout", "stderr", "all"):
        raise bad_option("source", f"must be 'stdout', 'stderr' or 'all', got {source!r}")
    return str(source)
