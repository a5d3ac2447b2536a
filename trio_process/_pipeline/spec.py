"""`RunSpec`: one step of a pipeline; and `Executor`, the interface to the service that runs it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from operator import attrgetter
from os import PathLike
from pathlib import Path
from signal import SIGTERM
from typing import IO, Final, Literal, Protocol, final

import attrs
import trio

from .._core import (
    CommandResult,
    EndReason,
    RunOptions,
    Secret,
    Stdio,
    bad_option,
    checks,
    declare,
    options_like,
    refuse_unknown,
    short_repr,
)

When = Literal["success", "failure", "always"]

_LONGEST_PATTERN: Final = 4096  # as a path (PATH_MAX)
_DEEPEST_PATTERN: Final = 200  # `glob` calls itself for each part
_WHEN: Final = ("success", "failure", "always")
_OF_RUN_OPTIONS: Final = tuple(
    field.name
    for field in attrs.fields(RunOptions)
    if field.name not in ("detach", "stdout", "stderr", "stdin", "resources")
)
"""The fields that a spec forwards to its `RunOptions` and reads from there; `stdin` and `resources` have their own defaults."""


def _names(option: str, values: Iterable[str]) -> tuple[str, ...]:
    """Return names as a tuple; empty and repeated names are faults of the pipeline, reported when it is run."""
    if values == ():
        return ()
    if isinstance(values, (str, bytes, Mapping)) or not isinstance(values, Iterable):
        raise bad_option(
            option, f"must be a list or tuple of texts, got {checks.brief(values)}; write [{checks.brief(values)}]"
        )
    return tuple([checks.text(option, value) for value in values])


def _after(values: Iterable[str]) -> tuple[str, ...]:
    return _names("after", values)


def _uses(values: Iterable[str]) -> tuple[str, ...]:
    return _names("uses", values)


def _patterns(option: str, values: Iterable[str]) -> tuple[str, ...]:
    patterns = _names(option, values)
    for pattern in patterns:
        if len(pattern) > _LONGEST_PATTERN or pattern.count("/") > _DEEPEST_PATTERN:
            limits = f"{_LONGEST_PATTERN} characters and {_DEEPEST_PATTERN} slashes"
            raise bad_option(option, f"must be patterns of at most {limits}, got {pattern[:40]!r}...")
    return patterns


def _inputs(values: Iterable[str]) -> tuple[str, ...]:
    return _patterns("inputs", values)


def _outputs(values: Iterable[str]) -> tuple[str, ...]:
    return _patterns("outputs", values)


def _weight(value: int | None) -> int:
    return value  # type: ignore[return-value] # None is replaced when the spec is created


@final
@refuse_unknown(
    detach="a pipeline waits for its specs; use Service.start for a process that outlives it",
    stdout="a pipeline captures the output; use log_file= for a file",
    stderr="a pipeline captures the output; use log_file= for a file",
)
@attrs.frozen(kw_only=True, slots=False, repr=False)
class RunSpec:
    """One step of a pipeline: a command, its dependencies, and what a failure means.

    It takes the fields of `RunOptions` except `detach`, `stdout` and `stderr`, and those described here.

    Args:
        name: The name by which other specs refer to it in `after`, and the label of its process.
        command: The program, as in `RunOptions`.
        after: The names of the specs that must have ended, or been skipped, before it starts.
        when: ``"success"``: it starts if all specs in `after` succeeded, and is skipped otherwise; an allowed failure
            counts as a success. ``"failure"``: it starts if one of them failed, or was skipped because of a failure.
            ``"always"``: it starts in any case. The last two also run after a halt of the run (`run_all`), to clean up.
        allow_failure: Its failure is reported, but neither skips its dependents nor halts the run.
        retries: How often it is retried after a failure.
        retry_delay: Seconds before each retry; meanwhile the spec takes no slot, so that other specs may run.
        stdin: As in `RunOptions`; None for an empty input.
        weight: How much of `max_parallel` it takes while it runs; more than `max_parallel` counts as all of it. None
            for ``resources["cpus"]``, else 1.
        interactive: It has the terminal: it inherits stdin, stdout and stderr, nothing is captured, and no other spec
            runs at the same time.
        uses: The names of the services that it uses; the `supervisor` of the `Runner` keeps them running meanwhile.
        inputs: Patterns of the files that it reads, as for `glob.glob`, relative to `cwd`. With the runner's `memory`,
            it is run only if something has changed since it last passed.
        outputs: Patterns of the files that it creates.

    Attributes:
        options: The `RunOptions` of one attempt.

    Raises:
        OptionError: A value is invalid; the message names the option. An empty name and faults of `after` are reported
            by the runner, with every other fault of the pipeline.

    >>> RunSpec(name="test", command="pytest", args=["-q"], after=["lint"], timeout=600).after
    ('lint',)
    """

    name: str
    command: str | bytes | PathLike[str] | PathLike[bytes]
    args: tuple[str | bytes | Secret, ...] = attrs.field(default=(), converter=declare.arguments)
    cwd: str | bytes | PathLike[str] | PathLike[bytes] | None = None
    env: Mapping[str, checks.EnvValue] = attrs.field(factory=dict, eq=checks.frozen_items)
    after: tuple[str, ...] = attrs.field(default=(), converter=_after)
    when: When = "success"
    allow_failure: bool = False
    timeout: float | None = None
    idle_timeout: float | None = None
    stop_signal: int = attrs.field(default=SIGTERM, converter=declare.signal)
    grace_period: float | None = None
    retries: int = 0
    retry_delay: float = 0.0
    stdin: Stdio | bytes | str | Path | IO[bytes] | None = None
    ok_exit_codes: tuple[int, ...] = attrs.field(default=(0,), converter=declare.exit_codes)
    weight: int = attrs.field(default=None, converter=_weight)
    resources: Mapping[str, int] = attrs.field(factory=dict, eq=checks.frozen_items)
    interactive: bool = False
    uses: tuple[str, ...] = attrs.field(default=(), converter=_uses)
    inputs: tuple[str, ...] = attrs.field(default=(), converter=_inputs)
    outputs: tuple[str, ...] = attrs.field(default=(), converter=_outputs)
    disable_capture: bool = False
    buffer_size: int | float | None = None
    encoding: str = "utf-8"
    errors: str = "replace"
    max_line: int = 2**20
    max_output: int | None = None
    kill_group: bool = True
    log_file: Path | None = attrs.field(default=None, converter=declare.log_file)
    log_max_bytes: int = 0
    log_keep: int = 3
    echo: bool = False
    redact: bool = False
    umask: int | None = None
    user: str | int | None = None
    nice: int | None = None
    limits: Mapping[str, int | tuple[int, int]] = attrs.field(
        factory=dict, converter=declare.limits, eq=checks.frozen_items
    )
    options: RunOptions = attrs.field(init=False, repr=False, eq=False)

    def __repr__(self) -> str:
        return short_repr(self, weight=_default_weight(self.resources))

    def __attrs_post_init__(self) -> None:
        given = self.__dict__
        given["name"] = checks.text("name", given["name"])
        if self.when not in _WHEN:
            raise bad_option("when", f"must be one of {', '.join(map(repr, _WHEN))}, got {checks.brief(self.when)}")
        given["when"] = checks.plain(self.when)
        checks.flag("allow_failure", self.allow_failure)
        given["retries"] = checks.whole("retries", self.retries)
        # The options of the process are validated by RunOptions: created once, used by every attempt,
        # and the only place where they are stored.
        stream = Stdio.INHERIT if checks.flag("interactive", self.interactive) else Stdio.PIPE
        stdin = self.stdin
        if stdin is None:
            stdin = Stdio.INHERIT if self.interactive else Stdio.NULL
        checked = RunOptions(command="x", resources=self.resources).resources if self.resources else {}
        weight = self.weight
        if weight is None:
            weight = _default_weight(checked)
        weight = int(checks.whole("weight", weight, least=1))
        # on a cluster a spec takes as many processors as its weight, unless it specifies the number
        placed = {"cpus": weight, **checked} if weight > 1 else checked
        options = RunOptions(
            stdin=stdin,
            stdout=stream,
            stderr=stream,
            resources=placed,
            **{name: given.pop(name) for name in _OF_RUN_OPTIONS},
        )
        given.update(
            options=options,
            stdin=None if self.stdin is None else options.stdin,
            resources=checked,
            retry_delay=checks.seconds("retry_delay", self.retry_delay),
            weight=weight,
        )


def _default_weight(resources: Mapping[str, int]) -> int:
    """Return the weight of a spec that is given none."""
    return resources.get("cpus", 1)


for _field in _OF_RUN_OPTIONS:
    # attrs fields for the signature, `attrs.evolve`, `==` and `repr`; stored in `options` only
    setattr(RunSpec, _field, property(attrgetter(f"options.{_field}"), doc=f"See `RunOptions.{_field}`."))


def spec_like(
    model: RunSpec,
    name: str,
    command: str,
    args: tuple[str, ...],
    after: tuple[str, ...],
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
) -> RunSpec:
    """Return a spec like another one, but with these values, which have been checked before."""
    options = options_like(model.options, name=name, command=command, args=args)
    spec = object.__new__(RunSpec)
    spec.__dict__.update(model.__dict__, after=after, inputs=inputs, outputs=outputs, options=options)
    return spec


class Attempt(Protocol):
    """One running attempt, as passed to the task status of an executor; a `ManagedProcess` is one."""

    @property
    def id(self) -> str:
        """The name by which the executor knows it."""

    async def stop(self, grace_period: float | None = None, *, reason: EndReason = EndReason.STOPPED) -> CommandResult:
        """Stop it: stop signal, grace period, SIGKILL; return when its process tree is dead."""


class Executor(Protocol):
    """Runs the commands of a pipeline: a `Service`, a fake or a cluster.

    It places and runs single attempts; the `Runner` handles the graph, retries, skips and the timeout of the whole run.
    An executor that may have no place for an attempt also has ``has_place(options) -> bool``; the attempt is then
    `QUEUED`. Without slots it returns True if there never will be any, so that attempts begin, and fail.
    """

    @property
    def slots(self) -> int | None:
        """The weight that it can run at the same time; None for no limit."""

    async def run_process(
        self, options: RunOptions, *, check: bool = True, task_status: trio.TaskStatus[Attempt]
    ) -> CommandResult:
        """Run one attempt to its end.

        Args:
            options: The command and its options; the executor enforces `timeout` and `idle_timeout`.
            check: Whether to raise `CommandFailedError` unless the result is `ok`; the runner passes False.
            task_status: Receives the running `Attempt` as soon as there is one.

        Returns:
            The result, once the process tree is dead. A cancellation first stops the process, and then raises
            `Cancelled`.
        """
