"""`Core`: named actions and event broadcast. An action without a handler can't run: permission by registration."""

from __future__ import annotations

import builtins
import inspect
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any, Final, TypeVar, Unpack, final

import trio

from . import checks
from .checks import Argument, EnvValue
from .errors import ActionDisabledError, ActionNotRegisteredError, ActionOptionError, ProcessError, bad_option
from .events import Bus, EventSource
from .hints import checkable_hints, spelled
from .keywords import RunInKeywords, RunKeywords, RunWithEnvKeywords
from .result import ProcessInfo
from .scope import Block, interruptible, is_cancellation, raise_first
from .text import nearest
from .unique import Unique

Handler = Callable[..., Awaitable[Any]]
Directory = str | bytes | os.PathLike[str] | os.PathLike[bytes]
ServiceFactory = Callable[["Core"], AbstractAsyncContextManager[Any]]

_Instance = TypeVar("_Instance")


@final
class Action(Unique):
    """A live handle on the action with one name, whether registered or not; made by `Core.action`.

    Attributes:
        name: The action's name, e.g. ``"process.run"``.
    """

    __slots__ = ("_enabled", "_handler", "_hints", "_signature", "name")

    def __init__(self, name: str) -> None:
        self.name: Final[str] = name
        self._handler: Handler | None = None
        self._enabled = True
        self._signature = inspect.Signature()
        self._hints: dict[str, Any] = {}

    @property
    def exists(self) -> bool:
        """Whether a handler is registered."""
        return self._handler is not None

    @property
    def enabled(self) -> bool:
        """Whether the action may run, provided that it exists."""
        return self._enabled

    def enable(self) -> None:
        """Allow the action to run again."""
        self._enabled = True

    def disable(self) -> None:
        """Make every run raise `ActionDisabledError`, until `enable` is called."""
        self._enabled = False

    async def run(self, **options: Any) -> Any:
        """Run the handler with these options and return its value.

        Raises:
            ActionNotRegisteredError: There is no handler.
            ActionDisabledError: The action is disabled.
            ActionOptionError: An option is unknown, missing or of the wrong type; the handler did not run.
        """
        if self._handler is None:
            raise ActionNotRegisteredError(
                f"no action {self.name!r} is registered; enter the service that offers it, e.g. Core(Service)"
            )
        if not self._enabled:
            raise ActionDisabledError(f"the action {self.name!r} is disabled; call enable() first")
        self._check(options)
        await trio.lowlevel.checkpoint()  # the handler may not be one
        return await self._handler(**options)

    def _set_handler(self, handler: Handler | None) -> None:
        """Register a handler in place of the former one; None removes it."""
        if handler is not None:
            if not callable(handler):
                raise ActionOptionError(
                    f"the handler of {self.name!r} must be an async function, got {checks.brief(handler)}"
                )
            self._signature = inspect.signature(handler)
            self._hints = checkable_hints(handler)
        self._handler = handler

    def _check(self, options: Mapping[str, Any]) -> None:
        parameters = self._signature.parameters
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
            for option in options:
                if option not in parameters:
                    known = nearest(option, parameters) or f"; it takes {', '.join(parameters) or 'none'}"
                    raise ActionOptionError(f"{self.name}: unknown option {option!r}{known}", option=option)
        for option, parameter in parameters.items():
            variadic = parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
            if not variadic and parameter.default is parameter.empty and option not in options:
                raise ActionOptionError(f"{self.name}: the option {option!r} is missing", option=option)
        for option, value in options.items():
            wanted = self._hints.get(option)
            if wanted is not None and not isinstance(value, wanted):
                raise ActionOptionError(
                    f"{self.name}: {option} must be {spelled(wanted)}, got {checks.brief(value)}", option=option
                )

    def __repr__(self) -> str:
        state = "not registered" if not self.exists else "enabled" if self._enabled else "disabled"
        return f"<Action {self.name!r}, {state}>"


@final
class ProcessActions:
    """The ``process.*`` actions of a core as methods; without a registered `Service` every call raises."""

    __slots__ = ("_core",)

    def __init__(self, core: Core) -> None:
        self._core = core

    @property
    def exists(self) -> bool:
        """Whether `process.run` is registered."""
        return self._core.action("process.run").exists

    async def run(self, command: Argument, *args: Argument, **options: Unpack[RunKeywords]) -> str:
        """Run a command to its end and return its whole combined output; the options are those of `RunOptions`.

        Raises:
            CommandFailedError: It failed; ``.result`` has the output.
            ActionNotRegisteredError: No service is registered; nothing was run.
        """
        text: str = await self._call("process.run", {"command": command, "args": args}, options)
        return text

    async def run_in(
        self, directory: Directory, command: Argument, *args: Argument, **options: Unpack[RunInKeywords]
    ) -> str:
        """As `run`, in a directory."""
        text: str = await self._call("process.run", {"command": command, "args": args, "cwd": directory}, options)
        return text

    async def run_with_env(
        self,
        directory: Directory,
        env: Mapping[str, EnvValue],
        command: Argument,
        *args: Argument,
        **options: Unpack[RunWithEnvKeywords],
    ) -> str:
        """As `run`, in a directory and with added environment variables."""
        given = {"command": command, "args": args, "cwd": directory, "env": env}
        text: str = await self._call("process.run", given, options)
        return text

    async def start(self, command: Argument, *args: Argument, **options: Unpack[RunKeywords]) -> str:
        """Start a command and return its id; cancelling the caller doesn't stop it."""
        key: str = await self._call("process.start", {"command": command, "args": args}, options)
        return key

    async def kill(self, id: str | None = None, *, pid: int | None = None) -> None:  # noqa: A002 - the contract's name
        """Kill a managed process, by id or PID; any other PID raises `ProcessNotFoundError`."""
        await self._call("process.kill", {"id": id, "pid": pid}, {})

    async def list(self) -> builtins.list[str]:
        """Return the ids of the processes in start order."""
        ids: builtins.list[str] = await self._call("process.list", {}, {})
        return ids

    async def get(self, id: str) -> ProcessInfo:  # noqa: A002 - the contract's name
        """Return a snapshot of one process."""
        info: ProcessInfo = await self._call("process.get", {"id": id}, {})
        return info

    async def _call(self, name: str, given: Mapping[str, Any], options: Mapping[str, Any]) -> Any:
        twice = given.keys() & options.keys()
        if twice:
            raise ActionOptionError(f"{name}: {', '.join(sorted(twice))} given twice")
        return await self._core.action(name).run(**given, **options)


@final
class Core(Block, EventSource):
    """Named actions and event broadcast around a set of services, entered in order and left in reverse.

    Args:
        *services: Callables ``service(core)`` that return an async context manager, such as the class `Service` or
            ``partial(Service, options=...)``. If entering one fails, those already entered are left.

    Attributes:
        process: The ``process.*`` actions as methods.

    >>> async def main() -> str:
    ...     async with Core(Service) as core:
    ...         return await core.process.run("echo", "hello")
    """

    __slots__ = ("_actions", "_bus", "_factories", "_running", "process")

    def __init__(self, *services: ServiceFactory) -> None:
        super().__init__()
        for service in services:
            if not callable(service):
                raise ActionOptionError(f"Core takes callables such as the class Service, got {checks.brief(service)}")
        self._factories = services
        self._running: list[Any] = []
        self._actions: dict[str, Action] = {}
        self._bus = Bus()
        self.process: Final[ProcessActions] = ProcessActions(self)

    @asynccontextmanager
    async def _block(self) -> AsyncIterator[None]:
        if self._bus.closed:  # entered again; before the first entry there may already be subscribers
            self._bus = Bus()
        managers: list[AbstractAsyncContextManager[Any]] = []
        body_error: BaseException | None = None
        try:
            for factory in self._factories:
                manager, running = await interruptible(self._enter, factory)
                self._running.append(running)
                managers.append(manager)
            yield
        except BaseException as error:  # noqa: BLE001 - handed to every service and raised again below
            body_error = error
        failures: list[BaseException] = []
        for manager in reversed(managers):
            self._running.pop()
            try:
                # a block protects itself, from the first instruction on
                leave = manager.__aexit__ if isinstance(manager, Block) else partial(interruptible, manager.__aexit__)
                if await leave(type(body_error) if body_error else None, body_error, None):
                    body_error = None
            except BaseException as error:  # noqa: BLE001 - kept for raise_first
                if body_error is not None and is_cancellation(body_error):
                    body_error = error  # the reason why the body was cancelled, if it came from inside this manager
                elif error is not body_error:
                    failures.append(error)
        self._bus.close()
        raise_first(body_error, failures)

    async def _enter(self, factory: ServiceFactory) -> tuple[AbstractAsyncContextManager[Any], Any]:
        manager = factory(self)
        return manager, await manager.__aenter__()

    def service(self, cls: type[_Instance]) -> _Instance:
        """Return the running instance of a service class.

        Raises:
            ProcessError: No such service is running.
            OptionError: `cls` is not a class.
        """
        if not isinstance(cls, type):
            raise bad_option("service", f"takes a class of services, got {checks.brief(cls)}")
        for running in self._running:
            if isinstance(running, cls):
                return running
        raise ProcessError(f"this core has no {cls.__name__}; enter it as Core({cls.__name__})")

    def action(self, name: str, handler: Handler | None = None) -> Action:
        """Return a live handle on an action; a handler, if given, is registered first, and the last registration wins.

        Args:
            name: The action's name.
            handler: An async function, called as ``handler(**options)``.

        Raises:
            OptionError: The name is not a str, or is empty.
            ActionOptionError: The handler can't be called.
        """
        checks.text("name", name, empty=False)
        action = self._actions.get(name)
        if action is None:
            action = self._actions[name] = Action(name)
        if handler is not None:
            if not action.exists:  # in the order of registration, not of the first handle
                self._actions[name] = self._actions.pop(name)
            action._set_handler(handler)
        return action

    @property
    def actions(self) -> list[str]:
        """The names with a handler, in registration order."""
        return [name for name, action in self._actions.items() if action.exists]

    async def broadcast(self, event: object) -> None:
        """Send any object to every subscriber, in order; wait for full ones whose policy is `Overflow.WAIT`."""
        await trio.lowlevel.checkpoint_if_cancelled()
        self._check_run()
        full = self._bus.publish(event)
        for backlog in full:
            room = trio.Event()
            if backlog.full:
                backlog.when_room(room.set)
                try:
                    await room.wait()
                finally:
                    backlog.forget(room.set)
        if not full:
            await trio.lowlevel.cancel_shielded_checkpoint()

    def _events_of(self, id: str | None) -> Bus:  # noqa: A002, ARG002 - the id may be that of a process not yet started
        self._check_run()
        return self._bus


def bus_of(core: Core) -> Bus:
    """Return the bus that the services of a core publish to."""
    return core._bus
