"""`Secret`, and the masking of secrets in texts."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, final

from .errors import OptionError

MASK: Final = "***"


@final
class Secret:
    """A value that is shown as ``***`` wherever a person or a file could see it.

    Args:
        value: The text, which only the child gets.

    Raises:
        OptionError: The value is not a str.

    Only the child sees the value, in its arguments or environment, where the system shows it to its owner and to
    root (``/proc/PID/cmdline`` and `environ`, proc_pid_environ(5)).

    >>> str(Secret("hunter2"))
    '***'
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        if not isinstance(value, str):
            raise OptionError(f"a Secret holds a str, not {type(value).__name__}")
        self._value = value

    def reveal(self) -> str:
        """Return the value."""
        return self._value

    def __repr__(self) -> str:
        return f"Secret('{MASK}')"

    def __str__(self) -> str:
        return MASK

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __format__(self, spec: str) -> str:
        return format(MASK, spec)

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: object) -> Secret:
        return self

    def __reduce__(self) -> str:
        raise TypeError("a Secret can't be pickled: its value would be written in plain text")


@final
class Masker:
    """Replaces the values of secrets by ``***``; longest first, so that no part of one is left.

    Args:
        secrets: The secrets to hide; an empty one is ignored.
    """

    __slots__ = ("_pattern", "values")

    def __init__(self, secrets: Iterable[Secret]) -> None:
        values = {secret.reveal() for secret in secrets} - {""}
        # each line of a key in PEM, say, may come alone; lines of one character would make the output unreadable
        values |= {line for value in values if "\n" in value for line in value.split("\n") if len(line.strip()) > 1}
        self.values: list[str] = sorted(values, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, self.values))) if self.values else None

    def __bool__(self) -> bool:
        return self._pattern is not None

    def __call__(self, text: str, *, cut: bool = False) -> str:
        """Return `text` masked; with `cut`, also a part of a secret at its beginning, where earlier text was cut off."""
        if self._pattern is None:
            return text
        rest = max((_rest_at_beginning(value, text) for value in self.values), default=0) if cut else 0
        return (MASK if rest else "") + self._pattern.sub(MASK, text[rest:])

    def __reduce__(self) -> tuple[type[Masker], tuple[tuple[()]]]:
        if self:
            raise TypeError("a Masker can't be pickled: the values of its secrets would be written in plain text")
        return Masker, ((),)

    def __copy__(self) -> Masker:
        return self

    def __deepcopy__(self, memo: object) -> Masker:
        return self


NO_SECRETS: Final = Masker(())
"""A masker without secrets."""


def _rest_at_beginning(secret: str, text: str) -> int:
    """Return the length of the longest end of `secret` that `text` begins with."""
    for size in range(min(len(secret) - 1, len(text)), 0, -1):
        if text.startswith(secret[-size:]):
            return size
    return 0
