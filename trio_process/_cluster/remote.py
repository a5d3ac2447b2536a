"""The seam on the client's side: a backend that spawns through agents, and a handle on a process at the other end.

Everything above it is the unchanged execution layer: the lifecycle of a child, its output, events, timeouts and stops.
The agent has the same layer below it, so a handle here has little to do:

* The pipes are at the other end, where they are drained. `open_streams` is 0 here, so that no time limit here cuts that
  drain short; until it has ended, the process is "sweeping" as far as its lifecycle here is concerned.
* Output that arrives while its lifecycle doesn't read is held, at most `WINDOW` bytes, because no credit is given for it.
* It uses no descriptor, no PID of this machine, and no ``/proc``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from signal import SIGCONT, SIGKILL
from typing import Any, Final, final

import trio

from .._core import (
    OptionError,
    ProcessStartError,
    ResourceUsage,
    RunOptions,
    Stdio,
    Stream,
    shown_command,
)
from .._process import ExitInfo, Handle, HandleOwner, Reactor, ServiceOptions, Survivor, Swept, start_error
from .agents import Roster
from .connection import ANSWERS, FromProcess
from .messages import CloseStdin, Credit, Exited, Failed, Over, Refused, Signal, Started, Stop, Stuck
from .options import check_remote, pack_options
from .remote_output import RemoteOutput
from .remote_start import RemoteStart
from .remote_stdin import RemoteStdin
from .source import open_source
from .wire import WireError

LOST_CODE: Final = 255
"""The exit code of a process that was lost: that of ssh(1) for a lost connection."""


@final
class RemoteBackend:
    """Spawns through agents.

    Args:
        reactor: The reactor of the service.
        options: The options of the service.
        roster: The agents.
    """

    def __init__(self, reactor: Reactor, options: ServiceOptions, roster: Roster) -> None:
        self._reactor = reactor
        self._options = options
        self._roster = roster

    @property
    def mechanism(self) -> str:
        """How descendants are found: by their agents."""
        return "agents"

    @property
    def guardian_pid(self) -> int | None:
        """None: each agent has its own guardian."""
        return None

    def spawn(self, id: str, options: RunOptions, number: int) -> Handle:  # noqa: A002, ARG002 - an agent numbers its processes itself
        """Prepare a process; `launched` places and starts it."""
        check_remote(options)
        grace = self._options.grace_period if options.grace_period is None else options.grace_period
        # first, as it can fail: nothing is open by then
        packed = pack_options(options, grace_period=grace, stdin=options.stdin not in (None, Stdio.NULL))
        try:
            source = open_source(options)
        except OSError as error:
            raise start_error(options, error, opening=True) from error
        stdin = RemoteStdin(source, piped=options.stdin is Stdio.PIPE)
        return RemoteHandle(self._reactor, options, RemoteStart(self._roster, options, packed), stdin, grace)

    def adopt(self, pid: int, log: int | None) -> Handle:
        """Refuse: nothing outlives its agent."""
        if log is not None:
            os.close(log)
        raise OptionError(f"PID {pid} can't be adopted by a cluster: nothing there outlives its agent")

    def close(self) -> None:
        """Do nothing: there is nothing to release."""


@final
class RemoteHandle:
    """A process at the other end, as its lifecycle sees it."""

    __slots__ = (
        "_ending", "_exited", "_is_reported", "_life", "_named_from", "_options", "_output", "_owner", "_reactor", "_start",
        "_stdin", "_survivors", "_swept", "grace", "has_stdin", "host", "open_streams", "pid",
    )  # fmt: skip

    def __init__(
        self, reactor: Reactor, options: RunOptions, start: RemoteStart, stdin: RemoteStdin, grace: float
    ) -> None:
        self.pid = 0
        self.host: str | None = None
        self.open_streams = 0
        self.has_stdin = options.stdin is Stdio.PIPE
        self.grace = grace
        self._reactor = reactor
        self._options = options
        self._start = start
        self._stdin = stdin
        self._output = RemoteOutput(reactor)
        self._life: HandleOwner | None = None  # the owner, once it has started
        self._owner: HandleOwner | None = None  # the owner, once it may be notified
        # the end
        self._exited = False
        self._is_reported = False  # to the owner: the exit
        self._ending: ExitInfo | None = None
        self._survivors: list[Survivor] = []
        self._named_from: float | None = None  # when a survivor is named without a report; None until that is asked
        self._swept: Swept | None = None

    # the start

    @property
    def launching(self) -> bool:
        """Whether an agent must still be found, and answer."""
        return self._start.place is None

    async def launched(self, options: RunOptions, *, prompt: bool) -> ProcessStartError | None:  # noqa: ARG002 - known since the spawn
        """Wait for a place, and for the agent's answer."""
        try:
            failure = await self._start.complete(self, self._stdin, self._output, prompt=prompt)
        except BaseException:
            self._release()
            raise
        if failure is None:
            return None
        self._release()
        if isinstance(failure, ProcessStartError):
            return failure
        try:
            raise failure
        finally:
            del failure  # its traceback refers to this frame: the collector would have to free both

    def _release(self) -> None:
        self._start.release()
        self._stdin.release()

    def begin(self, owner: HandleOwner) -> None:
        """Start to report to the owner, after the task that started the process has been given it."""
        self._life = owner
        session = self._start.session
        assert session is not None
        if self._start.prompt:
            session.call_soon(partial(self._reactor.call, self._notify))
        else:  # no caller waits for the start, to subscribe to later events
            self._reactor.call(self._notify)
        if self._stdin.source is not None:
            if session.nursery is None:  # the agent has just been lost
                self._stdin.release()
            else:
                session.nursery.start_soon(self._feed, owner, name=f"stdin of process {self._start.number}")

    def _notify(self) -> None:
        """Report the events so far to the owner, and from now on all others."""
        assert self._life is not None
        self._owner = self._life
        self._output.begin(self._life)
        if self._exited:
            self._report_exit()
        if self._ending is not None:
            self._conclude()

    @trio.lowlevel.enable_ki_protection
    async def _feed(self, owner: HandleOwner) -> None:
        try:
            await self._stdin.feed()
        except OSError as error:
            if self._ending is None:
                owner.output_lost(error)

    # reports of the agent

    def receive(self, message: FromProcess) -> None:
        """Handle a message of the agent.

        Raises:
            WireError: It is a second answer, or comes before the answer.
        """
        is_answer = message.pid is not None if type(message) is Over else type(message) in ANSWERS
        if is_answer == self._start.answered:
            state = "runs already" if self._start.answered else "has not started"
            raise WireError(f"a message {type(message).__name__} came for process {self._start.number}, which {state}")
        _REACTIONS[type(message)](self, message)

    def _on_started(self, message: Started | Over) -> None:
        self.pid = message.pid or 0
        self.host = self._start.runs()

    def _on_failed(self, message: Failed) -> None:
        self._start.fail(message)

    def _on_refused(self, message: Refused) -> None:  # noqa: ARG002 - the message is all it says
        self._start.refuse()

    def _on_credit(self, message: Credit) -> None:
        self._stdin.acknowledge(message.amount)

    def _on_stdin_closed(self, message: CloseStdin) -> None:  # noqa: ARG002 - the message is all it says
        self._stdin.closed_there()

    def _on_exited(self, message: Exited) -> None:  # noqa: ARG002 - likewise
        self._exited = True
        self._output.process_exited()
        self._report_exit()

    def _on_stuck(self, message: Stuck) -> None:
        self._survivors = [Survivor(*survivor) for survivor in message.survivors]
        if self._life is not None and self._named_from is not None:
            self._life.check_unkillable()

    def _on_over(self, message: Over) -> None:
        if message.pid is not None:
            self._on_started(message)
        usage = ResourceUsage(
            user=message.user,
            system=message.system,
            max_rss=message.max_rss,
            oom_killed=message.oom_killed,
            core_dumped=message.core_dumped,
        )
        session = self._start.session
        why = session.why_lost if message.cut and session is not None else None
        self._survivors = [Survivor(*survivor) for survivor in message.survivors]
        self._end_with(ExitInfo(message.exit_code, usage, message.incomplete, why))

    def lose(self, why: str) -> None:
        """End the process as lost: its agent was lost, so how it ended is not known."""
        if self._start.answered:
            self._end_with(ExitInfo(LOST_CODE, ResourceUsage(), incomplete=True, lost=why))
        else:
            self._start.lose(why)

    # output

    @property
    def has_readers(self) -> bool:
        """Whether lines or events of it are read as they come, or may be: it has not been given to its owner yet."""
        return self._life is None or self._life.has_readers

    def take(self, stream: Stream, data: bytes) -> None:
        """Take in its output."""
        if not self._start.answered:
            raise WireError(f"output came of process {self._start.number}, which has not started")
        self._output.take(stream, data)

    def pause(self, stream: Stream) -> None:
        """Hold the output of a stream; credit is given only for output that the owner has processed."""
        self._output.pause(stream)

    def resume(self, stream: Stream) -> None:
        """Continue delivery, in the reactor's task."""
        self._output.resume(stream)

    def read_rest(self) -> None:
        """Deliver all held output to the owner."""
        self._output.deliver(everything=True)

    def close_outputs(self) -> None:
        """Discard held output."""
        self._output.discard()

    # signals and the end

    def signal(self, number: int, *, group: bool) -> None:  # noqa: ARG002 - the agent has that option too
        """Have the process signalled; a stop carries the rest of its grace period, in case the network fails meanwhile."""
        session, process = self._start.session, self._start.number
        if session is None or self._ending is not None:
            return
        until = self._kill_at(number)
        if number == SIGKILL:
            session.link.send(Stop(process, 0.0))
        elif until is not None:
            session.link.send(Stop(process, max(0.0, until - trio.current_time())))
        else:
            session.link.send(Signal(process, number))

    def request_stop(self, number: int, *, group: bool) -> None:
        """Ask the agent to stop it, which includes SIGCONT; another stop signal than its own is followed by one."""
        self.signal(number, group=group)
        if self._kill_at(number) is None:
            self.signal(SIGCONT, group=group)

    def _kill_at(self, number: int) -> float | None:
        """Return when SIGKILL follows this signal, None if it isn't the signal of a stop."""
        return self._life.kill_at if self._life is not None and number == self._options.stop_signal else None

    def has_exited(self) -> bool:
        """Return whether the agent has reported its exit."""
        return self._exited

    def survivor(self) -> Survivor | None:
        """Return the process that the agent could not kill, None until it has reported one.

        An agent that is silent is lost after the heartbeat and the grace, and its processes with it. One that lives and
        reports nothing even then does not do what it should, and is not waited for any longer.
        """
        if self._survivors:
            return self._survivors[0]
        now = trio.current_time()
        if self._named_from is None:
            assert self._start.session is not None
            assert self._life is not None
            self._named_from = now + self._start.session.patience + self.grace
            self._reactor.call_at(self._named_from, self._life.check_unkillable)
        return None if now < self._named_from else Survivor(self.pid, "?", shown_command(self._options))

    def _report_exit(self) -> None:
        # without a sweep its life would end now: the end is reported once the agent has drained its pipes
        if self._owner is None or self._is_reported or not self._options.kill_group:
            self._output.deliver()
            return
        self._is_reported = True
        self._owner.exited()

    def sweep(
        self,
        age: float,  # noqa: ARG002 - the agent knows
        kill_from: float,  # noqa: ARG002 - likewise
        callback: Swept,
    ) -> Callable[[], None] | None:
        """Wait until the agent has drained its pipes and ended its descendants."""
        if self._ending is not None:
            return None
        self._swept = callback
        return lambda: self.signal(SIGKILL, group=True)

    def _end_with(self, ending: ExitInfo) -> None:
        self._ending = ending
        self._exited = True
        self._output.process_over()
        self._start.release()
        self._stdin.end()
        if self._owner is not None:
            self._conclude()

    def _conclude(self) -> None:
        assert self._owner is not None
        if self._swept is not None:
            swept, self._swept = self._swept, None
            swept(self._survivors, True)
        elif not self._is_reported:
            self._is_reported = True
            self._owner.exited()

    def reap(self) -> ExitInfo:
        """Return how it ended."""
        assert self._ending is not None
        self._stdin.release()
        return self._ending

    def abandon(self) -> None:
        """Release it: it could not be killed."""
        self._release()

    # stdin

    async def write_stdin(self, data: bytes) -> None:
        """Send input, and wait until the process's pipe has it."""
        await self._stdin.write(data)

    def close_stdin(self) -> None:
        """Send the end of its input."""
        self._stdin.close()


_REACTIONS: Final[dict[type, Callable[[RemoteHandle, Any], None]]] = {
    Started: RemoteHandle._on_started,
    Failed: RemoteHandle._on_failed,
    Refused: RemoteHandle._on_refused,
    Credit: RemoteHandle._on_credit,
    CloseStdin: RemoteHandle._on_stdin_closed,
    Exited: RemoteHandle._on_exited,
    Stuck: RemoteHandle._on_stuck,
    Over: RemoteHandle._on_over,
}
