"""The fields of `Behaviour` as typed keywords, for type checkers and editors; a test compares them with the class.

Only type checkers import this: nothing here is needed at run time.
"""

from collections.abc import Callable, Generator, Iterable, Mapping
from typing import Any, TypedDict

from .._core import ProcessStartError, Stream
from .._process import OutputLine
from .behaviour import Behaviour, Expect, Read
from .call import Call

Item = str | bytes | OutputLine | Expect | Read | tuple[float, str | bytes | OutputLine]


class BehaviourKeywords(TypedDict, total=False):
    """The keywords of `FakeService.on`: the fields of `Behaviour`."""

    lines: Iterable[Item] | Mapping[Stream | str, Iterable[Item]] | Callable[[Call], Generator[Any, Any, int | None]]
    exit_code: int | None
    exit_after: float
    ignores: Iterable[int | str]
    reacts: Mapping[int, Behaviour | Mapping[str, Any]] | Mapping[str, Behaviour | Mapping[str, Any]]
    expects: str | bytes | None
    error: OSError | ProcessStartError | type[OSError | ProcessStartError] | None
