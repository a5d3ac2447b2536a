"""The messages between client and agent: one class for each, JSON on the wire, checked field by field.

    agent   Hello ...... Started | Failed | Refused ... Credit ... Exited ... Over ...... Leaving, Bye
            or, for a short run, Over alone
    client  ...... Welcome ... Spawn ... Credit, CloseStdin, Signal, Stop ...... Leave

Either side sends a `Ping` when it has nothing else to send. Input and output of processes travel as raw frames between
the messages. A message about a process that has ended has crossed with its end and is ignored; one that can't be valid
in any order is a `WireError`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated, Any, Final, NamedTuple, get_args, get_origin, get_type_hints

from .wire import MESSAGE_LIMIT, VERSION, Frame, Kind, WireError, pack

Count = Annotated[int, range(2**31)]
"""A number that C calls an int and that is never negative: a PID, an errno, a number of processors."""

Size = Annotated[int, range(2**63)]
ExitCode = Annotated[int, range(-127, 256)]
SignalNumber = Annotated[int, range(65)]

MOST_SLOTS: Final = 2**31 - 1
"""The most slots that an agent can offer: a `Count`."""

SurvivorRow = tuple[int, str, str]
"""The fields of a `Survivor`: an array in JSON."""


class Hello(NamedTuple):
    """The first message of an agent: where it runs, and its resources."""

    version: int
    host: str
    place: str  # boot and PID namespace: whether its PIDs mean the same as ours
    pid: Count
    slots: Count
    memory: Size | None
    gpus: list[str]


class Welcome(NamedTuple):
    """The client's answer: the options for the agent's service."""

    version: int
    heartbeat: float
    grace_period: float
    drain_grace: float
    drain_limit: float
    containment: str


class Spawn(NamedTuple):
    """Start a process; `options` is the result of `pack_options`.

    Unless it is `prompt`, the start may be reported a few moments later, and with the end of a process that is short.
    """

    process: int
    prompt: bool
    options: dict[str, Any]


class Started(NamedTuple):
    """The command runs."""

    process: int
    pid: Count


class Failed(NamedTuple):
    """The command can't be started: the text, and the `OSError` behind it."""

    process: int
    not_found: bool
    text: str
    errno: Count | None
    filename: str | None


class Refused(NamedTuple):
    """The agent is about to leave and has not started the process: the client may ask another one."""

    process: int


class Credit(NamedTuple):
    """The receiver may send this many further bytes of a stream."""

    process: int
    stream: str
    amount: int


class CloseStdin(NamedTuple):
    """To the agent: the input ends here. To the client: the process has closed it."""

    process: int


class Signal(NamedTuple):
    """Send a signal once."""

    process: int
    number: SignalNumber


class Stop(NamedTuple):
    """Stop signal, this grace period, SIGKILL; the agent completes it even if the network fails meanwhile."""

    process: int
    grace: float


class Exited(NamedTuple):
    """The process has exited; its output is still being read, and its descendants are being ended."""

    process: int


class Over(NamedTuple):
    """How the process ended; its descendants have ended, too.

    `cut` says that it was stopped because the agent leaves; `survivors` are the processes that SIGKILL did not end. A
    PID reports the start as well, which was not reported before.
    """

    process: int
    pid: Count | None
    exit_code: ExitCode
    user: float
    system: float
    max_rss: Size | None
    oom_killed: bool | None
    core_dumped: bool
    incomplete: bool
    cut: bool
    survivors: list[SurvivorRow]


class Stuck(NamedTuple):
    """The process is still alive some time after SIGKILL."""

    process: int
    survivors: list[SurvivorRow]


class Ping(NamedTuple):
    """Shows that the sender is alive."""


class Leave(NamedTuple):
    """The client doesn't need the agent any more."""


class Leaving(NamedTuple):
    """The agent starts no more processes, and stops the running ones."""

    why: str


class Bye(NamedTuple):
    """The agent has left: no process that it started is alive."""


Message = (
    Hello
    | Welcome
    | Spawn
    | Started
    | Failed
    | Refused
    | Credit
    | CloseStdin
    | Signal
    | Stop
    | Exited
    | Over
    | Stuck
    | Ping
    | Leave
    | Leaving
    | Bye
)

_CLASSES: Final[dict[str, Any]] = {message.__name__: message for message in get_args(Message)}

_INTEGERS: Final = range(-(2**63), 2**63)
_SIZES: Final = range(2**63)


def _is_number(value: Any) -> bool:
    return value >= 0 if type(value) is float else type(value) is int and value in _SIZES


def _is_integer(value: Any) -> bool:
    return type(value) is int and value in _INTEGERS


_SIMPLE: Final[dict[Any, Callable[[Any], bool]]] = {float: _is_number, int: _is_integer, Any: lambda _: True}


def _check_of(hint: Any) -> Callable[[Any], bool]:  # noqa: PLR0911 - a case for each kind of hint
    """Return the check of a field's values; it is made once, as inspecting a type costs more than handling a message."""
    if hint in _SIMPLE:
        return _SIMPLE[hint]
    kind, parts = get_origin(hint), get_args(hint)
    if kind is Annotated:
        allowed = parts[1]
        return lambda value: type(value) is int and value in allowed
    if kind is tuple:
        checks = [_check_of(part) for part in parts]
        return lambda value: (
            type(value) is list
            and len(value) == len(checks)
            and all([check(one) for check, one in zip(checks, value, strict=True)])
        )
    if kind is list:
        item = _check_of(parts[0])
        return lambda value: type(value) is list and all([item(one) for one in value])
    if kind is dict:
        return lambda value: type(value) is dict
    if parts:
        [check] = [_check_of(part) for part in parts if part is not type(None)]
        return lambda value: value is None or check(value)
    return lambda value: type(value) is hint


_CHECKS: Final = {
    name: tuple(
        [
            (field, hint if hint in (str, bool) else None, _check_of(hint))  # most need no call
            for field, hint in get_type_hints(message, include_extras=True).items()
        ]
    )
    for name, message in _CLASSES.items()
}


def _json_writer() -> Callable[[list[Any]], str]:
    """Return `json.JSONEncoder.encode`, if possible without the writer in C that it makes anew for each message."""
    encoder = json.JSONEncoder(separators=(",", ":"))
    as_text = json.encoder.encode_basestring_ascii
    try:
        parts = json.encoder.c_make_encoder(None, encoder.default, as_text, None, ":", ",", False, False, True)  # type: ignore[attr-defined]
    except (AttributeError, TypeError):  # only some versions of CPython have it, with these arguments
        return encoder.encode
    return lambda message: "".join(parts(message, 0))


_to_json: Final = _json_writer()
_from_json: Final = json.JSONDecoder().raw_decode  # `decode` would look for white space around it


def encode(message: Message) -> bytes:
    """Return a message as the frame that is sent.

    >>> from trio_process._cluster.wire import Parser
    >>> [frame] = Parser(preamble=False).feed(encode(Started(7, 4711)))
    >>> decode(frame.body)
    Started(process=7, pid=4711)
    """
    # lone surrogates, which stand for bytes that are not UTF-8, pass through JSON's own escapes
    body = _to_json([type(message).__name__, *message]).encode("ascii")
    if len(body) > MESSAGE_LIMIT:
        raise WireError(f"a message of {len(body)} bytes is too long, {MESSAGE_LIMIT} is the most")
    return pack(Kind.MESSAGE, 0, body)


def message_in(frame: Frame) -> Message:
    """Return the message in a frame.

    Raises:
        WireError: It is a frame of another kind, or as for `decode`.
    """
    if frame.kind is not Kind.MESSAGE:
        raise WireError(f"a frame of the kind {frame.kind.name} came instead of a message")
    return decode(frame.body)


def decode(body: bytes) -> Message:
    """Return the message in the body of a frame.

    Raises:
        WireError: The body is not a message, a field has the wrong type, or it is a hello of another version.
    """
    try:
        (name, *fields), end = _from_json(body.decode("ascii"))
        kind = _CLASSES[name]
    except (ValueError, TypeError, LookupError, RecursionError):
        end = -1
    if end != len(body):
        raise WireError(f"a message could not be understood: {body[:100]!r}") from None
    if kind in (Hello, Welcome):
        _check_version(fields)
    checks = _CHECKS[name]
    if len(fields) != len(checks):
        raise WireError(f"a message {name} came with {len(fields)} fields; it has {len(checks)}")
    for (field, exact, fits), value in zip(checks, fields, strict=True):
        if type(value) is not exact and not fits(value):
            raise WireError(f"a message {name} came with {field}={value!r:.100}")
    message: Message = kind._make(fields)
    return message


def _check_version(fields: list[Any]) -> None:
    theirs = fields[0] if fields else None
    if theirs != VERSION:
        raise WireError(
            f"the agent and the client speak different versions of the protocol: ours is {VERSION}, the peer's is "
            f"{theirs!r:.40}; install the same version of trio-process on both sides"
        )
