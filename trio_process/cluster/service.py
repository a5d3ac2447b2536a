"""`ClusterService`: a `Service` whose processes run where its agents are."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import final

import trio

from .._cluster import Agent, Crew, Launcher, LostStartError, RemoteBackend
from .._core import CommandResult, Core, RunOptions, bad_option, checks, open_scope
from .._process import Backend, ManagedProcess, Reactor, Service, ServiceOptions


@final
class ClusterService(Service):
    """A `Service` that spawns through agents; everything else is the same.

    Entering it waits for the first agent. A process is placed on the least busy agent that has room. A process that needs
    `resources` waits until there is room, any other one is started at once.

    Args:
        launcher: The launcher of the agents: ``local_agents(2)``, ``ssh_agents("one", "two")`` and so on.
        core: The core that it registers its actions with.
        options: The options of this service, and of those of its agents.
        start_timeout: Seconds that the first agent may take to come up; None for the default of the launcher: 60 s, or no
            limit where there is a queue.
        heartbeat: Seconds of silence after which an agent counts as lost, and after which the agent ends its processes. They
            are reported as `LOST` a quarter of that later, after their grace period.

    Raises:
        ClusterError: On entering, no agent has come up.
        OptionError: An option is invalid.

    >>> async def main() -> str:
    ...     async with ClusterService(local_agents(2)) as cluster:
    ...         return (await cluster.run("echo", "hello")).output
    """

    def __init__(
        self,
        launcher: Launcher,
        core: Core | None = None,
        options: ServiceOptions | None = None,
        *,
        start_timeout: float | None = None,
        heartbeat: float = 15.0,
    ) -> None:
        super().__init__(core, options)
        if not callable(getattr(launcher, "launch", None)):
            raise bad_option("launcher", f"must be a launcher such as local_agents(2), got {checks.brief(launcher)}")
        self._launcher = launcher
        timeout = launcher.start_timeout
        if start_timeout is not None:
            timeout = checks.seconds("start_timeout", start_timeout, positive=True)
        self._crew = Crew(self.options, checks.seconds("heartbeat", heartbeat, positive=True), timeout)

    @property
    def agents(self) -> tuple[Agent, ...]:
        """The agents, in the order of their requests, including lost ones."""
        return tuple(self._crew.roster.agents)

    @property
    def slots(self) -> int:
        """How many processors the agents that are up offer together; it changes as they come and go."""
        return self._crew.roster.slots

    def has_place(self, options: RunOptions) -> bool:
        """Return whether a process with these options would be placed at once, or fail at once as no agent is left.

        Args:
            options: The options of the process.
        """
        return self._crew.roster.has_place(options)

    async def run_process(
        self,
        options: RunOptions,
        *,
        check: bool = True,
        task_status: trio.TaskStatus[ManagedProcess] = trio.TASK_STATUS_IGNORED,
    ) -> CommandResult:
        """Run a command in the caller's nursery, as `Service.run_process` does.

        If no agent is left and none will come, or if the agent is lost at the moment of the start, the result says `LOST`.
        """
        try:
            return await super().run_process(options, check=check, task_status=task_status)
        except LostStartError as error:
            result = error.result(options)
            if check:
                result.check()
            return result

    @asynccontextmanager
    async def _block(self) -> AsyncIterator[None]:
        async with open_scope() as nursery:
            nursery.start_soon(self._crew.run, self._launcher, name="trio_process agents")
            try:
                await self._crew.wait_first()
                async with super()._block():
                    try:
                        yield
                    finally:
                        self._crew.roster.close()
            finally:
                await self._crew.leave()

    def _make_backend(self, reactor: Reactor, options: ServiceOptions) -> Backend:
        return RemoteBackend(reactor, options, self._crew.roster)
