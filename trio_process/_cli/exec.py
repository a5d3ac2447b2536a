"""`trio-process exec`: one command, streamed, with its exit status passed on."""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import stat
from collections.abc import AsyncIterator, Sequence
from typing import Final, final

import click
import trio

from .._core import (
    CommandResult,
    EndReason,
    OptionError,
    ProcessStartError,
    ProgramNotFoundError,
    RunOptions,
    Stdio,
    in_seconds,
    logger,
    open_scope,
)
from .._process import ManagedProcess, Service, ServiceOptions, state_of
from .duration import Duration
from .output import complain
from .terminal import Terminal

LOST: Final = 1
USAGE: Final = 2
NOT_EXECUTABLE: Final = 126
NOT_FOUND: Final = 127
SIGNALLED: Final = 128

_STOPPING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_PASSED_ON: Final = (signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH)
_JOB_CONTROL: Final = (signal.SIGTSTP, signal.SIGCONT, signal.SIGCHLD)
_OUT_OF_PATIENCE: Final = 3


@click.command(context_settings={"allow_interspersed_args": False})
@click.option("--name", metavar="N", help="A label for the command.")
@click.option("--timeout", type=Duration(), metavar="S", help="Stop it after that long: seconds, or 10m.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def execute(name: str | None, timeout: float | None, command: Sequence[str]) -> None:
    """Run one command: both its streams pass line by line, its exit status is ours.

    128+N stands for death by signal N, 127 for a command that is not found, 126 for one that can't be executed; a success
    whose output could not be written is a 1. SIGINT, SIGTERM and SIGHUP stop it: the same signal, 5 s of grace, SIGKILL,
    all to its whole group; a second one ends the grace. Nothing it started is left behind.
    """
    raise SystemExit(run(name, timeout, command))


def run(name: str | None, timeout: float | None, command: Sequence[str]) -> int:
    """Run the command; return our exit status."""
    terminal = Terminal()
    try:
        options = RunOptions(
            command=command[0],
            args=tuple(command[1:]),
            name=name,
            timeout=timeout,
            stdin=Stdio.INHERIT,
            stdout=_output(terminal, 1),
            stderr=_output(terminal, 2),
            echo=True,
            disable_capture=True,
        )
    except OptionError as error:
        complain(f"trio-process exec: {error}")
        return USAGE
    notes = Notes()
    logger.addHandler(notes)
    try:
        result = trio.run(_run, options, terminal)
    except ProcessStartError as error:
        complain(f"trio-process exec: {error}")
        return NOT_FOUND if isinstance(error, ProgramNotFoundError) else NOT_EXECUTABLE
    finally:
        terminal.take()
        logger.removeHandler(notes)
    if result.reason is EndReason.TIMED_OUT:
        complain(f"trio-process exec: stopped after {in_seconds(result.duration)} (--timeout)")
    assert result.exit_code is not None
    if result.exit_code == 0 and notes.lost:
        return LOST  # as the tools of coreutils end when what they wrote is not where it should be
    return result.exit_code if result.exit_code >= 0 else SIGNALLED - result.exit_code


def _output(terminal: Terminal, descriptor: int) -> Stdio:
    """Return where a stream goes: who is typed to needs the terminal itself, everybody else passes through us."""
    return Stdio.INHERIT if terminal.ours and os.isatty(descriptor) else Stdio.PIPE


async def _run(options: RunOptions, terminal: Terminal) -> CommandResult:
    async with Service(options=ServiceOptions(guardian=True)) as service, open_scope() as nursery:
        with trio.open_signal_receiver(*_STOPPING, *_PASSED_ON, *_JOB_CONTROL) as received:
            run = Run(service, options)
            watch = Watch(await nursery.start(run), terminal)
            nursery.start_soon(watch.signals, received)
            nursery.start_soon(watch.readers)
            await run.ended.wait()
            assert run.result is not None
            return run.result


@final
class Notes(logging.Handler):
    """Says on stderr what the service warns of.

    Attributes:
        lost: Whether some of the command's output could not be passed on; not for a reader that left.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lost = False

    def emit(self, record: logging.LogRecord) -> None:
        """Say it."""
        self.lost |= getattr(record, "output_lost", False)
        complain(f"trio-process exec: {self.format(record)}")


@final
class Run:
    """The command as a task: its status is the process, and `ended` is set once its output is written out."""

    def __init__(self, service: Service, options: RunOptions) -> None:
        self._service = service
        self._options = options
        self.ended = trio.Event()
        self.result: CommandResult | None = None

    async def __call__(self, *, task_status: trio.TaskStatus[ManagedProcess]) -> None:
        """Run it."""
        self.result = await self._service.run_process(self._options, check=False, task_status=task_status)
        self.ended.set()


@final
class Watch:
    """What signals, the terminal, and a reader that leaves mean for the command."""

    def __init__(self, process: ManagedProcess, terminal: Terminal) -> None:
        self._process = process
        self._terminal = terminal
        self._stops = 0
        assert process.pid is not None
        self._pid = process.pid
        terminal.give(self._pid)

    async def signals(self, received: AsyncIterator[int]) -> None:
        """Pass signals on, and stop the command when one asks for that."""
        async for number in received:
            if number in _STOPPING:
                self._stop(number)
            elif not self._process.is_running:
                continue
            elif number == signal.SIGCHLD:
                if self._terminal.ours and state_of(self._pid) == "T":
                    self._suspend()
            elif number == signal.SIGTSTP:
                self._process.signal(number)
                self._suspend()
            elif number == signal.SIGCONT:
                self._resume()
            else:
                self._process.signal(number)

    def _stop(self, number: int) -> None:
        self._stops += 1
        only_a_stuck_reader_is_left = not self._process.is_running
        if only_a_stuck_reader_is_left or self._stops >= _OUT_OF_PATIENCE:
            self._terminal.take()
            os._exit(SIGNALLED + number)
        if self._stops > 1:
            self._process.kill()
        else:
            self._process.ask_to_stop(stop_signal=number)

    def _suspend(self) -> None:
        """Stop as the command did, so that who started us sees it; it goes on when we do."""
        self._terminal.take()
        os.kill(os.getpid(), signal.SIGSTOP)
        self._resume()  # we come here when somebody has continued us

    def _resume(self) -> None:
        self._terminal.give(self._pid)
        self._process.signal(signal.SIGCONT)

    async def readers(self) -> None:
        """Stop the command when who read our output has left, as a write to a closed pipe would (SIGPIPE)."""
        async with trio.open_nursery() as nursery:
            for descriptor in (1, 2):
                if _is_writing_end(descriptor):
                    nursery.start_soon(self._reader, descriptor)

    async def _reader(self, descriptor: int) -> None:
        # a pipe's writing end becomes "readable" by its error alone: when its last reader has left (poll(2), POLLERR)
        await trio.lowlevel.wait_readable(descriptor)
        self._process.ask_to_stop(stop_signal=signal.SIGPIPE)


def _is_writing_end(descriptor: int) -> bool:
    """Return whether it is the writing end of a pipe, and not both of a FIFO (`exec 3<>fifo`), which is its own reader."""
    try:
        is_pipe = stat.S_ISFIFO(os.fstat(descriptor).st_mode)
        return is_pipe and fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY
    except OSError:
        return False  # it is closed
