"""Running the stages of a pipe side by side, in a service that lives no longer than they do."""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager, nullcontext
from inspect import isasyncgen, isawaitable
from io import FileIO
from pathlib import Path
from signal import SIGPIPE
from typing import IO, Any, Final, final

import attrs
import trio

from .._core import (
    ActionProcessExited,
    ActionProcessOutput,
    CommandResult,
    EndReason,
    EventBatch,
    Masker,
    ProcessError,
    ProcessNotRunningError,
    ProcessStartError,
    RunOptions,
    Secret,
    StdinNotAvailableError,
    Stdio,
    Stream,
    Subscription,
    open_scope,
)
from .._process import ManagedProcess, Service
from .logger import default_logger, say
from .stage import Stage

_DIED_OF_SIGPIPE: Final = (-SIGPIPE, 128 + SIGPIPE)  # 141: how a shell passes on that its last child did


@final
class Execution:
    """Commands that run, connected by pipes, and what they have written; made by `executing`."""

    __slots__ = ("_events", "_exited", "_places", "_processes", "_stages")

    def __init__(self, stages: Sequence[Stage], processes: list[ManagedProcess], events: Subscription | None) -> None:
        self._stages = stages
        self._processes = processes
        self._events = events
        self._places = {process.id: place for place, process in enumerate(processes)}
        self._exited = 0

    async def receive(self) -> EventBatch | None:
        """Return the next lines, None once all stages have ended; the handlers of lines have been called."""
        assert self._events is not None
        while self._exited < len(self._processes):
            batch = await self._events.receive_batch()
            if batch.stream is None:
                self._exited += 1
                continue
            batch = self._masked(batch)
            await self._call_handler(batch)
            return batch
        return None

    def _masked(self, batch: EventBatch) -> EventBatch:
        """Return the lines with the secrets of all stages masked: a stage only knows its own."""
        if len(self._stages) == 1 or not any(stage.options.redact for stage in self._stages):
            return batch
        masker = masker_of(self._stages)
        return EventBatch(
            id=batch.id, name=batch.name, stream=batch.stream, lines=[masker(line) for line in batch.lines]
        )

    async def _call_handler(self, batch: EventBatch) -> None:
        stage = self._stages[self._places[batch.id]]
        call = (stage.stdout if batch.stream is Stream.STDOUT else stage.stderr).call
        if call is not None:
            for line in batch.lines:
                outcome = call(line)
                if outcome is not None and isawaitable(outcome):
                    await outcome

    async def finish(self) -> None:
        """Wait for the end of all stages, and for the handlers of lines."""
        if self._events is not None:
            while await self.receive() is not None:
                pass
        for process in self._processes:
            await process.wait(check=False)

    def results(self) -> tuple[CommandResult, ...]:
        """Return what is known of each stage."""
        results = tuple([process.result() for process in self._processes])
        if len(results) == 1:
            return results
        masker = masker_of(self._stages)
        redact = any(stage.options.redact for stage in self._stages)
        return tuple([_shared(result, masker, redact=redact) for result in results])


def masker_of(stages: Sequence[Stage]) -> Masker:
    """Return what masks the secrets of all stages: what one knows, the next may print."""
    given = [value for stage in stages for value in (*stage.options.args, *stage.options.env.values())]
    return Masker(value for value in given if isinstance(value, Secret))


def _shared(result: CommandResult, masker: Masker, *, redact: bool) -> CommandResult:
    changes: dict[str, Any] = {"masker": masker}
    if redact:
        for field in ("output_bytes", "stdout_bytes", "stderr_bytes"):
            text = getattr(result, field).decode(result.encoding, "surrogateescape")
            changes[field] = masker(text).encode(result.encoding, "surrogateescape")
    return attrs.evolve(result, **changes)


def failed(results: Sequence[CommandResult]) -> list[int]:
    """Return the places of the stages that failed.

    All must be `ok` (pipefail), but for a stage that died of SIGPIPE because the next one wanted no more: `yes | head`.
    """
    return [
        place
        for place, result in enumerate(results)
        if not result.ok
        and not (
            place < len(results) - 1
            and result.exit_code in _DIED_OF_SIGPIPE
            and result.reason in (EndReason.SIGNALLED, EndReason.EXITED)
        )
    ]


@asynccontextmanager
async def executing(stages: Sequence[Stage], *, listen: bool = False) -> AsyncIterator[Execution]:
    """Run the stages; leaving the block stops what still runs.

    Args:
        stages: What to run, each one's stdout connected to the next one's stdin.
        listen: Whether lines are wanted; otherwise only their handlers, where there are any, get them.
    """
    listen = listen or any(stage.stdout.call or stage.stderr.call for stage in stages)
    async with Service() as service:
        # subscribed before anything runs, so that no line is missed; the end is then an event behind the last line
        events = service.subscribe(ActionProcessOutput, ActionProcessExited) if listen else None
        with events or nullcontext():
            processes = await _start(service, stages)
            execution = Execution(stages, processes, events)
            feed = stages[0].feed
            if feed is None:
                yield execution
            else:
                async with open_scope() as nursery:
                    nursery.start_soon(_pour, feed, processes[0], name="trio_process stdin")
                    yield execution


async def _pour(feed: AsyncIterable[bytes], process: ManagedProcess) -> None:
    """Write all that `feed` gives to a process, as long as it wants it."""
    try:
        async for chunk in feed:
            try:
                await process.send_input(chunk)
            except (StdinNotAvailableError, ProcessNotRunningError):
                return  # it wants no more, as `head`; its exit code says whether that is a failure
        await process.close_stdin()
    finally:
        if isasyncgen(feed):
            await feed.aclose()


@trio.lowlevel.enable_ki_protection
async def _start(service: Service, stages: Sequence[Stage]) -> list[ManagedProcess]:
    """Start the stages from left to right.

    Our ends of a pipe are closed right after the spawn of the stage that has the other one: while anybody else holds
    them, a reader gets no end of file and a writer no SIGPIPE (pipe(7)).
    """
    processes: list[ManagedProcess] = []
    with ExitStack() as ours:
        upstream: FileIO | None = None
        for place, stage in enumerate(stages):
            logger = stage.logger or default_logger()
            said = fields(stage)
            say(logger, "debug", "executing command", **said)
            began = trio.current_time()
            with ExitStack() as theirs:
                pipes: dict[str, Any] = {}
                if upstream is not None:
                    pipes["stdin"] = theirs.enter_context(upstream)
                if place < len(stages) - 1:
                    reader, writer = os.pipe()
                    upstream = ours.enter_context(FileIO(reader))
                    pipes["stdout"] = theirs.enter_context(FileIO(writer, "w"))
                try:
                    options = _prepared(stage, pipes, theirs)
                    processes.append(await service.start_with_options(options))
                except ProcessError as error:
                    duration = trio.current_time() - began
                    say(logger, "error", "command failed", **said, error=str(error), duration=duration)
                    raise
    return processes


def _prepared(stage: Stage, pipes: dict[str, Any], files: ExitStack) -> RunOptions:
    """Return what the service is to run; the files opened for it are closed with `files`."""
    options = stage.options
    changes = dict(pipes)
    if options.stdin is None:
        changes.setdefault("stdin", Stdio.NULL)
    command = os.fsdecode(options.command)  # type: ignore[arg-type]  # RunOptions takes no Secret for a command
    if options.cwd is not None and "/" in command and not os.path.isabs(command):
        changes["command"] = os.path.join(os.getcwd(), command)
    for stream in ("stdout", "stderr"):
        redirect = getattr(stage, stream)
        if redirect.append:
            changes[stream] = files.enter_context(_appending(stage, getattr(options, stream)))
    prepared = attrs.evolve(options, **changes)  # checked again: a file given may have been closed since
    for redirect in (stage.stdout, stage.stderr):
        if redirect.file is not None:
            redirect.file.flush()
    return prepared


def _appending(stage: Stage, path: Path) -> IO[bytes]:
    try:
        return path.open("ab", buffering=0)
    except OSError as error:
        raise ProcessStartError(f"can't start `{stage.typed}`: {str(path)!r}: {error.strerror}") from error


def fields(stage: Stage) -> dict[str, object]:
    """Return the fields of a log message that name a command."""
    options = stage.options
    return {"cmd": options.shown_command, "args": options.shown_args, "dir": options.shown_cwd}


def report(stages: Sequence[Stage], results: Sequence[CommandResult]) -> None:
    """Tell the loggers of the stages that failed."""
    for place in failed(results):
        stage, result = stages[place], results[place]
        logger = stage.logger or default_logger()
        say(logger, "error", "command failed", **fields(stage), error=str(result.error()), duration=result.duration)
