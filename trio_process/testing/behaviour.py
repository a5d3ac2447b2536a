"""`Behaviour`: what a scripted process does, step by step; and the steps."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from itertools import chain
from signal import SIGCONT, SIGSTOP
from typing import TYPE_CHECKING, Any, Final, final

import attrs

from .._core import (
    ProcessStartError,
    ProgramNotFoundError,
    RunOptions,
    Stream,
    bad_option,
    checks,
    member,
    refuse_unknown,
    signal_number,
)
from .._process import OutputLine, start_error

if TYPE_CHECKING:
    from .call import Call

StartError = OSError | ProcessStartError
Talk = Callable[["Call"], Generator[Any, Any, int | None]]

_ERRNOS: Final = {
    FileNotFoundError: errno.ENOENT,
    ProgramNotFoundError: errno.ENOENT,
    PermissionError: errno.EACCES,
    NotADirectoryError: errno.ENOTDIR,
    BlockingIOError: errno.EAGAIN,
}


class Read(Enum):
    """A step: wait for input. In a generator, ``line = yield Read.LINE`` gives what was read, ``""`` at the end of input.

    Attributes:
        LINE: Read one line.
        ALL: Read until the end of input.
    """

    LINE = "line"
    ALL = "all"


@final
@attrs.frozen
class Expect:
    """A step: read exactly this from stdin; any other input ends the process with code 1, and fails the test.

    Attributes:
        data: The expected input.
    """

    data: str | bytes


@final
@attrs.frozen
class ReadBytes:
    """A step: read this many bytes, whatever they are."""

    count: int


@final
@attrs.frozen
class CloseInput:
    """A step: close stdin, so that writers get an error."""


@final
@attrs.frozen
class Write:
    """A step: write to a stream, `delay` seconds after the step before. A str is a line, bytes are written as they are."""

    delay: float
    data: str | bytes
    stream: Stream = Stream.STDOUT

    def encoded(self, encoding: str) -> bytes:
        """Return the bytes to write."""
        if isinstance(self.data, bytes):
            return self.data
        return (self.data if self.data.endswith("\n") else self.data + "\n").encode(encoding)


Step = Write | Expect | ReadBytes | Read | CloseInput


def step_of(item: object) -> Step:
    """Convert an item of `lines` to a step.

    Raises:
        OptionError: The item is not valid.
    """
    match item:
        case Write() | Expect() | ReadBytes() | Read() | CloseInput():
            return item
        case OutputLine(text, stream):
            return Write(0.0, text, stream)
        case str() | bytes():
            return Write(0.0, item)
        case (int() | float() as delay, str() | bytes() | OutputLine() as what) if not isinstance(delay, bool):
            return attrs.evolve(step_of(what), delay=checks.seconds("lines: a delay", delay))  # type: ignore[misc]  # it is a Write
    raise bad_option(
        "lines",
        f"takes texts, (delay, text), OutputLine(text, stream), Expect(input) and Read.LINE or Read.ALL; got {item!r}",
    )


def _merged(streams: Mapping[Any, Any]) -> list[Step]:
    """Merge the steps of both streams by time; each stream has its own clock."""
    timed: list[tuple[float, Write]] = []
    for name, items in streams.items():
        stream = member(Stream, name, "lines: a stream")
        now = 0.0
        for item in _listed(items):
            step = step_of(item)
            if not isinstance(step, Write):
                raise bad_option("lines", f"by stream can't read input, got {item!r}; use one list, or a generator")
            now += step.delay
            timed.append((now, attrs.evolve(step, stream=stream)))
    timed.sort(key=lambda pair: pair[0])
    earlier = chain((0.0,), (at for at, _ in timed))
    return [attrs.evolve(step, delay=at - before) for (at, step), before in zip(timed, earlier, strict=False)]


def _listed(items: object) -> list[Any]:
    if isinstance(items, (str, bytes)) or not isinstance(items, Iterable):
        raise bad_option("lines", f"must be a list, a dict of lists by stream or a generator function, got {items!r}")
    return list(items)


def _steps(value: Iterable[Any] | Mapping[Stream | str, Iterable[Any]] | Talk) -> tuple[Step, ...] | Talk:
    if isinstance(value, Mapping):
        return tuple(_merged(value))
    if callable(value):
        return value  # its items are checked as they come
    return tuple(step_of(item) for item in _listed(value))


def _signals(values: Iterable[int | str]) -> frozenset[int]:
    if isinstance(values, (str, int)) or not isinstance(values, Iterable):
        raise bad_option("ignores", f"must be a list of signals, got {values!r}")
    found = frozenset(signal_number(value, "ignores") for value in values)
    if found & {SIGSTOP, SIGCONT}:
        raise bad_option("ignores:", "SIGSTOP and SIGCONT can't be ignored (signal(7))")
    return found


def _reactions(values: Mapping[Any, Behaviour | Mapping[str, Any]]) -> dict[int, Behaviour]:
    if not isinstance(values, Mapping):
        raise bad_option("reacts", f"must map signals to behaviours, got {values!r}")
    return {signal_number(sig, "reacts"): as_behaviour("reacts", reaction) for sig, reaction in values.items()}


def _start_error(value: StartError | type[StartError] | None) -> StartError | None:
    kind = value if isinstance(value, type) else None
    if kind is not None and issubclass(kind, (OSError, ProcessStartError)):
        number = _ERRNOS.get(kind, errno.EIO)
        return OSError(number, os.strerror(number))
    if value is None or isinstance(value, (OSError, ProcessStartError)):
        return value
    raise bad_option("error", f"must be an OSError or ProcessStartError, or a class of those, got {value!r}")


def check_exit_code(_: object, __: object, value: object) -> None:
    """Refuse a value that is not a valid exit code; a validator of attrs."""
    if value is not None and not -64 <= checks.whole("exit_code", value, least=-64) <= 255:
        raise bad_option("exit_code", f"must be 0 to 255, -N for death by signal N, or None to run on, got {value!r}")


def _exit_after(value: float) -> float:
    return checks.seconds("exit_after", value)


@final
@refuse_unknown()
@attrs.frozen(kw_only=True)
class Behaviour:
    """What one scripted process does; the keywords of `FakeService.on` are its fields.

    Args:
        lines: The output: a list of texts (each is a line; bytes are written unchanged), ``(delay, text)`` with the
            seconds since the previous item, ``OutputLine(text, stream)``, ``Expect(input)`` and `Read`. Or a dict of such
            lists by stream, each with its own clock. Or a generator function, called with the `Call`, that yields such
            items.
        exit_code: The exit code after the last line; -N for death by signal N; None to run until it is ended. A
            generator that returns a number exits with that number.
        exit_after: Seconds between the last line, or the start, and the exit.
        ignores: Signals that have no effect. With SIGKILL among them, the process hangs in the kernel and can't be killed.
        reacts: The reaction to a signal, as a behaviour: the process writes its lines, then exits with its `exit_code`;
            with None it resumes what it was doing.
        expects: The input that it reads from stdin before its first line. Any other input ends it with code 1, and fails
            the test when the service is left.
        error: The error of the start, as an `OSError` or a class such as `FileNotFoundError`.

    Raises:
        OptionError: An option is invalid.

    >>> Behaviour(lines=["ready", (1.5, "done")]).exit_code
    0
    """

    lines: Any = attrs.field(default=(), converter=_steps, hash=False)
    exit_code: int | None = attrs.field(default=0, validator=check_exit_code)
    exit_after: float = attrs.field(default=0.0, converter=_exit_after)
    ignores: Any = attrs.field(default=(), converter=_signals)
    reacts: Any = attrs.field(factory=dict, converter=_reactions, hash=False)
    expects: str | bytes | None = attrs.field(default=None)
    error: Any = attrs.field(default=None, converter=_start_error)

    @expects.validator
    def _check_expects(self, _: object, value: object) -> None:
        if value is not None and not isinstance(value, (str, bytes)):
            raise bad_option("expects", f"must be str or bytes, got {value!r}")

    def _steps(self, call: Call) -> Iterator[Any]:
        """Return the steps of one run; a generator function is sent the input that it reads."""
        rest: Iterator[Any] = self.lines(call) if callable(self.lines) else iter(self.lines)
        if callable(self.lines) and not isinstance(rest, Generator):
            raise bad_option("lines:", f"a function must be a generator, one with `yield`; {self.lines!r} is not")
        return rest if self.expects is None else _after(Expect(self.expects), rest)

    def _failure(self, options: RunOptions) -> ProcessStartError | None:
        """Return the error of the start, with the text of a real one."""
        if self.error is None or isinstance(self.error, ProcessStartError):
            return self.error
        error = start_error(options, self.error)
        error.__cause__ = self.error
        return error


def _after(first: Step, rest: Iterator[Any]) -> Generator[Any, Any, int | None]:
    yield first
    if isinstance(rest, Generator):
        return (yield from rest)  # type: ignore[no-any-return]  # int or None, by contract
    yield from rest
    return None


def as_behaviour(option: str, value: object) -> Behaviour:
    """Return a `Behaviour`, created from a dict of its fields if necessary."""
    if isinstance(value, Behaviour):
        return value
    if isinstance(value, Mapping) and all(isinstance(name, str) for name in value):
        return Behaviour(**value)
    raise bad_option(option, f"takes Behaviour(...), or a dict of its fields, got {value!r}")


def as_behaviours(option: str, values: object) -> Sequence[Behaviour]:
    """Return a list of behaviours."""
    if isinstance(values, (Behaviour, Mapping)):
        return [as_behaviour(option, values)]
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise bad_option(option, f"must be a list of behaviours, got {values!r}")
    return [as_behaviour(option, value) for value in values]
