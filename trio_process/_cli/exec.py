"""``trio-process exec``: run one command, stream its output, and pass on its exit status."""

from __future__ import annotations

import logging
import os
import select
import signal
from collections.abc import AsyncIterator, Sequence
from typing import Final, final

import click
import trio

from .._core import (
    CommandResult,
    EndReason,
    Escalation,
    OptionError,
    ProcessStartError,
    ProgramNotFoundError,
    RunOptions,
    Stdio,
    in_seconds,
    logger,
    open_scope,
    stop_signals,
)
from .._process import ManagedProcess, Service, ServiceOptions, ask_to_stop, echo_chunks
from .job_control import CHANGES, JOB_CONTROL, Foreground, SuspendableClock
from .output import print_error
from .terminal import Terminal, heard
from .text import Duration

LOST: Final = 1
USAGE: Final = 2
NOT_EXECUTABLE: Final = 126
NOT_FOUND: Final = 127
SIGNALLED: Final = 128

_PASSED_ON: Final = (signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH)
_STOPPING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_HELP: Final = """Run one command, and leave no process behind.

Its output is passed on as it arrives, and its exit status is returned: 128+N for death by signal N, 127 if the command is
not found, 126 if it can't be executed; 1 for a success whose output could not be written. SIGINT, SIGTERM and SIGHUP stop
the command: its whole group gets the same signal, and SIGKILL after a grace period of 5 s; a second signal ends the grace
period.
"""


@click.command(help=_HELP, context_settings={"allow_interspersed_args": False})
@click.option("--name", metavar="N", help="A label for the command.")
@click.option("--timeout", type=Duration(), metavar="S", help="Stop the command after this long: seconds, or e.g. 10m.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def execute(name: str | None, timeout: float | None, command: Sequence[str]) -> None:
    """Run one command."""
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
        print_error(f"trio-process exec: {error}")
        return USAGE
    notes = Notes()
    logger.addHandler(notes)
    clock = SuspendableClock()
    try:
        result = trio.run(_run, options, terminal, clock, clock=clock)
    except ProcessStartError as error:
        print_error(f"trio-process exec: {error}")
        return NOT_FOUND if isinstance(error, ProgramNotFoundError) else NOT_EXECUTABLE
    finally:
        logger.removeHandler(notes)
        terminal.close()
    if result.reason is EndReason.TIMED_OUT:
        print_error(f"trio-process exec: stopped after {in_seconds(result.duration)} (--timeout)")
    assert result.exit_code is not None
    if result.exit_code == 0 and notes.lost:
        return LOST  # as coreutils do when their output can't be written
    return result.exit_code if result.exit_code >= 0 else SIGNALLED - result.exit_code


def _output(terminal: Terminal, descriptor: int) -> Stdio:
    """Return how to connect a stream: directly to our terminal, or through us to anything else."""
    return Stdio.INHERIT if terminal.is_behind(descriptor) else Stdio.PIPE


async def _run(options: RunOptions, terminal: Terminal, clock: SuspendableClock) -> CommandResult:
    # the command inherits, and so also ignores, the signals that our caller ignores
    job_control = heard(*JOB_CONTROL)
    listened = (*stop_signals(), *heard(*_PASSED_ON), *job_control, *CHANGES)
    echo_chunks()  # the command is the only writer, so lines can't interleave
    async with Service(options=ServiceOptions(guardian=True, strays="all")) as service, open_scope() as nursery:
        with trio.open_signal_receiver(*listened) as received, clock.following(*job_control):
            run = Run(service, options)
            process = await nursery.start(run)
            foreground = Foreground(process, terminal, clock)
            watch = Watch(process, foreground)
            nursery.start_soon(watch.signals, received)
            nursery.start_soon(watch.readers, terminal)
            await run.ended.wait()
            assert run.result is not None
            foreground.take_back(restore=run.result.exit_code is None or run.result.exit_code < 0)
            return run.result


@final
class Notes(logging.Handler):
    """Log handler that prints the warnings of the service on stderr.

    Attributes:
        lost: Whether some of the command's output could not be passed on; a departed reader doesn't count.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lost = False

    def emit(self, record: logging.LogRecord) -> None:
        """Print a warning."""
        self.lost |= getattr(record, "output_lost", False)
        print_error(f"trio-process exec: {self.format(record)}")


@final
class Run:
    """The command as a task: `started` receives the process; `ended` is set once its output is written."""

    def __init__(self, service: Service, options: RunOptions) -> None:
        self._service = service
        self._options = options
        self.ended = trio.Event()
        self.result: CommandResult | None = None

    async def __call__(self, *, task_status: trio.TaskStatus[ManagedProcess]) -> None:
        """Run the command."""
        self.result = await self._service.run_process(self._options, check=False, task_status=task_status)
        self.ended.set()


@final
class Watch:
    """Reactions to signals, and to the departure of our output's readers."""

    def __init__(self, process: ManagedProcess, foreground: Foreground) -> None:
        self._process = process
        self._foreground = foreground
        self._escalation = Escalation(stop=self._stop, hurry=self._kill, last_words=self._last_words)

    async def signals(self, received: AsyncIterator[int]) -> None:
        """Pass signals on, and stop the command on signals that request it."""
        async for number in received:
            if number in _STOPPING:
                self._escalation.receive(number)
            elif number in _PASSED_ON:
                if self._process.is_running:
                    self._process.signal(number)
            else:
                self._foreground.react(number)

    def _stop(self, number: int) -> None:
        if not self._process.is_running:  # only a stuck reader of our output is left to wait for
            self._last_words()
            os._exit(SIGNALLED + number)
        ask_to_stop(self._process, stop_signal=number)

    def _kill(self, number: int) -> None:
        if not self._process.is_running:
            self._stop(number)
        self._process.kill()

    def _last_words(self) -> None:
        self._foreground.take_back(restore=True)

    async def readers(self, terminal: Terminal) -> None:
        """Stop the command when a reader of our output has left, as SIGPIPE would after a write to a closed pipe."""
        async with trio.open_nursery() as nursery:
            for descriptor in (1, 2):
                if not terminal.is_behind(descriptor):  # a terminal is the command's own: the kernel reports it
                    nursery.start_soon(self._reader, descriptor)

    async def _reader(self, descriptor: int) -> None:
        # With an empty mask an epoll still reports the errors: a pipe without readers, a socket whose other end has left,
        # a terminal that was hung up (epoll_ctl(2): EPOLLERR and EPOLLHUP).
        with select.epoll() as watched:
            try:
                watched.register(descriptor, 0)
            except OSError:
                return  # regular files and closed streams have no reader that could leave
            await trio.lowlevel.wait_readable(watched.fileno())
        ask_to_stop(self._process, stop_signal=signal.SIGPIPE)
