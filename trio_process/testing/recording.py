r"""Recordings: the actions of real commands, as JSON lines that can be read and edited.

A line with `command` begins a process; the lines after it are its events, with the seconds since its start:

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
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Self, final

import trio

from .._core import (
    ProcessError,
    ProcessStartError,
    RunOptions,
    StdinNotAvailableError,
    Stream,
    checks,
    masker_for,
    shown_args,
    shown_command,
    signal_name,
    write_atomically,
)
from .._process import ExitInfo, Handle, HandleBetween, Redactor
from .call import Call

HEAD: Final = {"recording": "trio-process", "version": 1}
"""The first line of a recording."""


@final
class Recorder:
    """Records real commands; created by `FakeService.record`, and a context manager for a part of its block."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = checks.file_path("path", path)
        self._runs: list[list[dict[str, Any]]] = []
        self._finished: bool = False

    def _check_clock(self) -> None:
        """Refuse a jumping clock: it would jump while a real command runs."""
        clock = trio.lowlevel.current_clock()
        if getattr(clock, "autojump_threshold", float("inf")) != float("inf"):
            raise ProcessError("recording runs real commands, so it needs the real clock; leave autojump_clock out")

    def _spawn(self, call: Call, spawn: Callable[[], Handle]) -> Handle:
        """Start a real command, and record it."""
        options = call.options
        run: list[dict[str, Any]] = [{"command": shown_command(options), "args": list(shown_args(options))}]
        self._runs.append(run)
        try:
            return RecordingHandle(spawn(), options, call, run)
        except ProcessStartError as error:
            run.append(_start_error(error))
            raise

    def _finish(self) -> None:
        """Write the file; once."""
        if self._finished:
            return
        self._finished = True
        lines = [HEAD, *(line for run in self._runs for line in run)]
        write_atomically(self._path, "".join(_dumped(line) for line in lines).encode())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self._finish()
        self._finished = True


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
class RecordingHandle(HandleBetween):
    """A real child whose events are recorded on their way to its lifecycle."""

    def __init__(self, real: Handle, options: RunOptions, call: Call, run: list[dict[str, Any]]) -> None:
        super().__init__(real)
        self._run = run
        self._call = call
        self._began = trio.current_time()
        masker = masker_for(options)
        self._redactors = {stream: Redactor(masker, options.encoding) for stream in Stream} if masker else {}
        self._input_noted = False

    def _note(self, what: dict[str, Any]) -> None:
        self._run.append({"at": round(trio.current_time() - self._began, 3), **what})

    def received(self, stream: Stream, data: bytes) -> None:
        """Record a chunk, without the secrets in it."""
        redactor = self._redactors.get(stream)
        masked = data if redactor is None else redactor.feed(data)
        if masked:
            self._note(_output(stream, masked))
        super().received(stream, data)

    def exited(self) -> None:
        """Pass it on; `reap` records the end, because it knows the exit code."""
        self._exited_at = round(trio.current_time() - self._began, 3)
        super().exited()

    async def launched(self, options: RunOptions, *, prompt: bool) -> ProcessStartError | None:
        """Record why the start failed."""
        failure = await super().launched(options, prompt=prompt)
        if failure is not None:
            self._run.append(_start_error(failure))
        return failure

    def signal(self, number: int, *, group: bool) -> None:
        """Record a signal that can still have an effect."""
        self._note_signal(number)
        super().signal(number, group=group)

    def request_stop(self, number: int, *, group: bool) -> None:
        """Record the stop signal; the SIGCONT that goes with it is a part of the stop."""
        self._note_signal(number)
        super().request_stop(number, group=group)

    def _note_signal(self, number: int) -> None:
        if not self._real.has_exited():
            self._note({"signal": signal_name(number)})

    def reap(self) -> ExitInfo:
        """Record the end."""
        info = super().reap()
        for stream, redactor in self._redactors.items():
            rest = redactor.finish()
            if rest:
                self._run.append({"at": self._exited_at, **_output(stream, rest)})
        self._run.append({"at": self._exited_at, "exit": info.exit_code})
        return info

    async def write_stdin(self, data: bytes) -> None:
        """Record only the size of the input, which may contain passwords."""
        self._call.stdin += data
        self._note({"stdin": len(data)})
        written = self._run[-1]
        try:
            await super().write_stdin(data)
        except StdinNotAvailableError:
            written["stdin"] = "closed"
            raise

    def close_stdin(self) -> None:
        """Record it, once."""
        if self.has_stdin and not self._input_noted and not self._real.has_exited():
            self._input_noted = True
            self._note({"stdin": "end"})
        super().close_stdin()
