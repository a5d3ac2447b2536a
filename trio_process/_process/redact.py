"""Masking of secrets in a stream, across the edges of its chunks."""

from __future__ import annotations

from typing import final

from .._core import MASK, Masker


@final
class Redactor:
    """Replaces the secrets in a stream of bytes by `***`.

    The end of a chunk that may be the beginning of a secret is held back until the next one tells, or the stream ends.

    Args:
        masker: Knows the secrets.
        encoding: How the stream is encoded.
    """

    __slots__ = ("_held", "_mask", "_values")

    def __init__(self, masker: Masker, encoding: str) -> None:
        self._values = [value.encode(encoding, "surrogateescape") for value in masker.values]
        self._mask = MASK.encode(encoding)
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """Return what can be passed on."""
        text = self._held + data
        out = bytearray()
        begin = 0
        while True:
            place, value = self._first(text, begin)
            if value is None or self._may_become_longer(text[place:], value):
                break
            out += text[begin:place]
            out += self._mask
            begin = place + len(value)
        keep = self._beginning_of_secret(text, begin)
        out += text[begin : len(text) - keep]
        self._held = text[len(text) - keep :]
        return bytes(out)

    def _first(self, text: bytes, begin: int) -> tuple[int, bytes | None]:
        """Return the first secret from `begin` on; the longest, where several begin there."""
        best: tuple[int, bytes | None] = (len(text), None)
        for value in self._values:  # longest first
            place = text.find(value, begin, best[0] + len(value))
            if 0 <= place < best[0]:
                best = (place, value)
        return best

    def _may_become_longer(self, tail: bytes, value: bytes) -> bool:
        """Return whether the next chunk may show that this secret is only the beginning of a longer one."""
        return any(len(other) > len(tail) >= len(value) and other.startswith(tail) for other in self._values)

    def _beginning_of_secret(self, text: bytes, begin: int) -> int:
        """Return how many bytes at the end may be the beginning of a secret."""
        longest = max((len(value) for value in self._values), default=0) - 1
        for size in range(min(longest, len(text) - begin), 0, -1):
            tail = text[len(text) - size :]
            if any(value.startswith(tail) and len(value) > size for value in self._values):
                return size
        return 0

    def finish(self) -> bytes:
        """Return what was held back: it was no secret after all."""
        rest, self._held = self._held, b""
        return rest
