"""`Bus`: hands each batch to the backlogs of the subscribers that want it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, final

from .. import checks
from ..enums import Overflow, member
from ..errors import OptionError, bad_option
from .backlog import Backlog
from .batch import batch_of
from .subscription import Subscription


@final
class Bus:
    """The subscribers of a service or core; a bus passes everything to its parent too.

    Args:
        parent: The bus of the core that a service belongs to.
        has_ended: Returns whether a process has ended; a subscription to such a process ends at once.
    """

    __slots__ = ("_backlogs", "_children", "_closed", "_has_ended", "_parent", "_version")

    def __init__(self, parent: Bus | None = None, has_ended: Callable[[str], bool] | None = None) -> None:
        self._backlogs: list[Backlog] = []
        self._children: list[Bus] = []
        self._parent = parent
        self._has_ended = has_ended
        self._closed = False
        self._version = 0
        if parent is not None:
            parent._children.append(self)

    @property
    def closed(self) -> bool:
        """Whether it is closed: no more events will come."""
        return self._closed

    @property
    def version(self) -> int:
        """A number that changes whenever the result of `targets` may change."""
        return self._version if self._parent is None else self._version + self._parent.version

    def targets(self, kind: type, key: str, name: str | None) -> list[Backlog]:
        """Return the backlogs that want events of this class and process."""
        backlogs = self._backlogs
        found = [backlog for backlog in backlogs if backlog.wants(kind, key, name)] if backlogs else []
        if self._parent is not None:
            found += self._parent.targets(kind, key, name)
        return found

    def publish(self, event: object) -> list[Backlog]:
        """Append an event to all backlogs that want it; return those that are full."""
        batch = batch_of(event)
        targets = self.targets(batch._kind, batch.id, batch.name)
        for backlog in targets:
            backlog.offer(batch)
        if batch._final:
            self.end_of(batch.id)
        return [backlog for backlog in targets if backlog.full]

    def end_of(self, key: str) -> None:
        """End the subscriptions to this one process."""
        if self._backlogs:
            for backlog in [backlog for backlog in self._backlogs if backlog.sees_end_of(key)]:
                backlog.end()
        if self._parent is not None:
            self._parent.end_of(key)

    def subscribe(
        self,
        *types: type,
        id: str | None = None,  # noqa: A002 - the keyword of the contract
        name: str | None = None,
        buffer: float = 1024,
        overflow: Overflow | str = Overflow.WAIT,
    ) -> Subscription[Any]:
        """Return a subscription; the arguments are those of `EventSource.subscribe`."""
        for kind in types:
            if not _is_event_class(kind):
                raise OptionError(
                    f"subscribe takes event classes, such as ActionProcessOutput; got {checks.brief(kind)}"
                )
        if id is not None and not isinstance(id, str):
            raise bad_option("id", f"must be a process id (a str), got {checks.brief(id)}")
        if name is not None and not isinstance(name, str):
            raise bad_option("name", f"must be the label of processes (a str), got {checks.brief(name)}")
        buffer = checks.whole("buffer", buffer, infinite=True)
        backlog = Backlog(types, id, name, buffer, member(Overflow, overflow, "overflow"), self._leave, _caller())
        if self._closed or (id is not None and self._knows_end_of(id)):
            backlog.ended = True
        else:
            self._backlogs.append(backlog)
            self._version += 1
        return Subscription(backlog)

    def _knows_end_of(self, key: str) -> bool:
        if self._has_ended is not None and self._has_ended(key):
            return True
        return any(child._knows_end_of(key) for child in self._children)

    def _leave(self, backlog: Backlog) -> None:
        if backlog in self._backlogs:
            self._backlogs.remove(backlog)
            self._version += 1

    def close(self) -> None:
        """End every subscription once its backlog is read."""
        self._closed = True
        for backlog in list(self._backlogs):
            backlog.end()
        if self._parent is not None and self in self._parent._children:
            self._parent._children.remove(self)


def _is_event_class(kind: object) -> bool:
    try:
        issubclass(object, kind)  # type: ignore[arg-type] # the point of the test: a Protocol raises TypeError too
    except TypeError:
        return False
    return isinstance(kind, type)


def _caller() -> str:
    """Return ``file:line`` of the code that subscribed: the first frame outside this package.

    Frames of `contextlib` are skipped too, as our own context managers are entered through it.
    """
    ours = (__name__.partition(".")[0], "contextlib")
    frame = sys._getframe(1)  # cheap, unlike inspect.stack, which reads source files
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in ours:
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
