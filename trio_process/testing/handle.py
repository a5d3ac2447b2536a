"""`FakeHandle`: a child that is only a script. It lives on the reactor's timers, so on Trio's clock and nothing else.

The life of a child, its state machine, is the real one. What is scripted is what the kernel and the program would do:
output through pipes of the real size, signals and their dispositions, stdin, the exit.
"""

from __future__ import annotations

import math
import os
import signal
import traceback
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, Final, final

import attrs
import trio

from .._core import (
    ProcessNotRunningError,
    ProcessStartError,
    ResourceUsage,
    RunOptions,
    StdinNotAvailableError,
    Stdio,
    Stream,
    escape_controls,
)
from .._process import CHUNK, PIPE_CAPACITY, Ending, Left, Owner, Reactor
from .behaviour import Behaviour, Read, Step, Write, step_of
from .call import Call
from .commands import ScriptError
from .stdin import FakeStdin, MismatchError

FIRST_PID: Final = 2**22 + 1
"""Above every PID that a kernel gives (PID_MAX_LIMIT, proc_sys_kernel(5)): no stranger is ever hit by one of ours."""

_STEPS: Final = 1000  # without a pause: a script that writes for ever must not keep a signal from arriving

_STOPPING: Final = frozenset({signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU})
_HARMLESS: Final = frozenset({signal.SIGCONT, signal.SIGCHLD, signal.SIGURG, signal.SIGWINCH})  # signal(7)


@attrs.define(eq=False)
class _Frame:
    """A behaviour that is being followed: the program itself, or its reaction to a signal."""

    steps: Iterator[Any]
    talks: bool  # a generator, which is sent what was read
    exit_code: int | None
    exit_after: float
    due: float  # the next step is not done before
    step: Step | None = None
    answer: str | None = None
    finished: bool = False


def _frame(behaviour: Behaviour, call: Call, now: float) -> _Frame:
    return _Frame(behaviour.steps(call), callable(behaviour.lines), behaviour.exit_code, behaviour.exit_after, due=now)


@final
class FakeHandle:
    """A scripted child, as its life sees it."""

    def __init__(
        self,
        call: Call,
        behaviour: Behaviour,
        reactor: Reactor,
        number: int,
        report: Callable[[ScriptError], None],
    ) -> None:
        options = call.options
        self.pid = FIRST_PID + number
        self.has_stdin = options.stdin is Stdio.PIPE
        self._call = call
        self._options = options
        self._behaviour = behaviour
        self._reactor = reactor
        self._report = report
        self._stdin = FakeStdin(call, lambda: self._soon(self._advance))
        self._files: dict[Stream, int] = {}
        self._pipes: dict[Stream, bytearray] = {}
        try:
            self._targets = self._open_outputs(options)
        except BaseException:
            self._close_files()
            raise
        self.open_streams = len(self._pipes)
        self._paused: set[Stream] = set()
        self._frames = [_frame(behaviour, call, 0.0)]
        self._pending: list[int] = []  # signals that came while it was stopped
        self._stopped = False
        self._exit_code: int | None = None

    def _open_outputs(self, options: RunOptions) -> dict[Stream, Stream | int | None]:
        """Return where the child's streams go: a pipe to us, a descriptor, or nowhere."""
        targets: dict[Stream, Stream | int | None] = {}
        log = options.log_file if options.detach else None
        if log is not None:
            self._files[Stream.STDOUT] = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        for stream, target in ((Stream.STDOUT, options.stdout), (Stream.STDERR, options.stderr)):
            if target is Stdio.STDOUT:
                targets[stream] = targets[Stream.STDOUT]
            elif target is Stdio.PIPE and options.detach:
                targets[stream] = self._files.get(Stream.STDOUT)
            elif target is Stdio.PIPE:
                self._pipes[stream] = bytearray()
                targets[stream] = stream
            elif target is Stdio.INHERIT:
                targets[stream] = 1 if stream is Stream.STDOUT else 2
            elif isinstance(target, Stdio):
                targets[stream] = None
            elif isinstance(target, Path):
                flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
                targets[stream] = self._files[stream] = os.open(target, flags, 0o666)
            else:
                targets[stream] = self._files[stream] = os.dup(target.fileno())
        return targets

    # what the life asks for

    @property
    def launching(self) -> bool:
        """A script needs no launcher."""
        return False

    async def launched(self, options: RunOptions) -> ProcessStartError | None:  # noqa: ARG002 - never asked
        """Return that nothing was in the way."""
        await trio.lowlevel.checkpoint()
        return None

    def begin(self, owner: Owner) -> None:
        """Start the script, but not before whoever started the process has it in hand."""
        self._owner = owner
        self._let_others_run()

    def _let_others_run(self) -> None:
        """Go on when all tasks that can run have had their turn."""
        trio.lowlevel.current_trio_token().run_sync_soon(self._soon, self._advance)

    def _soon(self, callback: Callable[[], object]) -> None:
        self._reactor.call_at(trio.current_time(), callback)

    def pause(self, stream: Stream) -> None:
        """Let the pipe fill."""
        self._paused.add(stream)

    def resume(self, stream: Stream) -> None:
        """Read on, in the reactor's task."""
        self._paused.discard(stream)
        self._soon(lambda: self._drain(stream))

    def _drain(self, stream: Stream) -> None:
        self._hand_over(stream)
        self._advance()

    def _hand_over(self, stream: Stream, *, all_of_it: bool = False) -> None:
        pipe = self._pipes.get(stream)
        while pipe and (all_of_it or stream not in self._paused):
            data = bytes(pipe[:CHUNK])
            del pipe[:CHUNK]
            self._owner.received(stream, data)

    def read_rest(self) -> None:
        """Hand over what the pipes hold, and their end once there is nobody to write to them."""
        for stream in list(self._pipes):
            self._hand_over(stream, all_of_it=True)
            if self.has_exited() and stream in self._pipes:
                self._close(stream)
                self._owner.stream_ended()

    def _close(self, stream: Stream) -> None:
        del self._pipes[stream]
        self.open_streams -= 1

    def close_outputs(self) -> None:
        """Read no more."""
        for stream in list(self._pipes):
            self._close(stream)

    def signal(self, number: int, *, group: bool) -> None:  # noqa: ARG002 - it is alone in its group
        """Let the signal arrive, in the reactor's task."""
        self._soon(lambda: self._arrived(number))

    def has_exited(self) -> bool:
        """Return whether the script is over."""
        return self._exit_code is not None

    def is_stopped(self) -> bool:
        """Return whether it is stopped by a signal."""
        return self._stopped

    def sweep(
        self,
        age: float,  # noqa: ARG002 - it leaves nobody behind
        kill_from: float,  # noqa: ARG002 - likewise
        callback: Callable[[list[Left], bool], None],  # noqa: ARG002 - likewise
    ) -> Callable[[], None] | None:
        """Return None: it leaves nobody behind."""
        return None

    def reap(self) -> Ending:
        """Tell how it ended."""
        assert self._exit_code is not None
        self.close_stdin()
        self._close_files()
        return Ending(self._exit_code, ResourceUsage())

    def abandon(self) -> None:
        """Forget the script: what is detached runs on where nobody sees it."""
        self._exit_code = 0
        self._close_files()

    def _close_files(self) -> None:
        while self._files:
            os.close(self._files.popitem()[1])

    async def write_stdin(self, data: bytes) -> None:
        """Write to its stdin, which holds as much as a pipe does before the writer waits."""
        await self._stdin.write(data, self._no_stdin)

    def _no_stdin(self) -> Exception:
        if self.has_exited():
            return ProcessNotRunningError("the process ended before all of its input was written")
        if not self.has_stdin:
            return StdinNotAvailableError("the process was started without a stdin to write to; use stdin=Stdio.PIPE")
        return StdinNotAvailableError("its stdin is closed already")

    def close_stdin(self) -> None:
        """Let it read the end of its input."""
        self._stdin.close()

    # signals

    def _arrived(self, number: int) -> None:
        if self.has_exited():
            return
        if number == signal.SIGCONT:
            self._stopped = False
            pending, self._pending = self._pending, []
            for earlier in pending:
                self._act_on(earlier)
        if self._stopped and number != signal.SIGKILL:
            if number not in self._pending:
                self._pending.append(number)
            return
        self._act_on(number)
        self._advance()

    def _act_on(self, number: int) -> None:
        reaction = self._behaviour.reacts.get(number)
        if number in self._behaviour.ignores or self.has_exited():
            return
        if reaction is not None and number not in (signal.SIGKILL, signal.SIGSTOP):
            self._frames.append(_frame(reaction, self._call, trio.current_time()))
        elif number in _STOPPING:
            self._stopped = True
        elif number not in _HARMLESS:
            self._exit(-number)

    # the script

    def _advance(self) -> None:
        """Do what can be done now; called again whenever there may be more, and any number of times for nothing."""
        for _ in range(_STEPS):
            if self._exit_code is not None or self._stopped:
                return
            if any(len(pipe) > PIPE_CAPACITY for pipe in self._pipes.values()):
                return  # a write waits for room
            frame = self._frames[-1]
            if frame.step is None and not frame.finished:
                self._fetch(frame)
                continue
            if trio.current_time() < frame.due:
                return  # the timer comes
            if frame.finished:
                if frame.exit_code is not None:
                    self._exit(frame.exit_code)
                    return
                if len(self._frames) == 1:
                    return  # it runs until it is ended
                self._frames.pop()
            elif not self._take(frame):
                return  # input comes
        self._let_others_run()

    def _fetch(self, frame: _Frame) -> None:
        """Get the next step, and the time at which it is due."""
        answer, frame.answer = frame.answer, None
        try:
            item = next(frame.steps) if answer is None else frame.steps.send(answer)  # type: ignore[attr-defined]  # only generators are answered
            frame.step = step_of(item)
        except StopIteration as end:
            frame.finished = True
            frame.exit_code = frame.exit_code if end.value is None else int(end.value)
            self._wait(frame, frame.exit_after)
        except Exception as error:  # noqa: BLE001 - a mistake in a test's generator is shown as one, and ends the process
            self._fail("".join(traceback.format_exception(error)), error)
        else:
            self._wait(frame, frame.step.delay if isinstance(frame.step, Write) else 0.0)

    def _wait(self, frame: _Frame, delay: float) -> None:
        frame.due = max(frame.due, trio.current_time()) + delay if delay else frame.due
        if trio.current_time() < frame.due < math.inf:
            self._reactor.call_at(frame.due, self._advance)

    def _take(self, frame: _Frame) -> bool:
        """Do the step; return whether it is done."""
        step = frame.step
        assert step is not None
        if isinstance(step, Write):
            frame.step = None
            self._write(step.stream, step.encoded(self._options.encoding))
            return True
        try:
            taken = self._stdin.take(step)
        except MismatchError as error:
            self._fail(str(error))
            return True
        if taken is None:
            return False
        frame.step = None
        if isinstance(step, Read) and frame.talks:
            frame.answer = taken.decode(self._options.encoding, self._options.errors)
        return True

    def _write(self, stream: Stream, data: bytes) -> None:
        target = self._targets[stream]
        if isinstance(target, Stream):
            pipe = self._pipes.get(target)
            if pipe is not None:
                pipe += data
                self._hand_over(target)
        elif target is not None:
            os.write(target, data)
            if self._options.detach and self._options.log_file is not None:
                self._owner.received(Stream.STDOUT, data)  # its log is followed

    def _fail(self, why: str, cause: BaseException | None = None) -> None:
        error = ScriptError(f"the scripted `{escape_controls(str(self._call))}` failed: {why}")
        error.__cause__ = cause
        self._report(error)
        self._write(Stream.STDERR, f"{why}\n".encode(errors="backslashreplace"))
        self._exit(1)

    def _exit(self, code: int) -> None:
        if self._exit_code is not None:
            return
        for pipe in self._pipes.values():
            del pipe[PIPE_CAPACITY:]  # what it had not got into the pipe yet is lost, as ever
        self._exit_code = code
        self._owner.exited()
        for frame in self._frames:
            if isinstance(frame.steps, Generator):
                frame.steps.close()
