"""Masking of secrets in a stream, across the edges of its chunks."""

from __future__ import annotations

import os
import re
from typing import final

from ..._core import MASK, Masker


@final
class Redactor:
    """Replaces the secrets in a stream of bytes by ``***``, with the same result wherever its chunks end.

    The end of a chunk that may be the beginning of a secret is held back until the next chunk decides, or the stream ends.
    Secrets are searched for in the stream's encoding, and as the bytes that the child was given.

    Args:
        masker: Has the secrets, at least one.
        encoding: The encoding of the stream.
    """

    __slots__ = ("_held", "_longest", "_mask", "_pattern", "_values")

    def __init__(self, masker: Masker, encoding: str) -> None:
        values = {os.fsencode(value) for value in masker.values}
        for value in masker.values:
            try:
                values.add(_encoded(value, encoding))
            except UnicodeEncodeError:
                pass  # it can't be written in this encoding: only the bytes given to the child can be found
        self._values = sorted(values, key=len, reverse=True)
        self._longest = len(self._values[0])
        self._pattern = re.compile(b"|".join(map(re.escape, self._values)))
        self._mask = _encoded(MASK, encoding)
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """Return the part that can be passed on."""
        text = self._held + data
        out = bytearray()
        begin = 0
        undecided = self._first_undecided(text, begin)
        while True:
            match = self._pattern.search(text, begin)
            if match is None or match.start() >= undecided:
                break
            out += text[begin : match.start()]
            out += self._mask
            begin = match.end()
            if begin > undecided:
                undecided = self._first_undecided(text, begin)
        out += text[begin:undecided]
        self._held = text[undecided:]
        return bytes(out)

    def _first_undecided(self, text: bytes, begin: int) -> int:
        """Return the first place from `begin` on where a secret begins that the next chunk may complete."""
        first = len(text)
        earliest = max(begin, len(text) - self._longest + 1)
        for value in self._values:
            place = text.find(value[:1], earliest, first)
            while place >= 0:
                if len(value) > len(text) - place and value.startswith(text[place:]):
                    first = place
                    break
                place = text.find(value[:1], place + 1, first)
        return first

    def finish(self) -> bytes:
        """Return the part that was held back, masked: it may be a secret that did not turn into a longer one."""
        rest, self._held = self._held, b""
        return self._pattern.sub(lambda _: self._mask, rest)


def _encoded(text: str, encoding: str) -> bytes:
    """Return the text encoded as in the middle of a stream: without the byte order mark of some encodings."""
    return text.encode(encoding, "surrogateescape").removeprefix("".encode(encoding))
