"""`Handle`: what the life of a child needs of the system.

The life itself is a state machine that knows no descriptor; a scripted handle makes the same life on virtual time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from .._core import ProcessStartError, RunOptions, Stream
from .containment import Left
from .reap import Ending


class Owner(Protocol):
    """Who is told what happens to a child."""

    def received(self, stream: Stream, data: bytes) -> None:
        """Take in a chunk of output."""

    def output_lost(self, error: Exception) -> None:
        """Take note that something of the output could not be taken in."""

    def stream_ended(self) -> None:
        """Take note that the child, and all who inherited it, have closed one of the streams."""

    def exited(self) -> None:
        """Take note that the child has ended; it is not reaped yet."""


class Handle(Protocol):
    """One child, as its life sees it."""

    pid: int
    open_streams: int
    has_stdin: bool

    @property
    def host(self) -> str | None:
        """The host it runs on, None for ours."""

    @property
    def launching(self) -> bool:
        """Whether a launcher still has to become the command."""

    async def launched(self, options: RunOptions) -> ProcessStartError | None:
        """Wait until the command itself runs; return what was in the way, and let go of the child then."""

    def begin(self, owner: Owner) -> None:
        """Start telling the owner.

        Raises:
            OSError: It is adopted, and can't be watched.
        """

    def pause(self, stream: Stream) -> None:
        """Read no more of a stream, until `resume`."""

    def resume(self, stream: Stream) -> None:
        """Read on.

        Raises:
            OSError: It can't be watched any more.
        """

    def read_rest(self) -> None:
        """Hand over what is there to be read now."""

    def close_outputs(self) -> None:
        """Read no more."""

    def signal(self, number: int, *, group: bool) -> None:
        """Signal the child, or its whole group."""

    def has_exited(self) -> bool:
        """Return whether the child has ended, although the owner may not have been told yet."""

    def is_stopped(self) -> bool:
        """Return whether the child is stopped by a signal."""

    def sweep(
        self, age: float, kill_from: float, callback: Callable[[list[Left], bool], None]
    ) -> Callable[[], None] | None:
        """Ask what it left behind to end, kill it from `kill_from` on, then call back; return how to hasten that, None if all is gone."""

    def reap(self) -> Ending:
        """Let go of the PID, and tell how it ended."""

    def abandon(self) -> None:
        """Let go of a process that runs on."""

    async def write_stdin(self, data: bytes) -> None:
        """Write all of `data` to the child."""

    def close_stdin(self) -> None:
        """Close the child's stdin; twice is fine."""
