"""Bytes into lines: incremental, bounded, without I/O."""

from __future__ import annotations

import codecs
import sys
from collections import deque
from collections.abc import Iterator
from itertools import chain, repeat
from typing import Final, NamedTuple, final

from ..._core import Stream
from .capture import Capture
from .ring_buffer import count_newlines

# Encodings in which a newline is the byte 0x0A and nothing else is, and a cut can be placed without decoding. The rest,
# UTF-16 first among them, is turned into UTF-8 as it comes.
_DIRECT: Final = frozenset({"utf-8", "ascii", "iso8859-1"})

AT_ONCE: Final = 2**16
"""How much of the output a reader of lines takes in at once, in bytes: what a pipe holds, and so what comes at once."""

_NATIVE: Final = {f"utf-{bits}": f"utf-{bits}-{'le' if sys.byteorder == 'little' else 'be'}" for bits in (16, 32)}


def is_direct(encoding: str) -> bool:
    """Return whether a newline of this encoding is the byte 0x0A, so that lines can be found without decoding."""
    return encoding == "utf-8" or codecs.lookup(encoding).name in _DIRECT


class Split(NamedTuple):
    """Lines, and which of them are pieces of a longer one."""

    lines: list[str]
    partial: frozenset[int] = frozenset()


@final
class LineSplitter:
    r"""Splits a stream into lines at ``\n`` or ``\r\n``; a line over `max_line` bytes is delivered in pieces.

    A character is never split: the cut is moved in front of it. Invalid bytes are handled according to `errors`, but
    never raise: "strict" is treated like "backslashreplace".

    Args:
        encoding: The encoding of the stream.
        errors: The error handler for bytes that are not valid in this encoding.
        max_line: The longest line in one piece, in bytes (of UTF-8 for encodings that are not a superset of ASCII).
    """

    __slots__ = ("_carry", "_decoder", "_encoding", "_errors", "_foreign", "_max_line")

    def __init__(self, encoding: str = "utf-8", errors: str = "replace", max_line: int = 2**20) -> None:
        self._errors = "backslashreplace" if errors == "strict" else errors
        self._max_line = max_line
        self._carry = bytearray()
        self._decoder: codecs.IncrementalDecoder | None = None
        self._encoding = encoding if encoding == "utf-8" else codecs.lookup(encoding).name  # "UTF8" is "utf-8"
        self._foreign = self._encoding
        if not is_direct(encoding):
            self._decoder = codecs.getincrementaldecoder(encoding)(self._errors)
            self._encoding, self._errors = "utf-8", "surrogatepass"

    def feed(self, data: bytes) -> Split:
        """Take in the next bytes; return the lines that they complete, and pieces of a line that is too long."""
        if self._decoder is not None:
            data = self._to_utf8(self._decoder, data)
        end = data.rfind(b"\n") + 1
        if not end:
            self._carry += data
            return self._pieces_of_carry() if len(self._carry) > self._max_line else Split([])
        if self._carry:
            block = bytes(self._carry) + data[:end]
            self._carry = bytearray(data[end:])
        else:
            block = data[:end] if end < len(data) else data
            if end < len(data):
                self._carry += data[end:]
        if len(block) > self._max_line:
            return self._split_long(block)
        if b"\r" in block:
            block = block.replace(b"\r\n", b"\n")
        lines = self._decode(block).split("\n")
        lines.pop()  # the empty rest after the last newline
        if len(self._carry) > self._max_line:
            rest = self._pieces_of_carry()
            return _joined(Split(lines), rest)
        return Split(lines)

    def resume(self, unfinished: bytes, *, torn: bool) -> None:
        """Take in what there is of the current line; `torn` if its beginning is missing, and with it that of a character."""
        if torn and self._encoding == "utf-8":
            unfinished = unfinished[_rest_of_a_character(unfinished) :]
        self.skip(unfinished)

    def skip(self, data: bytes) -> None:
        """Take in the next bytes, whose lines have no reader; only the line that they leave unfinished is kept."""
        end = data.rfind(b"\n") + 1
        if not end or self._decoder is not None:
            self.feed(data)
            return
        self._carry = bytearray(data[end:])
        if len(self._carry) > self._max_line:
            self._pieces_of_carry()

    def restart(self, place: int) -> int | None:
        """Forget the unfinished line, and continue at `place`, an offset in the stream, in bytes.

        Returns:
            None if the byte before `place` shows whether a line begins there. In other encodings the line there is taken for
            torn, and this is the number of bytes to leave out: the rest of a character.
        """
        self._carry.clear()
        if self._decoder is None:
            return None
        width = len("\n\n".encode(self._foreign)) - len("\n".encode(self._foreign))  # without a byte order mark
        if width == 1:
            self._decoder.reset()
        else:
            self._decoder.setstate((b"", self._decoder.getstate()[1]))  # it keeps the byte order
        return -place % width

    def feed_torn(self, data: bytes) -> list[str] | None:
        """Take in the next bytes of a line whose beginning is missing; return the lines after it, None before its end."""
        if self._decoder is None:
            end = data.find(b"\n") + 1
            return self.feed(data[end:]).lines if end else None
        lines, partial = self.feed(data)
        torn = next((number for number in range(len(lines)) if number not in partial), None)
        return None if torn is None else lines[torn + 1 :]

    def finish(self) -> Split:
        """Return the last line, if it had no newline."""
        if self._decoder is not None:
            self._carry += self._to_utf8(self._decoder, b"", final=True)
        if not self._carry:
            return Split([])
        line = bytes(self._carry)
        self._carry = bytearray()
        lines, partial = self._cut(line)
        return Split(lines, partial)

    @property
    def unfinished(self) -> int:
        """The size of the unfinished line, in bytes."""
        return len(self._carry)

    @property
    def mark(self) -> int:
        """The size of the byte order mark that the encoding begins with, in bytes."""
        return len("".encode(self._foreign))

    @property
    def partial(self) -> bytes:
        """The unfinished line, as the child wrote it; empty where it is kept in another encoding."""
        return bytes(self._carry) if self._decoder is None else b""

    def _split_long(self, block: bytes) -> Split:
        lines: list[str] = []
        partial: set[int] = set()
        raw = block.split(b"\n")
        raw.pop()
        for line in raw:
            pieces, marks = self._cut(line.removesuffix(b"\r"))
            partial.update(len(lines) + mark for mark in marks)
            lines += pieces
        split = Split(lines, frozenset(partial))
        return _joined(split, self._pieces_of_carry()) if len(self._carry) > self._max_line else split

    def _cut(self, line: bytes) -> Split:
        """Cut a whole line; all pieces but the last are partial."""
        lines = []
        begin = 0
        while len(line) - begin > self._max_line:
            end = self._place_of_cut(line, begin)
            lines.append(self._decode(line[begin:end]))
            begin = end
        lines.append(self._decode(line[begin:]))
        return Split(lines, frozenset(range(len(lines) - 1)))

    def _pieces_of_carry(self) -> Split:
        """Cut pieces off a line that is too long and has not ended; the rest stays, to be the last one."""
        carry = bytes(self._carry)
        lines = []
        begin = 0
        while len(carry) - carry.endswith(b"\r") - begin > self._max_line:
            end = self._place_of_cut(carry, begin)
            lines.append(self._decode(carry[begin:end]))
            begin = end
        self._carry = bytearray(carry[begin:])
        return Split(lines, frozenset(range(len(lines))))

    def _place_of_cut(self, line: bytes, begin: int) -> int:
        end = begin + self._max_line
        if self._encoding == "utf-8":
            # RFC 3629, section 3: a character is at most four bytes, all but the first of them 10xxxxxx
            for place in range(end, end - 4, -1):
                if line[place] & 0xC0 != 0x80:
                    return place
        return end

    def _decode(self, piece: bytes) -> str:
        try:
            return piece.decode(self._encoding, self._errors)
        except UnicodeError:  # a handler that gives up, as "surrogatepass" does on all but surrogates
            return piece.decode(self._encoding, "backslashreplace")

    def _to_utf8(self, decoder: codecs.IncrementalDecoder, data: bytes, *, final: bool = False) -> bytes:
        try:
            text = decoder.decode(data, final)
        except UnicodeError:
            # The handler gives up, or UTF-16 comes without its byte order mark, which bytes.decode takes for native order
            native = _NATIVE.get(self._foreign, self._foreign)
            self._decoder = codecs.getincrementaldecoder(native)("backslashreplace")
            text = self._decoder.decode(decoder.getstate()[0] + data, final)
        return text.encode("utf-8", "surrogatepass")


def _rest_of_a_character(piece: bytes) -> int:
    """Return how many bytes at the beginning belong to a character that was cut: at most three, all 10xxxxxx (RFC 3629)."""
    return next((place for place, byte in enumerate(piece[:3]) if byte & 0xC0 != 0x80), len(piece[:3]))


def _joined(first: Split, second: Split) -> Split:
    shift = len(first.lines)
    return Split(first.lines + second.lines, first.partial | {mark + shift for mark in second.partial})


@final
class OutputLine(NamedTuple):
    r"""One line of output.

    Attributes:
        text: The line, decoded, without its ``\n`` or ``\r\n``.
        stream: The stream it was written to.
    """

    text: str
    stream: Stream


Texts = tuple[Stream, list[str]]
"""Lines of one stream that came at once."""


def each_line(found: list[Texts]) -> Iterator[OutputLine]:
    """Return an iterator that makes the lines one by one, as they are asked for."""
    # NamedTuple.__new__ is Python code; tuple.__new__ creates the same object in a third of the time
    fields = chain.from_iterable([zip(texts, repeat(stream)) for stream, texts in found])
    return map(tuple.__new__, repeat(OutputLine), fields)


@final
class LineCursor:
    """Reads the lines of a capture from its beginning, at the pace of its reader.

    It never delays the process: lines that the capture overwrites before they are read are counted in `missed`. What is
    overwritten is not decoded: there each byte 0x0A counts as a newline, which in UTF-16 or EBCDIC is an estimate.
    """

    __slots__ = (
        "_arrived", "_begin", "_capture", "_offset", "_places", "_seen", "_source", "_splitters", "_torn", "_waiting",
        "_waiting_size", "missed",
    )  # fmt: skip

    def __init__(self, capture: Capture, source: Stream | None, encoding: str, errors: str, max_line: int) -> None:
        self._capture = capture
        self._source = source
        self._splitters = {stream: LineSplitter(encoding, errors, max_line) for stream in Stream}
        self._arrived = self.total  # at the last call of `read_some`
        self._offset = 0  # up to where it was fetched
        self._places = dict.fromkeys(Stream, 0)  # the same for each stream
        self._seen = 0  # newlines up to there
        self._waiting: deque[tuple[Stream, bytes]] = deque()  # what was fetched, and not read yet
        self._waiting_size = 0
        self._begin = 0  # up to where the first of these was read
        # the streams whose next line has lost its beginning, with the number of bytes to leave out before decoding it
        self._torn: dict[Stream, int] = {}
        self.missed: int = 0

    @property
    def total(self) -> int:
        """How much has come, in bytes."""
        ring = self._capture.ring(self._source)
        return 0 if ring is None else ring.total

    def is_behind(self, place: int) -> bool:
        """Return whether not everything before a place, a `total`, has been read."""
        return self._offset - self._waiting_size < place

    def read_some(self, *, keep_up: bool) -> list[Texts]:
        """Return some of the lines since the last call, so that other tasks get a turn before the rest.

        Args:
            keep_up: Read at least as much as has come since the last call: else a child that writes as fast as it can
                would overwrite the rest.
        """
        come, self._arrived = self.total - self._arrived, self.total
        if not self._waiting:
            self._fetch()
        return self._read_waiting(max(AT_ONCE, come) if keep_up else AT_ONCE)

    def read(self) -> list[Texts]:
        """Return the lines that were completed since the last call."""
        found = self._read_waiting(self._waiting_size)
        self._fetch()
        return found + self._read_waiting(self._waiting_size)

    def _fetch(self) -> None:
        """Take the output that has come since the last call, once that was read."""
        ring = self._capture.ring(self._source)
        if ring is None or ring.total == self._offset:
            return
        if ring.start > self._offset:
            self._jump(ring.start, ring.lines_before(ring.start))
        for stream, data in self._capture.parts(self._source, self._offset):
            self._offset += len(data)
            self._places[stream] += len(data)
            self._seen += count_newlines(data)
            self._waiting.append((stream, data))
            self._waiting_size += len(data)

    def _read_waiting(self, most: int) -> list[Texts]:
        """Return the lines that are completed by at most so many bytes of those that wait."""
        found: list[Texts] = []
        while self._waiting and most:
            stream, data = self._waiting[0]
            piece = data[self._begin : self._begin + most]
            self._begin += len(piece)
            if self._begin == len(data):
                self._waiting.popleft()
                self._begin = 0
            self._waiting_size -= len(piece)
            most -= len(piece)
            texts = (
                self._read_torn(stream, piece) if stream in self._torn else self._splitters[stream].feed(piece).lines
            )
            if texts:
                found.append((stream, texts))
        return found

    def _read_torn(self, stream: Stream, data: bytes) -> list[str]:
        """Take in bytes of a line whose beginning was overwritten; return the lines after it."""
        cut = min(self._torn[stream], len(data))
        self._torn[stream] -= cut
        texts = self._splitters[stream].feed_torn(data[cut:])
        if texts is None:
            return []
        del self._torn[stream]
        self.missed += 1
        return texts

    def _jump(self, start: int, lines_before: int) -> None:
        self.missed += lines_before - self._seen
        # A line that was half read, or whose beginning is gone, is not shown torn: it is skipped, and counted at its end.
        for stream, place in self._capture.places(self._source, start).items():
            if place == self._places[stream]:
                continue  # only the other stream has lost something
            self._places[stream] = place
            self._torn.pop(stream, None)
            rest_of_character = self._splitters[stream].restart(place)
            if rest_of_character is not None or self._capture.in_line_at(stream, place):
                self._torn[stream] = rest_of_character or 0
        self._offset, self._seen = start, lines_before

    def finish(self) -> list[Texts]:
        """Return the last lines of a process that has ended, including one without a newline."""
        found = self.read()
        for stream, splitter in self._splitters.items():
            if stream in self._torn:
                del self._torn[stream]
                is_line = self._places[stream] > splitter.mark  # and not just what shows the byte order
                self.missed += is_line and self._capture.in_line(stream)
                continue
            texts = splitter.finish().lines
            if texts:
                found.append((stream, texts))
        return found


@final
class LineBuffer:
    """Holds back an unfinished last line.

    Args:
        longest: Bytes after which an unfinished line is passed on anyway.
    """

    __slots__ = ("_longest", "_partial")

    def __init__(self, longest: int) -> None:
        self._longest = longest
        self._partial = bytearray()

    def feed(self, data: bytes) -> bytes:
        """Take in a chunk; return the lines that are now complete."""
        end = data.rfind(b"\n") + 1
        if not end and len(self._partial) + len(data) >= self._longest:
            end = len(data)
        if not end:
            self._partial += data
            return b""
        whole = data if end == len(data) else data[:end]
        if self._partial:
            whole = bytes(self._partial) + whole
            self._partial.clear()
        self._partial += data[end:]
        return whole

    def finish(self) -> bytes:
        """Return the unfinished last line."""
        rest, self._partial = bytes(self._partial), bytearray()
        return rest
