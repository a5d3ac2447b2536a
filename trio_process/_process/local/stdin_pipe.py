"""`StdinPipe`: our end of a child's stdin."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final, final

import trio

from ..._core import ProcessNotRunningError, StdinNotAvailableError, close_in_forks, forget_descriptor

_DYING: Final = 0.01  # seconds: a process that ends closes its files a moment before its exit can be seen


@final
class StdinPipe:
    """Our end of a child's stdin; concurrent writers are serialized, and nothing else waits for them.

    Args:
        descriptor: The pipe, in non-blocking mode; `close` closes it.
    """

    __slots__ = ("_descriptor", "_writing")

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        close_in_forks(descriptor)  # a fork that lives on would keep the child from its end of file
        self._writing: trio.Lock | None = None

    async def write(self, data: bytes, has_exited: Callable[[], bool]) -> None:
        """Write all of `data`, in the caller's own task.

        Args:
            data: The bytes.
            has_exited: Returns whether the child has ended, or else has only closed its stdin.

        Raises:
            ProcessNotRunningError: The child has ended.
            StdinNotAvailableError: The pipe is closed, by us or by the child.
        """
        if self._writing is None:
            self._writing = trio.Lock()
        async with self._writing:
            rest = memoryview(data)
            while rest or self._descriptor < 0:
                if self._descriptor < 0:
                    raise _closed(has_exited)
                try:
                    rest = rest[os.write(self._descriptor, rest) :]
                except BlockingIOError:
                    try:
                        await trio.lowlevel.wait_writable(self._descriptor)
                    except trio.ClosedResourceError:
                        raise _closed(has_exited) from None
                except BrokenPipeError as error:
                    self.close()
                    if not has_exited():
                        await trio.sleep(_DYING)
                    if has_exited():
                        raise _closed(has_exited) from error
                    raise StdinNotAvailableError("the child has closed its stdin") from error

    def close(self) -> None:
        """Close the pipe and wake the writer; can be repeated."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            forget_descriptor(descriptor)
            trio.lowlevel.notify_closing(descriptor)
            os.close(descriptor)


def _closed(has_exited: Callable[[], bool]) -> Exception:
    if has_exited():
        return ProcessNotRunningError("the process ended before all of its input was written")
    return StdinNotAvailableError("its stdin is closed already")


def no_stdin(has_exited: Callable[[], bool]) -> Exception:
    """Return the error of a write to a child that was started without a stdin to write to."""
    if has_exited():
        return ProcessNotRunningError("the process ended before all of its input was written")
    return StdinNotAvailableError("the process was started without a stdin to write to; use stdin=Stdio.PIPE")
