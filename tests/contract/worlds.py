"""The worlds of the contract: real processes on the real clock, here or by agents; scripts on a clock that jumps."""

from __future__ import annotations

import functools
import inspect
import math

from support import state_of, wait_until

from trio_process import Service, ServiceOptions
from trio_process._core import (
    ActionProcessExited,
    ActionProcessKilled,
    ActionProcessOutput,
    ActionProcessStarted,
)
from trio_process.cluster import ClusterService
from trio_process.testing import FakeService


class World:
    """Where the tests of the contract take place: `program` says what a command does, for `sh` and for the fake."""

    def __init__(self, kind: str, launcher=None) -> None:
        self.fake = kind == "fake"
        self.launcher = launcher
        self.scripts = []

    def program(self, script: str, **behaviour):
        """Return the command `sh -c script`; `behaviour` says the same in the words of a FakeService."""
        self.scripts.append((("sh", "-c", script), behaviour))
        return ("sh", "-c", script)

    def command(self, *argv, **behaviour):
        """As `program`, for a command that is no shell script."""
        self.scripts.append((argv, behaviour))
        return argv

    def service(self, core=None, **options):
        settings = ServiceOptions(**options)
        if self.launcher is not None:
            return ClusterService(self.launcher, core, settings)
        if not self.fake:
            return Service(core, settings)
        service = FakeService(core, settings)
        for argv, behaviour in self.scripts:
            service.on(*argv, **behaviour)
        return service

    async def until_stopped(self, process) -> None:
        """Wait until a process that was suspended does nothing any more: the kernel takes its time, the fake none."""
        if not self.fake:
            await wait_until(lambda: state_of(process.pid) == "T")

    def takes(self, measured: float, expected: float) -> bool:
        """Return whether a duration is as it should be: exactly so on virtual time, in reason on the real clock."""
        if self.fake:
            return math.isclose(measured, expected, abs_tol=1e-6)
        return expected - 0.02 <= measured < 10 * expected + 5


def plain(event):
    """Return an event without what differs from run to run: ids, PIDs and times."""
    match event:
        case ActionProcessStarted():
            return ("started", event.command, event.args, event.name)
        case ActionProcessOutput():
            return ("line", event.line, str(event.stream), event.partial)
        case ActionProcessKilled():
            return ("killed", event.signal)
        case ActionProcessExited():
            error = type(event.error).__name__ if event.error is not None else None
            return ("exited", event.exit_code, str(event.reason), error)
    return event


async def plain_rest(subscription):
    """Return all events up to the end of a subscription."""
    return [plain(event) async for event in subscription]


def line(text, stream="stdout", *, partial=False):
    return ("line", text, stream, partial)


def on_its_clock(test):
    """Let a test have the clock of its world: pytest-trio takes one from the arguments of the test itself."""

    @functools.wraps(test)
    async def on_clock(clock, world, **fixtures):
        await test(world=world, **fixtures)

    signature = inspect.signature(test)
    clock = inspect.Parameter("clock", inspect.Parameter.KEYWORD_ONLY)
    on_clock.__signature__ = signature.replace(parameters=[*signature.parameters.values(), clock])
    return on_clock
