"""`FakeHandle`: a child that is only a script. It uses the reactor's timers, and so only Trio's clock.

The lifecycle of the child, its state machine, is the real one. The script replaces the kernel and the program: output
through pipes of the real size, signals and their dispositions, stdin, the exit.
"""

from __future__ import annotations

import math
import signal
import traceback
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
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
from .._process import ExitInfo, HandleOwner, Reactor, Survivor, Swept
from .behaviour import Behaviour, CloseInput, Read, Step, Write, check_exit_code, step_of
from .call import Call
from .commands import ScriptError
from .outputs import FakeOutputs
from .stdin import FakeStdin, MismatchError

FIRST_PID: Final = 2**22 + 1
"""Above every PID that a kernel gives (PID_MAX_LIMIT, proc_sys_kernel(5)): no stranger is ever hit by a signal of ours."""

_STEPS: Final = 1000  # without a pause: a script that writes for ever must not keep a signal from arriving

_STOPPING: Final = frozenset({signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU})
_HARMLESS: Final = frozenset({signal.SIGCONT, signal.SIGCHLD, signal.SIGURG, signal.SIGWINCH})  # signal(7)


@attrs.define(eq=False)
class _Frame:
    """A behaviour in progress: the program itself, or its reaction to a signal."""

    steps: Iterator[Any]
    talks: bool  # a generator, to which input is sent
    exit_code: int | None
    exit_after: float
    due: float  # the next step is not done before
    step: Step | None = None
    answer: str | None = None
    finished: bool = False


def _frame(behaviour: Behaviour, call: Call, now: float) -> _Frame:
    return _Frame(behaviour._steps(call), callable(behaviour.lines), behaviour.exit_code, behaviour.exit_after, due=now)


@final
class FakeHandle:
    """A scripted child, as its lifecycle sees it."""

    def __init__(
        self,
        call: Call,
        behaviour: Behaviour,
        reactor: Reactor,
        number: int,
        report: Callable[[BaseException], None],
    ) -> None:
        options = call.options
        self.pid: int = FIRST_PID + number
        self.has_stdin: bool = options.stdin is Stdio.PIPE
        self._call = call
        self._options = options
        self._behaviour = behaviour
        self._reactor = reactor
        self._report = report
        self._stdin = FakeStdin(call, lambda: self._soon(self._advance))
        self._frames = [_frame(behaviour, call, 0.0)]
        self._outputs = FakeOutputs(options)
        self.open_streams: int = self._outputs.open_streams
        self._pending: list[int] = []  # signals that came while it was stopped
        self._stopped = False
        self._exit_code: int | None = None

    # requests of the lifecycle

    @property
    def host(self) -> None:
        """None: a script runs on this machine."""

    @property
    def launching(self) -> bool:
        """A script needs no launcher."""
        return False

    async def launched(self, options: RunOptions, *, prompt: bool) -> ProcessStartError | None:  # noqa: ARG002 - never asked
        """Return None: the start of a script can't fail later."""
        await trio.lowlevel.checkpoint()
        return None

    def begin(self, owner: HandleOwner) -> None:
        """Start the script, after the caller of `start` has been given the process."""
        self._owner = owner
        self._let_others_run()

    def _let_others_run(self) -> None:
        """Continue when all runnable tasks have had their turn."""
        trio.lowlevel.current_trio_token().run_sync_soon(self._soon, self._advance)

    def _soon(self, callback: Callable[[], object]) -> None:
        self._reactor.call_at(trio.current_time(), callback)

    def pause(self, stream: Stream) -> None:
        """Stop reading, so that the pipe fills."""
        self._outputs.pause(stream)

    def resume(self, stream: Stream) -> None:
        """Resume reading, in the reactor's task."""
        self._outputs.resume(stream)
        self._soon(lambda: self._drain(stream))

    def _drain(self, stream: Stream) -> None:
        self._outputs.hand_over(stream, self._owner)
        self._advance()

    def read_rest(self) -> None:
        """Deliver the contents of the pipes, and their end of file once the script has ended."""
        for stream in self._outputs.read_rest(self._owner, ended=self.has_exited()):
            self._outputs.close_pipe(stream)
            self.open_streams = self._outputs.open_streams
            self._owner.stream_ended()

    def close_outputs(self) -> None:
        """Stop reading."""
        self._outputs.close_pipes()
        self.open_streams = 0

    def signal(self, number: int, *, group: bool) -> None:  # noqa: ARG002 - it is alone in its group
        """Deliver the signal, in the reactor's task."""
        self._soon(lambda: self._arrived(number))

    def request_stop(self, number: int, *, group: bool) -> None:
        """Let it arrive, and SIGCONT after it."""
        self.signal(number, group=group)
        self.signal(signal.SIGCONT, group=group)

    def has_exited(self) -> bool:
        """Return whether the script has ended."""
        return self._exit_code is not None

    def survivor(self) -> Survivor:
        """Return its PID; never called, because a script always dies of SIGKILL."""
        return Survivor(self.pid, "?", str(self._call))

    def sweep(
        self,
        age: float,  # noqa: ARG002 - it has no descendants
        kill_from: float,  # noqa: ARG002 - likewise
        callback: Swept,  # noqa: ARG002 - likewise
    ) -> Callable[[], None] | None:
        """Return None: it has no descendants."""
        return None

    def reap(self) -> ExitInfo:
        """Return how it ended."""
        assert self._exit_code is not None
        self.close_stdin()
        self._outputs.close_files()
        return ExitInfo(self._exit_code, ResourceUsage())

    def abandon(self) -> None:
        """Stop watching the script: a detached process keeps running."""
        self._exit_code = 0
        self.close_stdin()
        self._outputs.close_files()

    async def write_stdin(self, data: bytes) -> None:
        """Write to its stdin; like a pipe, a full one makes the writer wait."""
        await self._stdin.write(data, self._no_stdin)

    def _no_stdin(self) -> Exception:
        if self.has_exited():
            return ProcessNotRunningError("the process ended before all of its input was written")
        if not self.has_stdin:
            return StdinNotAvailableError("the process was started without a stdin to write to; use stdin=Stdio.PIPE")
        return StdinNotAvailableError("its stdin is closed already")

    def close_stdin(self) -> None:
        """Close its stdin."""
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
            try:
                self._frames.append(_frame(reaction, self._call, trio.current_time()))
            except BaseException as error:  # noqa: BLE001 - its `lines` is a function, which is the test's; as in `_try`
                self._fail("".join(traceback.format_exception(error)), error)
        elif number in _STOPPING:
            self._stopped = True
        elif number not in _HARMLESS:
            self._exit(-number)

    # the script

    def _advance(self) -> None:
        """Do all steps that are due; may be called at any time."""
        for _ in range(_STEPS):
            if self._exit_code is not None or self._stopped:
                return
            if self._outputs.blocked:
                return  # room comes
            frame = self._frames[-1]
            if frame.step is None and not frame.finished:
                self._try(self._fetch, frame)
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
            elif not self._try(self._take, frame):
                return  # input comes
        self._let_others_run()

    def _try(self, what: Callable[[_Frame], bool], frame: _Frame) -> bool:
        """Fetch or do a step; any exception is a mistake in the test's script, or its `pytest.fail()`."""
        try:
            return what(frame)
        except BaseException as error:  # noqa: BLE001 - raised when the service is left; and it ends the process
            self._fail("".join(traceback.format_exception(error)), error)
            return True

    def _fetch(self, frame: _Frame) -> bool:
        """Get the next step, and the time at which it is due."""
        answer, frame.answer = frame.answer, None
        try:
            item = next(frame.steps) if answer is None else frame.steps.send(answer)  # type: ignore[attr-defined]  # only generators are answered
            frame.step = step_of(item)
        except StopIteration as end:
            frame.finished = True
            check_exit_code(None, None, end.value)
            frame.exit_code = frame.exit_code if end.value is None else end.value
            self._wait(frame, frame.exit_after)
        else:
            self._wait(frame, frame.step.delay if isinstance(frame.step, Write) else 0.0)
        return True

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
        if isinstance(step, CloseInput):
            frame.step = None
            self._stdin.refuse()
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
        """Write; if that fails, end, as most programs do."""
        try:
            self._outputs.write(stream, data, self._owner)
        except BrokenPipeError:
            self._exit(-signal.SIGPIPE)
        except OSError:
            self._exit(1)

    def _fail(self, why: str, cause: BaseException | None = None) -> None:
        self._report_failure(why, cause)
        with suppress(OSError):
            self._outputs.write(Stream.STDERR, f"{why}\n".encode(errors="backslashreplace"), self._owner)
        self._exit(1)

    def _report_failure(self, why: str, cause: BaseException | None) -> None:
        """Record the failure, which is raised when the service is left."""
        if cause is None or isinstance(cause, Exception):
            error = ScriptError(f"the scripted `{escape_controls(str(self._call))}` failed: {why}")
            error.__cause__ = cause
            self._report(error)
        else:
            self._report(cause)  # `pytest.fail()`, `pytest.skip()`: raised unchanged

    def _exit(self, code: int) -> None:
        if self._exit_code is not None:
            return
        self._outputs.cut()
        self._exit_code = code
        self._owner.exited()
        for frame in self._frames:
            if isinstance(frame.steps, Generator):
                try:
                    frame.steps.close()
                except BaseException as error:  # noqa: BLE001 - raised when the service is left
                    self._report_failure("".join(traceback.format_exception(error)), error)
