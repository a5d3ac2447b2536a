"""Run the stages of a pipe concurrently, in a service of their own."""

from __future__ import annotations

import math
import os
from collections.abc import AsyncIterable, AsyncIterator, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from inspect import isasyncgen, isawaitable
from io import FileIO
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
    Stream,
    Subscription,
    open_scope,
    uninterrupted,
)
from .._process import ManagedProcess, Service, ServiceOptions
from .stage import Stage

_DIED_OF_SIGPIPE: Final = (-SIGPIPE, 128 + SIGPIPE)  # 141 is how a shell reports that its last child did


_KEEP_ALL: Final = ServiceOptions(retain_bytes=math.inf)  # a run is short: keep everything


@final
class Execution:
    """Running commands, connected by pipes, and their output; made by `executing`."""

    __slots__ = (
        "_all_in",
        "_batch",
        "_events",
        "_exited",
        "_handled",
        "_places",
        "_results",
        "_service",
        "_stages",
        "_turn",
    )

    def __init__(self, stages: Sequence[Stage], service: Service, events: Subscription[Any] | None) -> None:
        self._stages = stages
        self._service = service
        self._events = events
        self._places: dict[str, int] = {}  # process id to stage
        self._results: dict[int, CommandResult] = {}
        self._all_in = trio.Event()
        self._exited = 0
        self._batch: EventBatch | None = None  # the lines whose handler is being called
        self._handled = 0  # how many of them have been handled
        self._turn = trio.Lock()

    @trio.lowlevel.enable_ki_protection
    async def start(self, nursery: trio.Nursery) -> None:
        """Start the stages from left to right.

        Our copies of a pipe's ends are closed right after the spawn of the stage that uses them: as long as another
        process holds one, a reader gets no end of file and a writer no SIGPIPE (pipe(7)).
        """
        with ExitStack() as ours:
            upstream: FileIO | None = None
            for place, stage in enumerate(self._stages):
                with ExitStack() as theirs:
                    ends: dict[str, IO[bytes]] = {}
                    if upstream is not None:
                        ends["stdin"] = theirs.enter_context(upstream)
                    if place < len(self._stages) - 1:
                        reader, writer = _make_pipe(stage)
                        upstream = ours.enter_context(FileIO(reader))
                        ends["stdout"] = theirs.enter_context(FileIO(writer, "w"))
                    process = await self._start_stage(place, ends, theirs, nursery)
                    self._places[process.id] = place
                    if stage.feed is not None:
                        nursery.start_soon(feed_stdin, stage.feed, process, name="trio_process stdin")

    async def _start_stage(
        self, place: int, ends: Mapping[str, IO[bytes]], files: ExitStack, nursery: trio.Nursery
    ) -> ManagedProcess:
        stage = self._stages[place]
        began = trio.current_time()
        stage.log("debug", "executing command")
        try:
            options = stage.prepared(ends, files)
            process: ManagedProcess = await nursery.start(self._run_stage, place, options)
        except ProcessError as error:
            stage.log("error", "command failed", error=str(error), duration=trio.current_time() - began)
            raise
        return process

    async def _run_stage(
        self, place: int, options: RunOptions, *, task_status: trio.TaskStatus[ManagedProcess]
    ) -> None:
        self._results[place] = await self._service.run_process(options, check=False, task_status=task_status)
        if len(self._results) == len(self._stages):
            self._all_in.set()

    async def receive(self) -> EventBatch | None:
        """Call the handlers for the next lines and return the lines; None once all stages have ended."""
        assert self._events is not None
        async with self._turn:  # concurrent tasks share the lines, and each of them sees the end
            while self._batch is None:
                if self._exited == len(self._stages):
                    return None
                batch = await self._events.receive_batch()
                if batch.stream is None:
                    self._exited += 1
                else:
                    self._batch, self._handled = self._masked(batch), 0
            await self._call_handler(self._batch)
            batch, self._batch = self._batch, None
            return batch

    def _masked(self, batch: EventBatch) -> EventBatch:
        """Mask the secrets of all stages: a stage knows only its own, and can print those of another."""
        if len(self._stages) == 1 or not any(stage.options.redact for stage in self._stages):
            return batch
        masker = masker_of(self._stages)
        return EventBatch(
            id=batch.id, name=batch.name, stream=batch.stream, lines=[masker(line) for line in batch.lines]
        )

    async def _call_handler(self, batch: EventBatch) -> None:
        """Call the handler once for each line; after a cancellation, the next call resumes behind the cancelled line."""
        stage = self._stages[self._places[batch.id]]
        call = (stage.stdout if batch.stream is Stream.STDOUT else stage.stderr).call
        if call is None:
            return
        while self._handled < len(batch.lines):
            self._handled += 1
            try:
                outcome = call(batch.lines[self._handled - 1])
                if outcome is not None and isawaitable(outcome):
                    await outcome
            except StopAsyncIteration as error:  # it would silently end the loop over the lines (PEP 479)
                raise RuntimeError("the handler of lines raised StopAsyncIteration") from error

    async def finish(self) -> None:
        """Wait for the end of all stages, and for the handlers of lines."""
        if self._events is not None:
            while await self.receive() is not None:
                pass
        await self._all_in.wait()

    def results(self) -> tuple[CommandResult, ...]:
        """Return the result of each stage; all must have ended."""
        results = tuple([self._results[place] for place in range(len(self._stages))])
        if len(results) == 1:
            return results
        masker = masker_of(self._stages)
        redact = any(stage.options.redact for stage in self._stages)
        return tuple([_shared(result, masker, redact=redact) for result in results])

    def report(self) -> None:
        """Log the failures of stages, each to the logger of its stage."""
        results = self.results()
        for place in failed(results):
            error, duration = results[place].error(), results[place].duration
            self._stages[place].log("error", "command failed", error=str(error), duration=duration)


def _make_pipe(stage: Stage) -> tuple[int, int]:
    try:
        return os.pipe()
    except OSError as error:
        why = f"no pipe can be created behind it ({error.strerror}); close some files, or raise the limit (ulimit -n)"
        raise ProcessStartError(f"can't start `{stage.command_line}`: {why}") from error


def masker_of(stages: Sequence[Stage]) -> Masker:
    """Return a masker for the secrets of all stages: one stage can print what another was given."""
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
    """Return the indices of the stages that failed.

    As with pipefail, every stage must be `ok`. An early stage that died of SIGPIPE is fine: the next one had read enough,
    as in ``yes | head``.
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


@uninterrupted
async def executing(stages: Sequence[Stage], *, listen: bool = False) -> AsyncIterator[Execution]:
    """Run the stages, the stdout of each connected to the stdin of the next; leaving the block stops all of them.

    Args:
        stages: The commands.
        listen: Whether the caller reads lines; if not, only line handlers get them.
    """
    listen = listen or any(stage.stdout.call or stage.stderr.call for stage in stages)
    async with Service(options=_KEEP_ALL) as service, open_scope() as nursery:
        # subscribed before the first start, so that no line is missed; `Exited` comes behind the last line
        events = service.subscribe(ActionProcessOutput, ActionProcessExited) if listen else None
        with events or nullcontext():
            execution = Execution(stages, service, events)
            await execution.start(nursery)
            yield execution


async def feed_stdin(feed: AsyncIterable[bytes], process: ManagedProcess) -> None:
    """Write the chunks of `feed` to a process until the feed ends or the process stops reading."""
    try:
        async for chunk in feed:
            try:
                await process.send_input(chunk)
            except (StdinNotAvailableError, ProcessNotRunningError):
                return  # it has read enough, as `head` does; its exit code says whether that is a failure
        await process.close_stdin()
    finally:
        if isasyncgen(feed):
            await feed.aclose()
