"""`RemoteOutput`: the way from a process at the other end to its owner, its lifecycle on the client."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final, final

import trio

from .._core import Stream
from .._process import HandleOwner, Reactor
from .link import Inflow, Link
from .wire import Kind

PASSING: Final = 0.25
"""Seconds for which a paused stream holds up the later output of the other one."""

_KINDS: Final = {Stream.STDOUT: Kind.STDOUT, Stream.STDERR: Kind.STDERR}


@final
class RemoteOutput:
    """Delivers output in the order of its arrival; the agent gets credit for what the owner has processed.

    Output of a paused stream is held, at most `WINDOW` bytes, as no credit is given for it. Later output of the other
    stream is held behind it, for `PASSING` seconds; then it is delivered first.
    """

    __slots__ = (
        "_arrivals", "_gives_credit", "_has_exited", "_held", "_inflows", "_is_watched", "_link", "_may_pass", "_number",
        "_owner", "_paused", "_reactor",
    )  # fmt: skip

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor
        self._owner: HandleOwner | None = None
        self._link: Link | None = None
        self._number = 0
        self._inflows: dict[Stream, Inflow] = {}
        self._gives_credit = True
        self._held: dict[Stream, deque[tuple[int, bytes]]] = {}  # each chunk with its place in the order of arrival
        self._arrivals = 0
        self._paused: tuple[Stream, ...] = ()
        self._has_exited = False
        self._is_watched = False  # whether the first chunk that is held still is the first in a moment
        self._may_pass = False  # the other stream may overtake it

    def connect(self, link: Link, number: int) -> None:
        """Give credit to this process from now on."""
        self._link = link
        self._number = number

    def begin(self, owner: HandleOwner) -> None:
        """Deliver to this owner from now on."""
        self._owner = owner
        self.deliver()

    def take(self, stream: Stream, data: bytes) -> None:
        """Take in output."""
        inflow = self._inflows.get(stream)
        if inflow is None:  # most processes write to one stream at most
            assert self._link is not None
            inflow = self._inflows[stream] = Inflow(self._link, _KINDS[stream], self._number)
        inflow.arrived(len(data))
        if self._owner is not None and not self._held and stream not in self._paused:
            self._pass_on(self._owner, stream, data)
            return
        self._arrivals += 1
        self._held.setdefault(stream, deque()).append((self._arrivals, data))
        self.deliver()

    def deliver(self, *, everything: bool = False) -> None:
        """Deliver held output of the streams that aren't paused; `everything`, or all after the exit, regardless of that."""
        owner, held = self._owner, self._held
        if owner is None:
            return
        while held:
            stream = self._first_of(held)
            if stream in self._paused and not (everything or self._has_exited):
                # up to a window of it would be overtaken at once by output that was written much later
                if not self._may_pass:
                    self._watch(held[stream][0][0])
                    return
                others = [stream for stream in held if stream not in self._paused]
                if not others:
                    return
                stream = self._first_of(others)
            else:
                self._may_pass = False
            _, data = held[stream].popleft()
            if not held[stream]:
                del held[stream]
            self._pass_on(owner, stream, data)

    def _first_of(self, streams: Iterable[Stream]) -> Stream:
        """Return the stream whose held output arrived first."""
        return min(streams, key=lambda stream: self._held[stream][0])

    def _watch(self, arrival: int) -> None:
        """Let the other stream pass, if this arrival is still the first of the held ones in a moment."""

        def look() -> None:
            self._is_watched = False
            if self._held:
                self._may_pass = self._held[self._first_of(self._held)][0][0] == arrival
                self.deliver()

        if not self._is_watched:
            self._is_watched = True
            self._reactor.call_at(trio.current_time() + PASSING, look)

    def _pass_on(self, owner: HandleOwner, stream: Stream, data: bytes) -> None:
        owner.received(stream, data)
        if self._gives_credit:
            self._inflows[stream].take(len(data))

    def pause(self, stream: Stream) -> None:
        """Hold the output of a stream."""
        if stream not in self._paused:
            self._paused += (stream,)

    def resume(self, stream: Stream) -> None:
        """Continue delivery, in the reactor's task."""
        self._paused = tuple([paused for paused in self._paused if paused is not stream])
        if self._held:
            self._reactor.call_at(trio.current_time(), self.deliver)

    def process_exited(self) -> None:
        """Called when the process has exited: a paused stream is delivered as well from now on."""
        self._has_exited = True

    def process_over(self) -> None:
        """Called when no more output will come: no more credit is given."""
        self._has_exited = True
        self._gives_credit = False

    def discard(self) -> None:
        """Discard held output."""
        self._held.clear()
