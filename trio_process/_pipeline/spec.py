"""`RunSpec`: one step of a pipeline; and `Executor`, the one seam to what runs it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import IO, Protocol, final

import attrs
import trio

from .._core import (
    CommandResult,
    EndReason,
    OptionError,
    RunOptions,
    Secret,
    Stdio,
    checks,
)


def _arguments(values: Iterable[checks.Argument]) -> tuple[str | bytes | Secret, ...]:
    return checks.arguments("args", values)


def _names(values: Iterable[str]) -> tuple[str, ...]:
    """Return the dependencies as a tuple; empty and doubled ones are faults of the pipeline, found when it is run."""
    if isinstance(values, (str, bytes, Mapping)) or not isinstance(values, Iterable):
        raise OptionError(f"after must be a list or tuple of names, got {values!r}; write [{values!r}]")
    return tuple([checks.text("after", value) for value in values])


@final
@attrs.frozen(kw_only=True)
class RunSpec:
    """One step of a pipeline: a command, what it waits for, and what is done when it fails.

    Args:
        name: What other specs call it in `after`, and the label of its process.
        command: The program, as in `RunOptions`.
        args: Its arguments, none of them a number.
        cwd: The directory it runs in; None for ours.
        env: What is laid over our environment; a value None removes the name.
        after: The names of the specs that must have ended well before it begins.
        allow_failure: Its failure is reported, but neither skips its dependents nor ends the run.
        timeout: Seconds that one attempt may take.
        idle_timeout: Seconds that one attempt may be silent.
        grace_period: Seconds between the stop signal and SIGKILL; None for the executor's.
        retries: How often it is tried again after a failure.
        retry_delay: Seconds before it is tried again; nothing is held meanwhile, so that others may run.
        stdin: As in `RunOptions`; None for an empty one.
        ok_exit_codes: The codes that are a success.
        weight: How much of `max_parallel` it takes while it runs; more than there is counts as all of it.

    Attributes:
        options: The `RunOptions` of one attempt, made from the above.

    Raises:
        OptionError: A value was refused; the text names the option. An empty name and what is wrong with `after`
            are reported by the runner, with every other fault of the pipeline.

    >>> RunSpec(name="test", command="pytest", args=["-q"], after=["lint"], timeout=600).after
    ('lint',)
    """

    name: str
    command: str | bytes | PathLike[str] | PathLike[bytes]
    args: tuple[str | bytes | Secret, ...] = attrs.field(default=(), converter=_arguments)
    cwd: str | bytes | PathLike[str] | PathLike[bytes] | None = None
    env: Mapping[str, checks.EnvValue] = attrs.field(factory=dict)
    after: tuple[str, ...] = attrs.field(default=(), converter=_names)
    allow_failure: bool = False
    timeout: float | None = None
    idle_timeout: float | None = None
    grace_period: float | None = None
    retries: int = 0
    retry_delay: float = 0.0
    stdin: Stdio | bytes | str | Path | IO[bytes] | None = None
    ok_exit_codes: tuple[int, ...] = (0,)
    weight: int = 1
    options: RunOptions = attrs.field(init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        checks.text("name", self.name)
        checks.flag("allow_failure", self.allow_failure)
        checks.whole("retries", self.retries)
        checks.whole("weight", self.weight, least=1)
        # The rules for what a process is told are those of RunOptions: made once, checked there, used by every attempt.
        options = RunOptions(
            command=self.command,
            args=self.args,
            cwd=self.cwd,
            env=self.env,
            name=self.name,
            stdin=Stdio.NULL if self.stdin is None else self.stdin,
            timeout=self.timeout,
            idle_timeout=self.idle_timeout,
            grace_period=self.grace_period,
            ok_exit_codes=self.ok_exit_codes,
        )
        put = object.__setattr__
        put(self, "options", options)
        for field in ("command", "cwd", "env", "timeout", "idle_timeout", "grace_period", "ok_exit_codes"):
            put(self, field, getattr(options, field))
        put(self, "retry_delay", checks.seconds("retry_delay", self.retry_delay))


class Attempt(Protocol):
    """One running attempt, as an executor's task status hands it over; a `ManagedProcess` is one."""

    @property
    def id(self) -> str:
        """What the executor calls it."""

    async def stop(self, grace_period: float | None = None, *, reason: EndReason = EndReason.STOPPED) -> CommandResult:
        """End it: stop signal, grace, SIGKILL; return when its process tree is dead."""


class Executor(Protocol):
    """Where a pipeline's commands run: a `Service`, a fake, a cluster.

    It places and runs one attempt; the graph, retries, the timeout of the whole and skips stay in the `Runner`.
    """

    @property
    def slots(self) -> int | None:
        """How much weight it can run at the same time; None for no limit."""

    async def run_process(
        self, options: RunOptions, *, check: bool = True, task_status: trio.TaskStatus[Attempt]
    ) -> CommandResult:
        """Run one attempt to its end.

        Args:
            options: What to run; its `timeout` and `idle_timeout` are the executor's to keep.
            check: Whether to raise `CommandFailedError` unless the result is `ok`; the runner asks for False.
            task_status: Is handed the running `Attempt` as soon as there is one.

        Returns:
            The result, and not before the process tree is dead. When cancelled, it stops the process first and
            then lets `Cancelled` through.
        """
