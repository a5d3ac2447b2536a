"""`RingBuffer`: keeps the last bytes written to it."""

from __future__ import annotations

import builtins
import math
from collections import deque
from io import SEEK_END, BytesIO
from typing import Final, final

from ..._core import checks

DEFAULT_BUFFER_SIZE: Final = 2**20
"""How much of each stream is kept by default, in bytes."""

_NEWLINE: Final = 0x0A
_BLOCK: Final = 4096  # smaller writes are gathered up to this size: a bytes object for each would outweigh its content

_SHORT_LINE: Final = 24  # bytes
# bytes; a prime, as lines of equal lengths could otherwise have all of their newlines there, or none
_STRIDE: Final = 257


def count_newlines(block: builtins.bytes) -> int:
    r"""Return ``block.count(b"\n")``, in a quarter of the time where lines have 100 bytes, as most have.

    `bytes.count` looks at one byte after the other; `bytes.replace` goes from newline to newline by memchr(3), but takes
    longer for each, so that it is the slower one for lines shorter than 24 bytes, by up to twenty times. A sample of bytes
    from all of the block shows how long they are.
    """
    if block[::_STRIDE].count(b"\n") * _STRIDE * _SHORT_LINE > len(block):
        return block.count(b"\n")
    return len(block) - len(block.replace(b"\n", b""))


@final
class Ring:
    """The bytes behind a `RingBuffer`, with offsets and lines for the capture of a process.

    Args:
        size: Bytes to keep; 0 keeps nothing, `math.inf` everything.
    """

    # Large writes are kept as they came, without a copy; small ones are gathered in `_tail`. The oldest block is thrown
    # away as soon as the others hold `capacity` bytes, so that at most one block more than that is held. Where nothing
    # is ever thrown away, a BytesIO holds it all, and gives it away without a copy.
    __slots__ = ("_all", "_block", "_blocks", "_held", "_lost_lines", "_tail", "_torn", "_total", "capacity", "in_line")

    def __init__(self, size: float) -> None:
        self.capacity: int | float = checks.whole("size", size, infinite=True)
        self._block = int(max(1, min(_BLOCK, self.capacity)))
        self.reset()

    def reset(self) -> None:
        """Forget everything, `dropped` too."""
        self._all = BytesIO() if self.capacity == math.inf else None
        self._blocks: deque[bytes] = deque()
        self._tail = bytearray()
        self._held = 0  # bytes in blocks and tail
        self._total = 0  # bytes ever written
        self._lost_lines = 0  # newlines in the blocks that were thrown away
        self._torn = False  # whether the last byte of these is not a newline
        self.in_line: bool = False  # whether something came after the last newline, kept or not

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Append `data`; return its length, always."""
        chunk = data if type(data) is bytes else bytes(memoryview(data))  # bytes(5) would be five zeros
        size = len(chunk)
        self._total += size
        if size:
            self.in_line = chunk[-1] != _NEWLINE
        if self._all is not None:
            self._keep_all(self._all, chunk)
            return size
        self._held += size
        if size >= self._block:
            if self._tail:
                self._blocks.append(bytes(self._tail))
                self._tail.clear()
            if size > self.capacity:
                while self._blocks:  # oldest first
                    self._throw_away(self._blocks.popleft())
                cut = size - int(self.capacity)
                self._throw_away(chunk[:cut])
                chunk = chunk[cut:]
            self._blocks.append(chunk)
        else:
            self._tail += chunk
            if len(self._tail) >= self._block:
                self._blocks.append(bytes(self._tail))
                self._tail.clear()
        blocks = self._blocks
        while blocks and self._held - len(blocks[0]) >= self.capacity:
            self._throw_away(blocks.popleft())
        return size

    def _keep_all(self, whole: BytesIO, chunk: builtins.bytes) -> None:
        try:
            whole.write(chunk)
        except MemoryError:
            self._keep_nothing()  # a BytesIO that could not grow has lost what it held
            raise

    def _throw_away(self, block: builtins.bytes) -> None:
        self._held -= len(block)
        self._lost_lines += count_newlines(block)
        if block:
            self._torn = block[-1] != _NEWLINE

    @property
    def total(self) -> int:
        """How many bytes were ever written: the offset of the end."""
        return self._total

    @property
    def start(self) -> int:
        """The offset of the first byte that is still kept."""
        return self._total - len(self)

    @property
    def dropped(self) -> int:
        """How many bytes were overwritten."""
        return self.start

    def __len__(self) -> int:
        return self._total if self._total < self.capacity else int(self.capacity)

    def bytes(self) -> bytes:
        """Return the kept bytes."""
        return self.since(self.start)

    def since(self, offset: int) -> builtins.bytes:
        """Return the bytes written from `offset` on; it must not be before `start`."""
        if self._all is not None:
            if not offset:
                return self._all.getvalue()
            self._all.seek(offset)
            return self._all.read()
        missing = self._total - offset
        if missing <= len(self._tail):
            return builtins.bytes(self._tail[len(self._tail) - missing :])
        parts: list[builtins.bytes] = [builtins.bytes(self._tail)] if self._tail else []
        missing -= len(self._tail)
        for block in reversed(self._blocks):
            if missing <= 0:
                break
            parts.append(block if len(block) <= missing else block[len(block) - missing :])
            missing -= len(block)
        if len(parts) == 1:
            return parts[0]  # no copy of the one large block that a live reader usually asks for
        parts.reverse()
        return b"".join(parts)

    def lines_before(self, offset: int) -> int:
        """Return how many newlines were written before `offset`, which must not be before `start`."""
        if self._all is not None:
            return self._all.getvalue().count(b"\n", 0, offset)
        first = self._total - self._held
        count = self._lost_lines
        for block in (*self._blocks, builtins.bytes(self._tail)):
            if first >= offset:
                break
            count += block.count(b"\n", 0, offset - first)
            first += len(block)
        return count

    def in_line_at(self, offset: int) -> bool:
        """Return whether the byte before `offset`, which must not be before `start`, is there and not a newline."""
        if offset == self._total:
            return self.in_line
        if self._all is not None:
            return offset > 0 and self._all.getbuffer()[offset - 1] != _NEWLINE
        first = self._total - self._held
        if offset == first:
            return self._torn
        for block in (*self._blocks, self._tail):
            if offset <= first + len(block):
                return block[offset - first - 1] != _NEWLINE
            first += len(block)
        raise AssertionError("the offset is after the end")

    def release(self) -> None:
        """Discard the content, and keep nothing from now on; the counts remain."""
        self._lost_lines = self.lines_before(self._total)
        self._keep_nothing()

    def _keep_nothing(self) -> None:
        self._all = None
        self._blocks.clear()
        self._tail = bytearray()
        self._held = 0
        self._block = 1
        self.capacity = 0

    def copy(self) -> Ring:
        """Return an independent buffer with the same content; the blocks are shared."""
        twin = Ring(self.capacity)
        if self._all is not None:
            twin._all = BytesIO(self._all.getvalue())
            twin._all.seek(0, SEEK_END)
        twin._blocks = deque(self._blocks)
        twin._tail = bytearray(self._tail)
        twin._held, twin._total, twin._lost_lines = self._held, self._total, self._lost_lines
        twin.in_line, twin._torn = self.in_line, self._torn
        return twin


@final
class RingBuffer:
    """Keeps exactly the last `size` bytes written to it; its memory grows only as it is filled.

    Args:
        size: Bytes to keep; 0 keeps nothing, `math.inf` everything.

    Raises:
        OptionError: The size is negative, or not a whole number.

    >>> ring = RingBuffer(4)
    >>> ring.write(b"abcdef"), ring.bytes(), ring.dropped
    (6, b'cdef', 2)
    """

    __slots__ = ("_ring",)

    def __init__(self, size: float) -> None:
        self._ring = Ring(size)

    @property
    def capacity(self) -> int | float:
        """The size, in bytes."""
        return self._ring.capacity

    @property
    def dropped(self) -> int:
        """How many bytes were overwritten."""
        return self._ring.start

    def write(self, data: builtins.bytes | bytearray | memoryview) -> int:
        """Append `data`; return its length, always."""
        return self._ring.write(data)

    def bytes(self) -> bytes:
        """Return the kept bytes."""
        return self._ring.bytes()

    def text(self, encoding: str = "utf-8", errors: str = "replace") -> str:
        """Return the kept bytes, decoded; a character that the edge cuts through is replaced."""
        return self._ring.bytes().decode(encoding, errors)

    def reset(self) -> None:
        """Forget everything, `dropped` too."""
        self._ring.reset()

    def __copy__(self) -> RingBuffer:
        twin = RingBuffer(0)
        twin._ring = self._ring.copy()
        return twin

    def __len__(self) -> int:
        return len(self._ring)
