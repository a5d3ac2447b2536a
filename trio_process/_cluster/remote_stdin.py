"""`RemoteStdin`: the way from a client to the stdin of a process at the other end."""

from __future__ import annotations

from typing import final

import trio

from .._core import ProcessNotRunningError, StdinNotAvailableError
from .link import WINDOW, Link, Outflow
from .messages import CloseStdin
from .source import Source
from .wire import Kind, WireError


@final
class RemoteStdin:
    """Sends input as far as there is credit; returned credit confirms that the input is in the process's pipe.

    Args:
        piped: Whether the process has a pipe for later input.
        source: The input that it was given at the start, or None.

    Attributes:
        open: Whether input is sent, or may be.
        source: As given.
    """

    __slots__ = (
        "_acknowledged",
        "_close_wanted",
        "_link",
        "_moved",
        "_number",
        "_outflow",
        "_over",
        "_piped",
        "_written",
        "open",
        "source",
    )

    def __init__(self, source: Source | None, *, piped: bool) -> None:
        self._piped = piped
        self.source: Source | None = source
        self.open: bool = piped or source is not None
        self._over = False
        self._close_wanted = False
        self._acknowledged = 0
        self._written = 0
        self._moved: trio.lowlevel.ParkingLot | None = None  # made when a task waits: most processes get no input
        self._link: Link | None = None
        self._number = 0
        self._outflow: Outflow | None = None

    def connect(self, link: Link, number: int) -> None:
        """Send to this process from now on."""
        self._link = link
        self._number = number
        if self.open:
            self._outflow = Outflow(link, Kind.STDIN, number)

    def end(self) -> None:
        """Wake the tasks that write: the process has ended."""
        self._over = True
        self.open = False
        self._wake()

    def _wake(self) -> None:
        if self._moved is not None:
            self._moved.unpark_all()

    async def _wait(self) -> None:
        if self._moved is None:
            self._moved = trio.lowlevel.ParkingLot()
        await self._moved.park()

    def release(self) -> None:
        """Close the input that it was given; can be repeated."""
        self.open = False
        if self.source is not None:
            self.source.close()

    async def write(self, data: bytes) -> None:
        """Send `data`, and wait until the process's pipe has it."""
        await trio.lowlevel.checkpoint()
        self._check()
        await self._send(data)
        target = self._written
        while self._acknowledged < target:
            self._check()
            await self._wait()

    async def _send(self, data: bytes) -> None:
        """Send `data`; wait while there is no credit for the rest of it."""
        assert self._outflow is not None
        view = memoryview(data)
        while view:
            part = view[:WINDOW]
            self._written += len(part)
            self._outflow.write(bytes(part))
            view = view[len(part) :]
            while self._outflow.held:
                self._check()
                await self._wait()

    async def feed(self) -> None:
        """Send the input that the process was given, then end of file.

        Raises:
            OSError: It can't be read.
        """
        assert self.source is not None
        try:
            while data := await self.source.read():
                self._check()
                await self._send(data)
        except (ProcessNotRunningError, StdinNotAvailableError, trio.ClosedResourceError):
            pass  # it ended, or closed its stdin, before it had read everything: its own affair
        finally:
            self.close()
            self.release()

    def _check(self) -> None:
        if self._over:
            raise ProcessNotRunningError("the process ended before all of its input was written")
        if not self._piped and self.source is None:
            raise StdinNotAvailableError("the process was started without a stdin to write to; use stdin=Stdio.PIPE")
        if not self.open:
            raise StdinNotAvailableError("its stdin is closed already, by us or by the process")

    def acknowledge(self, amount: int) -> None:
        """Called when this many of the sent bytes are in the process's pipe.

        Raises:
            WireError: They were never sent.
        """
        if self._outflow is None:
            raise WireError(f"a credit of {amount} bytes came for the stdin of process {self._number}, which has none")
        self._outflow.add(amount)
        self._acknowledged += amount
        self._wake()
        self._close_if_wanted()

    def closed_there(self) -> None:
        """Called when the process has closed its stdin."""
        self.open = False
        self._wake()

    def close(self) -> None:
        """Send end of file, after held input; can be repeated."""
        if self.open:
            self.open = False
            self._close_wanted = True
            self._wake()
            self._close_if_wanted()

    def _close_if_wanted(self) -> None:
        if self._close_wanted and self._link is not None and self._outflow is not None and not self._outflow.held:
            self._close_wanted = False
            self._link.send(CloseStdin(self._number))
