"""The seam on the client's side: a backend that spawns through agents, and a handle on a process at the other end.

Everything above it is layer 1 as it is: the life of a child, its output, events, timeouts and stops. The agent has the
same layer below it, so a handle here has little to do:

* The pipes are at the other end, where they are drained. `open_streams` is 0 here, so that no time of ours cuts that drain
  short; until it is over, the process is "sweeping" as far as its life here is concerned.
* Output that comes while its life reads no more is held, at most `WINDOW` bytes, as no credit is given for it.
* No descriptor, no PID of this machine, no look into `/proc`.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Callable
from signal import SIGKILL
from typing import Final, final

import trio

from .._core import (
    ClusterError,
    OptionError,
    ProcessError,
    ProcessNotRunningError,
    ProcessStartError,
    ProgramNotFoundError,
    ResourceUsage,
    RunOptions,
    StdinNotAvailableError,
    Stdio,
    Stream,
)
from .._process import Ending, Handle, Left, Life, Owner, Reactor, ServiceOptions, explain
from .agents import Place, Roster
from .link import WINDOW, Inflow, Outflow
from .messages import CloseStdin, Failed, Over, Signal, Stop
from .options import check_remote, pack_options
from .session import Session
from .source import Source, open_source
from .wire import Kind, WireError

LOST_CODE: Final = 255
"""The exit code of a process that was lost: that of ssh(1) for a lost connection."""

_KINDS: Final = {Stream.STDOUT: Kind.STDOUT, Stream.STDERR: Kind.STDERR}


@final
class RemoteBackend:
    """Spawns through agents.

    Args:
        reactor: The service's.
        options: The service's.
        roster: The agents.
    """

    def __init__(self, reactor: Reactor, options: ServiceOptions, roster: Roster) -> None:
        self._reactor = reactor
        self._options = options
        self._roster = roster

    @property
    def mechanism(self) -> str:
        """By what descendants are found: by their agents."""
        return "agents"

    @property
    def guardian_pid(self) -> int | None:
        """There is none here: each agent has its own."""
        return None

    def spawn(self, life: Life, number: int) -> Handle:  # noqa: ARG002 - an agent numbers its processes itself
        """Prepare a process; it is placed and started as a launcher's would be, by `launched`."""
        options = life.options
        check_remote(options)
        try:
            source = open_source(options)
        except OSError as error:
            raise explain(options, error) from error
        grace = self._options.grace_period if options.grace_period is None else options.grace_period
        return RemoteHandle(self._roster, self._reactor, options, source, grace)

    def adopt(self, pid: int, log: int | None) -> Handle:
        """Refuse: nothing outlives its agent."""
        if log is not None:
            os.close(log)
        raise OptionError(f"PID {pid} can't be adopted by a cluster: nothing there outlives its agent")

    def close(self) -> None:
        """There is nothing to let go of."""


@final
class RemoteHandle:
    """A process at the other end, as its life sees it."""

    def __init__(
        self, roster: Roster, reactor: Reactor, options: RunOptions, source: Source | None, grace: float
    ) -> None:
        self.pid = 0
        self.host: str | None = None
        self.open_streams = 0
        self.has_stdin = options.stdin is Stdio.PIPE
        self.grace = grace
        self._roster = roster
        self._reactor = reactor
        self._options = options
        self._source = source
        self._session: Session | None = None
        self._place: Place | None = None
        self._number = 0
        self._answer: trio.Event | None = None
        self._failure: ProcessError | None = None
        self._refused = False
        self._owner: Owner | None = None  # once it may be told
        self._begun = False
        self._held: deque[tuple[Stream, bytes]] = deque()
        self._paused: tuple[Stream, ...] = ()
        self._exited = False
        self._told = False  # the owner, of the exit
        self._ending: Ending | None = None
        self._survivors: list[Left] = []
        self._swept: Callable[[list[Left], bool], None] | None = None
        self._stdin_open = self.has_stdin or source is not None
        self._close_wanted = False
        self._acknowledged = 0
        self._written = 0
        self._stdin_moved = trio.lowlevel.ParkingLot()

    # the start

    @property
    def launching(self) -> bool:
        """Whether the agent has still to be found, and to answer."""
        return self._place is None

    async def launched(self, options: RunOptions) -> ProcessError | None:
        """Wait for a place, and for the agent's answer."""
        try:
            while True:
                self._place = await self._roster.place(options)
                self._refused = False
                await self._ask(options)
                if not self._refused:
                    break
                self._place.release()
        except BaseException:
            self._let_go()
            raise
        if self._failure is not None:
            self._let_go()
        return self._failure

    async def _ask(self, options: RunOptions) -> None:
        assert self._place is not None
        session = self._place.agent._session
        assert session is not None
        stdin = self._stdin_open
        packed = pack_options(options, grace_period=self.grace, extra_env=self._place.env, stdin=stdin)
        self._answer = trio.Event()
        try:
            self._number = session.spawn(self, self._place, packed)
        except WireError as error:
            self._failure = explain(options, OSError(errno.E2BIG, str(error)))
            return
        self._session = session
        self._stdin = Outflow(session.link, Kind.STDIN, self._number)
        self._inflows = {stream: Inflow(session.link, kind, self._number) for stream, kind in _KINDS.items()}
        with trio.CancelScope(shield=True):  # as long as a launcher takes, or until the agent is given up
            await self._answer.wait()

    def _let_go(self) -> None:
        if self._place is not None:
            self._place.release()
        if self._source is not None:
            self._source.close()

    def on_started(self, pid: int) -> None:
        """Note that it runs."""
        assert self._session is not None
        assert self._answer is not None
        if self._answer.is_set():
            raise WireError(f"process {self._number} was started twice")
        self.pid = pid
        self.host = self._session.agent.host
        self._answer.set()

    def on_failed(self, failed: Failed) -> None:
        """Note that it can't be started."""
        self._refuse_if_started()
        assert self._session is not None
        kind = ProgramNotFoundError if failed.not_found else ProcessStartError
        self._failure = kind(f"{failed.text} (on {self._session.agent.host})")
        if failed.errno is not None:
            self._failure.__cause__ = OSError(failed.errno, os.strerror(failed.errno), failed.filename)
        assert self._answer is not None
        self._answer.set()

    def on_refused(self) -> None:
        """Note that another agent has to be asked."""
        self._refuse_if_started()
        self._refused = True
        assert self._answer is not None
        self._answer.set()

    def _refuse_if_started(self) -> None:
        assert self._answer is not None
        if self._answer.is_set():
            raise WireError(f"process {self._number} runs, and was said not to")

    def begin(self, owner: Owner) -> None:
        """Tell the owner, but not before the task that started the process has it in hand."""
        self._begun = True

        def begin() -> None:
            self._owner = owner
            self._hand_over()
            if self._exited:
                self._tell_exit()
            if self._ending is not None:
                self._conclude()

        trio.lowlevel.current_trio_token().run_sync_soon(self._soon, begin)
        if self._source is not None:
            assert self._session is not None
            nursery = self._session.nursery
            if nursery is None:  # the agent was lost in this very moment
                self._source.close()
            else:
                nursery.start_soon(self._feed, self._source, name=f"stdin of process {self._number}")

    def _soon(self, callback: Callable[[], object]) -> None:
        self._reactor.call_at(trio.current_time(), callback)

    # output

    def on_data(self, stream: Stream, data: bytes) -> None:
        """Take in what it wrote."""
        self._inflows[stream].arrived(len(data))
        self._held.append((stream, data))
        self._hand_over()

    def _hand_over(self, *, all_of_it: bool = False) -> None:
        """Give the owner what it reads."""
        owner, held = self._owner, self._held
        if owner is None:
            return
        kept: list[tuple[Stream, bytes]] = []
        while held:
            stream, data = held.popleft()
            if stream in self._paused and not (all_of_it or self._exited):
                kept.append((stream, data))
                continue
            owner.received(stream, data)
            if self._ending is None:
                self._inflows[stream].take(len(data))
        held.extendleft(reversed(kept))

    def pause(self, stream: Stream) -> None:
        """Hold what comes of a stream; credit is given for what the owner has taken in."""
        if stream not in self._paused:
            self._paused += (stream,)

    def resume(self, stream: Stream) -> None:
        """Go on with it, in the reactor's task."""
        self._paused = tuple([paused for paused in self._paused if paused is not stream])
        if self._held:
            self._soon(self._hand_over)

    def read_rest(self) -> None:
        """Give the owner all there is."""
        self._hand_over(all_of_it=True)

    def close_outputs(self) -> None:
        """Hold nothing any more."""
        self._held.clear()

    # signals and the end

    def signal(self, number: int, *, group: bool) -> None:  # noqa: ARG002 - the agent has that option too
        """Have it signalled."""
        if self._session is None or self._ending is not None:
            return
        if number == SIGKILL:
            self._session.link.send(Stop(self._number, 0.0))
            return
        until = getattr(self._owner, "_grace_until", None)
        if until is not None and number == self._options.stop_signal:
            self._session.link.send(Stop(self._number, max(0.0, until - trio.current_time())))
        else:
            self._session.link.send(Signal(self._number, number))

    def has_exited(self) -> bool:
        """Return whether the agent has reported its exit."""
        return self._exited

    def is_stopped(self) -> bool:
        """Leave it to the agent, which wakes a process before it stops it."""
        return False

    def on_exited(self) -> None:
        """Note that it has ended, but for what it left behind."""
        self._exited = True
        self._tell_exit()

    def _tell_exit(self) -> None:
        # a process that is alone with its leader is not swept: its end is reported once its pipes are drained
        if self._owner is None or self._told or not self._options.kill_group:
            self._hand_over()
            return
        self._told = True
        self._owner.exited()

    def sweep(
        self, age: float, kill_from: float, callback: Callable[[list[Left], bool], None]  # noqa: ARG002 - the agent's business
    ) -> Callable[[], None] | None:
        """Wait until the agent has drained its pipes and ended what it left behind."""
        if self._ending is not None:
            return None
        self._swept = callback
        return lambda: self.signal(SIGKILL, group=True)

    def on_stuck(self, survivors: list[tuple[int, str, str]]) -> None:
        """Note that SIGKILL has not ended it."""
        self._survivors = [Left(*survivor) for survivor in survivors]

    def on_over(self, over: Over) -> None:
        """Note how it ended."""
        usage = ResourceUsage(
            user=over.user,
            system=over.system,
            max_rss=over.max_rss,
            oom_killed=over.oom_killed,
            core_dumped=over.core_dumped,
        )
        why = self._session.lost_text() if over.cut and self._session is not None else None
        self._survivors = [Left(*survivor) for survivor in over.survivors]
        self._end_with(Ending(over.exit_code, usage, over.incomplete, why))

    def on_lost(self, why: str) -> None:
        """Note that its agent was lost."""
        if self._answer is not None and not self._answer.is_set():
            self._failure = ClusterError(f"`{self._options.shown_command}` was lost while it was started: {why}")
            self._answer.set()
            return
        self._end_with(Ending(LOST_CODE, ResourceUsage(), incomplete=True, lost=why))

    def _end_with(self, ending: Ending) -> None:
        self._ending = ending
        self._exited = True
        if self._place is not None:
            self._place.release()
        self._stdin_moved.unpark_all()
        if self._owner is not None:
            self._conclude()

    def _conclude(self) -> None:
        owner, swept = self._owner, self._swept
        assert owner is not None
        if swept is not None:
            self._swept = None
            swept(self._survivors, True)
        elif not self._told:
            self._told = True
            owner.exited()

    def reap(self) -> Ending:
        """Return how it ended."""
        assert self._ending is not None
        self._close_source()
        return self._ending

    def abandon(self) -> None:
        """Let go of it: it could not be killed."""
        self._close_source()
        if self._place is not None:
            self._place.release()

    def _close_source(self) -> None:
        self._stdin_open = False
        self._stdin_moved.unpark_all()

    # stdin

    async def write_stdin(self, data: bytes) -> None:
        """Send input, and wait until the process's pipe has it."""
        await trio.lowlevel.checkpoint()
        self._check_stdin()
        await self._write(data)
        target = self._written
        while self._acknowledged < target:
            await self._stdin_moved.park()
            self._check_stdin()

    async def _write(self, data: bytes) -> None:
        """Send input; wait while there is no credit for any of it."""
        view = memoryview(data)
        while view:
            part = view[:WINDOW]
            self._written += len(part)
            self._stdin.write(bytes(part))
            view = view[len(part) :]
            while self._stdin.held:
                await self._stdin_moved.park()
                self._check_stdin()

    async def _feed(self, source: Source) -> None:
        """Send what a process was given as its input."""
        try:
            while data := await source.read():
                self._check_stdin()
                await self._write(data)
        except (ProcessNotRunningError, StdinNotAvailableError):
            pass  # it ended, or closed its stdin, before it had read everything: its own affair
        except OSError as error:
            if self._owner is not None:
                self._owner.output_lost(error)
        finally:
            source.close()
            self.close_stdin()

    def _check_stdin(self) -> None:
        if self._exited:
            raise ProcessNotRunningError("the process ended before all of its input was written")
        if not self._stdin_open and not self.has_stdin and self._source is None:
            raise StdinNotAvailableError("the process was started without a stdin to write to; use stdin=Stdio.PIPE")
        if not self._stdin_open:
            raise StdinNotAvailableError("its stdin is closed already, by us or by the process")

    def on_credit(self, amount: int) -> None:
        """Note that so much of its input has reached it."""
        self._stdin.add(amount)
        self._acknowledged += amount
        self._stdin_moved.unpark_all()
        self._close_if_wanted()

    def on_stdin_closed(self) -> None:
        """Note that it reads no more."""
        self._stdin_open = False
        self._stdin_moved.unpark_all()

    def close_stdin(self) -> None:
        """Send the end of its input, after what is held."""
        if self._stdin_open:
            self._stdin_open = False
            self._close_wanted = True
            self._stdin_moved.unpark_all()
            self._close_if_wanted()

    def _close_if_wanted(self) -> None:
        if self._close_wanted and not self._stdin.held and self._session is not None:
            self._close_wanted = False
            self._session.link.send(CloseStdin(self._number))
