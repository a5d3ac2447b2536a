"""An executor on Trio's clock alone: each command is a behaviour, so that a test says what happens and when."""

from __future__ import annotations

import math
from collections.abc import Sequence

import attrs
import trio

from trio_process._core import (
    CommandResult,
    EndReason,
    ProgramNotFoundError,
    RunOptions,
    Status,
    shown_args,
    shown_command,
)
from trio_process._pipeline import RunSpec

GRACE = 0.5


@attrs.frozen
class Does:
    """What one attempt does: exits with `code` after `seconds`; or `error` instead of a start."""

    seconds: float = 1.0
    code: int = 0
    error: Exception | None = None
    output: bytes = b""
    start_delay: float = 0.0
    reason: EndReason | None = None  # what a stranger asked for
    deaf: bool = False  # to its stop signal, so that it takes the grace


FOREVER = Does(math.inf)
FAILS = Does(1.0, 1)
NOT_FOUND = Does(error=ProgramNotFoundError("no such program"))


@attrs.define(eq=False)
class FakeAttempt:
    id: str
    options: RunOptions
    does: Does
    asked: EndReason | None = None
    grace: float | None = None
    wake: trio.Event = attrs.field(factory=trio.Event)
    ended: trio.Event = attrs.field(factory=trio.Event)
    result: CommandResult | None = None

    async def stop(self, grace_period: float | None = None, *, reason: EndReason = EndReason.STOPPED) -> CommandResult:
        if self.asked is None and not self.ended.is_set():
            self.asked = reason
        self.grace = grace_period
        self.wake.set()
        await self.ended.wait()
        assert self.result is not None
        return self.result


@attrs.define(eq=False)
class FakeExecutor:
    """Runs `behaviours[name]`, a `Does` or one per attempt (the last one goes on); a name without one takes a second.

    `events` has ("start", name, time) and ("end", name, time) in order.
    """

    behaviours: dict[str, Does | Sequence[Does]] = attrs.field(factory=dict)
    slots: int | None = None
    events: list[tuple[str, str, float]] = attrs.field(factory=list)
    running: dict[str, FakeAttempt] = attrs.field(factory=dict)
    peak: int = 0
    count: dict[str, int] = attrs.field(factory=dict)

    async def run_process(self, options: RunOptions, *, check: bool = True, task_status) -> CommandResult:
        name = options.name or ""
        number = self.count[name] = self.count.get(name, 0) + 1
        does = self.behaviours.get(name, Does())
        if not isinstance(does, Does):
            does = does[min(number, len(does)) - 1]
        await trio.lowlevel.checkpoint()
        if does.start_delay:
            await trio.sleep(does.start_delay)
        if does.error is not None:
            raise does.error
        attempt = FakeAttempt(f"{name}-{number}", options, does)
        began = trio.current_time()
        self.events.append(("start", name, began))
        self.running[attempt.id] = attempt
        self.peak = max(self.peak, len(self.running))
        task_status.started(attempt)
        try:
            reason, code = await self._live(attempt)
        except trio.Cancelled:
            with trio.CancelScope(shield=True):
                await trio.sleep(GRACE if does.deaf else 0)
            raise
        finally:
            del self.running[attempt.id]
            self.events.append(("end", name, trio.current_time()))
            attempt.ended.set()
        attempt.result = CommandResult(
            id=attempt.id,
            name=name,
            command=shown_command(options),
            args=shown_args(options),
            exit_code=code,
            signal_name="SIGTERM" if code < 0 else None,
            status=Status.KILLED if code < 0 else Status.EXITED,
            reason=reason,
            output_bytes=does.output,
            duration=trio.current_time() - began,
            ok=reason is EndReason.EXITED and code in options.ok_exit_codes,
        )
        return attempt.result.check() if check else attempt.result

    async def _live(self, attempt: FakeAttempt) -> tuple[EndReason, int]:
        does, options = attempt.does, attempt.options
        limit = math.inf if options.timeout is None else options.timeout
        with trio.move_on_after(min(limit, does.seconds)):
            await attempt.wake.wait()
        if attempt.wake.is_set():
            assert attempt.asked is not None
            if does.deaf:
                await trio.sleep(GRACE if attempt.grace is None else attempt.grace)
            return attempt.asked, -15
        if does.seconds <= limit:
            return does.reason or (EndReason.EXITED if does.code >= 0 else EndReason.SIGNALLED), does.code
        return EndReason.TIMED_OUT, -15

    def started(self) -> list[str]:
        return [name for what, name, _ in self.events if what == "start"]

    def times(self, name: str) -> list[tuple[str, float]]:
        return [(what, at) for what, other, at in self.events if other == name]


def moments(executor: FakeExecutor) -> dict[str, list[float]]:
    """Return when each began and ended, in turn, from the run's beginning at 0."""
    found: dict[str, list[float]] = {}
    for _, name, at in executor.events:
        found.setdefault(name, []).append(at)
    return found


def spec(name: str, *after: str, **options) -> RunSpec:
    """A spec whose command is its name."""
    return RunSpec(name=name, command=name or "x", after=after, **options)
