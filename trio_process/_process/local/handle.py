"""`LocalHandle`: a child of this process, by its pidfd and the pipes to it.

Order
    The spawn returns a running child, a pidfd and our ends of its pipes. `begin` puts the pipes and then the pidfd into the
    reactor's epoll; before that nothing is reported, so that the lifecycle is ready for the first byte. If the kernel
    refuses to watch them (epoll_ctl(2): ENOSPC), the child can be neither read nor waited for, so it is killed and
    reported as exited there and then.

    The pidfd becomes readable when the child exits. That is not the moment to reap: wait4(2) would free the PID, and the
    group's id with it, while descendants may still have to be signalled. So `exited` is reported with the child left a
    zombie, the lifecycle drains and sweeps, and `reap` comes last. It goes: close stdin; take the PID out of the
    lineage, so that the next process with this PID is not taken for ours; have the guardian release the group, before
    its id can be another's; wait4; the containment's figures; close the pidfd.

    `_pidfd` is set to -1 before the descriptor is closed, here as everywhere: the kernel hands out the number again at
    once, and a signal through it would reach another child.

Descriptors
    stdin       Closed by `close_stdin`, by `StdinPipe` when the child has closed its end, and by `reap` and `abandon`. A
                writer may wait for it in its own task; closing wakes the writer first (`notify_closing`).
    outputs     Closed at their end of file, else by `close_outputs`, which the lifecycle calls when it has read what it
                wanted. They are read by one task, so nothing waits for them.
    log         Of a detached child: the file that it writes, followed by `FileTail`, which closes it.
    launch      The pipe to the launcher, closed by `launched` alone.
    pidfd       Closed by `reap` or `abandon`, and by nothing else. It is -1 from the start if another part of this program
                reaped the child before it could be opened; then nothing is signalled, and the exit code is 255.

    A pipe is never shared with an epoll after it was closed: `Reactor.close_watched` takes it out first, as a fork of this
    program without exec may hold a copy, and the kernel would report that one for ever (epoll(7), "Q6").

What is not here: requests, deadlines, results. A handle obeys, and reports three things: bytes, end of file, exit.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final, final

import trio

from ..._core import ProcessStartError, RunOptions, Stream, read_stat
from .. import backend, reap
from ..backend import ExitInfo, HandleOwner, Survivor, Swept
from ..containment import Containment, Target
from ..output import FileTail
from ..start_errors import LAUNCHED, launch_error
from .launch import launcher_report
from .spawn import Spawned
from .stdin_pipe import StdinPipe, no_stdin
from .stdio import PIPE_CAPACITY
from .wants_terminal import TerminalWatch

if TYPE_CHECKING:
    from ..containment import Guardian, Lineage, Sweeper
    from ..reactor import Reactor

CHUNK: Final = PIPE_CAPACITY
"""How much is read at once, in bytes: what a pipe holds."""

# Chunks, while each is full: a pass of Trio's loop takes as long as to read one. With a reader it is only one, as that
# takes in all that has come without a checkpoint: four would make all other tasks wait for four times as long, and with
# several readers the capture would overwrite lines before they are read.
_READS_AT_ONCE: Final = 4

_READS_AT_EXIT: Final = 32  # full pipes, of 1 MiB at the most (pipe-max-size); more can only be a grandchild's flood


class Shared:
    """What all handles of a backend share.

    Args:
        reactor: Watches their descriptors.
        lineage: Knows which PIDs are theirs.
        sweeper: Finds and ends their descendants.
    """

    __slots__ = ("guardian", "lineage", "reactor", "sweeper", "terminal_watch")

    def __init__(self, reactor: Reactor, lineage: Lineage, sweeper: Sweeper) -> None:
        self.reactor = reactor
        self.lineage = lineage
        self.sweeper = sweeper
        self.terminal_watch = TerminalWatch(reactor)
        self.guardian: Guardian | None = None


@final
class LocalHandle:
    """A child of this process: our ends of its pipes are read by the service's one epoll.

    Args:
        spawned: The child and its descriptors.
        shared: What all handles of the backend share.
        containment: How its descendants are recognized.
        stop_signal: The signal that asks escapees to end.
        ours: Whether it is our child; an adopted process isn't.
    """

    __slots__ = (
        "_containment", "_launch", "_ours", "_outputs", "_owner", "_paused", "_pidfd", "_shared", "_stdin", "_stop_signal",
        "_tail", "pid",
    )  # fmt: skip

    def __init__(
        self,
        spawned: Spawned,
        shared: Shared,
        containment: Containment,
        stop_signal: int | None = None,
        *,
        ours: bool = True,
    ) -> None:
        self.pid = spawned.pid
        self._pidfd = spawned.pidfd
        self._stdin = None if spawned.stdin is None else StdinPipe(spawned.stdin)
        self._outputs = spawned.outputs
        self._launch = spawned.launch
        self._tail = None if spawned.log is None else FileTail(spawned.log, shared.reactor, self._receive_log)
        self._shared = shared
        shared.lineage.add(self.pid)
        self._containment = containment
        self._stop_signal = stop_signal
        self._ours = ours
        self._owner: HandleOwner | None = None
        self._paused: tuple[Stream, ...] = ()

    @property
    def open_streams(self) -> int:
        """How many pipes have not ended."""
        return len(self._outputs)

    @property
    def has_stdin(self) -> bool:
        """Whether it was started with a stdin to write to."""
        return self._stdin is not None

    @property
    def host(self) -> None:
        """None: it runs on this machine."""

    @property
    def launching(self) -> bool:
        """Whether the launcher is still running in the place of the command."""
        return self._launch is not None

    async def launched(self, options: RunOptions, *, prompt: bool) -> ProcessStartError | None:  # noqa: ARG002 - it always is
        """Wait until the launcher has become the command; kill and reap the child if it can't."""
        assert self._launch is not None
        try:
            pipe, self._launch = self._launch, None
            report = await launcher_report(pipe)
        except BaseException:
            self._give_up()
            raise
        if report == LAUNCHED:
            return None
        self._give_up()
        return launch_error(options, report)

    def _give_up(self) -> None:
        """Kill and reap a child that was never handed over."""
        self._end_now()
        self.close_outputs()
        self.reap()

    def _end_now(self) -> None:
        """Kill the group, and wait for the exit of the child; this is short, because SIGKILL can't be ignored."""
        if self._pidfd >= 0:
            reap.signal_group(self.pid, self._pidfd, signal.SIGKILL)
            reap.has_exited(self._pidfd, backend.STUCK_AFTER)

    def begin(self, owner: HandleOwner) -> None:
        """Watch the pipes and the pidfd."""
        self._owner = owner
        try:
            for stream, descriptor in self._outputs.items():
                self._watch(stream, descriptor)
            if self._pidfd >= 0:
                self._shared.reactor.watch(self._pidfd, self._on_exit)
            else:  # it was reaped by another part of this program
                self._shared.reactor.call_at(trio.current_time(), owner.exited)
        except OSError as error:
            if not self._ours:
                raise
            # it can be neither read nor waited for, so its end is brought about, and seen, here
            self._end_now()
            owner.output_lost(error)
            owner.exited()
            return
        if self._ours:
            self._shared.terminal_watch.add(self, owner)
        if self._tail is not None:
            self._tail.resume()

    def _watch(self, stream: Stream, descriptor: int) -> None:
        # bound methods, not closures, which take 290 bytes more of each child
        self._shared.reactor.watch(descriptor, self._read_stdout if stream is Stream.STDOUT else self._read_stderr)

    def _read_stdout(self) -> None:
        self._read_on(Stream.STDOUT)

    def _read_stderr(self) -> None:
        self._read_on(Stream.STDERR)

    def _read_on(self, stream: Stream) -> None:
        """Read the pipe until it is empty, but only a few times if the child refills it as fast."""
        for _ in range(_READS_AT_ONCE):
            if self._read(stream) < CHUNK or stream in self._paused or self._owner is None or self._owner.has_readers:
                return

    def _receive_log(self, data: bytes) -> None:
        assert self._owner is not None
        self._owner.received(Stream.STDOUT, data)

    def _on_exit(self) -> None:
        assert self._owner is not None
        self._shared.reactor.forget(self._pidfd)
        self._owner.exited()

    def _read(self, stream: Stream) -> int:
        """Read once; return how many bytes came, 0 if there are none for now."""
        descriptor = self._outputs.get(stream)
        if descriptor is None:
            return 0
        assert self._owner is not None
        try:
            data = os.read(descriptor, CHUNK)
        except BlockingIOError:
            return 0
        except OSError:
            data = b""  # EIO: the other side of a terminal is gone
        except MemoryError as error:
            self._owner.output_lost(error)
            data = b""
        if data:
            self._owner.received(stream, data)
            return len(data)
        self._shared.reactor.close_watched(self._outputs.pop(stream))
        self._owner.stream_ended()
        return 0

    def pause(self, stream: Stream) -> None:
        """Take the pipe out of the epoll: with an empty mask it would still report a hang-up, again and again."""
        if self._tail is not None:
            self._tail.pause()
        descriptor = self._outputs.get(stream)
        if descriptor is not None and stream not in self._paused:
            self._paused += (stream,)
            self._shared.reactor.forget(descriptor)

    def resume(self, stream: Stream) -> None:
        """Put the pipe back into the epoll."""
        if self._tail is not None:
            self._tail.resume()
        descriptor = self._outputs.get(stream)
        if descriptor is not None and stream in self._paused:
            self._watch(stream, descriptor)
        self._paused = tuple([paused for paused in self._paused if paused is not stream])

    def read_rest(self) -> None:
        """Read the contents of the pipes, a bounded number of times: a descendant that holds them may never stop writing."""
        for stream in list(self._outputs):
            for _ in range(_READS_AT_EXIT):
                if not self._read(stream):
                    break
        if self._tail is not None:
            self._tail.read()

    def close_outputs(self) -> None:
        """Close our ends of the pipes that are still open."""
        for stream in list(self._outputs):
            self._shared.reactor.close_watched(self._outputs.pop(stream))
        if self._tail is not None:
            self._tail.close()

    def signal(self, number: int, *, group: bool) -> None:
        """Send a signal to the group, or to the leader alone."""
        reap.send(self.pid, self._pidfd, number, group=group)

    def request_stop(self, number: int, *, group: bool) -> None:
        """Send the stop signal, and SIGCONT, so that stopped processes can act on it."""
        reap.request_stop(self.pid, self._pidfd, number, group=group)

    def has_exited(self) -> bool:
        """Ask the kernel."""
        return self._pidfd < 0 or reap.has_exited(self._pidfd)

    def survivor(self) -> Survivor:
        """Return its PID, its state and the name of its program, from /proc."""
        stat = read_stat(self.pid)
        return Survivor(self.pid, "?", "") if stat is None else Survivor(self.pid, stat.state, stat.command)

    def sweep(self, age: float, kill_from: float, callback: Swept) -> Callable[[], None] | None:
        """Look for group members and escapees, if there can be any and the id of the group is certainly still this child's."""
        target = Target(self.pid, self._containment, age, self._stop_signal)
        if self._pidfd < 0 or not self._shared.lineage.may_have_left_some(target):
            return None
        return partial(self._shared.sweeper.kill_now, self._shared.sweeper.begin(target, kill_from, callback))

    def reap(self) -> ExitInfo:
        """Reap the leader; its PID may be reused from here on."""
        self.close_stdin()
        pidfd, self._pidfd = self._pidfd, -1
        self._shared.lineage.discard(self.pid)
        self._shared.terminal_watch.discard(self)
        if self._shared.guardian is not None:
            self._shared.guardian.discard(self.pid)
        info = reap.reap(self.pid, pidfd)
        info = info._replace(usage=self._containment.usage(info.usage))
        self._containment.close()
        self._owner = None  # not called again; without this cycle, a forgotten child needs no garbage collector
        if pidfd >= 0:
            self._shared.reactor.forget(pidfd)
            os.close(pidfd)  # close_watched would have the reactor look for more, and nothing follows the exit
        return info

    def abandon(self) -> None:
        """Close its descriptors; it is reaped later, if it ends before this program."""
        self.close_stdin()
        self.close_outputs()
        self._shared.terminal_watch.discard(self)
        reap.defer_reap(self.pid)
        pidfd, self._pidfd = self._pidfd, -1
        if pidfd >= 0:
            self._shared.reactor.close_watched(pidfd)

    async def write_stdin(self, data: bytes) -> None:
        """Write all of `data`, in the caller's own task."""
        if self._stdin is None:
            raise no_stdin(self.has_exited)
        await self._stdin.write(data, self.has_exited)

    def close_stdin(self) -> None:
        """Close our end, and wake a writer."""
        if self._stdin is not None:
            self._stdin.close()
