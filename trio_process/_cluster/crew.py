"""`Crew`: starts agents for a launcher, and runs the tasks of their connections.

The tasks outlive the cancellation of the block, in a shield that only `leave` ends: otherwise a stop could not be sent.
"""

from __future__ import annotations

import math
from typing import Protocol, final

import trio
import trio.lowlevel

from .._core import ClusterError, logger
from .._process import ServiceOptions
from .agents import Agent, AgentState, Roster
from .session import Channel, Session
from .wire import Frame

LEAVE_TIMEOUT = 10.0
"""Seconds that agents have to leave, once nothing runs any more."""


class Launcher(Protocol):
    """Starts agents.

    Attributes:
        start_timeout: Seconds that the first agent may take to come up; None for no limit.
    """

    @property
    def start_timeout(self) -> float | None:
        """Seconds that the first agent may take to come up; None for no limit."""

    async def launch(self, crew: Crew) -> None:
        """Request agents and serve them; return when no further agent will come and all have ended."""


@final
class Crew:
    """The agents of one service, while it is entered.

    Args:
        options: The options for the services of the agents.
        heartbeat: Seconds of silence after which either side gives up the other.
        start_timeout: Seconds that each agent may take to say hello.
    """

    def __init__(self, options: ServiceOptions, heartbeat: float, start_timeout: float | None) -> None:
        self.roster: Roster = Roster()
        self._options = options
        self._heartbeat = heartbeat
        self._start_timeout = math.inf if start_timeout is None else start_timeout
        self._sessions: set[Session] = set()
        self._channels: dict[Agent, Channel] = {}  # of agents that were started
        self._shield = trio.CancelScope(shield=True)
        self._leaving = False
        self._done = trio.Event()

    @property
    def leaving(self) -> bool:
        """Whether the service is being left, so that agents that end are not lost."""
        return self._leaving

    @trio.lowlevel.enable_ki_protection
    async def run(self, launcher: Launcher) -> None:
        """Start agents and serve them, until `leave`."""
        try:
            with self._shield:
                try:
                    await launcher.launch(self)
                except ClusterError as error:
                    self.roster.failures.append(error)
                self.roster.expect(launching=False)
        finally:
            self._done.set()
            self.roster.expect(launching=False)

    async def wait_first(self) -> None:
        """Wait until an agent is up.

        Raises:
            ClusterError: No agent has come up, or none in time.
        """
        roster = self.roster
        with trio.move_on_after(self._start_timeout) as scope:
            while not roster.up and roster.some_to_come and not roster.all_failed:
                await roster.changed.park()
        await trio.lowlevel.checkpoint()
        if roster.up:
            return
        silent = "".join([self._silence_of(agent) for agent in roster.agents if agent.state is AgentState.QUEUED])
        if len(roster.failures) == 1 and not silent:
            raise roster.failures[0]
        reasons = "".join(f"\n{failure}" for failure in roster.failures) + silent
        if scope.cancelled_caught:
            raise ClusterError(f"no agent has come up within {self._start_timeout:g} s{reasons}")
        raise ClusterError(f"none of {len(roster.agents)} agents has come up:{reasons}")

    def _silence_of(self, agent: Agent) -> str:
        channel = self._channels.get(agent)
        return f"\n{agent.name} on {agent.host} has not said hello{channel.last_words() if channel is not None else ''}"

    def began(self, agent: Agent, channel: Channel) -> None:
        """Note that an agent was started, so that the error quotes the channel's last words if it doesn't come up in time."""
        self._channels[agent] = channel

    async def attend(self, agent: Agent, channel: Channel) -> None:
        """Serve one agent from its hello to its end; a failure to come up is reported, not raised."""
        self.began(agent, channel)
        session = Session(agent, channel, self.roster, self._options, self._heartbeat)
        try:
            frames = await self._shake_hands(session)
        except ClusterError as error:
            await session.give_up()
            with trio.move_on_after(1):
                await channel.died(None)
            await session.link.close()
            if not self._leaving:
                self.roster.failed(agent, ClusterError(f"{error}{channel.last_words()}"))
            return
        except BaseException:  # cancelled: a command that has not led to an agent yet has nothing to end in order
            channel.give_up()
            raise
        self._sessions.add(session)
        try:
            if self._leaving:
                session.leave()
            await session.run(frames)
        finally:
            self._sessions.discard(session)
            self.roster.changed.unpark_all()

    async def _shake_hands(self, session: Session) -> list[Frame]:
        with trio.move_on_after(self._start_timeout):
            return await session.shake_hands()
        raise ClusterError(f"{session.where} has not said hello within {self._start_timeout:g} s")

    async def leave(self) -> None:
        """Let the agents leave; no process is running on them any more."""
        with trio.CancelScope(shield=True):
            self._leaving = True
            self.roster.close()
            for session in self._sessions:
                session.leave()
            with trio.move_on_after(LEAVE_TIMEOUT) as scope:
                while self._sessions:
                    await self.roster.changed.park()
                    await trio.lowlevel.checkpoint()
            if scope.cancelled_caught:
                names = ", ".join(session.where for session in self._sessions)
                logger.warning("not all agents have left within %g s: %s", LEAVE_TIMEOUT, names)
            self._shield.cancel()
            await self._done.wait()
