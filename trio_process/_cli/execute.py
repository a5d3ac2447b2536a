"""`trio-process exec`: one command, streamed, with its exit status passed on."""

from __future__ import annotations

import os
import signal
import stat
import sys
from collections.abc import Sequence
from typing import Any, Final, final

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
    open_scope,
)
from .._process import ManagedProcess, Service, ServiceOptions, state_of
from .terminal import Terminal

USAGE: Final = 2
NOT_EXECUTABLE: Final = 126
NOT_FOUND: Final = 127
SIGNALLED: Final = 128

_STOPPING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_PASSED_ON: Final = (signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH)
_JOB_CONTROL: Final = (signal.SIGTSTP, signal.SIGCONT, signal.SIGCHLD)
_OUT_OF_PATIENCE: Final = 3


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option("--name", metavar="N", help="A label for the command.")
@click.option("--timeout", type=click.FloatRange(min=0), metavar="S", help="Stop it after that many seconds.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def execute(name: str | None, timeout: float | None, command: Sequence[str]) -> None:
    """Run one command: both its streams pass line by line, its exit status is ours.

    128+N stands for death by signal N, 127 for a command that is not found, 126 for one that can't be executed. SIGINT,
    SIGTERM and SIGHUP stop it: the same signal, 5 s of grace, SIGKILL, all to its whole group; a second one ends the
    grace. Nothing it started is left behind.
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
        click.echo(f"trio-process exec: {error}", err=True)
        return USAGE
    try:
        result = trio.run(_run, options, terminal)
    except ProcessStartError as error:
        click.echo(f"trio-process exec: {error}", err=True)
        return NOT_FOUND if isinstance(error, ProgramNotFoundError) else NOT_EXECUTABLE
    finally:
        terminal.take()
    if result.reason is EndReason.TIMED_OUT:
        click.echo(f"trio-process exec: stopped after {in_seconds(result.duration)} (--timeout)", err=True)
    assert result.exit_code is not None
    return result.exit_code if result.exit_code >= 0 else SIGNALLED - result.exit_code


def _output(terminal: Terminal, descriptor: int) -> Stdio:
    """Return where a stream goes: who is typed to needs the terminal itself, everybody else passes through us."""
    return Stdio.INHERIT if terminal.ours and os.isatty(descriptor) else Stdio.PIPE


async def _run(options: RunOptions, terminal: Terminal) -> CommandResult:
    async with Service(options=ServiceOptions(guardian=True)) as service, open_scope() as nursery:
        signals = (*_STOPPING, *_PASSED_ON, *_JOB_CONTROL)
        with trio.open_signal_receiver(*signals) as received:
            watch = Watch(terminal)
            nursery.start_soon(watch.serve, received)
            nursery.start_soon(watch.reader)
            async with trio.open_nursery() as running:
                running.start_soon(_hold, service, options, watch, running.cancel_scope)
            assert watch.result is not None
            return watch.result


async def _hold(service: Service, options: RunOptions, watch: Watch, scope: trio.CancelScope) -> None:
    del scope
    async with trio.open_nursery() as nursery:

        async def hold(*, task_status: trio.TaskStatus[ManagedProcess]) -> None:
            watch.result = await service.run_process(options, check=False, task_status=task_status)

        watch.began(await nursery.start(hold))


@final
class Watch:
    """What signals, the terminal and a reader that leaves mean for the command."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._process: ManagedProcess | None = None
        self._stops = 0
        self.result: CommandResult | None = None

    def began(self, process: ManagedProcess) -> None:
        """Take over the command; what came before it ran is handed on now."""
