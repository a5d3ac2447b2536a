"""The ``process.*`` actions, by which a core gives permission to run things."""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable
from typing import Any, Protocol, final

import trio

from .._core import (
    ActionOptionError,
    CommandResult,
    Core,
    OptionError,
    ProcessInfo,
    ProcessNotFoundError,
    RunOptions,
    checks,
    make_options,
)
from .managed_process import ManagedProcess


class Runner(Protocol):
    """The methods of a service that the handlers call."""

    async def run_with_options(self, options: RunOptions) -> CommandResult:
        """Run a command to its end."""

    async def start_with_options(self, options: RunOptions) -> ManagedProcess:
        """Start a process."""

    def kill(self, id: str) -> None:  # noqa: A002 - the contract's name
        """Kill a process."""

    def running(self) -> builtins.list[ManagedProcess]:
        """Return the processes that run."""

    def list(self) -> builtins.list[ManagedProcess]:
        """Return the processes that run or are remembered."""

    def get(self, id: str) -> ManagedProcess:  # noqa: A002 - the contract's name
        """Return the process with this id."""


@final
class ProcessHandlers:
    """The handlers of one service, registered with its core while it runs.

    Args:
        service: The service that they act on.
        core: The core that they are registered with.
    """

    def __init__(self, service: Runner, core: Core) -> None:
        self._service = service
        self._core = core
        # in this order, which `Core.actions` shows
        self._handlers: dict[str, Callable[..., Any]] = {
            "process.run": self.run,
            "process.start": self.start,
            "process.kill": self.kill,
            "process.list": self.list,
            "process.get": self.get,
        }
        # the handlers that they replaced: of a service entered earlier
        self._before: dict[str, Callable[..., Any] | None] = {}
        self._registered = False

    def register(self) -> None:
        """Register the handlers with the core."""
        self._registered = True
        for name, handler in self._handlers.items():
            self._before[name] = self._core.action(name)._handler
            self._core.action(name, handler)

    def unregister(self) -> None:
        """Unregister the handlers that were not replaced since; a service entered earlier that still runs gets its own back."""
        self._registered = False
        for name, handler in self._handlers.items():
            action = self._core.action(name)
            if action._handler == handler:
                action._set_handler(self._still_there(name))

    def _still_there(self, name: str) -> Callable[..., Any] | None:
        before = self._before.get(name)
        owner = getattr(before, "__self__", None)
        if not isinstance(owner, ProcessHandlers):
            return None  # a handler that is not of a service: it was replaced for good
        return before if owner._registered else owner._still_there(name)

    async def run(self, command: Any, args: Any = (), **options: Any) -> str:
        """Run a command; return its combined output, whole."""
        given = action_options(command, args, {"buffer_size": math.inf, **options})
        return (await self._service.run_with_options(given)).output

    async def start(self, command: Any, args: Any = (), **options: Any) -> str:
        """Start a command; return its id."""
        return (await self._service.start_with_options(action_options(command, args, options))).id

    async def kill(self, id: str | None = None, pid: int | None = None) -> None:  # noqa: A002 - the contract's name
        """Kill a managed process."""
        await trio.lowlevel.checkpoint()
        if (id is None) == (pid is None):
            raise ActionOptionError("process.kill takes either id or pid")
        if id is not None:
            self._service.kill(id)
            return
        found = [process for process in self._service.running() if process.pid == pid]
        if len(found) > 1:
            hosts = ", ".join(f"{process.id} on {process.host}" for process in found)
            raise ProcessNotFoundError(f"PID {pid} is that of {len(found)} processes, {hosts}: kill one by its id")
        if found:
            found[0].kill()
            return
        raise ProcessNotFoundError(
            f"PID {checks.brief(pid)} is not a running process of this service, and other processes are never signalled"
        )

    async def list(self) -> list[str]:
        """Return the ids, in start order."""
        await trio.lowlevel.checkpoint()
        return [process.id for process in self._service.list()]

    async def get(self, id: str) -> ProcessInfo:  # noqa: A002 - the contract's name
        """Return a snapshot of one process."""
        await trio.lowlevel.checkpoint()
        return self._service.get(id).info()


def action_options(command: Any, args: Any, options: dict[str, Any]) -> RunOptions:
    """Return the options of an action; a refused one is an `ActionOptionError`."""
    try:
        return make_options(command, checks.arguments("args", args), options)
    except ActionOptionError:
        raise
    except OptionError as error:
        raise ActionOptionError(str(error), option=error.option) from error
