"""The agent: the execution layer at the other end of a stream of bytes.

It says hello, is welcomed, enters a guarded `Service`, and from then on obeys the messages. It leaves that service, which
ends every process tree, when the connection ends, when nothing was received for the heartbeat, when the client says so,
or on SIGTERM. If the agent is killed, the service's guardian ends the trees.
"""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Callable
from typing import Final, final

import trio

from .._core import (
    EndReason,
    OptionError,
    ProcessError,
    ProcessNotFoundError,
    ProcessNotRunningError,
    ProgramNotFoundError,
    ResourceUsage,
    ServiceClosedError,
    StdinNotAvailableError,
    Stdio,
    Stream,
    Viewpoint,
    logger,
)
from .._process import (
    Backend,
    Handle,
    Lifecycle,
    ManagedProcess,
    Reactor,
    Record,
    Service,
    ServiceOptions,
    ask_to_stop,
    process_of,
)
from .capacity import usable_gpus, usable_memory, usable_slots
from .link import Inflow, Link
from .messages import (
    Bye,
    CloseStdin,
    Credit,
    Failed,
    Hello,
    Leave,
    Leaving,
    Over,
    Ping,
    Refused,
    Signal,
    Spawn,
    Stop,
    Welcome,
    message_in,
)
from .options import unpack_options
from .tap import Tap, TappedBackend
from .wire import VERSION, Frame, Kind, WireError

WELCOME_TIMEOUT: Final = 60.0
"""Seconds in which a client must answer the hello."""

_ENDING: Final = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
"""The signals at which an agent leaves."""

_TOGETHER: Final = 0.25  # seconds between two signals that an engine sends to a whole job at once
_AT_ONCE: Final = 0.02  # the same, where every process that fails has to wait for it
_DRAIN: Final = 5.0  # seconds for the last messages, once every tree is dead


@final
class TappedService(Service):
    """The agent's own service."""

    def __init__(self, options: ServiceOptions, taps: dict[int, Tap], on_end: Callable[[Lifecycle], object]) -> None:
        super().__init__(options=options)
        self._taps = taps
        self.runtime = self._runtime
        self.runtime.on_end = on_end

    def _make_backend(self, reactor: Reactor, options: ServiceOptions) -> Backend:
        return TappedBackend(super()._make_backend(reactor, options), reactor, self._taps)


@final
class Input:
    """The input still to be written to the stdin of one process."""

    def __init__(self, inflow: Inflow) -> None:
        self.inflow = inflow
        self.scope = trio.CancelScope()  # of the task that writes it
        self._parts: deque[bytes | None] = deque()
        self._arrived = trio.lowlevel.ParkingLot()
        self.closed = False

    def put(self, data: bytes | None) -> None:
        """Queue the next part, None for the end."""
        if not self.closed:
            self._parts.append(data)
            self._arrived.unpark_all()

    async def take(self) -> bytes | None:
        """Return the next part, None for the end."""
        while not self._parts:
            await self._arrived.park()
        return self._parts.popleft()


@final
class AgentServer:
    """Serves one client over one stream, from hello to bye.

    Args:
        stream: The connection, which is closed at the end.
        slots: How many processes it offers to run at the same time; None for the number of processors that it may use.
        lifeline: A stream that its starter holds open; end of file on it ends the agent, too.
    """

    def __init__(
        self, stream: trio.abc.Stream, *, slots: int | None = None, lifeline: trio.abc.ReceiveStream | None = None
    ) -> None:
        self._link = Link(stream)
        self._slots = slots
        self._lifeline = lifeline
        self._taps: dict[int, Tap] = {}
        self._inputs: dict[int, Input] = {}
        self._latest = 0
        self._nursery: trio.Nursery | None = None
        self._all_over = trio.Event()
        self._leave = trio.Event()
        self._is_stale = False  # the client may have given this agent up, so nothing more is begun

    async def serve(self) -> None:
        """Serve until there is a reason to leave; by then every process that was started is dead."""
        link = self._link
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(link.write)
            nursery.start_soon(self._watch_signals)
            if self._lifeline is not None:
                nursery.start_soon(self._watch_lifeline, self._lifeline)
            try:
                link.send(self._hello())
                frames, welcome = await self._welcome()
                await self._serve(nursery, frames, welcome)
            except WireError as error:
                logger.error("the client can't be served: %s", error)
            finally:
                await link.close()
                nursery.cancel_scope.cancel()

    def _hello(self) -> Hello:
        return Hello(
            version=VERSION,
            host=os.uname().nodename,
            place=Viewpoint().place,
            pid=os.getpid(),
            slots=usable_slots() if self._slots is None else self._slots,
            memory=usable_memory(),
            gpus=usable_gpus(),
        )

    async def _welcome(self) -> tuple[list[Frame], Welcome]:
        """Wait for the client's answer; return it, and the frames that came with it."""
        frames = None
        with trio.move_on_after(WELCOME_TIMEOUT):
            frames = await self._link.receive()
        if not frames:
            raise WireError("it has not answered the hello")
        message = message_in(frames[0])
        if not isinstance(message, Welcome):
            raise WireError(f"it answered the hello with a message {type(message).__name__}")
        return frames[1:], message

    async def _serve(self, nursery: trio.Nursery, frames: list[Frame], welcome: Welcome) -> None:
        try:
            options = ServiceOptions(
                grace_period=welcome.grace_period,
                drain_grace=welcome.drain_grace,
                drain_limit=welcome.drain_limit,
                containment=welcome.containment,
                guardian=True,
                retain=0,
            )
        except OptionError as error:
            raise WireError(f"the options of its service could not be understood: {error}") from None
        async with TappedService(options, self._taps, self._on_end) as service:
            nursery.start_soon(self._read, nursery, service, frames, welcome.heartbeat)
            nursery.start_soon(self._link.beat, welcome.heartbeat, lambda: self._end("nothing was heard of the client"))
            await self._leave.wait()
        with trio.move_on_after(_DRAIN):
            if self._taps:
                await self._all_over.wait()
            self._link.send(Bye())
            await self._link.flush()

    def _end(self, why: str) -> None:
        """Begin to leave, and say why."""
        if not self._leave.is_set():
            self._leave.set()
            self._link.send(Leaving(why))

    async def _watch_signals(self) -> None:
        with trio.open_signal_receiver(*_ENDING) as signals:
            async for number in signals:
                self._end(f"it got {signal.Signals(number).name}")

    async def _watch_lifeline(self, lifeline: trio.abc.ReceiveStream) -> None:
        try:
            while await lifeline.receive_some():
                pass  # nothing is ever said by it
        except (trio.BrokenResourceError, OSError):
            pass  # that is an end, too
        self._end("its starter has ended")

    async def _read(self, nursery: trio.Nursery, service: TappedService, frames: list[Frame], heartbeat: float) -> None:
        """Handle messages, until the connection ends."""
        try:
            heard = trio.current_time()
            received: list[Frame] | None = frames
            while received is not None:
                for frame in received:
                    self._handle(nursery, service, frame)
                received = await self._link.receive()
                silence, heard = trio.current_time() - heard, trio.current_time()
                if silence > heartbeat:
                    # one of the two was frozen. If it was this agent, the client has given it up, and what it had asked for
                    # by then must not begin any more; if it was the client, it learns why this agent leaves
                    self._is_stale = True
                    self._end(f"nothing was heard of the client for {silence:.1f} s")
        except WireError as error:
            logger.error("the client sent an invalid message: %s", error)
        self._link.break_off(trio.BrokenResourceError("the connection to the client has ended"))
        self._end("the connection to the client has ended")
        for tap in self._taps.values():
            tap.give_up()

    def _handle(self, nursery: trio.Nursery, service: TappedService, frame: Frame) -> None:
        if frame.kind is Kind.STDIN:
            if not self._is_stale:
                self._take_input(frame)
            return
        message = message_in(frame)
        if isinstance(message, Spawn):
            self._spawn(nursery, service, message)
        elif isinstance(message, (Credit, CloseStdin, Signal, Stop)):
            tap = self._tap(message.process)
            if tap is not None and not (self._is_stale and isinstance(message, (CloseStdin, Signal))):
                self._pass_on(service, tap, message)
        elif isinstance(message, Leave):
            self._end("the client needs it no more")
        elif not isinstance(message, Ping):
            raise WireError(f"a message {type(message).__name__} came from the client")

    def _pass_on(self, service: TappedService, tap: Tap, message: Credit | CloseStdin | Signal | Stop) -> None:
        """Handle a message about a process that has not ended; signals and stops arrive in the order of their requests."""
        match message:
            case Credit(_, stream, amount):
                tap.add_credit(_stream(stream), amount)
            case CloseStdin(process):
                if process in self._inputs:
                    self._inputs[process].put(None)
            case Signal(_, number):
                tap.signals.add(number)
                _signal(service, tap, number)
            case Stop(_, grace):
                tap.asked_to_end = True
                _stop(service, tap, grace)

    def _spawn(self, nursery: trio.Nursery, service: TappedService, message: Spawn) -> None:
        process = message.process
        if process <= self._latest:
            raise WireError(f"process {process} was to be started after process {self._latest}")
        options = unpack_options(message.options, str(process))
        self._latest = process
        if self._is_stale:
            self._link.send(Refused(process))
            return
        tap = self._taps[process] = Tap(self._link, process, prompt=message.prompt)
        if options.stdin is Stdio.PIPE:
            self._inputs[process] = Input(Inflow(self._link, Kind.STDIN, process))
        try:
            child, handle = service.runtime.spawn(options)
        except ProcessError as error:
            self._not_started(tap, error)
            return
        if handle.launching:
            nursery.start_soon(self._launch, nursery, service, child, handle, tap)
        else:  # most need no task of their own
            self._watch(nursery, service, child, handle, tap)

    async def _launch(
        self, nursery: trio.Nursery, service: TappedService, child: Lifecycle, handle: Handle, tap: Tap
    ) -> None:
        try:
            await service.runtime.launch(child, handle, prompt=True)
        except ProcessError as error:
            self._not_started(tap, error)
        else:
            self._watch(nursery, service, child, handle, tap)

    def _watch(self, nursery: trio.Nursery, service: TappedService, child: Lifecycle, handle: Handle, tap: Tap) -> None:
        service.runtime.watch(child, handle)
        given = self._inputs.get(tap.process)
        if given is not None:
            nursery.start_soon(self._feed, process_of(child), given, tap.process)

    def _not_started(self, tap: Tap, error: ProcessError) -> None:
        closed = isinstance(error, ServiceClosedError)
        self._link.send(Refused(tap.process) if closed else _failed(tap.process, error))
        self._forget(tap)

    def _forget(self, tap: Tap) -> None:
        del self._taps[tap.process]
        given = self._inputs.pop(tap.process, None)
        if given is not None:
            given.scope.cancel()
        if not self._taps and self._leave.is_set():
            self._all_over.set()

    def _tap(self, process: int) -> Tap | None:
        """Return the tap of a process, None if it has ended."""
        if not 0 < process <= self._latest:
            raise WireError(f"a message came for process {process}, which was never started")
        return self._taps.get(process)

    def _take_input(self, frame: Frame) -> None:
        self._tap(frame.process)
        given = self._inputs.get(frame.process)
        if given is not None:
            given.inflow.arrived(len(frame.body))
            given.put(frame.body)

    async def _feed(self, managed: ManagedProcess, given: Input, process: int) -> None:
        """Write received input to the process's stdin; returned credit confirms that it is in the pipe."""
        try:
            with given.scope:
                while (data := await given.take()) is not None:
                    await managed.send_input(data)
                    given.inflow.take(len(data), in_pieces=False)
                await managed.close_stdin()
        except ProcessNotRunningError:
            given.closed = True  # its end is about to be reported
        except StdinNotAvailableError:
            given.closed = True
            self._link.send(CloseStdin(process))

    def _on_end(self, child: Lifecycle) -> None:
        """Report the end of a process, at once if all of its output is sent and it is known who has ended it."""
        record = child.record
        if record.exit_code is None:
            return  # it has not started
        tap = self._taps[int(record.options.name or 0)]
        if record.reason is EndReason.STOPPED:
            cut, wait = not tap.asked_to_end, 0.0
        else:
            cut, wait = False, _may_be_cut(record.exit_code, tap)
        if tap.held or wait:
            assert self._nursery is not None
            self._nursery.start_soon(self._report_late, record, tap, cut, wait)
        else:
            self._report(record, tap, cut=cut)

    async def _report_late(self, record: Record, tap: Tap, cut: bool, wait: float) -> None:  # noqa: FBT001 - one caller
        await tap.flushed()
        if wait:
            with trio.move_on_after(wait):
                await self._leave.wait()
            cut = self._leave.is_set()
        self._report(record, tap, cut=cut)

    def _report(self, record: Record, tap: Tap, *, cut: bool) -> None:
        usage = record.usage or ResourceUsage()
        assert record.exit_code is not None
        pid, tap.pid = tap.pid, None
        self._link.send(
            Over(
                process=tap.process,
                pid=pid,
                exit_code=record.exit_code,
                user=usage.user,
                system=usage.system,
                max_rss=usage.max_rss,
                oom_killed=usage.oom_killed,
                core_dumped=usage.core_dumped,
                incomplete=record.output_incomplete,
                cut=cut,
                survivors=list(tap.survivors),
            )
        )
        self._forget(tap)


def _may_be_cut(exit_code: int, tap: Tap) -> float:
    """Return for how long it is not known whether a process has ended because the agent leaves; 0.0 if it is known.

    Engines that end a job signal all of its processes, so the agent and its children get that signal in any order. A shell
    whose child died of it exits with 128 + N (sh(1)), and other programs fail in ways of their own.
    """
    if exit_code == 0 or tap.asked_to_end:
        return 0.0
    number = -exit_code if exit_code < 0 else exit_code - 128
    if number in _ENDING:
        return 0.0 if number in tap.signals else _TOGETHER
    return _AT_ONCE if exit_code > 0 else 0.0


def _stream(name: str) -> Stream:
    try:
        return Stream(name)
    except ValueError:
        raise WireError(f"there is no stream {name!r:.40}") from None


def _failed(process: int, error: ProcessError) -> Failed:
    number, filename = None, None
    if isinstance(error.__cause__, OSError):
        number = error.__cause__.errno
        if error.__cause__.filename is not None:
            filename = os.fsdecode(error.__cause__.filename)
    return Failed(process, isinstance(error, ProgramNotFoundError), str(error), number, filename)


def _signal(service: Service, tap: Tap, number: int) -> None:
    """Pass a signal on; suspending is a request of its own, as a stop then has to wake the process first."""
    try:
        managed = service.get(tap.id)
        if number == signal.SIGSTOP:
            managed.suspend()
        elif number == signal.SIGCONT:
            managed.resume()
        else:
            managed.signal(number)
    except (ProcessNotFoundError, ProcessNotRunningError):
        pass  # it has ended meanwhile


def _stop(service: Service, tap: Tap, grace: float) -> None:
    try:
        ask_to_stop(service.get(tap.id), grace_period=grace)
    except ProcessNotFoundError:
        pass  # it has ended meanwhile; survivors are reported by the tap
