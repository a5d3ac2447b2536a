"""The seam on the client's side: a backend that spawns through agents, and a handle on a process at the other end.

Everything above it is the unchanged execution layer: the lifecycle of a child, its output, events, timeouts and stops.
The agent has the same layer below it, so a handle here has little to do:

* The pipes are at the other end, where they are drained. `open_streams` is 0 here, so that no time limit here cuts that
  drain short; until it has ended, the process is "sweeping" as far as its lifecycle here is concerned.
* Output that arrives while its lifecycle doesn't read is held, at most `WINDOW` bytes, because no credit is given for it.
* It uses no descriptor, no PID of this machine, and no ``/proc``.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from functools import partial
from signal import SIGCONT, SIGKILL
from typing import Any, Final, final

import trio

from .._core import (
    OptionError,
    ProcessError,
    ProcessStartError,
    ProgramNotFoundError,
    ResourceUsage,
    RunOptions,
    Stdio,
    Stream,
    escape_controls,
    shown_command,
)
from .._process import ExitInfo, Handle, HandleOwner, Reactor, ServiceOptions, Survivor, Swept, start_error
from .agents import LostStartError, Place, Roster
from .connection import Answer, Connection, FromProcess
from .messages import CloseStdin, Credit, Exited, Failed, Over, Refused, Signal, Started, Stop, Stuck
from .options import check_remote, local_text, pack_options
from .remote_output import RemoteOutput
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
        return RemoteHandle(self._roster, self._reactor, options, packed, stdin, grace)

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
        "_answered",
        "_asker",
        "_ending",
        "_exited",
        "_failure",
        "_is_reported",
        "_life",
        "_named_from",
        "_number",
        "_options",
        "_output",
        "_owner",
        "_packed",
        "_place",
        "_prompt",
        "_reactor",
        "_refused",
        "_roster",
        "_session",
        "_stdin",
        "_survivors",
        "_swept",
        "grace",
        "has_stdin",
        "host",
        "open_streams",
        "pid",
    )

    def __init__(
        self,
        roster: Roster,
        reactor: Reactor,
        options: RunOptions,
        packed: dict[str, Any],
        stdin: RemoteStdin,
        grace: float,
    ) -> None:
        self.pid = 0
        self.host: str | None = None
        self.open_streams = 0
        self.has_stdin = options.stdin is Stdio.PIPE
        self.grace = grace
        self._roster = roster
        self._reactor = reactor
        self._options = options
        self._packed = packed
        self._stdin = stdin
        self._output = RemoteOutput(reactor)
        # the start
        self._place: Place | None = None
        self._session: Connection | None = None
        self._number = 0  # in that session
        self._prompt = True
        self._answered = False
        self._asker: trio.lowlevel.Task | None = None  # waits for the answer
        self._refused = False
        self._failure: ProcessError | None = None
        # the owner
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
        return self._place is None

    async def launched(self, options: RunOptions, *, prompt: bool) -> ProcessStartError | None:
        """Wait for a place, and for the agent's answer."""
        self._prompt = prompt
        try:
            while True:
                self._place = await self._roster.place(options)
                await self._ask(self._place)
                if not self._refused:
                    break
                self._place.release()
                self._refused = False
        except BaseException:
            self._let_go()
            raise
        failure, self._failure = self._failure, None
        if failure is None:
            return None
        self._let_go()
        if isinstance(failure, ProcessStartError):
            return failure
        try:
            raise failure
        finally:
            del failure  # its traceback refers to this frame: the collector would have to free both

    async def _ask(self, place: Place) -> None:
        session = place.session
        stdin, packed = self._stdin, self._packed
        if place.env:
            packed = {**packed, "env": {**packed.get("env", {}), **place.env}}
        self._answered = False
        try:
            self._number = session.spawn(self, packed, prompt=self._prompt or stdin.open)
        except WireError as error:
            self._failure = start_error(self._options, OSError(errno.E2BIG, str(error)))
            return
        self._session = session
        stdin.connect(session.link, self._number)
        self._output.connect(session.link, self._number)
        # as long as a launcher takes, or until the agent is given up: a shield around an event would cost 15 µs more
        self._asker = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(_not_yet)

    def _let_go(self) -> None:
        if self._place is not None:
            self._place.release()
        self._stdin.release()

    def begin(self, owner: HandleOwner) -> None:
        """Start to report to the owner, after the task that started the process has been given it."""
        self._life = owner

        def begin() -> None:
            self._owner = owner
            self._output.begin(owner)
            if self._exited:
                self._report_exit()
            if self._ending is not None:
                self._conclude()

        assert self._session is not None
        if self._prompt:
            self._session.call_soon(partial(self._reactor.call, begin))
        else:  # no caller waits for the start, to subscribe to later events
            self._reactor.call(begin)
        if self._stdin.source is not None:
            if self._session.nursery is None:  # the agent has just been lost
                self._stdin.release()
            else:
                self._session.nursery.start_soon(self._feed, owner, name=f"stdin of process {self._number}")

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
        if (isinstance(message, Answer) or (type(message) is Over and message.pid is not None)) == self._answered:
            state = "runs already" if self._answered else "has not started"
            raise WireError(f"a message {type(message).__name__} came for process {self._number}, which {state}")
        _REACTIONS[type(message)](self, message)

    def _wake(self) -> None:
        self._answered = True
        if self._asker is not None:
            trio.lowlevel.reschedule(self._asker)
            self._asker = None

    def _on_started(self, message: Started | Over) -> None:
        assert self._place is not None
        self._wake()
        self.pid = message.pid or 0
        self.host = self._place.agent.host

    def _on_failed(self, message: Failed) -> None:
        assert self._place is not None
        self._wake()
        kind = ProgramNotFoundError if message.not_found else ProcessStartError
        self._failure = kind(f"{escape_controls(message.text)} (on {self._place.agent.host})")
        if message.errno is not None:
            filename = None if message.filename is None else local_text(message.filename)
            self._failure.__cause__ = OSError(message.errno, os.strerror(message.errno), filename)

    def _on_refused(self, message: Refused) -> None:  # noqa: ARG002 - likewise
        self._wake()
        self._refused = True

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
        if self._owner is not None and self._named_from is not None:
            self._owner.check_unkillable()

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
        why = self._session.why_lost if message.cut and self._session is not None else None
        self._survivors = [Survivor(*survivor) for survivor in message.survivors]
        self._end_with(ExitInfo(message.exit_code, usage, message.incomplete, why))

    def lose(self, why: str) -> None:
        """End the process as lost: its agent was lost, so how it ended is not known."""
        if self._answered:
            self._end_with(ExitInfo(LOST_CODE, ResourceUsage(), incomplete=True, lost=why))
            return
        self._failure = LostStartError(f"`{shown_command(self._options)}` was lost while it was started: {why}")
        self._wake()

    # output

    def take(self, stream: Stream, data: bytes) -> None:
        """Take in its output."""
        if not self._answered:
            raise WireError(f"output came of process {self._number}, which has not started")
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
        if self._session is None or self._ending is not None:
            return
        until = self._kill_at(number)
        if number == SIGKILL:
            self._session.link.send(Stop(self._number, 0.0))
        elif until is not None:
            self._session.link.send(Stop(self._number, max(0.0, until - trio.current_time())))
        else:
            self._session.link.send(Signal(self._number, number))

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
            assert self._session is not None
            assert self._owner is not None
            self._named_from = now + self._session.heartbeat + self.grace
            self._reactor.call_at(self._named_from, self._owner.check_unkillable)
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
        if self._place is not None:
            self._place.release()
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
        self._let_go()

    # stdin

    async def write_stdin(self, data: bytes) -> None:
        """Send input, and wait until the process's pipe has it."""
        await self._stdin.write(data)

    def close_stdin(self) -> None:
        """Send the end of its input."""
        self._stdin.close()


def _not_yet(_: Callable[[], object]) -> trio.lowlevel.Abort:
    """Put a cancellation off until the agent has answered."""
    return trio.lowlevel.Abort.FAILED


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
