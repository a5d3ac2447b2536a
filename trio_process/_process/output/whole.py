"""`WholeLines`: chunks held back until their lines are whole, for what writes one process's lines among others'."""

from __future__ import annotations

from typing import final


@final
class WholeLines:
    """Holds back what is written after the last newline.

    Args:
        longest: Bytes after which a line that has no end is passed on all the same.
    """

    __slots__ = ("_begun", "_longest")

    def __init__(self, longest: int) -> None:
        self._longest = longest
        self._begun = bytearray()

    def feed(self, data: bytes) -> bytes:
        """Take in a chunk; return the whole lines that there are now."""
        self._begun += data
        end = self._begun.rfind(b"\n") + 1
        if not end and len(self._begun) >= self._longest:
            end = len(self._begun)
        whole = bytes(self._begun[:end])
        del self._begun[:end]
        return whole

    def finish(self) -> bytes:
        """Return what has no newline at its end."""
        rest, self._begun = bytes(self._begun), bytearray()
        return rest
