"""`UnitSpec`: a command or an async function that is kept running."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from os import PathLike
from pathlib import Path
from signal import SIGTERM
from typing import Any, Final, final

import attrs

from .._core import (
    MAX_LINE,
    OptionError,
    OutputTarget,
    RestartMode,
    RestartPolicy,
    RunOptions,
    Secret,
    StdinSource,
    Stdio,
    bad_option,
    checks,
    declare,
    in_seconds,
    member,
    refuse_unknown,
    short_repr,
)
from .probes import Probe
from .rules import UnitCondition

REPLICA_VARIABLE: Final = "TRIO_PROCESS_REPLICA"
_NAME: Final = re.compile(r"[A-Za-z0-9_.:-]+")
_NUMBERED_PATHS: Final = ("log_file", "stdout", "stderr")
_NUMBERED: Final = re.compile(r".*\.[0-9]+")


def check_name(value: object) -> str:
    """Return a valid name of a unit; the `OptionError` for another one explains the rule."""
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise bad_option("name", f"must consist of letters, digits and any of `_ - . :`, got {checks.brief(value)}")
    if _NUMBERED.fullmatch(value):
        raise bad_option(
            "name", f"must not end in a dot and digits, as replicas are called that; got {checks.brief(value)}"
        )
    return checks.plain(value)


_ON_FAILURE: Final = RestartPolicy.on_failure()


@functools.lru_cache(maxsize=128)
def _environment(replica: int) -> checks.FrozenDict:
    """Return the environment that the process of a replica gets, one for all units."""
    return checks.FrozenDict({REPLICA_VARIABLE: str(replica)})


def _arguments(values: Iterable[checks.Argument]) -> tuple[str | bytes | Secret, ...]:
    return checks.arguments("args", values)


def _conditions(values: Iterable[str] | Mapping[str, UnitCondition | str]) -> dict[str, UnitCondition]:
    """Return the conditions by name; names without conditions mean `READY`."""
    if not values and isinstance(values, (Mapping, list, tuple)):
        return checks.NOTHING
    if isinstance(values, Mapping):
        return checks.FrozenDict(
            {
                checks.text("after", name): member(UnitCondition, condition, f"after[{name!r}]")
                for name, condition in values.items()
            }
        )
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise bad_option("after", f"must be a list of names, or map names to conditions; got {checks.brief(values)}")
    return checks.FrozenDict({checks.text("after", name): UnitCondition.READY for name in values})


@final
@refuse_unknown(
    detach="a unit is kept running by its supervisor, and ends with it; use Service.start for a process that outlives it"
)
@attrs.frozen(kw_only=True, repr=False)
class UnitSpec:
    """One unit of a `Supervisor`: a command or function to keep running, its dependencies, and when to restart it.

    It takes the fields of `RunOptions` except `detach`, and those described here.

    Args:
        name: Its name, and the label of its process: letters, digits and ``_ - . :``, but no dot and digits at the end.
        command: The program, as in `RunOptions`. Either this or `main` is given.
        args: Its arguments; numbers are refused.
        main: An async function without arguments, run in a task of its own. If it takes `task_status`, it is ready when
            it calls `task_status.started()`.
        after: The units that it waits for at every start: names of units that must be ready, or a mapping of names to
            `UnitCondition`.
        ready: The probe that finds out whether it is ready.
        live: The probe that finds out, after its first readiness, whether it is still alive. If it isn't, it is stopped,
            and that counts as a failure.
        settle: Seconds after which a unit without `ready` and `task_status` counts as ready; less than `start_timeout`.
        start_timeout: Seconds that it may take to become ready.
        restart: When it is restarted.
        essential: Whether its end cancels the body of the supervisor's block, and stops all units.
        replicas: How many replicas run, at most 10,000.
        enabled: Whether it is started with the supervisor; else only by `start` or `hold`, or for a unit that needs it.
        env: As in `RunOptions`; each process also gets `TRIO_PROCESS_REPLICA`, its number from 1.
        stdin: As in `RunOptions`; None for a pipe.
        stdout: As in `RunOptions`; with several replicas, the number of each is inserted before the suffix of a path.
        stderr: As in `RunOptions`; with several replicas, the number of each is inserted before the suffix of a path.
        timeout: As in `RunOptions`: seconds that one run may take.
        ok_exit_codes: As in `RunOptions`; an end with one of these is a success.
        log_file: As in `RunOptions`; with several replicas, the number of each is inserted before the suffix.

    Raises:
        OptionError: An option is invalid; the message names it.

    >>> UnitSpec(name="web", command="python", args=["-m", "web"], after=["db"]).after
    {'db': <UnitCondition.READY: 'ready'>}
    """

    name: str
    command: str | bytes | PathLike[str] | PathLike[bytes] | None = None
    args: tuple[str | bytes | Secret, ...] = attrs.field(default=(), converter=_arguments)
    main: Callable[..., Awaitable[object]] | None = None
    after: Mapping[str, UnitCondition] = attrs.field(
        default=checks.NOTHING, converter=_conditions, eq=checks.frozen_items
    )
    ready: Probe | None = None
    live: Probe | None = None
    settle: float = 0.1
    start_timeout: float = 60.0
    restart: RestartPolicy = _ON_FAILURE
    essential: bool = False
    replicas: int = 1
    enabled: bool = True
    cwd: str | bytes | PathLike[str] | PathLike[bytes] | None = None
    env: Mapping[str, checks.EnvValue] = attrs.field(default=checks.NOTHING, eq=checks.frozen_items)
    stdin: StdinSource = None
    stdout: OutputTarget = Stdio.PIPE
    stderr: OutputTarget = Stdio.PIPE
    disable_capture: bool = False
    buffer_size: int | float | None = None
    encoding: str = "utf-8"
    errors: str = "replace"
    max_line: int = MAX_LINE
    timeout: float | None = None
    idle_timeout: float | None = None
    stop_signal: int = attrs.field(default=SIGTERM, converter=declare.signal)
    grace_period: float | None = None
    kill_group: bool = True
    ok_exit_codes: tuple[int, ...] = attrs.field(default=(0,), converter=declare.exit_codes)
    log_file: Path | None = attrs.field(default=None, converter=declare.log_file)
    log_max_bytes: int = 0
    log_keep: int = 3
    echo: bool = False
    redact: bool = False
    umask: int | None = None
    user: str | int | None = None
    nice: int | None = None
    limits: Mapping[str, int | tuple[int, int]] = attrs.field(
        default=checks.NOTHING, converter=declare.limits, eq=checks.frozen_items
    )
    max_output: int | None = None
    resources: Mapping[str, int] = attrs.field(default=checks.NOTHING, eq=checks.frozen_items)

    __repr__ = short_repr

    def __attrs_post_init__(self) -> None:
        put = object.__setattr__
        put(self, "name", check_name(self.name))
        put(self, "settle", _finite("settle", self.settle))
        put(self, "start_timeout", checks.seconds("start_timeout", self.start_timeout, positive=True))
        if not isinstance(self.restart, RestartPolicy):
            raise bad_option(
                "restart", f"must be a RestartPolicy, got {checks.brief(self.restart)}; write RestartPolicy.always()"
            )
        checks.flag("essential", self.essential)
        checks.flag("enabled", self.enabled)
        put(self, "replicas", checks.whole("replicas", self.replicas, most=checks.MOST))
        options = self._checked_options()
        if options is not None:
            for option in PROCESS_OPTIONS:
                put(self, option, getattr(options, option))
        if self.replicas > 1:
            self._check_paths()
        for option in ("ready", "live"):
            self._check_probe(option, getattr(self, option))
        self._check_start()

    def _make_options(self, **changes: Any) -> RunOptions:
        """Return the options of a command, validated by the rules of `RunOptions`."""
        assert self.command is not None
        options = {"name": self.name, **{name: getattr(self, name) for name in _LAID}, **changes}
        return RunOptions(command=self.command, args=self.args, **options)

    def _checked_options(self) -> RunOptions | None:
        if (self.command is None) == (self.main is None):
            raise OptionError(f"the unit {self.name!r} must have either a command or a main")
        if self.command is not None:
            return self._make_options()
        _check_main(self.main)
        for option in ("args", *_LAID):
            if getattr(self, option) != getattr(_PLAIN, option):
                raise bad_option(option, f"is for a command; the unit {self.name!r} is an async function")
        return None

    def _check_paths(self) -> None:
        """Refuse paths without a name that the number of a replica could be inserted into."""
        for option in _NUMBERED_PATHS:
            path = getattr(self, option)
            if isinstance(path, Path) and path.name in ("", ".."):
                raise bad_option(option, f"must be the path of a file, got {str(path)!r}")

    def _check_probe(self, option: str, probe: Probe | None) -> None:
        if probe is None:
            return
        if not isinstance(probe, Probe):
            raise bad_option(
                option, f"must be a Probe, got {checks.brief(probe)}; write Probe.tcp(...), Probe.line(...)"
            )
        if probe._is_line:
            if option != "ready":
                raise bad_option("live", "can't be a line: a unit doesn't write one at every check")
            if not self._is_read():
                raise bad_option(
                    "ready", "can't be a line where the output isn't read: use a command with a piped output"
                )
        if self.replicas > 1 and probe._needs_placeholder:
            raise bad_option(
                option,
                f"asks the same place for all {self.replicas} replicas of {self.name!r}, {probe._describe()}; "
                "write {replica} where each has its own",
            )
        if self.replicas > 1:
            try:
                probe._for_replica(self.replicas)
            except OptionError as error:
                raise bad_option(f"{option}:", f"for the last replica, {error}") from None

    def _check_start(self) -> None:
        """Refuse what makes the unit ready only after `start_timeout`."""
        if self.ready is not None:
            option, earliest = "ready", self.ready._earliest
        elif self._takes_task_status:
            return
        else:
            option, earliest = "settle", self.settle
        if self.start_timeout <= earliest:
            raise bad_option(
                option,
                f"can't make the unit ready before {in_seconds(earliest)}, but start_timeout is "
                f"{in_seconds(self.start_timeout)}; make that longer",
            )

    def _is_read(self) -> bool:
        return self.main is None and Stdio.PIPE in (self.stdout, self.stderr)

    @property
    def options(self) -> RunOptions | None:
        """The `RunOptions` of a command; None for a function. Not stored, because they would be most of the memory of a spec."""
        return None if self.command is None else self._make_options()

    @property
    def _takes_task_status(self) -> bool:
        """Whether `main` reports its readiness itself."""
        return self.main is not None and "task_status" in _parameters(self.main)

    @property
    def _waits_for_line(self) -> bool:
        """Whether a line of its output makes it ready."""
        return self.ready is not None and self.ready._is_line

    @property
    def _ends_only_by_failure(self) -> bool:
        """Whether it never completes, because it is restarted after every end."""
        return self.restart.mode is RestartMode.ALWAYS

    def _options_of(self, replica: int, label: str) -> RunOptions:
        """Return the options of one replica's process.

        Args:
            replica: Its number, from 1.
            label: The label of its process.
        """
        assert self.command is not None
        own = _environment(replica)
        changes: dict[str, Any] = {"env": {**self.env, **own} if self.env else own}
        if self.stdin is None:
            changes["stdin"] = Stdio.PIPE
        if replica > 1:
            changes["name"] = label
            for option in _NUMBERED_PATHS:
                path = getattr(self, option)
                if isinstance(path, Path):
                    changes[option] = path.with_name(f"{path.stem}.{replica}{path.suffix}")
        return self._make_options(**changes)


_NOT_LAID: Final = {"command", "args", "name", "detach"}
_LAID: Final = tuple(field.name for field in attrs.fields(RunOptions) if field.name not in _NOT_LAID)
_PLAIN: Final = RunOptions(command="true")
PROCESS_OPTIONS: Final = ("command", "args", *_LAID)
"""The fields that concern the process of a command."""


def _finite(option: str, value: object) -> float:
    found = checks.seconds(option, value)
    if found == float("inf"):
        raise bad_option(option, "must be finite: a unit that never settles is never ready")
    return found


def _parameters(function: Callable[..., object]) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError):  # written in C, and says nothing
        return {}


def _check_main(main: object) -> None:
    if not callable(main):
        raise bad_option("main", f"takes the async function itself, not what it returns; got {checks.brief(main)}")
    needed = [
        name
        for name, parameter in _parameters(main).items()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        and name != "task_status"
    ]
    if needed:
        raise bad_option("main", f"takes no arguments, but {main!r} needs {', '.join(needed)}; use functools.partial")
    plain: object = main
    while isinstance(plain, functools.partial):
        plain = plain.func
    if inspect.isasyncgenfunction(plain) or inspect.isgeneratorfunction(plain):
        raise bad_option("main", f"must be an async function, not a generator; got {checks.brief(main)}")


def same(one: object, other: object) -> bool:
    """Return whether two values of a spec are equivalent; partials are, if function and arguments are the same."""
    if isinstance(one, functools.partial) and isinstance(other, functools.partial):
        return (one.func, one.args, one.keywords) == (other.func, other.args, other.keywords)
    return one == other
