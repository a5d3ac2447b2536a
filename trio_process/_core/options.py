"""`RunOptions`: all options of one run of a command, validated when it is created."""

from __future__ import annotations

import codecs
import math
import os
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from operator import attrgetter, is_
from pathlib import Path
from signal import SIGTERM
from typing import IO, TYPE_CHECKING, Any, Final, NamedTuple, Unpack, final

import attrs

from . import checks
from .checks import Argument, EnvValue
from .enums import Stdio, member, signal_number
from .errors import OptionError, bad_option
from .keywords import RunKeywords
from .option_names import check_names, refuse_unknown
from .secret import NO_SECRETS, Masker, Secret
from .text import nearest, short_repr, shown

MAX_LINE: Final = 2**20
"""The longest line that is delivered in one piece, in bytes."""

StdinSource = Stdio | bytes | str | Path | IO[bytes] | None
OutputTarget = Stdio | Path | IO[bytes]


_SUCCESS: Final = (0,)


@final
@refuse_unknown()
@attrs.frozen(kw_only=True, init=False, repr=False)
class RunOptions:
    """What to run and how; the keywords of `Service.start`, `open` and `run` are its fields.

    Args:
        command: The program. Without a slash it is looked up on the child's PATH.
        args: Its arguments: str, bytes, paths or `Secret`; numbers are refused.
        cwd: Its working directory; None for that of this program.
        env: Variables added to this program's environment (`os.environ`); a value of None removes the name.
        name: A label, which every event has.
        stdin: `Stdio.PIPE`, ``.NULL``, ``.INHERIT``; bytes or str, which are the data itself; a `Path` to read; an open
            binary file. None means a pipe for `start` and `open`, and null for `run`.
        stdout: `Stdio.PIPE`, ``.NULL``, ``.INHERIT``, a `Path` (created or truncated), an open binary file.
        stderr: The same, or `Stdio.STDOUT`. The `Path` of stdout is opened once, for both.
        disable_capture: Keep none of the output; events and lines are unchanged.
        buffer_size: Bytes kept per stream; None for the service's value, `math.inf` for everything.
        encoding: The encoding of the output, and of text for stdin.
        errors: The error handler for bytes that can't be decoded. With "strict", ``output()`` raises, and lines show
            them as "backslashreplace" does.
        max_line: The longest line in one piece, in bytes.
        timeout: The most seconds that it may run.
        idle_timeout: The most seconds without output.
        stop_signal: The signal that asks it to end.
        grace_period: Seconds between that signal and SIGKILL; None for the service's value.
        kill_group: Signal the whole process group, and kill the rest of the group when the process has ended.
        detach: Start it in a session of its own; it survives the service, a cancellation and the death of this program.
        ok_exit_codes: The exit codes of a success.
        log_file: A file to which both streams are appended in whole lines.
        log_max_bytes: The size in bytes at which the log file is rotated; 0 for never.
        log_keep: The number of rotated log files that are kept.
        echo: Also write the output to this program's own stdout and stderr, line by line.
        redact: Mask secrets in captured output, lines and log too; not in the log of a detached process, which writes it
            itself.
        umask: The child's file mode creation mask (umask(2)).
        user: The user to run as, by name or number, with its groups (initgroups(3)).
        nice: The niceness, -20 to 19 (setpriority(2)).
        limits: Resource limits by name, ``{"nofile": 4096}`` or ``{"nofile": (soft, hard)}`` (setrlimit(2)).
        max_output: The most bytes of both streams together; more ends the process as `stop` does. None for no limit.
        resources: What it takes of a machine, ``{"cpus": 2, "memory": 2**30, "gpus": 1}``, with memory in bytes. A cluster
            places it by them; a local service ignores them.

    Raises:
        OptionError: An option is invalid; the message names it.

    >>> RunOptions(command="git", args=["log", "-1"], timeout=10).args
    ('log', '-1')
    """

    command: Argument
    args: tuple[str | bytes | Secret, ...] = ()
    cwd: str | bytes | os.PathLike[str] | os.PathLike[bytes] | None = None
    env: Mapping[str, EnvValue] = attrs.field(default=checks.NOTHING, eq=checks.frozen_items)
    name: str | None = None
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
    stop_signal: int = SIGTERM
    grace_period: float | None = None
    kill_group: bool = True
    detach: bool = False
    ok_exit_codes: tuple[int, ...] = _SUCCESS
    log_file: Path | None = None
    log_max_bytes: int = 0
    log_keep: int = 3
    echo: bool = False
    redact: bool = False
    umask: int | None = None
    user: str | int | None = None
    nice: int | None = None
    limits: Mapping[str, int | tuple[int, int]] = attrs.field(default=checks.NOTHING, eq=checks.frozen_items)
    max_output: int | None = None
    resources: Mapping[str, int] = attrs.field(default=checks.NOTHING, eq=checks.frozen_items)

    # attrs would take the types of the fields, but a str for a path or a list for a tuple is converted
    if TYPE_CHECKING:

        def __init__(
            self, *, command: Argument, args: Iterable[Argument] = (), **options: Unpack[RunKeywords]
        ) -> None: ...

    __repr__ = short_repr

    def __attrs_post_init__(self) -> None:
        # Instead of thirty attrs validators, which cost more than the fork: 20 µs where all is default. Most runs give a
        # command and arguments only, and one comparison with the defaults (0.9 µs) answers for the rest.
        put = object.__setattr__
        if isinstance(self.command, Secret):
            raise bad_option("command", "must be a str, bytes or path; a Secret can only be an argument")
        put(self, "command", checks.path("command", self.command))
        if self.args != () or type(self.args) is not tuple:
            put(self, "args", checks.arguments("args", self.args))
        rest = _rest_of(self)
        if all(map(is_, rest, _DEFAULTS)):
            return
        for option, value, usual in zip(_CHECKS, rest, _DEFAULTS, strict=True):
            if value is not usual:
                put(self, option, _CHECKS[option](option, value))
        if self.encoding != "utf-8" or self.errors != "replace":
            _known_codec(self.encoding, self.errors)
        if self.detach:
            self._check_detached()

    def _check_detached(self) -> None:
        if self.log_max_bytes:
            raise OptionError(
                "a detached process writes its log_file itself: log_max_bytes can't rotate it; use logrotate",
                option="log_max_bytes",
            )
        if not (self.stdin is None or self.stdin is Stdio.NULL):
            raise OptionError("a detached process has no stdin: leave stdin out or make it Stdio.NULL", option="stdin")
        if self.stdout is Stdio.INHERIT or self.stderr is Stdio.INHERIT:
            raise OptionError(
                "a detached process does not share our terminal: use log_file instead of Stdio.INHERIT",
                option="stdout" if self.stdout is Stdio.INHERIT else "stderr",
            )


def shown_command(options: RunOptions) -> str:
    """Return the command as people may see it, secrets masked."""
    return masker_for(options)(shown(options.command)) if options.env else shown(options.command)


def shown_args(options: RunOptions) -> tuple[str, ...]:
    """Return the arguments as people may see them, secrets masked."""
    args = options.args
    texts = args if _all_text(args) else tuple([shown(arg) for arg in args])
    # a secret of the environment may be part of an argument
    masker = masker_for(options) if options.env else NO_SECRETS
    return tuple(map(masker, texts)) if masker else texts  # type: ignore[arg-type, return-value]


def shown_cwd(options: RunOptions) -> str | None:
    """Return the directory as people may see it."""
    return None if options.cwd is None else shown_path(options, options.cwd)


def shown_path(options: RunOptions, path: str | bytes | os.PathLike[str] | os.PathLike[bytes]) -> str:
    """Return a path of a process as people may see it: the process's secrets in it are masked."""
    return masker_for(options)(os.fsdecode(path))


def joins_outputs(options: RunOptions) -> bool:
    """Return whether stderr goes where stdout goes; a file that both name is opened once, else they overwrite each other."""
    return options.stderr is Stdio.STDOUT or (isinstance(options.stderr, Path) and options.stderr == options.stdout)


def with_stdin_pipe(options: RunOptions) -> RunOptions:
    """Return the same options with a pipe as stdin."""
    return options_like(options, stdin=Stdio.PIPE)


def options_like(options: RunOptions, **changed: Any) -> RunOptions:
    """Return the same options with some other values, which have been checked before: `attrs.evolve` would check all again."""
    twin = object.__new__(RunOptions)
    for slot, value in zip(_SLOTS, _all_of(options), strict=True):  # copy.copy takes three times as long
        slot.__set__(twin, value)
    for name, value in changed.items():
        object.__setattr__(twin, name, value)
    return twin


def masker_for(options: RunOptions) -> Masker:
    """Return the masker of the secrets among the arguments and in the environment."""
    if not options.env and _all_text(options.args):
        return NO_SECRETS
    secrets = [value for value in (*options.args, *options.env.values()) if isinstance(value, Secret)]
    return Masker(secrets) if secrets else NO_SECRETS


_FIELDS: Final = frozenset(field.name for field in attrs.fields(RunOptions))
_SLOTS: Final = tuple(getattr(RunOptions, field.name) for field in attrs.fields(RunOptions))
_all_of: Final = attrgetter(*(field.name for field in attrs.fields(RunOptions)))


def make_options(command: object, args: tuple[object, ...], options: Mapping[str, Any]) -> RunOptions:
    """Return the `RunOptions` of a call ``f(command, *args, **options)``; an unknown option gets a hint."""
    check_names(options, _FIELDS)
    if "args" in options:
        raise OptionError("give the arguments after the command, not as args=", option="args")
    return RunOptions(command=command, args=args, **options)  # type: ignore[arg-type]


def _all_text(args: tuple[object, ...]) -> bool:
    return not args or all([type(arg) is str for arg in args])


def _stdin(_: str, value: object) -> StdinSource:
    if value is None or isinstance(value, (Stdio, bytes, str)):
        if value is Stdio.STDOUT:
            raise bad_option("stdin", "can't be Stdio.STDOUT")
        return checks.plain(value) if isinstance(value, str) and not isinstance(value, Stdio) else value
    if isinstance(value, bytearray):
        return bytes(value)
    return _path_or_file("stdin", value)


def _target(option: str, value: object) -> OutputTarget:
    if isinstance(value, str):
        if not isinstance(value, Stdio) and value not in Stdio.__members__.values():
            raise bad_option(
                option, f"must be a Stdio, a pathlib.Path or an open binary file; write Path({checks.brief(value)})"
            )
        value = member(Stdio, value, option)
        if value is Stdio.STDOUT and option == "stdout":
            raise bad_option("stdout", "can't be Stdio.STDOUT; that is for stderr")
        return value
    return _path_or_file(option, value)


def _path_or_file(option: str, value: object) -> Path | IO[bytes]:
    """Return a path, or an open file that has a descriptor; text files are refused, as their buffer would be bypassed."""
    if isinstance(value, os.PathLike):  # a trio.Path, too
        return checks.file_path(option, value)
    if hasattr(value, "encoding") or not hasattr(value, "fileno"):
        raise bad_option(option, f"must be a Stdio, a pathlib.Path or an open binary file, got {checks.brief(value)}")
    try:
        value.fileno()
    except (OSError, ValueError) as error:
        raise bad_option(
            option, f"must be an open file with a descriptor, got {checks.brief(value)} ({error})"
        ) from None
    return value  # type: ignore[return-value]


def _known_codec(encoding: object, errors: object) -> None:
    try:
        if not isinstance(encoding, str) or not codecs.lookup(encoding)._is_text_encoding:
            raise LookupError(encoding)  # noqa: TRY301 - as if it were not known
        # "idna" and "punycode" raise with any handler; output of a child must never raise
        codecs.getincrementaldecoder(encoding)("backslashreplace").decode(b"\xff", final=True)
    except (LookupError, TypeError, ValueError):
        raise bad_option(
            "encoding", f"must name a text encoding that Python knows, got {checks.brief(encoding)}"
        ) from None
    try:
        codecs.lookup_error(errors)(UnicodeDecodeError("ascii", b"\xff", 0, 1, "a test"))  # type: ignore[arg-type]
    except UnicodeDecodeError:
        pass  # "strict"
    except (LookupError, TypeError, ValueError):  # handlers that only encode: 'xmlcharrefreplace', 'namereplace'; a NUL
        raise bad_option(
            "errors", f"must name an error handler such as 'replace' that can decode, got {checks.brief(errors)}"
        ) from None


def _exit_codes(_: str, values: object) -> tuple[int, ...]:
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise bad_option("ok_exit_codes", f"must be a list or tuple of whole numbers, got {checks.brief(values)}")
    return tuple([int(checks.whole("ok_exit_codes", code, most=255)) for code in values])


_LONGEST_USER: Final = 256  # LOGIN_NAME_MAX; a name of megabytes makes a module of nsswitch.conf(5) abort this program


class Account(NamedTuple):
    """A user to run as: the arguments of setuid(2), setgid(2) and setgroups(2)."""

    name: str
    user: int
    group: int
    groups: tuple[int, ...]


def find_user(user: object) -> Account:
    """Return the account of a user, given by name or number, with its groups (getgrouplist(3))."""
    import pwd  # noqa: PLC0415 - only where a user is asked for

    if isinstance(user, bool) or not isinstance(user, (str, int)):
        raise bad_option("user", f"must be a name or a number, got {checks.brief(user)}")
    try:
        if isinstance(user, str) and len(user) > _LONGEST_USER:
            raise KeyError(user)  # noqa: TRY301 - as if it were not known
        entry = pwd.getpwnam(user) if isinstance(user, str) else pwd.getpwuid(user)
    except (KeyError, OverflowError, ValueError):
        raise bad_option(
            "user:", f"there is no user {checks.brief(user)} on this machine (getent passwd lists them)"
        ) from None
    groups = os.getgrouplist(entry.pw_name, entry.pw_gid)
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid, tuple(groups))


def _limits(_: str, values: object) -> Mapping[str, int | tuple[int, int]]:
    import resource  # noqa: PLC0415 - only where limits are asked for

    if not isinstance(values, Mapping):
        raise bad_option("limits", f"must map names to numbers, got {checks.brief(values)}")
    known = [name[7:].lower() for name in dir(resource) if name.startswith("RLIMIT_")]
    checked: dict[str, int | tuple[int, int]] = {}
    for name, value in values.items():
        if name not in known:
            hint = nearest(str(name), known) or f"; known: {', '.join(known)}"
            raise bad_option("limits:", f"unknown limit {name!r}{hint}")
        pair = value if isinstance(value, (tuple, list)) else (value, value)
        if len(pair) != 2:
            raise bad_option(f"limits[{name!r}]", f"must be a number or (soft, hard), got {checks.brief(value)}")
        soft, hard = (
            -1 if number == math.inf else int(number)
            for number in [checks.whole(f"limits[{name!r}]", part, least=-1, infinite=True) for part in pair]
        )
        if hard != -1 and (soft == -1 or soft > hard):
            raise bad_option(f"limits[{name!r}]:", f"the soft limit is above the hard one, got {checks.brief(value)}")
        checked[name] = (soft, hard)
    return checks.FrozenDict(checked) or checks.NOTHING


_RESOURCES: Final = {"cpus": 1, "memory": 0, "gpus": 0}


def _resources(_: str, values: object) -> Mapping[str, int]:
    if not isinstance(values, Mapping):
        raise bad_option("resources", f"must map names to numbers, such as {{'cpus': 2}}; got {checks.brief(values)}")
    checked: dict[str, int] = {}
    for name, value in values.items():
        if name not in _RESOURCES:
            raise bad_option("resources:", f"unknown resource {name!r}; known: {', '.join(_RESOURCES)}")
        checked[name] = int(checks.whole(f"resources[{name!r}]", value, least=_RESOURCES[name]))
    return checks.FrozenDict(checked) or checks.NOTHING


def _environment(option: str, values: object) -> Mapping[str, EnvValue]:
    # an empty one is not kept, as later additions by the caller aren't checked
    return checks.environment(option, values) if values != {} else checks.NOTHING


def _umask(option: str, value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 0o777:
        raise bad_option(option, f"must be 0 to 0o777, got {checks.brief(value)}")
    return int(value)


def _user(option: str, value: object) -> object:
    find_user(value)
    return int(value) if isinstance(value, int) else _plain(option, value)


def _plain(_: str, value: object) -> object:
    return checks.plain(value) if isinstance(value, str) else value


_CHECKS: Final[Mapping[str, Callable[[str, Any], object]]] = {
    "cwd": checks.path,
    "env": _environment,
    "name": checks.text,
    "stdin": _stdin,
    "stdout": _target,
    "stderr": _target,
    "disable_capture": checks.flag,
    "buffer_size": partial(checks.whole, infinite=True),
    "encoding": _plain,  # it and `errors` are checked together
    "errors": _plain,
    "max_line": partial(checks.whole, least=4),  # a character of UTF-8 must fit
    "timeout": checks.seconds,
    "idle_timeout": partial(checks.seconds, positive=True),
    "stop_signal": lambda option, value: signal_number(value, option),
    "grace_period": checks.seconds,
    "kill_group": checks.flag,
    "detach": checks.flag,
    "ok_exit_codes": _exit_codes,
    "log_file": checks.file_path,
    "log_max_bytes": checks.whole,
    "log_keep": checks.whole,
    "echo": checks.flag,
    "redact": checks.flag,
    "umask": _umask,
    "user": _user,
    "nice": partial(checks.whole, least=-20, most=19),
    "limits": _limits,
    "max_output": checks.whole,
    "resources": _resources,
}
"""The check of each option but the command and its arguments; it returns the value to keep."""

_rest_of: Final = attrgetter(*_CHECKS)
_DEFAULTS: Final = tuple(getattr(attrs.fields(RunOptions), option).default for option in _CHECKS)
