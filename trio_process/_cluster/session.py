"""`Session`: the client's side of one connection to an agent, from hello to the end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol, final

import trio

from .._core import ClusterError, Stream, escape_controls, logger
from .._process import AT_ONCE, ServiceOptions
from .agents import Agent, AgentState, Roster
from .connection import FromProcess, Remote
from .link import PATIENCE, Link
from .messages import (
    Bye,
    Failed,
    Hello,
    Leave,
    Leaving,
    Over,
    Ping,
    Refused,
    Spawn,
    Welcome,
    message_in,
)
from .wire import VERSION, Frame, Kind, WireError

_STREAMS: Final = {Kind.STDOUT: Stream.STDOUT, Kind.STDERR: Stream.STDERR}
_STARTER_ENDS: Final = 2.0  # seconds


class Channel(Protocol):
    """The connection to an agent, and its launcher's knowledge of it."""

    @property
    def stream(self) -> trio.abc.Stream:
        """The connection; it is closed by the session."""

    async def died(self, hello: Hello | None) -> None:
        """Return once it is certain that the agent has ended; never, if that can't be known."""

    def last_words(self) -> str:
        """Return the last lines of its stderr, and how its launcher ended."""

    def give_up(self) -> None:
        """End as much of it as can be ended from here."""


@final
class Session:
    """The conversation with one agent.

    Args:
        agent: Its entry in the roster.
        channel: The connection to it.
        roster: The roster that its state is reported to.
        options: The options for its service.
        heartbeat: Seconds of silence after which either side gives up the other.
    """

    def __init__(
        self, agent: Agent, channel: Channel, roster: Roster, options: ServiceOptions, heartbeat: float
    ) -> None:
        self.agent = agent
        self.link: Link = Link(channel.stream)
        self.hello: Hello | None = None
        self._channel = channel
        self._roster = roster
        self._options = options
        self._heartbeat = heartbeat
        self.patience: float = heartbeat * PATIENCE
        self._remotes: dict[int, Remote] = {}
        self._latest = 0
        self._leaving = ""
        self._said_bye = False
        self._why_ended = ""
        self._soon: list[Callable[[], object]] = []
        self._some_soon = trio.lowlevel.ParkingLot()
        self._end = trio.CancelScope()
        self.nursery: trio.Nursery | None = None

    @property
    def where(self) -> str:
        """The name of the agent in errors."""
        return f"agent {self.agent.name} on {self.agent.host}"

    @property
    def why_lost(self) -> str:
        """Why the processes of this agent are lost."""
        return f"{self.where}: it left, as {self._leaving}"

    # requests of the backend

    def spawn(self, remote: Remote, packed: dict[str, object], *, prompt: bool) -> int:
        """Request the start of a process; return its number in this session.

        Raises:
            WireError: Its arguments and environment are too long.
        """
        number = self._latest + 1
        self.link.send(Spawn(number, prompt, packed))
        self._latest = number
        self._remotes[number] = remote
        return number

    def call_soon(self, callback: Callable[[], object]) -> None:
        """Call back in two turns of Trio's loop: what is woken now, and what that wakes, has run by then."""
        if self.nursery is None:
            trio.lowlevel.current_trio_token().run_sync_soon(callback)
        else:  # a queue of Trio's own, which other threads may use, costs two system calls a time
            self._soon.append(callback)
            self._some_soon.unpark()

    @trio.lowlevel.enable_ki_protection
    async def _call_back(self) -> None:
        try:
            while True:
                while not self._soon:
                    await self._some_soon.park()
                due, self._soon = self._soon, []
                await trio.lowlevel.cancel_shielded_checkpoint()
                for callback in due:
                    callback()
        finally:
            for callback in self._soon:
                callback()

    def leave(self) -> None:
        """Notify the agent that it is not needed any more."""
        self.link.send(Leave())

    # the conversation

    async def shake_hands(self) -> list[Frame]:
        """Wait for the hello and answer it; return the frames that came with it.

        Raises:
            ClusterError: No hello was received, or it is of another version.
        """
        try:
            self.hello, frames = await self._await_hello()
        except WireError as error:
            raise ClusterError(f"{self.where} has not come up: {error}") from None
        options = self._options
        self.link.send(
            Welcome(
                VERSION,
                self._heartbeat,
                options.grace_period,
                options.drain_grace,
                options.drain_limit,
                options.containment,
            )
        )
        return frames

    async def _await_hello(self) -> tuple[Hello, list[Frame]]:
        frames = await self.link.receive()
        if frames is None:
            self.link.parser.finish()
            raise WireError("the connection ended before the agent's hello")
        hello = message_in(frames[0])
        if not isinstance(hello, Hello):
            raise WireError(f"it began with a message {type(hello).__name__} instead of its hello")
        return hello, frames[1:]

    async def run(self, frames: list[Frame]) -> None:
        """Serve until the connection ends; then report the lost processes."""
        try:
            await self._lose(await self._serve(frames))
        except BaseException:
            # the launcher has failed: whoever waits for a process of the agent must not wait for ever
            self._report_lost(self._mark_gone("its launcher has failed"))
            raise

    async def _serve(self, frames: list[Frame]) -> str:
        """Serve until the connection ends; return why it has ended."""
        assert self.hello is not None
        async with trio.open_nursery() as nursery:
            self.nursery = nursery
            nursery.start_soon(self.link.write)
            nursery.start_soon(self.link.beat, self._heartbeat, self._fall_silent)
            nursery.start_soon(self._watch_launcher)
            nursery.start_soon(self._call_back)
            self._roster.came_up(self.agent, self, self.hello)
            try:
                with self._end:
                    self._why_ended = await self._read(frames)
            finally:
                self.nursery = None
                nursery.cancel_scope.cancel()
        return self._why_ended

    def _fall_silent(self) -> None:
        self._why_ended = f"nothing was heard of it for {trio.current_time() - self.link.heard:.1f} s"
        self._end.cancel()

    @trio.lowlevel.enable_ki_protection
    async def _watch_launcher(self) -> None:
        """When the launcher reports the end, read only the data that has already arrived."""
        await self._channel.died(self.hello)
        await trio.sleep(0.2)
        self._why_ended = "it has ended"
        self._end.cancel()

    async def _read(self, frames: list[Frame] | None) -> str:
        """Handle messages; return why there are no more."""
        try:
            while frames is not None:
                passed = 0  # bytes of output for readers, in this turn
                for frame in frames:
                    if frame.kind is Kind.MESSAGE:
                        self._handle(frame)
                    else:
                        passed = await self._pass_on(frame, passed)
                frames = await self.link.receive()
        except WireError as error:
            logger.error("%s sent an invalid message: %s", self.where, error)
            return str(error)
        return "the connection has ended"

    async def _lose(self, why: str) -> None:
        """Wait until no process of the agent can be alive any more, and report those that it had."""
        why = self._mark_gone(why)
        await self.link.close()
        if not self._said_bye:
            await self.give_up()
            if self._remotes:
                reach = max([remote.grace for remote in self._remotes.values()])
                with trio.move_on_at(self.link.heard + self.patience + reach):
                    await self._channel.died(self.hello)
        self._report_lost(why)

    def _mark_gone(self, why: str) -> str:
        """Place nothing more on the agent; return why, in full."""
        left = self._said_bye or (self._leaving and not self._remotes)
        if self._leaving:
            why = f"{why}; it left, as {self._leaving}"
        self._roster.gone(self.agent, AgentState.LEFT if left else AgentState.LOST, why)
        return why

    def _report_lost(self, why: str) -> None:
        if self._remotes:
            why = f"{self.where}: {why}{self._channel.last_words()}"
        for remote in list(self._remotes.values()):
            remote.lose(why)

    async def give_up(self) -> None:
        """End the command that led to the agent; if its stream has ended, it is about to end by itself, and reports how.

        The stream of an agent that has died ends a moment before ssh(1), say, reports its exit status. That status proves the
        death; an ssh that was killed proves nothing, and its processes would be lost only after the heartbeat and the grace.
        """
        if self.link.ended:
            with trio.move_on_after(_STARTER_ENDS):
                await self._channel.died(self.hello)
        self._channel.give_up()

    async def _pass_on(self, frame: Frame, passed: int) -> int:
        """Pass on output; give its readers a turn before they get more at once than from a pipe.

        Args:
            frame: The output.
            passed: How many bytes readers have got in this turn.

        Returns:
            The same, with these bytes.
        """
        stream = _STREAMS.get(frame.kind)
        if stream is None:
            raise WireError(f"a frame of the kind {frame.kind.name} came from the agent")
        remote, body = self._remote(frame.process), frame.body
        for begin in range(0, len(body), AT_ONCE):
            if not remote.has_readers:
                remote.take(stream, body[begin:])
                break
            piece = body[begin : begin + AT_ONCE]
            if passed + len(piece) > AT_ONCE:
                await trio.lowlevel.cancel_shielded_checkpoint()  # what has arrived is passed on in any case
                passed = 0
            remote.take(stream, piece)
            passed += len(piece)
        return passed

    def _handle(self, frame: Frame) -> None:
        message = message_in(frame)
        if isinstance(message, FromProcess):
            if isinstance(message, Refused) and not self._leaving:
                raise WireError(f"process {message.process} was refused by an agent that is not leaving")
            self._remote(message.process).receive(message)
            if isinstance(message, (Over, Failed, Refused)):  # accepted: one that is refused must leave it to `_lose`
                del self._remotes[message.process]
        elif isinstance(message, Leaving):
            self._leaving = escape_controls(message.why) or "it says"
            self._roster.gone(self.agent, AgentState.LEFT, f"as {self._leaving}")
        elif isinstance(message, Bye):
            self._said_bye = True
        elif not isinstance(message, Ping):
            raise WireError(f"a message {type(message).__name__} came from the agent")

    def _remote(self, process: int) -> Remote:
        remote = self._remotes.get(process)
        if remote is None:
            raise WireError(f"something came of process {process}, which does not run there")
        return remote
