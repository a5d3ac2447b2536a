"""`HandleBetween`: stands between the handle of a child and its lifecycle, and passes everything on."""

from __future__ import annotations

from collections.abc import Callable

from .._core import ProcessStartError, RunOptions, Stream
from .backend import ExitInfo, Handle, HandleOwner, Survivor, Swept


class HandleBetween:
    """The handle of a child for its lifecycle, and the owner of the real handle; subclasses inspect the calls.

    Args:
        real: The real handle.
    """

    def __init__(self, real: Handle) -> None:
        self._real = real
        self._owner: HandleOwner
        self.pid: int | None = real.pid
        self.has_stdin: bool = real.has_stdin
        self.open_streams: int = real.open_streams

    # reports of the real handle

    def begin(self, owner: HandleOwner) -> None:
        """Watch the child in the place of its lifecycle."""
        self._owner = owner
        self.pid = self._real.pid
        self._real.begin(self)

    def received(self, stream: Stream, data: bytes) -> None:
        """Pass it on."""
        self._owner.received(stream, data)

    @property
    def has_readers(self) -> bool:
        """Whether anybody reads the output while it comes."""
        return self._owner.has_readers

    @property
    def kill_at(self) -> float | None:
        """When the lifecycle will kill the child."""
        return self._owner.kill_at

    def output_lost(self, error: Exception) -> None:
        """Pass it on."""
        self._owner.output_lost(error)

    def stream_ended(self) -> None:
        """Pass it on."""
        self.open_streams = self._real.open_streams
        self._owner.stream_ended()

    def exited(self) -> None:
        """Pass it on."""
        self._owner.exited()

    def check_unkillable(self) -> None:
        """Pass it on."""
        self._owner.check_unkillable()

    # requests of the lifecycle

    @property
    def host(self) -> str | None:
        """The host of the real one."""
        return self._real.host

    @property
    def launching(self) -> bool:
        """Whether the real one is still being launched."""
        return self._real.launching

    async def launched(self, options: RunOptions, *, prompt: bool) -> ProcessStartError | None:
        """Pass it on."""
        return await self._real.launched(options, prompt=prompt)

    def pause(self, stream: Stream) -> None:
        """Pass it on."""
        self._real.pause(stream)

    def resume(self, stream: Stream) -> None:
        """Pass it on."""
        self._real.resume(stream)

    def read_rest(self) -> None:
        """Pass it on."""
        self._real.read_rest()

    def close_outputs(self) -> None:
        """Pass it on."""
        self._real.close_outputs()
        self.open_streams = self._real.open_streams

    def signal(self, number: int, *, group: bool) -> None:
        """Pass it on."""
        self._real.signal(number, group=group)

    def request_stop(self, number: int, *, group: bool) -> None:
        """Pass it on."""
        self._real.request_stop(number, group=group)

    def has_exited(self) -> bool:
        """Return whether the real one has exited."""
        return self._real.has_exited()

    def survivor(self) -> Survivor | None:
        """Pass it on."""
        return self._real.survivor()

    def sweep(self, age: float, kill_from: float, callback: Swept) -> Callable[[], None] | None:
        """Pass it on."""
        return self._real.sweep(age, kill_from, callback)

    def reap(self) -> ExitInfo:
        """Pass it on."""
        return self._real.reap()

    def abandon(self) -> None:
        """Pass it on."""
        self._real.abandon()

    async def write_stdin(self, data: bytes) -> None:
        """Pass it on."""
        await self._real.write_stdin(data)

    def close_stdin(self) -> None:
        """Pass it on."""
        self._real.close_stdin()
