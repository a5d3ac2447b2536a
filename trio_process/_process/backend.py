"""The seams of this layer: where a child lives is decided by the backend that a service is entered with.

`Backend` spawns; `Handle` is one child as its `Lifecycle` sees it; `HandleOwner` is what a handle reports to; and
`LifecycleHost` is what a lifecycle needs of its service. A lifecycle holds no descriptor, no PID that it signals and no
path in ``/proc``: so the same code runs children of this machine, scripts on virtual time, and children on other machines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple, Protocol, final

from .._core import Bus, ProcessNotRunningError, ProcessStartError, ResourceUsage, RunOptions, ShutdownDeadline, Stream
from .end_reason import Request
from .options import ServiceOptions
from .reactor import Reactor

STUCK_AFTER: Final = 5.0
"""Seconds after SIGKILL in which a process that can die has died; one that has not is named in a `StopFailedError`."""


class Survivor(NamedTuple):
    """A process that outlived SIGKILL: its PID, its state (proc_pid_stat(5)) and its command."""

    pid: int
    state: str
    command: str


class ExitInfo(NamedTuple):
    """How a child ended.

    `exit_code` is -N for death by signal N. `incomplete` says that something still held its output open when the machine
    that it ran on had drained it. `lost` says why the end itself is not known: the agent or machine was lost.
    """

    exit_code: int
    usage: ResourceUsage
    incomplete: bool = False
    lost: str | None = None


Swept = Callable[[list[Survivor], bool], None]
"""Called at the end of a sweep, with the survivors and whether anything had to be killed."""


class HandleOwner(Protocol):
    """The lifecycle of a child, to which its handle reports."""

    @property
    def kill_at(self) -> float | None:
        """When SIGKILL follows the stop signal, on Trio's clock; None while no stop was asked for."""

    @property
    def has_readers(self) -> bool:
        """Whether anybody reads its output while it comes, and so needs a turn after each chunk."""

    def received(self, stream: Stream, data: bytes) -> None:
        """Called with each chunk of output."""

    def output_lost(self, error: Exception) -> None:
        """Called when some of the output could not be stored."""

    def stream_ended(self) -> None:
        """Called at end of file on one stream: the child, and every process that inherited it, have closed it."""

    def exited(self) -> None:
        """Called once when the child has exited; it is not reaped yet."""

    def check_unkillable(self) -> None:
        """Called when `Handle.survivor` can name a child that SIGKILL has not ended."""


class Handle(Protocol):
    """One child, as its lifecycle sees it."""

    @property
    def pid(self) -> int | None:
        """Its PID on the machine where it runs, None before the start."""

    @property
    def open_streams(self) -> int:
        """How many streams have not reached their end."""

    @property
    def has_stdin(self) -> bool:
        """Whether it was started with a stdin to write to."""

    @property
    def host(self) -> str | None:
        """The host it runs on; None for this one."""

    @property
    def launching(self) -> bool:
        """Whether `launched` has to be awaited before the command itself runs."""

    async def launched(self, options: RunOptions, *, prompt: bool) -> ProcessStartError | None:
        """Wait until the command itself runs; if it can't, release the child and return the error.

        Args:
            options: The options of the process.
            prompt: Return as soon as it runs; otherwise it may be a few moments later, or after its end.
        """

    def begin(self, owner: HandleOwner) -> None:
        """Start to report to `owner`; the child may be reported as exited before this returns.

        Raises:
            OSError: It is adopted, and can't be watched.
        """

    def pause(self, stream: Stream) -> None:
        """Stop reading a stream, until `resume`."""

    def resume(self, stream: Stream) -> None:
        """Continue to read a stream.

        Raises:
            OSError: It can't be watched any more.
        """

    def read_rest(self) -> None:
        """Report all output that can be read now."""

    def close_outputs(self) -> None:
        """Close the streams, whatever they still hold."""

    def signal(self, number: int, *, group: bool) -> None:
        """Send a signal to the child, or to its whole group."""

    def request_stop(self, number: int, *, group: bool) -> None:
        """Send the stop signal, and SIGCONT, so that stopped members can act on it."""

    def has_exited(self) -> bool:
        """Return whether the child has exited, even if that has not been reported yet."""

    def survivor(self) -> Survivor | None:
        """Return the PID, state and command of a child that SIGKILL did not end.

        None: whether it has ended isn't known yet. The owner is called when it is.
        """

    def sweep(self, age: float, kill_from: float, callback: Swept) -> Callable[[], None] | None:
        """Ask the descendants that outlive the child to end, and kill them from `kill_from` on.

        Args:
            age: Seconds since the start of the child.
            kill_from: A time on Trio's clock.
            callback: Called when they are gone, or can't be killed.

        Returns:
            A function that kills them now; None if there are none.
        """

    def reap(self) -> ExitInfo:
        """Reap the child and return how it ended."""

    def abandon(self) -> None:
        """Release a child that runs on."""

    async def write_stdin(self, data: bytes) -> None:
        """Write all of `data` to the child's stdin."""

    def close_stdin(self) -> None:
        """Close the child's stdin; twice is fine."""


class Backend(Protocol):
    """Spawns the children of one service, and finds their descendants."""

    @property
    def mechanism(self) -> str:
        """How descendants are found."""

    @property
    def guardian_pid(self) -> int | None:
        """The PID of the helper that outlives this program; None without one."""

    def spawn(self, id: str, options: RunOptions, number: int) -> Handle:  # noqa: A002 - as in the events
        """Start a child; it is not watched before `Handle.begin`.

        Args:
            id: The id of the process in its service.
            options: What to run.
            number: A number that no other child of this program has.

        Raises:
            ProcessStartError: It can't be started.
        """

    def adopt(self, pid: int, log: int | None) -> Handle:
        """Watch a detached process of an earlier service; `log` is a descriptor of its log file, at the place to read from.

        Raises:
            OSError: It can't be watched.
        """

    def close(self) -> None:
        """Release the resources that the children share."""


BackendFactory = Callable[[Reactor, ServiceOptions], Backend]

_factories: Final[list[BackendFactory]] = []


@contextmanager
def use_backend(factory: BackendFactory) -> Iterator[None]:
    """Let every service that is entered inside this block, in any task or thread, spawn by `factory`.

    Not a context variable: system tasks and other threads would miss it.
    """
    _factories.append(factory)
    try:
        yield
    finally:
        _factories.remove(factory)


def backend_in_use() -> BackendFactory | None:
    """Return the factory of the innermost `use_backend`, None outside of any."""
    return _factories[-1] if _factories else None


class LifecycleHost(Protocol):
    """The parts of a service that a lifecycle needs."""

    @property
    def bus(self) -> Bus:
        """Where its events are published."""

    @property
    def reactor(self) -> Reactor:
        """Whose timers it uses."""

    @property
    def deadline(self) -> ShutdownDeadline:
        """The deadline of the enclosing shutdown, which shortens every grace period."""

    @property
    def options(self) -> ServiceOptions:
        """Grace period and drain limits."""

    def ended(self, id: str) -> None:  # noqa: A002 - as in the events
        """Called when a child has ended, or can't be killed."""


class AbsentHandle:
    """The handle of a process of which nothing is left: it does nothing.

    Args:
        has_stdin: Whether the process was started with a stdin to write to.
    """

    __slots__ = ("has_stdin",)

    pid = None
    host = None
    open_streams = 0
    launching = False

    def __init__(self, *, has_stdin: bool = False) -> None:
        self.has_stdin = has_stdin

    async def launched(self, options: RunOptions, *, prompt: bool) -> ProcessStartError | None:
        """Never called: there is nothing to wait for."""
        raise NotImplementedError

    def begin(self, owner: HandleOwner) -> None:
        """Do nothing."""

    def pause(self, stream: Stream) -> None:
        """Do nothing."""

    def resume(self, stream: Stream) -> None:
        """Do nothing."""

    def read_rest(self) -> None:
        """Do nothing."""

    def close_outputs(self) -> None:
        """Do nothing."""

    def signal(self, number: int, *, group: bool) -> None:
        """Do nothing."""

    def request_stop(self, number: int, *, group: bool) -> None:
        """Do nothing."""

    def has_exited(self) -> bool:
        """Return False."""
        return False

    def survivor(self) -> Survivor:
        """Return no process."""
        return Survivor(0, "?", "")

    def sweep(self, age: float, kill_from: float, callback: Swept) -> Callable[[], None] | None:
        """Return None: there are no descendants."""

    def reap(self) -> ExitInfo:
        """Return that nothing is known."""
        return ExitInfo(0, ResourceUsage())

    def abandon(self) -> None:
        """Do nothing."""

    async def write_stdin(self, data: bytes) -> None:  # noqa: ARG002 - as in the protocol
        """Raise `ProcessNotRunningError`."""
        raise ProcessNotRunningError("the process has not started yet, or has ended, so it takes no input")

    def close_stdin(self) -> None:
        """Do nothing."""


@final
class PendingHandle(AbsentHandle):
    """The handle of a child that is still being started: it has no streams, and queues the requests that come early.

    Attributes:
        requests: The queue, oldest first.
    """

    __slots__ = ("requests",)

    def __init__(self) -> None:
        self.has_stdin = False
        self.requests: tuple[Request, ...] = ()

    def ask(self, request: Request) -> None:
        """Queue a request until the child has started."""
        self.requests += (request,)


ENDED_HANDLES: Final = (AbsentHandle(), AbsentHandle(has_stdin=True))
"""The handles of processes that were reaped, by whether they had a stdin: they need none of their own any more."""
