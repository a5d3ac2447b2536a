"""`EventBatch`: the lines of one chunk, or one other event; event objects are made only on access."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat
from typing import Any, Final, final, overload

import attrs

from ..enums import Stream
from .types import ActionProcessExited, ActionProcessKilled, ActionProcessOutput, ActionProcessStarted

_LIFECYCLE: Final = (ActionProcessStarted, ActionProcessKilled, ActionProcessExited)


def _frozen(lines: Iterable[str]) -> tuple[str, ...]:
    return tuple(lines)


@final
@attrs.frozen(kw_only=True, repr=False)
class EventBatch(Sequence[Any]):
    """An immutable sequence of events: one chunk's lines of one stream of one process, or one other event.

    Attributes:
        id: The process, ``""`` for an event that belongs to none.
        name: Its label.
        stream: The stream of the lines, None for another event.
        lines: The texts, without making events; empty for another event.

    ``len()`` and `lines` cost nothing; iterating and indexing create new events each time.

    >>> batch = EventBatch(id="1", name=None, stream=Stream.STDOUT, lines=["a", "b"])
    >>> len(batch), batch[0].line
    (2, 'a')
    """

    id: str
    name: str | None
    stream: Stream | None = None
    lines: tuple[str, ...] = attrs.field(default=(), converter=_frozen)  # a tuple, as all subscribers share it
    _partial: frozenset[int] = frozenset()  # the indices of lines that are pieces of a longer one
    _weight: int = attrs.field(default=0, eq=False)  # bytes of text, for the bound on a backlog
    _event: object = None

    @property
    def _kind(self) -> type:
        """The class of the events."""
        return ActionProcessOutput if self.stream is not None else type(self._event)

    @property
    def _droppable(self) -> bool:
        """Whether a subscriber's policy may drop it: never the start or end of a process, nor an event that refuses it."""
        return not isinstance(self._event, _LIFECYCLE) and not getattr(type(self._event), "never_dropped", False)

    @property
    def _final(self) -> bool:
        """Whether it is the last event of its process."""
        return isinstance(self._event, ActionProcessExited)

    def __len__(self) -> int:
        return len(self.lines) if self.stream is not None else 1

    def __iter__(self) -> Iterator[Any]:
        if self.stream is None:
            return iter((self._event,))
        if not self._partial:
            # NamedTuple.__new__ is Python code; tuple.__new__ creates the same object in a third of the time
            fields = zip(repeat(self.id), repeat(self.name), self.lines, repeat(self.stream), repeat(False))
            return map(tuple.__new__, repeat(ActionProcessOutput), fields)
        return iter([self._output(index) for index in range(len(self.lines))])

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> EventBatch: ...
    def __getitem__(self, index: int | slice) -> Any:
        places = range(len(self))[index]
        if isinstance(places, int):
            return self._event if self.stream is None else self._output(places)
        if self.stream is None:
            return self if len(places) else EventBatch(id=self.id, name=self.name, stream=Stream.STDOUT)
        partial = (
            frozenset(new for new, old in enumerate(places) if old in self._partial) if self._partial else frozenset()
        )
        weight = self._weight * len(places) // max(1, len(self))
        return EventBatch(
            id=self.id, name=self.name, stream=self.stream, lines=self.lines[index], partial=partial, weight=weight
        )

    def _output(self, place: int) -> ActionProcessOutput:
        assert self.stream is not None
        return ActionProcessOutput(self.id, self.name, self.lines[place], self.stream, place in self._partial)

    def __repr__(self) -> str:
        what = f"{len(self)} lines of {self.stream}" if self.stream is not None else repr(self._event)
        return f"<EventBatch id={self.id!r} name={self.name!r}: {what}>"


def batch_of(event: object) -> EventBatch:
    """Return the batch of one event; any object may be one."""
    if isinstance(event, ActionProcessOutput):
        partial = frozenset({0}) if event.partial else frozenset()
        return EventBatch(id=event.id, name=event.name, stream=event.stream, lines=(event.line,), partial=partial)
    return EventBatch(id=getattr(event, "id", ""), name=getattr(event, "name", None), event=event)
