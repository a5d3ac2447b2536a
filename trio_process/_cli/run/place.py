"""Choose where tasks run: ``--executor local | local:N | ssh:HOST[,HOST...] | slurm:N[?SRUN OPTIONS] | dask:ADDRESS``."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, final

import trio

from ..._core import ClusterError, Core, OptionError, checks, open_scope
from ..._process import ManagedProcess, Service, ServiceOptions
from ..output import print_error

if TYPE_CHECKING:
    from ..._cluster import Launcher

VARIABLE: Final = "TRIO_PROCESS_EXECUTOR"
"""The environment variable equivalent to the option."""

NOTICE_AFTER: Final = 5.0
"""Seconds after which the wait for the first agent is reported."""

_FORMS: Final = "local, local:N, ssh:HOST[,HOST…], slurm:N[?SRUN OPTIONS] or dask:ADDRESS"
_PACKAGES: Final = {"ssh": "openssh-client", "srun": "slurm-client"}


def parse_executor(text: str) -> Launcher | None:
    """Return the launcher that the option names, or None for this process itself.

    Raises:
        OptionError: The value is not valid.
        ClusterError: A requirement of the launcher is not installed.
    """
    if text == "local":
        return None
    from ...cluster import dask_agents, local_agents, slurm_agents, ssh_agents  # noqa: PLC0415 - most runs need none

    kind, _, rest = text.partition(":")
    match kind:
        case "local" if rest:
            return local_agents(_count(text, rest))
        case "ssh" if all(rest.split(",")):
            return _needs("ssh", ssh_agents(*rest.split(",")))
        case "slurm" if rest:
            count, _, options = rest.partition("?")
            return _needs("srun", slurm_agents(_count(text, count), *_words(text, options)))
        case "dask" if rest:
            return dask_agents(rest)
    raise OptionError(f"--executor must be {_FORMS}, got {text!r}")


def _count(text: str, number: str) -> int:
    try:
        return checks.written("the number of agents", number, least=1, most=checks.MOST)
    except OptionError as error:
        raise OptionError(f"--executor must be {_FORMS}, got {checks.brief(text)}: {error}") from None


def _words(text: str, options: str) -> list[str]:
    try:
        return shlex.split(options)
    except ValueError as error:
        raise OptionError(f"--executor must be {_FORMS}, got {text!r}: {error} in {options!r}") from None


def _needs(program: str, launcher: Launcher) -> Launcher:
    if shutil.which(program) is None:
        raise ClusterError(
            f"there is no program {program!r} on the PATH; on Debian: apt-get install {_PACKAGES[program]}"
        )
    return launcher


@final
class Place:
    """The services of a run: one here, and one on a cluster if requested.

    Args:
        launcher: Launches the agents; None to run everything here.

    Attributes:
        here: Runs the tasks that have the terminal.
        there: Runs everything else.
        source: The source of the events of both.
    """

    def __init__(self, launcher: Launcher | None) -> None:
        options = ServiceOptions(guardian=True, strays="all")
        if launcher is None:
            self.here = self.there = Service(options=options)
            self.source: Core | Service = self.here
            self._core = None
            return
        from ...cluster import ClusterService  # noqa: PLC0415 - most runs need none

        self.source = self._core = Core()
        self.here = Service(self._core, options)
        self.there = ClusterService(launcher, self._core, options)

    def running(self) -> list[ManagedProcess]:
        """Return the running processes of both services."""
        return [*self.here.running(), *(self.there.running() if self.there is not self.here else ())]

    @asynccontextmanager
    async def entered(self) -> AsyncIterator[None]:
        """Run the services inside this block.

        Raises:
            ClusterError: No agent has started.
        """
        if self._core is None:
            async with self.here:
                yield
        else:
            is_up = trio.Event()
            async with self._core, self.here, open_scope() as nursery:
                nursery.start_soon(_say_what_is_waited_for, is_up)
                async with self.there:
                    is_up.set()
                    yield


async def _say_what_is_waited_for(is_up: trio.Event) -> None:
    """Say that no agent is up yet, once that has taken long: in the queue of a cluster it may take for ever."""
    with trio.move_on_after(NOTICE_AFTER):
        await is_up.wait()
        return
    print_error("trio-process: no agent is up yet; waiting for the first one, before any task can run")
