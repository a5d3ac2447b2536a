"""The frames between a client and an agent, without any I/O: bytes in, frames out.

    preamble   MAGIC, once, in both directions; text before it, printed by a login, is skipped
    frame      length of the body (4 bytes) | kind (1 byte) | process (8 bytes) | body, integers in network byte order

The body of a `Kind.MESSAGE` is a JSON object (`messages.py`), that of every other kind is raw input or output of a
process. Nothing is ever unpickled or evaluated, so a peer can do no more than start the commands that it may start anyway.

Anything malformed ends the connection with one `WireError`: a stream of frames can't be resynchronised, and guessing
could deliver one process's output to another.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final, NamedTuple, final

from .._core import ClusterError

VERSION: Final = 3
"""The version of the protocol; it is in the first message of either side, and both must be equal."""

MAGIC: Final = b"\0trio-process\0wire\0"
"""What the stream of frames begins with; no shell's greeting contains a NUL."""

PREAMBLE_LIMIT: Final = 2**16
"""How many bytes a login may print before `MAGIC`."""

DATA_LIMIT: Final = 2**18
"""The longest raw body, in bytes."""

MESSAGE_LIMIT: Final = 2**25
"""The longest message, in bytes: arguments and environment of one command (execve(2) takes some MiB), escaped as JSON."""

_HEADER: Final = struct.Struct("!IBQ")


class WireError(ClusterError, shown_as=ClusterError):
    """The peer violated the protocol; the connection can't be used any more."""


class Kind(IntEnum):
    """The kind of a frame, which decides what its body is."""

    MESSAGE = 0
    STDIN = 1
    STDOUT = 2
    STDERR = 3


_LIMITS: Final = {
    Kind.MESSAGE: MESSAGE_LIMIT,
    Kind.STDIN: DATA_LIMIT,
    Kind.STDOUT: DATA_LIMIT,
    Kind.STDERR: DATA_LIMIT,
}
_KINDS: Final = {int(kind): kind for kind in Kind}


class Frame(NamedTuple):
    """One frame; `process` is the number of the process that it concerns, 0 for a message."""

    kind: Kind
    process: int
    body: bytes


def pack(kind: Kind, process: int, body: bytes) -> bytes:
    """Return the bytes of a frame.

    >>> Parser(preamble=False).feed(pack(Kind.STDOUT, 7, b"hello"))
    [Frame(kind=<Kind.STDOUT: 2>, process=7, body=b'hello')]
    """
    return pack_header(kind, process, len(body)) + body


def pack_header(kind: Kind, process: int, length: int) -> bytes:
    """Return the header for a body of this length.

    Raises:
        WireError: The body is too long.
    """
    if length > _LIMITS[kind]:
        raise WireError(f"a frame holds at most {_LIMITS[kind]} bytes, this one would hold {length}")
    return _HEADER.pack(length, kind, process)


@final
class Parser:
    """Splits a stream of bytes, which may arrive in pieces of any size, into frames.

    Messages come whole. Raw data come as they arrive, each part as a frame of its own.

    Args:
        preamble: Whether `MAGIC` must come first.

    After a `WireError` it can't be used any more: every further call raises the same error.
    """

    def __init__(self, *, preamble: bool = True) -> None:
        self._greeting = bytearray()  # before the preamble is found
        self._header = b""  # as much of it as has come
        self._kind = Kind.MESSAGE  # of the frame that is not complete, as are the next three
        self._process = 0
        self._length = 0
        self._missing = 0
        self._parts: list[bytes] = []  # of a message
        self._in_preamble = preamble
        self._error: WireError | None = None
        self.skipped: bytes = b""

    def feed(self, data: bytes | bytearray) -> list[Frame]:
        """Take the next bytes and return the messages that are now complete, and all raw data.

        Raises:
            WireError: The bytes violate the protocol.
        """
        if self._error is not None:
            raise self._error
        try:
            if self._in_preamble:
                data = self._skip_preamble(data)
            return self._cut(bytes(data))
        except WireError as error:
            self._error = error
            self._greeting.clear()
            self._parts.clear()
            raise

    def finish(self) -> None:
        """Check that the stream may end here.

        Raises:
            WireError: It ended in the middle of a frame, or before the first one.
        """
        if self._error is not None:
            raise self._error
        if self._in_preamble:
            self.skipped = bytes(self._greeting)
            raise WireError("the connection ended before the agent's hello")
        if self._header or self._missing:
            count = len(self._header) or _HEADER.size + self._length - self._missing
            raise WireError(f"the connection ended in the middle of a frame, after {count} bytes of it")

    def _skip_preamble(self, data: bytes | bytearray) -> bytes:
        """Return the data after the preamble."""
        greeting = self._greeting
        greeting += data
        found = greeting.find(MAGIC)
        if found > PREAMBLE_LIMIT or (found < 0 and len(greeting) > PREAMBLE_LIMIT + len(MAGIC)):
            self.skipped = bytes(greeting[:PREAMBLE_LIMIT])
            raise WireError(f"no agent answered within the first {PREAMBLE_LIMIT} bytes of the connection")
        if found < 0:
            return b""
        self.skipped = bytes(greeting[:found])
        rest = bytes(greeting[found + len(MAGIC) :])
        greeting.clear()
        self._in_preamble = False
        return rest

    def _cut(self, data: bytes) -> list[Frame]:
        """Cut off complete messages, and all raw data; each byte of raw data is copied once at the most."""
        frames: list[Frame] = []
        begin, end = 0, len(data)
        while begin < end:
            if self._missing:
                body = data[begin : begin + self._missing]
                begin += len(body)
                self._missing -= len(body)
                if self._kind is not Kind.MESSAGE:
                    frames.append(Frame(self._kind, self._process, body))
                    continue
                self._parts.append(body)
                if not self._missing:
                    frames.append(Frame(self._kind, 0, b"".join(self._parts)))
                    self._parts.clear()
                continue
            if self._header or end - begin < _HEADER.size:
                part = data[begin : begin + _HEADER.size - len(self._header)]
                begin += len(part)
                self._header += part
                if len(self._header) < _HEADER.size:
                    break
                length, kind, process = _look(self._header, 0)
                self._header = b""
            else:
                length, kind, process = _look(data, begin)
                begin += _HEADER.size
            after = begin + length
            if after <= end:
                frames.append(Frame(kind, process, data[begin:after]))
                begin = after
            else:
                self._kind, self._process, self._length, self._missing = kind, process, length, length
        return frames


def _look(data: bytes, begin: int) -> tuple[int, Kind, int]:
    """Return the fields of a frame's header: the length of its body, its kind, and the process.

    Raises:
        WireError: No frame begins like that.
    """
    length, number, process = _HEADER.unpack_from(data, begin)
    kind = _KINDS.get(number)
    if kind is None:
        raise WireError(f"a frame of the unknown kind {number} came; the peer speaks another protocol")
    if length > _LIMITS[kind]:
        raise WireError(f"a frame of {length} bytes was announced, but {_LIMITS[kind]} is the most for its kind")
    if (kind is Kind.MESSAGE) != (process == 0):
        raise WireError(f"a frame of the kind {kind.name} came for process {process}")
    return length, kind, process
