"""Waiting that costs nothing until something waits: `RoomWaiters` for full buffers, `LazyEvent` for the ends of many."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Self, final, overload

import trio


@final
class RoomWaiters:
    """Callbacks to run once a full buffer has room again."""

    __slots__ = ("_callbacks",)

    def __init__(self) -> None:
        self._callbacks: list[Callable[[], object]] = []

    def __len__(self) -> int:
        return len(self._callbacks)

    def add(self, callback: Callable[[], object]) -> None:
        """Run `callback` once, the next time that there is room."""
        self._callbacks.append(callback)

    def discard(self, callback: Callable[[], object]) -> None:
        """Don't run `callback`; do nothing if it isn't waiting."""
        if callback in self._callbacks:
            self._callbacks.remove(callback)

    def run(self) -> None:
        """Run all callbacks, each once; those that they add wait for the next time."""
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()


@final
class LazyEvent:
    """A `trio.Event` as an attribute, made when it is first asked for.

    Of thousands of children that are alive, most are never waited for, and an event for each would take 200 bytes.

    Args:
        slot: The attribute that holds the event; the class declares it in `__slots__` and sets it to None.
        is_set: Returns whether the event of an instance has happened already.
        keep: Whether the slot keeps the event after `fire`, for users who compare it with the one they hold.

    >>> class Job:
    ...     __slots__ = ("_done", "over")
    ...     done = LazyEvent("_done", lambda job: job.over)
    ...
    ...     def __init__(self) -> None:
    ...         self._done, self.over = None, True
    >>> Job().done.is_set()
    True
    """

    __slots__ = ("_is_set", "_keep", "_slot")

    def __init__(self, slot: str, is_set: Callable[[Any], bool], *, keep: bool = True) -> None:
        self._slot: Final = slot
        self._is_set: Final = is_set
        self._keep: Final = keep

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...

    @overload
    def __get__(self, instance: object, owner: type) -> trio.Event: ...

    def __get__(self, instance: object | None, owner: type) -> Self | trio.Event:
        if instance is None:
            return self
        event: trio.Event | None = getattr(instance, self._slot)
        if event is None:
            event = trio.Event()
            if self._is_set(instance):
                event.set()
            if self._keep or not event.is_set():
                setattr(instance, self._slot, event)
        return event

    def fire(self, instance: object) -> None:
        """Set the event of an instance if there is one."""
        event: trio.Event | None = getattr(instance, self._slot)
        if event is not None:
            event.set()
            if not self._keep:
                setattr(instance, self._slot, None)
