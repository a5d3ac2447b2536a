r"""Recordings: what real commands did, as a file of JSON lines that one can read and edit; and their replay.

A line with `command` begins a process; the lines after it are what happened to it, with the seconds since its start:

    {"recording": "trio-process", "version": 1}
    {"command": "git", "args": ["push"]}
    {"at": 0.012, "stderr": "Everything up-to-date\n"}
    {"at": 0.02, "exit": 0}
"""

from __future__ import annotations

import base64
import errno
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, final

import trio

from .._core import (
    MASK,
    OptionError,
    ProcessError,
    ProcessStartError,
    RunOptions,
    Secret,
    Stream,
    signal_name,
    signal_number,
    write_atomically,
)
from .._process import Ending, Handle, Left, Owner, Redactor
from .behaviour import Behaviour, Read, ReadBytes, Write
from .call import Call
from .commands import Rule

_HEAD: Final = {"recording": "trio-process", "version": 1}


@final
class Recorder:
    """Keeps what real commands do; made by `FakeService.record`, and a context manager for a part of its block."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        self._runs: list[list[dict[str, Any]]] = []
        self.finished = False

    def check_clock(self) -> None:
        """Refuse a clock that jumps: it would while a real command runs."""
        clock = trio.lowlevel.current_clock()
        if getattr(clock, "autojump_threshold", float("inf")) != float("inf"):
            raise ProcessError("recording runs real commands, so it needs the real clock; leave autojump_clock out")

    def spawn(self, call: Call, spawn: Callable[[], Handle]) -> Handle:
        """Start a real command, and keep what it does."""
        options = call.options
        run: list[dict[str, Any]] = [{"command": options.shown_command, "args": list(options.shown_args)}]
        self._runs.append(run)
        try:
            return RecordingHandle(spawn(), options, call, run)
        except ProcessStartError as error:
            run.append(_start_error(error))
            raise

    def finish(self) -> None:
        """Write the file; once."""
        if self.finished:
            return
        self.finished = True
        lines = [_HEAD, *(line for run in self._runs for line in run)]
        write_atomically(self._path, "".join(_dumped(line) for line in lines).encode())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self.finish()
        self.finished = True


def _start_error(error: ProcessStartError) -> dict[str, str]:
    cause = error.__cause__
    number = cause.errno if isinstance(cause, OSError) else None
    return {"error": errno.errorcode.get(number or errno.EIO, "EIO")}


def _dumped(line: dict[str, Any]) -> str:
    return json.dumps(line, ensure_ascii=False) + "\n"


def _output(stream: Stream, data: bytes) -> dict[str, str]:
    try:
        return {stream.value: data.decode()}
    except UnicodeDecodeError:
        return {f"{stream.value}_base64": base64.b64encode(data).decode()}


@final
class RecordingHandle:
    """A real child whose doings are written down on their way to its life."""

    def __init__(self, real: Handle, options: RunOptions, call: Call, run: list[dict[str, Any]]) -> None:
        self._real = real
        self._run = run
        self._call = call
        self._began = trio.current_time()
        masker = options.masker()
        self._redactors = {stream: Redactor(masker, options.encoding) for stream in Stream} if masker else {}
        self._input_noted = False
        self.pid = real.pid
        self.has_stdin = real.has_stdin
        self.open_streams = real.open_streams

    def _note(self, what: dict[str, Any]) -> None:
        self._run.append({"at": round(trio.current_time() - self._began, 3), **what})

    # what the real one tells

    def begin(self, owner: Owner) -> None:
        """Stand between the child and its life."""
        self._owner = owner
        self._real.begin(self)

    def received(self, stream: Stream, data: bytes) -> None:
        """Write a chunk down, without the secrets in it."""
        redactor = self._redactors.get(stream)
        masked = data if redactor is None else redactor.feed(data)
        if masked:
            self._note(_output(stream, masked))
        self._owner.received(stream, data)

    def stream_ended(self) -> None:
        """Pass it on."""
        self.open_streams = self._real.open_streams
        self._owner.stream_ended()

    def exited(self) -> None:
        """Pass it on; it is written down at the reaping, which knows how it ended."""
        self._exited_at = round(trio.current_time() - self._began, 3)
        self._owner.exited()

    # what its life asks for

    @property
    def launching(self) -> bool:
        """As the real one says."""
        return self._real.launching

    async def launched(self, options: RunOptions) -> ProcessStartError | None:
        """Write down what was in the way."""
        failure = await self._real.launched(options)
        if failure is not None:
            self._run.append(_start_error(failure))
        return failure

    def pause(self, stream: Stream) -> None:
        """Pass it on."""
        self._real.pause(stream)

    def resume(self, stream: Stream) -> None:
        """Pass it on."""
        self._real.resume(stream)

    def read_rest(self) -> None:
        """Pass it on."""
        self._real.read_rest()

    def close_outputs(self) -> None:
        """Pass it on."""
        self._real.close_outputs()
        self.open_streams = self._real.open_streams

    def signal(self, number: int, *, group: bool) -> None:
        """Write a signal down that can still change something."""
        if not self._real.has_exited():
            self._note({"signal": signal_name(number)})
        self._real.signal(number, group=group)

    def has_exited(self) -> bool:
        """As the real one says."""
        return self._real.has_exited()

    def is_stopped(self) -> bool:
        """As the real one says."""
        return self._real.is_stopped()

    def sweep(
        self, age: float, kill_from: float, callback: Callable[[list[Left], bool], None]
    ) -> Callable[[], None] | None:
        """Pass it on."""
        return self._real.sweep(age, kill_from, callback)

    def reap(self) -> Ending:
        """Write the end down."""
        ending = self._real.reap()
        for stream, redactor in self._redactors.items():
            rest = redactor.finish()
            if rest:
                self._run.append({"at": self._exited_at, **_output(stream, rest)})
        self._run.append({"at": self._exited_at, "exit": ending.exit_code})
        return ending

    def abandon(self) -> None:
        """Pass it on; the recording has no end of it."""
        self._real.abandon()

    async def write_stdin(self, data: bytes) -> None:
        """Write down how much it is, and nothing more: input is where passwords are."""
        self._call.stdin += data
        self._note({"stdin": len(data)})
        await self._real.write_stdin(data)

    def close_stdin(self) -> None:
        """Write it down, once."""
        if self.has_stdin and not self._input_noted and not self._real.has_exited():
            self._input_noted = True
            self._note({"stdin": "end"})
        self._real.close_stdin()


@final
class _AnySecret:
    """Equals every secret: a recording has only its mask."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) or other == MASK

    __hash__ = None  # type: ignore[assignment]  # it is compared, never looked up

    def __repr__(self) -> str:
        return MASK


def load_recording(path: str | os.PathLike[str]) -> list[Rule]:
    """Return a strict rule for each command of a recording.

    Raises:
        OptionError: It is no recording; the text names the line.
    """
    behaviours: dict[tuple[str, ...], list[Behaviour]] = {}
    for command, happened in _runs(Path(path)):
        behaviours.setdefault(command, []).append(_behaviour(happened))
    return [
        Rule([_AnySecret() if word == MASK else word for word in command], found, strict=True)
        for command, found in behaviours.items()
    ]


def _runs(path: Path) -> Iterator[tuple[tuple[str, ...], list[dict[str, Any]]]]:
    runs: list[tuple[tuple[str, ...], list[dict[str, Any]]]] = []
    for number, text in enumerate(path.read_text("utf-8").splitlines(), 1):
        try:
            line = json.loads(text)
            if number == 1:
                if line != _HEAD:
                    raise ValueError(f"the first line must be {json.dumps(_HEAD)}")  # noqa: TRY301 - told with its place below
            elif "command" in line:
                runs.append(((line["command"], *line["args"]), []))
            else:
                _check(line)
                runs[-1][1].append(line)
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise OptionError(f"{path}, line {number}: this is no recording that can be replayed: {error!r}") from error
    yield from runs


_KINDS: Final = {"stdout", "stderr", "stdout_base64", "stderr_base64", "signal", "stdin", "exit", "error"}


def _check(line: dict[str, Any]) -> None:
    kinds = line.keys() - {"at"}
    if len(kinds) != 1 or not kinds <= _KINDS:
        raise ValueError(f"expected one of {', '.join(sorted(_KINDS))}, got {', '.join(sorted(kinds)) or 'nothing'}")
    if "error" not in line and not isinstance(line.get("at"), (int, float)):
        raise ValueError('"at" must be the seconds since the start')
    if "error" in line and not hasattr(errno, str(line["error"])):
        raise ValueError("error must be the name of an errno, such as ENOENT")


def _behaviour(happened: list[dict[str, Any]]) -> Behaviour:
    """Return what one recorded run did; from a signal on, that is its reaction to it."""
    reacts: dict[int, Behaviour] = {}
    ignores: set[int] = set()
    part, rest = _until_signal(happened)
    main = _part(part, 0.0)
    while rest:
        number = signal_number(rest[0]["signal"])
        begun = rest[0]["at"]
        part, rest = _until_signal(rest[1:])
        reaction = _part(part, begun)
        if reaction["lines"] or reaction["exit_code"] not in (None, -number):
            reacts.setdefault(number, Behaviour(**reaction))
        elif reaction["exit_code"] is None and number not in (*_NOT_IGNORED, *reacts):
            ignores.add(number)
    return Behaviour(**main, reacts=reacts, ignores=ignores)


_NOT_IGNORED: Final = tuple(signal_number(name) for name in ("SIGSTOP", "SIGCONT", "SIGKILL"))


def _until_signal(lines: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    for place, line in enumerate(lines):
        if "signal" in line:
            return lines[:place], lines[place:]
    return lines, []


def _part(lines: list[dict[str, Any]], begun: float) -> dict[str, Any]:
    """Return the fields of the behaviour in which these things happen, from `begun` on."""
    steps: list[Any] = []
    now = begun
    fields: dict[str, Any] = {"exit_code": None}
    for line in lines:
        at = max(now, line.get("at", now))
        if "error" in line:
            number = getattr(errno, line["error"])
            fields["error"] = OSError(number, os.strerror(number))
        elif "exit" in line:
            fields.update(exit_code=line["exit"], exit_after=at - now)
        elif "stdin" in line:
            steps.append(Read.ALL if line["stdin"] == "end" else ReadBytes(line["stdin"]))
        else:
            (kind,) = line.keys() - {"at"}
            data = base64.b64decode(line[kind]) if kind.endswith("_base64") else line[kind].encode()
            steps.append(Write(at - now, data, Stream(kind.removesuffix("_base64"))))
        now = at
    return {**fields, "lines": steps}
