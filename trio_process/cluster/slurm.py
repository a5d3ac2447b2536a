"""Agents on Slurm: one `srun` job step each, as a pilot job that runs our commands.

The step is not used to run the commands themselves, because srun can't keep this package's promises: SIGTERM to srun kills
the step at once, a missing directory is replaced by /tmp, and death by a signal looks like an exit code.
srun is never signalled: the end of its stdin, or of the connection, ends the agent, and the agent ends the step.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Final, final

import attrs
import trio

from .._cluster import (
    Agent,
    CallbackChannel,
    CallbackListener,
    Crew,
    Launcher,
    open_callbacks,
    open_command,
    python_argv,
)
from .._core import ClusterError, OptionError, checks

_ALWAYS: Final = ("--ntasks=1", "--unbuffered", "--kill-on-bad-exit=0")

_HOPELESS: Final = re.compile(rb"cannot stat file .*retrying|REQUEST_\w+ has authentication error|Munge encode failed")
"""What srun says before it tries again for a minute: its configuration is missing, or no munged runs."""


_TASK_ENDED: Final = b": task 0: "
"""In srun's report of how its task has ended. Without it an end of srun's proves nothing: on the failure of a node, or if its
daemon is gone, srun exits with code 0 while the agent may live on."""


@final
@attrs.frozen
class SlurmLauncher:
    """Submits one srun per agent."""

    count: int
    options: tuple[str, ...]
    python: str | None
    connect_back: bool
    start_timeout: float | None = None  # a queue takes as long as it takes

    async def launch(self, crew: Crew) -> None:
        """Submit all jobs at once, and serve each agent when it connects."""
        if self.connect_back:
            async with open_callbacks(None) as callbacks:
                await self._submit(crew, callbacks)
        else:
            await self._submit(crew, None)

    async def _submit(self, crew: Crew, callbacks: CallbackListener | None) -> None:
        async with trio.open_nursery() as nursery:
            for number in range(1, self.count + 1):
                agent = crew.roster.add(f"slurm-{number}", "a node of Slurm's choice")
                nursery.start_soon(self._attend, crew, agent, callbacks)
            crew.roster.expect(launching=False)

    @trio.lowlevel.enable_ki_protection
    async def _attend(self, crew: Crew, agent: Agent, callbacks: CallbackListener | None) -> None:
        name = ("--job-name=trio-process",) if not any(o.startswith(("-J", "--job-name")) for o in self.options) else ()
        argv = ["srun", *_ALWAYS, *name, *self.options, *python_argv(self.python)]
        if callbacks is not None:
            argv.append("--call-back")
        try:
            async with open_command(argv, proves_death=_is_end_of_task, spare=True, hopeless=_HOPELESS) as channel:
                if callbacks is None:
                    await crew.attend(agent, channel)
                    return
                crew.began(agent, channel)
                token, calls = callbacks.expect()
                try:
                    with suppress(trio.BrokenResourceError):  # it has ended already, which is about to be seen
                        await channel.stream.send_all(callbacks.config(token))
                    stream = await channel.first_of(calls)
                finally:
                    callbacks.withdraw(token)
                if stream is None:
                    await crew.attend(agent, channel)
                else:
                    await crew.attend(agent, CallbackChannel(stream, channel))
        except ClusterError as error:
            crew.roster.failed(agent, error)


def _is_end_of_task(status: int, words: bytes) -> bool:
    return status > 0 and _TASK_ENDED in words


def slurm_agents(count: int = 1, *srun_options: str, python: str | None = None, connect_back: bool = True) -> Launcher:
    """Return a launcher of agents on Slurm: one srun(1) job each, which ends with the connection.

    The jobs wait in the queue like any others. Slurm's choice of nodes, time limits and preemption apply.

    Args:
        count: How many agents, at most 10,000.
        *srun_options: Options of each job: ``"-c4"``, ``"--mem=8G"``, ``"--gres=gpu:1"``, ``"--time=2:00:00"``.
        python: The Python on the nodes that has this package; None for this one, on a shared file system.
        connect_back: Whether agents call back by TCP, which is faster than srun's own streams; neither is encrypted. If no
            connection can be made, srun's streams are used.

    >>> launcher = slurm_agents(2, "-c4", "--mem=8G")
    """
    count = int(checks.whole("count", count, least=1, most=checks.MOST))
    checks.flag("connect_back", connect_back)
    given = tuple([checks.text("srun_options", option) for option in srun_options])
    for option in given:
        if not option.startswith("-"):
            why = f"slurm_agents: {option!r} is not an option of srun; give values as --name=value"
            raise OptionError(why, option="srun_options")
    if python is not None:
        checks.text("python", python, empty=False)
    return SlurmLauncher(count, given, python, connect_back)
