"""`Agent` and the roster: the agents, the resources of each, and the processes that wait for room."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import NamedTuple, final

import trio

from .._core import (
    ClusterError,
    CommandResult,
    EndReason,
    ProcessError,
    RunOptions,
    ServiceClosedError,
    Status,
    escape_controls,
    logger,
    shown_args,
    shown_command,
    shown_cwd,
)
from .connection import Connection
from .messages import Hello


class AgentState(StrEnum):
    """The state of an agent.

    Attributes:
        QUEUED: It was requested, and has not connected yet.
        UP: It is connected and accepts processes.
        LOST: Its connection broke, or it stopped answering.
        LEFT: It has left in an orderly way.
    """

    QUEUED = "queued"
    UP = "up"
    LOST = "lost"
    LEFT = "left"


class LostStartError(ClusterError, shown_as=ClusterError):
    """A process was lost before it was known to run: no agent is left, or its agent was lost at that moment.

    Args:
        text: What happened.
        host: The host that was asked to start it; None for none.
    """

    def __init__(self, text: str, host: str | None = None) -> None:
        super().__init__(text)
        self._host = host

    def result(self, options: RunOptions) -> CommandResult:
        """Return this as the result of a run."""
        return CommandResult(
            command=shown_command(options),
            args=shown_args(options),
            name=options.name,
            cwd=shown_cwd(options),
            status=Status.FAILED,
            reason=EndReason.LOST,
            host=self._host,
            lost=str(self),
        )


class Demand(NamedTuple):
    """The resources that a process needs; `waits` says that they were requested, so that the process waits for room."""

    cpus: int = 1
    memory: int = 0
    gpus: int = 0
    waits: bool = False

    @classmethod
    def of(cls, resources: Mapping[str, int]) -> Demand:
        """Return the demand of the option `resources`."""
        if not resources:
            return _USUAL
        return cls(resources.get("cpus", 1), resources.get("memory", 0), resources.get("gpus", 0), waits=True)

    def __str__(self) -> str:
        named = {"cpus": self.cpus, "memory": self.memory, "gpus": self.gpus}
        return ", ".join(f"{name}={value}" for name, value in named.items() if value)


_USUAL = Demand()


@final
class Agent:
    """An agent of a cluster: the execution layer on some host, which runs processes for a `ClusterService`.

    Attributes:
        name: The name that its launcher gave it.
        host: The host that it runs on, or will run on.
    """

    __slots__ = (
        "_cpus",
        "_free_gpus",
        "_gpus",
        "_memory",
        "_pid",
        "_running",
        "_session",
        "_slots",
        "_state",
        "_total",
        "_why",
        "host",
        "name",
    )

    def __init__(self, name: str, host: str) -> None:
        self.name: str = name
        self.host: str = host
        self._state = AgentState.QUEUED
        self._pid: int | None = None
        self._slots = 0
        self._running = 0
        self._cpus = 0  # of the processes running there
        self._memory = 0
        self._total: int | None = None  # bytes of memory, None if not known
        self._gpus = 0
        self._free_gpus: list[str] = []
        self._session: Connection | None = None
        self._why = ""  # of its end

    def __repr__(self) -> str:
        return f"<Agent {self.name!r} on {self.host}: {self.state}, {self.running} running, {self.slots} slots>"

    @property
    def pid(self) -> int | None:
        """Its PID on its host; None before it is up."""
        return self._pid

    @property
    def slots(self) -> int:
        """How many processors it offers; 0 before it is up."""
        return self._slots

    @property
    def running(self) -> int:
        """How many processes it is running."""
        return self._running

    @property
    def state(self) -> AgentState:
        """Its state."""
        return self._state

    @property
    def _load(self) -> float:
        return self._cpus / max(1, self._slots)

    def _lacks(self, demand: Demand, *, ever: bool = False) -> str:
        """Return the resources that are missing for a demand, now or even on an idle agent; empty if none is."""
        cpus, memory = (0, 0) if ever else (self._cpus, self._memory)
        gpus = self._gpus if ever else len(self._free_gpus)
        if demand.gpus > gpus:
            return f"gpus={demand.gpus} of {gpus}"
        if self._total is not None and demand.memory > self._total - memory:
            return f"memory={demand.memory} of {self._total - memory}"
        if demand.waits and demand.cpus > self._slots - cpus:
            return f"cpus={demand.cpus} of {self._slots - cpus}"
        return ""


@final
class Place:
    """The resources of an agent that one process occupies, until they are released."""

    __slots__ = ("_demand", "_released", "_roster", "agent", "env")

    def __init__(self, roster: Roster, agent: Agent, demand: Demand) -> None:
        self._roster = roster
        self._demand = demand
        self._released = False
        self.agent = agent
        agent._running += 1
        agent._cpus += demand.cpus
        agent._memory += demand.memory
        self.env: dict[str, str] = {}
        if demand.gpus:
            devices = [agent._free_gpus.pop(0) for _ in range(demand.gpus)]
            self.env["CUDA_VISIBLE_DEVICES"] = ",".join(devices)

    @property
    def session(self) -> Connection:
        """The connection to the agent."""
        assert self.agent._session is not None
        return self.agent._session

    def release(self) -> None:
        """Release the resources; can be repeated."""
        if self._released:
            return
        self._released = True
        agent, demand = self.agent, self._demand
        agent._running -= 1
        agent._cpus -= demand.cpus
        agent._memory -= demand.memory
        if self.env:
            agent._free_gpus += self.env["CUDA_VISIBLE_DEVICES"].split(",")
        self._roster.look()


class _Waiter:
    __slots__ = ("demand", "event", "outcome")

    def __init__(self, demand: Demand) -> None:
        self.demand = demand
        self.event = trio.Event()
        self.outcome: Place | ProcessError | None = None


@final
class Roster:
    """All agents of a cluster, in the order of their requests, and the processes that wait for one."""

    def __init__(self) -> None:
        self.agents: list[Agent] = []
        self.failures: list[ClusterError] = []
        self.changed: trio.lowlevel.ParkingLot = trio.lowlevel.ParkingLot()
        self._waiting: list[_Waiter] = []
        self._one_came_up = False
        self._launching = True
        self._open_ended = False
        self._closed = False
        self._watchers: list[Callable[[], object]] = []

    # reports of launchers and sessions

    def add(self, name: str, host: str) -> Agent:
        """Add a requested agent."""
        taken = {agent.name for agent in self.agents}
        unique, number = name, 1
        while unique in taken:
            number += 1
            unique = f"{name}.{number}"
        agent = Agent(unique, host)
        self.agents.append(agent)
        return agent

    def came_up(self, agent: Agent, session: Connection, hello: Hello) -> None:
        """Begin to place processes on an agent."""
        agent.host = escape_controls(hello.host).replace("\n", " ")
        agent._pid = hello.pid
        agent._slots = hello.slots
        agent._total = hello.memory
        agent._gpus = len(hello.gpus)
        agent._free_gpus = list(hello.gpus)
        agent._session = session
        agent._state = AgentState.UP
        if not self._one_came_up:
            self._one_came_up = True
            for error in self.failures:  # until now they could have been why the block can't be entered
                _log_failure(error)
        self.look()

    def gone(self, agent: Agent, state: AgentState, why: str = "") -> None:
        """Place nothing more on an agent."""
        agent._state = state
        agent._why = agent._why or why
        agent._session = None
        self.look()

    def failed(self, agent: Agent, error: ClusterError) -> None:
        """Note that an agent has not come up."""
        self.failures.append(error)
        if self._one_came_up:
            _log_failure(error)
        self.gone(agent, AgentState.LOST)

    def expect(self, *, launching: bool, open_ended: bool = False) -> None:
        """Set whether further agents may come."""
        self._launching = launching
        self._open_ended = open_ended
        self.look()

    def close(self) -> None:
        """Place nothing more: the service is being left."""
        self._closed = True
        self.look()

    # requests of the service

    @property
    def up(self) -> list[Agent]:
        """The agents that serve."""
        return [agent for agent in self.agents if agent._state is AgentState.UP]

    @property
    def slots(self) -> int:
        """How many processors those offer together."""
        return sum([agent._slots for agent in self.up])

    @property
    def some_to_come(self) -> bool:
        """Whether an agent may still come up."""
        return self._launching or self._open_ended or any(agent._state is AgentState.QUEUED for agent in self.agents)

    @property
    def all_failed(self) -> bool:
        """Whether every agent that was requested has failed, so that further ones, should any come, would fail as well."""
        states = {agent._state for agent in self.agents}
        return not self._launching and states == {AgentState.LOST}

    def none_left(self) -> ClusterError:
        """Return why no process can run any more."""
        states = (
            ", ".join(
                f"{agent.name} on {agent.host}: {agent.state}{agent._why and f', {agent._why}'}"
                for agent in self.agents
            )
            or "none was asked for"
        )
        reasons = "".join(f"\n{failure}" for failure in self.failures[-3:])
        return LostStartError(f"there is no agent left to run it, and none will come ({states}){reasons}")

    def has_place(self, options: RunOptions) -> bool:
        """Return whether a process would not have to wait: it would be placed at once, or fail as no agent is left."""
        demand, up = Demand.of(options.resources), self.up
        return any(not agent._lacks(demand) for agent in up) or not (up or self.some_to_come)

    async def place(self, options: RunOptions) -> Place:
        """Wait for room, and occupy it.

        Raises:
            ClusterError: No agent has these resources, or no agent is left and none will come.
            ServiceClosedError: The service is being left.
        """
        demand = Demand.of(options.resources)
        outcome = self._outcome(demand)  # waiting processes have no use for the resources that are free now
        if outcome is None:
            outcome = await self._wait_for(demand)
        if isinstance(outcome, ProcessError):
            raise outcome
        return outcome

    async def _wait_for(self, demand: Demand) -> Place | ProcessError:
        waiter = _Waiter(demand)
        self._waiting.append(waiter)
        try:
            await waiter.event.wait()
        except BaseException:
            if waiter in self._waiting:
                self._waiting.remove(waiter)
            if isinstance(waiter.outcome, Place):
                waiter.outcome.release()
            raise
        assert waiter.outcome is not None
        return waiter.outcome

    def look(self) -> None:
        """Give the available room to waiting processes, in the order of their requests."""
        if self.changed:
            self.changed.unpark_all()
        for waiter in self._waiting.copy() if self._waiting else ():
            outcome = self._outcome(waiter.demand)
            if outcome is not None:
                self._waiting.remove(waiter)
                waiter.outcome = outcome
                waiter.event.set()

    def _outcome(self, demand: Demand) -> Place | ProcessError | None:
        if self._closed:
            return ServiceClosedError("this ClusterService is closing or closed; it starts no more processes")
        best, least = None, math.inf
        for agent in self.agents:
            if agent._state is AgentState.UP and (load := agent._load) < least and not agent._lacks(demand):
                best, least = agent, load
        if best is not None:
            return Place(self, best, demand)
        up = self.up
        if not up:
            return None if self.some_to_come else self.none_left()
        queued = any(agent._state is AgentState.QUEUED for agent in self.agents)
        missing = [agent._lacks(demand, ever=True) for agent in up]
        if all(missing) and not queued and not self._launching:
            named = "; ".join(f"{agent.name} has {lack}" for agent, lack in zip(up, missing, strict=True))
            return ClusterError(f"no agent could ever run this, which needs {demand}: {named}")
        return None


def _log_failure(error: ClusterError) -> None:
    logger.warning("an agent has not come up: %s", error)
