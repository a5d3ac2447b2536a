"""`EventSource`: `subscribe` with its types, for `Service` and `Core`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, overload

from ..enums import Overflow
from .bus import Bus
from .subscription import Subscription

if TYPE_CHECKING:
    from typing import TypedDict, Unpack

    class SubscribeKeywords(TypedDict, total=False):
        """The keywords of `subscribe`."""

        id: str | None
        name: str | None
        buffer: float
        overflow: Overflow | str


_A = TypeVar("_A")
_B = TypeVar("_B")
_C = TypeVar("_C")
_D = TypeVar("_D")


class EventSource:
    """The base of the classes whose events can be subscribed to."""

    __slots__ = ()

    def _events_of(self, id: str | None) -> Bus:  # noqa: A002 - the contract's name
        """Return the bus to subscribe to, for one process or for all.

        Raises:
            ProcessNotFoundError: There is no process with this id.
        """
        raise NotImplementedError

    @overload
    def subscribe(self, **options: Unpack[SubscribeKeywords]) -> Subscription[Any]: ...
    @overload
    def subscribe(self, a: type[_A], /, **options: Unpack[SubscribeKeywords]) -> Subscription[_A]: ...
    @overload
    def subscribe(self, a: type[_A], b: type[_B], /, **options: Unpack[SubscribeKeywords]) -> Subscription[_A | _B]: ...
    @overload
    def subscribe(
        self, a: type[_A], b: type[_B], c: type[_C], /, **options: Unpack[SubscribeKeywords]
    ) -> Subscription[_A | _B | _C]: ...
    @overload
    def subscribe(
        self, a: type[_A], b: type[_B], c: type[_C], d: type[_D], /, **options: Unpack[SubscribeKeywords]
    ) -> Subscription[_A | _B | _C | _D]: ...
    @overload
    def subscribe(self, *types: type, **options: Unpack[SubscribeKeywords]) -> Subscription[Any]: ...

    def subscribe(
        self,
        *types: type,
        id: str | None = None,  # noqa: A002 - the contract's name
        name: str | None = None,
        buffer: float = 1024,
        overflow: Overflow | str = Overflow.WAIT,
    ) -> Subscription[Any]:
        """Return a subscription to events, from now on: of a service's processes, or of all that a core has.

        A type checker knows what it yields: ``subscribe(ActionProcessOutput)`` is a ``Subscription[ActionProcessOutput]``.

        Args:
            *types: Event classes; none means all.
            id: Only events of this process; the subscription ends with it.
            name: Only events of processes with this label.
            buffer: How many events are kept for a slow reader (one chunk may overshoot), at most 16 MiB of text.
            overflow: What happens beyond that: `Overflow.WAIT` slows the processes down, the others drop.

        Raises:
            OptionError: An argument is invalid.
            ProcessNotFoundError: The service has no process with this id.
        """
        return self._events_of(id).subscribe(*types, id=id, name=name, buffer=buffer, overflow=overflow)
