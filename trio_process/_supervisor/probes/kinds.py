"""The kinds of probes: each runs once, and returns ``(ok, reason)`` or raises an exception."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Awaitable, Callable, Collection
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import partial
from typing import Any, ClassVar, Final, NamedTuple, Protocol, Self, final

import attrs
import outcome
import trio

from ..._core import (
    OptionError,
    ProcessError,
    RunOptions,
    Secret,
    Stdio,
    bad_option,
    checks,
    command_line,
    fault_of_socket_path,
    last_lines,
    matches,
    open_unix_stream,
    shown,
)
from ..._daemon import judge, one_line, parse_destination
from ..._process import Service
from .http_get import get_status, parse_url

PLACEHOLDER: Final = "{replica}"
_KEPT: Final = 4096  # bytes of a probe command's output: enough for the reason


class Place(NamedTuple):
    """Where a probe runs: the service, and the directory and environment of a command."""

    service: Service | None = None
    label: str = "probe"
    cwd: Any = None
    env: Any = None
    limiter: trio.CapacityLimiter | None = None
    """Limits this probe to one thread at a time; None for a probe that runs once."""


def fill(text: str, replica: int) -> str:
    """Fill in a text of a probe for one replica."""
    return text.replace(PLACEHOLDER, str(replica))


class Kind(Protocol):
    """The kind of a `Probe`."""

    place_of_its_own: ClassVar[bool]
    """Whether it names an address or file, of which each replica needs its own."""

    def for_replica(self, replica: int) -> Self:
        """Return the same with the replica's number filled in."""

    def describe(self) -> str:
        """Return a description, for errors."""

    async def ask(self, place: Place) -> tuple[bool, str]:
        """Ask once."""


def _pattern(value: object) -> str | re.Pattern[str]:
    found = checks.pattern("pattern", value)
    if not found:
        raise bad_option("pattern", "must not be empty")
    return found


@final
@attrs.frozen
class LineKind:
    """A line of the run's output, which is waited for and not probed."""

    place_of_its_own: ClassVar[bool] = False
    pattern: str | re.Pattern[str] = attrs.field(converter=_pattern)

    def matches(self, line: str) -> bool:
        """Return whether a line is the one."""
        return matches(self.pattern, line)

    def for_replica(self, replica: int) -> LineKind:
        """Fill in a text; a compiled pattern is unchanged."""
        return LineKind(fill(self.pattern, replica)) if isinstance(self.pattern, str) else self

    def describe(self) -> str:
        """Return a description of the line."""
        pattern = self.pattern if isinstance(self.pattern, str) else self.pattern.pattern
        return f"a line with {pattern!r}"

    async def ask(self, place: Place) -> tuple[bool, str]:  # noqa: ARG002 - never asked
        """Refuse: a line belongs to a run."""
        raise OptionError("a line is looked for in the output of a unit's run; this probe can't be called by itself")


@final
@attrs.frozen
class HttpKind:
    """A URL that answers with a good status."""

    place_of_its_own: ClassVar[bool] = True
    url: str = attrs.field()
    status: Any = attrs.field()

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "url", checks.text("url", self.url))
        parse_url(fill(self.url, 1))
        wanted = (self.status,) if isinstance(self.status, int) else self.status
        if isinstance(wanted, (str, bytes)) or not isinstance(wanted, Collection) or not wanted:
            raise bad_option(
                "status", f"must be a status code or a collection of them, got {checks.brief(self.status)}"
            )
        for code in wanted if not isinstance(wanted, range) else (wanted[0], wanted[-1]):
            if isinstance(code, bool) or not isinstance(code, int) or not 100 <= code <= 599:
                raise bad_option("status", f"must be 100 to 599, got {checks.brief(code)}")
        object.__setattr__(self, "status", wanted)

    def for_replica(self, replica: int) -> HttpKind:
        """Fill in the URL."""
        return HttpKind(fill(self.url, replica), self.status)

    def describe(self) -> str:
        """Return the URL."""
        return self.url

    async def ask(self, place: Place) -> tuple[bool, str]:  # noqa: ARG002 - it needs no service
        """Get it once."""
        code, phrase = await get_status(parse_url(self.url))
        return (True, "") if code in self.status else (False, one_line(f"HTTP status {code} {phrase}"))


def _tcp(value: object) -> str:
    if parse_destination(fill(value, 1) if isinstance(value, str) else value, "address").path:
        why = f"must be host:port, got {checks.brief(value)}; Probe.unix is for the path of a socket"
        raise bad_option("address", why)
    return checks.text("address", value)


@final
@attrs.frozen
class TcpKind:
    """A TCP address that accepts a connection."""

    place_of_its_own: ClassVar[bool] = True
    address: str = attrs.field(converter=_tcp)

    def for_replica(self, replica: int) -> TcpKind:
        """Fill in the address."""
        return TcpKind(fill(self.address, replica))

    def describe(self) -> str:
        """Return the address."""
        return self.address

    async def ask(self, place: Place) -> tuple[bool, str]:  # noqa: ARG002 - it needs no service
        """Connect once."""
        address = parse_destination(self.address, "address")
        stream = await trio.open_tcp_stream(address.reachable_host, address.port)
        stream.socket.close()
        return True, ""


def _path(value: object) -> str:
    return os.fsdecode(checks.path("path", value))


@final
@attrs.frozen
class UnixKind:
    """A unix socket that accepts a connection."""

    place_of_its_own: ClassVar[bool] = True
    path: str = attrs.field(converter=_path)

    @path.validator
    def _check(self, _: object, path: str) -> None:
        fault = fault_of_socket_path(fill(path, 1))
        if fault is not None:
            raise bad_option("path", f"{path!r} is too long: {fault}")

    def for_replica(self, replica: int) -> UnixKind:
        """Fill in the path."""
        return UnixKind(fill(self.path, replica))

    def describe(self) -> str:
        """Return the path."""
        return f"unix:{self.path}"

    async def ask(self, place: Place) -> tuple[bool, str]:  # noqa: ARG002 - it needs no service
        """Connect once."""
        stream = await open_unix_stream(self.path)
        stream.socket.close()
        return True, ""


@final
@attrs.frozen
class FileKind:
    """A file that exists."""

    place_of_its_own: ClassVar[bool] = True
    path: str = attrs.field(converter=_path)

    def for_replica(self, replica: int) -> FileKind:
        """Fill in the path."""
        return FileKind(fill(self.path, replica))

    def describe(self) -> str:
        """Return the path."""
        return self.path

    async def ask(self, place: Place) -> tuple[bool, str]:
        """Look once, in a thread: the file system may be slow or hang."""
        there = await in_thread(partial(os.path.exists, self.path), place.limiter)
        return (True, "") if there else (False, "there is no such file")


@final
@attrs.frozen
class CommandKind:
    """A command that succeeds."""

    place_of_its_own: ClassVar[bool] = False
    argv: tuple[str | bytes | Secret, ...] = attrs.field()

    def __attrs_post_init__(self) -> None:
        RunOptions(command=self.argv[0], args=self.argv[1:])  # raises for an invalid command

    def for_replica(self, replica: int) -> CommandKind:
        """Fill in the program and its arguments."""
        return CommandKind(tuple([fill(part, replica) if isinstance(part, str) else part for part in self.argv]))

    def describe(self) -> str:
        """Return the command as one would type it."""
        program, *args = map(shown, self.argv)
        return command_line(program, args)

    async def ask(self, place: Place) -> tuple[bool, str]:
        """Run it once; on cancellation and on the probe's timeout, its group is killed."""
        own: AbstractAsyncContextManager[Service] = Service() if place.service is None else nullcontext(place.service)
        options = RunOptions(
            command=self.argv[0],
            args=self.argv[1:],
            name=place.label,
            stdin=Stdio.NULL,
            cwd=place.cwd,
            env=place.env or {},
            grace_period=0.0,
            buffer_size=_KEPT,
        )
        async with own as service:
            process = await service.start_with_options(options)
            try:
                await process.wait(check=False)
            except BaseException:
                with trio.CancelScope(shield=True):
                    await process.stop()
                raise
            finally:
                if not process.is_running:
                    service.remove(process.id)  # else the runs of probes would push those of units out of the table
            result = process.result()
        return (
            (True, "")
            if result.ok
            else (False, one_line(": ".join([result._account(), *last_lines(result.output, 1)])))
        )


@final
@attrs.frozen
class CallKind:
    """A function: an async one, or a plain one that runs in a thread."""

    place_of_its_own: ClassVar[bool] = False
    function: Callable[[], Any] = attrs.field()

    @function.validator
    def _check(self, _: object, value: object) -> None:
        if not callable(value):
            raise OptionError(
                f"call takes a function without arguments, async or plain, got {checks.brief(value)}", option="function"
            )

    def for_replica(self, replica: int) -> CallKind:  # noqa: ARG002 - it has no texts
        """Return the same."""
        return self

    def describe(self) -> str:
        """Return the function's name."""
        function = self.function
        while isinstance(function, partial):
            function = function.func
        name: str = getattr(function, "__qualname__", type(function).__name__)
        return f"{name.rpartition('<locals>.')[2]}()"

    async def ask(self, place: Place) -> tuple[bool, str]:
        """Call it once."""
        if _is_async(self.function):
            answer = self.function()
        else:
            answer = await in_thread(self.function, place.limiter)
        if isinstance(answer, Awaitable):  # also `lambda: pool.ping()`
            answer = await answer
        why = judge(answer)
        return not why, why


def _is_async(function: object) -> bool:
    while isinstance(function, partial):
        function = function.func
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004 - not whether, but how


async def in_thread(function: Callable[[], Any], limiter: trio.CapacityLimiter | None) -> Any:
    """Run a function in a thread that can be abandoned; the virtual clock of a test stands still meanwhile.

    An autojump clock ignores threads: it would jump over the probe's timeout while the function is running. It never
    jumps while a task waits in `wait_all_tasks_blocked`.
    """
    # a limiter of its own: forty hung checks must not take the threads that a program shares
    limiter = limiter or trio.CapacityLimiter(1)
    if limiter.borrowed_tokens:
        raise ProcessError("its last call is still running")
    run = partial(trio.to_thread.run_sync, _captured, function, abandon_on_cancel=True, limiter=limiter)
    if not hasattr(trio.lowlevel.current_clock(), "autojump_threshold"):
        return (await run()).value.unwrap()
    from trio.testing import wait_all_tasks_blocked  # noqa: PLC0415 - a test's clock runs, so this is a test

    async def hold_the_clock() -> None:
        while True:
            await wait_all_tasks_blocked(0.001)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(hold_the_clock)
        captured = await run()
        nursery.cancel_scope.cancel()
    return captured.value.unwrap()


class _Captured(NamedTuple):
    """The wrapped result or exception of a function; Trio refuses an awaitable as the result of a thread."""

    value: outcome.Outcome[Any]


def _captured(function: Callable[[], Any]) -> _Captured:
    return _Captured(outcome.capture(function))
