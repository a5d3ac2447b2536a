"""`LocalHandle`: a child of this process, on pidfd, pipes and epoll."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Final, final

import attrs
import trio

from ..._core import ProcessNotRunningError, ProcessStartError, RunOptions, StdinNotAvailableError, Stream
from .. import reap
from ..backend import Owner
from ..containment import STUCK_AFTER, Cell, Guardian, Left, Lineage, Sweep, Sweeper, Wanted
from ..output import Follower
from ..reactor import Reactor
from ..reap import Ending
from ..start_errors import explain_launch
from .spawn import Spawned
from .stdio import PIPE_CAPACITY

CHUNK: Final = PIPE_CAPACITY
"""How much is read at once, in bytes: what a pipe holds."""

_READS_AT_EXIT: Final = 32  # full pipes, of 1 MiB at the most (pipe-max-size); more can only be a grandchild's flood

_DYING: Final = 0.01  # seconds: a process that ends closes its files a moment before it can be seen to have ended


@final
class LocalHandle:
    """A child of this process: our ends of its pipes are read by the service's one epoll."""

    __slots__ = (
        "_cell",
        "_follower",
        "_guardian",
        "_launch",
        "_lineage",
        "_ours",
        "_outputs",
        "_owner",
        "_paused",
        "_pidfd",
        "_reactor",
        "_stdin",
        "_stop_signal",
        "_sweeper",
        "_token",
        "_writing",
        "has_stdin",
        "open_streams",
        "pid",
    )

    def __init__(
        self,
        spawned: Spawned,
        token: str,
        reactor: Reactor,
        lineage: Lineage,
        sweeper: Sweeper,
        guardian: Guardian | None,
        cell: Cell | None = None,
        stop_signal: int | None = None,
        *,
        ours: bool = True,
    ) -> None:
        self._ours = ours  # else it is adopted
        self._cell = cell
        self._stop_signal = stop_signal
        self.pid = spawned.pid
        self._pidfd = spawned.pidfd
        self._stdin = spawned.stdin
        self.has_stdin = spawned.stdin is not None
        self._outputs = spawned.outputs
        self.open_streams = len(spawned.outputs)
        self._token = token
        self._reactor = reactor
        self._lineage = lineage
        self._sweeper = sweeper
        self._launch = spawned.launch
        self._guardian = guardian
        self._follower = None
        if spawned.log is not None:
            self._follower = Follower(spawned.log, reactor, lambda data: self._owner.received(Stream.STDOUT, data))
        self._paused: tuple[Stream, ...] = ()
        self._writing: trio.Lock | None = None

    @property
    def host(self) -> None:
        """It runs here."""

    @property
    def launching(self) -> bool:
        """Whether a launcher still has to become the command."""
        return self._launch is not None

    async def launched(self, options: RunOptions) -> ProcessStartError | None:
        """Read what the launcher has to say; it takes some 15 ms, in which nothing cancels it."""
        assert self._launch is not None
        report = b""
        try:
            with trio.CancelScope(shield=True):
                while True:
                    await trio.lowlevel.wait_readable(self._launch)
                    data = os.read(self._launch, CHUNK)
                    if not data:
                        break
                    report += data
        except BaseException:
            self._give_up()
            raise
        finally:
            os.close(self._launch)
            self._launch = None
        if not report:
            return None
        self._give_up()
        return explain_launch(options, report)

    def _give_up(self) -> None:
        """Kill and reap a child that its owner never gets to know."""
        self._end_now()
        self.close_outputs()
        self.reap()

    def _end_now(self) -> None:
        """Kill the group, and wait for the end of the child: a moment, as SIGKILL is not refused."""
        reap.signal_group(self.pid, self._pidfd, signal.SIGKILL)
        reap.has_exited(self._pidfd, STUCK_AFTER)

    def begin(self, owner: Owner) -> None:
        """Watch the pipes and the pidfd."""
        self._owner = owner
        self._lineage.add(self.pid)
        try:
            for stream, descriptor in self._outputs.items():
                self._watch(stream, descriptor)
            self._reactor.watch(self._pidfd, self._look_for_exit)
        except OSError as error:
            if not self._ours:
                raise
            # it can be neither read nor waited for, so that its end is made, and seen, here
            self._end_now()
            owner.output_lost(error)
            owner.exited()
            return
        if self._follower is not None:
            self._follower.resume()

    def _watch(self, stream: Stream, descriptor: int) -> None:
        # bound methods, not closures, which take 290 bytes more of each child
        self._reactor.watch(descriptor, self._read_stdout if stream is Stream.STDOUT else self._read_stderr)

    def _read_stdout(self) -> None:
        self._read(Stream.STDOUT)

    def _read_stderr(self) -> None:
        self._read(Stream.STDERR)

    def _look_for_exit(self) -> None:
        self._reactor.forget(self._pidfd)
        self._owner.exited()

    def _read(self, stream: Stream) -> bool:
        """Read once; return whether there may be more."""
        descriptor = self._outputs.get(stream)
        if descriptor is None:
            return False
        try:
            data = os.read(descriptor, CHUNK)
        except BlockingIOError:
            return False
        except OSError:
            data = b""  # EIO: the other side of a terminal is gone
        except MemoryError as error:
            self._owner.output_lost(error)
            data = b""
        if data:
            self._owner.received(stream, data)
            return True
        self._close_output(stream)
        self._owner.stream_ended()
        return False

    def _close_output(self, stream: Stream) -> None:
        descriptor = self._outputs.pop(stream)
        self._reactor.close_watched(descriptor)
        self.open_streams -= 1

    def pause(self, stream: Stream) -> None:
        """Take the pipe out of the epoll: with an empty mask it would still report a hang-up, again and again."""
        if self._follower is not None:
            self._follower.pause()
        descriptor = self._outputs.get(stream)
        if descriptor is not None and stream not in self._paused:
            self._paused += (stream,)
            self._reactor.forget(descriptor)

    def resume(self, stream: Stream) -> None:
        """Put it back."""
        if self._follower is not None:
            self._follower.resume()
        descriptor = self._outputs.get(stream)
        if descriptor is not None and stream in self._paused:
            self._watch(stream, descriptor)
        self._paused = tuple([paused for paused in self._paused if paused is not stream])

    def read_rest(self) -> None:
        """Read what the pipes hold, a bounded number of times: whoever else has them may never stop."""
        for stream in list(self._outputs):
            for _ in range(_READS_AT_EXIT):
                if not self._read(stream):
                    break
        if self._follower is not None:
            self._follower.read()

    def close_outputs(self) -> None:
        """Close our ends of what is still open."""
        for stream in list(self._outputs):
            self._close_output(stream)
        if self._follower is not None:
            self._follower.close()

    def signal(self, number: int, *, group: bool) -> None:
        """Signal the group, or the leader alone."""
        if self._pidfd < 0:
            return
        if group:
            reap.signal_group(self.pid, self._pidfd, number)
        else:
            reap.signal_leader(self._pidfd, number)

    def has_exited(self) -> bool:
        """Ask the kernel."""
        return self._pidfd < 0 or reap.has_exited(self._pidfd)

    def is_stopped(self) -> bool:
        """Ask the kernel."""
        return self._pidfd >= 0 and reap.is_stopped(self.pid, self._pidfd)

    def sweep(
        self, age: float, kill_from: float, callback: Callable[[list[Left], bool], None]
    ) -> Callable[[], None] | None:
        """Look for the group's members and escapees, if there can be any."""
        wanted = Wanted(self.pid, self._token, age, self._cell, self._stop_signal)
        if not self._lineage.may_have_left_some(wanted):
            return None
        sweep: Sweep = self._sweeper.begin(wanted, kill_from, callback)
        return lambda: self._sweeper.hasten(sweep)

    def reap(self) -> Ending:
        """Reap the leader: from here on its PID may be anybody's."""
        self.close_stdin()
        pidfd, self._pidfd = self._pidfd, -1
        self._lineage.discard(self.pid)
        if self._guardian is not None:
            self._guardian.discard(self.pid)
        ending = reap.reap(self.pid, pidfd)
        if self._cell is not None:
            peak = self._cell.peak or ending.usage.max_rss
            usage = attrs.evolve(ending.usage, max_rss=peak, oom_killed=self._cell.oom_killed)
            ending = ending._replace(usage=usage)
            self._cell.remove()
        self._reactor.close_watched(pidfd)
        return ending

    def abandon(self) -> None:
        """Close what we hold of it; it is reaped some time later, if it ends before we do."""
        self.close_stdin()
        self.close_outputs()
        reap.reap_some_day(self.pid)
        self._reactor.close_watched(self._pidfd)
        self._pidfd = -1

    async def write_stdin(self, data: bytes) -> None:
        """Write in the caller's own task; who writes meanwhile waits for this one, and nobody else does."""
        if self._writing is None:
            self._writing = trio.Lock()
        async with self._writing:
            rest = memoryview(data)
            while rest or self._stdin is None:
                if self._stdin is None:
                    raise self._no_stdin()
                try:
                    rest = rest[os.write(self._stdin, rest) :]
                except BlockingIOError:
                    try:
                        await trio.lowlevel.wait_writable(self._stdin)
                    except trio.ClosedResourceError:
                        raise self._no_stdin() from None
                except BrokenPipeError as error:
                    self.close_stdin()
                    if not self.has_exited():
                        await trio.sleep(_DYING)
                    if self.has_exited():
                        raise self._no_stdin() from error
                    raise StdinNotAvailableError("the child has closed its stdin") from error

    def _no_stdin(self) -> Exception:
        if self._pidfd < 0 or self.has_exited():
            return ProcessNotRunningError("the process ended before all of its input was written")
        if not self.has_stdin:
            return StdinNotAvailableError("the process was started without a stdin to write to; use stdin=Stdio.PIPE")
        return StdinNotAvailableError("its stdin is closed already")

    def close_stdin(self) -> None:
        """Close our end, and wake who is writing to it."""
        if self._stdin is not None:
            descriptor, self._stdin = self._stdin, None
            trio.lowlevel.notify_closing(descriptor)
            os.close(descriptor)
