"""The machine of one child: every edge of its table is taken here, on a handle that does as it is told."""

import signal
from datetime import UTC, datetime, timedelta

import pytest
import trio

from trio_process import (
    CommandFailedError,
    EndReason,
    ProcessStartError,
    RunOptions,
    Service,
    ServiceClosedError,
    ServiceOptions,
    Status,
    Stdio,
    StopFailedError,
    Stream,
)
from trio_process._core import Bus, ResourceUsage, ShutdownDeadline
from trio_process._process import ExitInfo, Lifecycle, Reactor, Survivor, backend
from trio_process._process.end_reason import Request
from trio_process._process.lifecycle import ALIVE, NEXT, OVER, SIGNALLABLE, Phase

STOP = Request(EndReason.STOPPED)
KILL = Request(EndReason.KILLED, signal.SIGKILL)


class Host:
    """A service that only counts what it hears."""

    def __init__(self):
        self.bus = Bus()
        self.reactor = Reactor()
        self.deadline = ShutdownDeadline()
        self.options = ServiceOptions(grace_period=5, drain_grace=0.1, drain_limit=2)
        self.ends = []

    def ended(self, id):  # noqa: A002 - as in the protocol
        self.ends.append(id)


class PuppetHandle:
    """A child that exits, holds its pipes and leaves descendants as the test says."""

    pid, host, has_stdin, launching = 4711, None, False, False

    def __init__(self, *, streams=0, descendants=False, ends_at_once=False):
        self.open_streams = streams
        self.descendants = descendants
        self.ends_at_once = ends_at_once
        self.exited = self.reaped = self.abandoned = False
        self.signals, self.paused, self.rest = [], [], []
        self.code = 0

    async def launched(self, options):
        raise NotImplementedError

    def begin(self, owner):
        self.owner = owner
        if self.ends_at_once:
            self.exit()

    def exit(self, code=0):
        self.exited, self.code = True, code
        self.owner.exited()

    def close_stream(self):
        self.open_streams -= 1
        self.owner.stream_ended()

    def pause(self, stream):
        self.paused.append(stream)

    def resume(self, stream):
        assert not self.reaped
        self.paused.remove(stream)

    def read_rest(self):
        assert not self.reaped
        while self.rest:
            data = self.rest.pop(0)
            if data:
                self.owner.received(Stream.STDOUT, data)
            else:
                self.close_stream()

    def close_outputs(self):
        self.open_streams = 0

    def signal(self, number, *, group):
        assert not self.reaped
        self.signals.append(number)

    def request_stop(self, number, *, group):
        self.signal(number, group=group)
        self.signal(signal.SIGCONT, group=group)

    def has_exited(self):
        return self.exited

    def survivor(self):
        return Survivor(self.pid, "D", "puppet")

    def sweep(self, age, kill_from, callback):
        self.swept = callback
        return (lambda: self.signals.append("descendants")) if self.descendants else None

    def reap(self):
        assert not self.reaped
        self.reaped = True
        return ExitInfo(self.code, ResourceUsage())

    def abandon(self):
        assert not self.reaped
        self.abandoned = True

    async def write_stdin(self, data):
        raise NotImplementedError

    def close_stdin(self):
        pass


class Story:
    """A lifecycle whose phases are written down."""

    def __init__(self, **options):
        self.host = Host()
        self.child = Lifecycle(self.host, "proc-0", RunOptions(command="puppet", **options), 1000)
        self.child.record.started = trio.current_time()

    def start(self, **traits):
        self.handle = PuppetHandle(**traits)
        self.child.started(self.handle)
        return self

    def unkillable(self):
        self.child.ask(KILL)
        self.child.check_unkillable()
        assert self.child.phase is Phase.UNKILLABLE
        return self

    @property
    def phase(self):
        return self.child.phase


def drain_in_silence(story):
    story.child._drain.check()  # the timer, as if the grace were over
    story.child._drain.cancel()
    story.child.drained()


def exit_with(**traits):
    def tell():
        story = Story().start(**traits)
        story.handle.exit()
        return story

    return tell


def then(make, what):
    def tell():
        story = make()
        what(story)
        return story

    return tell


def failed_start():
    story = Story()
    story.child.start_failed(ProcessStartError("no"))
    return story


def unkillable_that_exits(**traits):
    story = Story().start(**traits).unkillable()
    story.handle.exit(-9)
    return story


def asked_to_stop_and_swept():
    story = Story(detach=True).start(descendants=True)
    story.child.ask(STOP)
    story.handle.exit(-15)
    return story


def sweep_over(story):
    story.handle.swept([], False)


def abandon(story):
    story.child.abandon()


STORIES = {
    (Phase.STARTING, Phase.RUNNING): lambda: Story().start(),
    (Phase.STARTING, Phase.ENDED): failed_start,
    (Phase.RUNNING, Phase.DRAINING): exit_with(streams=1),
    (Phase.RUNNING, Phase.SWEEPING): exit_with(descendants=True),
    (Phase.RUNNING, Phase.ENDED): exit_with(),
    (Phase.RUNNING, Phase.UNKILLABLE): lambda: Story().start().unkillable(),
    (Phase.RUNNING, Phase.ABANDONED): then(lambda: Story(detach=True).start(), abandon),
    (Phase.DRAINING, Phase.SWEEPING): then(exit_with(streams=1, descendants=True), lambda s: s.handle.close_stream()),
    (Phase.DRAINING, Phase.ENDED): then(exit_with(streams=1), drain_in_silence),
    (Phase.DRAINING, Phase.ABANDONED): then(lambda: unkillable_that_exits(streams=1), abandon),
    (Phase.SWEEPING, Phase.ENDED): then(exit_with(descendants=True), sweep_over),
    (Phase.SWEEPING, Phase.ABANDONED): then(asked_to_stop_and_swept, abandon),
    (Phase.UNKILLABLE, Phase.DRAINING): lambda: unkillable_that_exits(streams=1),
    (Phase.UNKILLABLE, Phase.SWEEPING): lambda: unkillable_that_exits(descendants=True),
    (Phase.UNKILLABLE, Phase.ENDED): unkillable_that_exits,
    (Phase.UNKILLABLE, Phase.ABANDONED): then(lambda: Story().start().unkillable(), abandon),
}


def test_there_is_a_story_for_every_edge_of_the_table():
    assert set(STORIES) == {(phase, after) for phase in Phase for after in NEXT[phase]}


@pytest.mark.parametrize("edge", STORIES, ids=lambda edge: f"{edge[0].name}-{edge[1].name}")
async def test_every_edge_is_taken(edge, monkeypatch):
    taken = []
    enter = Lifecycle._enter

    def noted(child, phase):
        taken.append((child.phase, phase))
        enter(child, phase)

    monkeypatch.setattr(Lifecycle, "_enter", noted)
    story = STORIES[edge]()
    assert taken[-1] == edge
    assert story.child.record.status in {
        Phase.STARTING: {Status.PENDING},
        Phase.ENDED: {Status.EXITED, Status.KILLED, Status.FAILED},
    }.get(story.phase, {Status.RUNNING})
    assert story.child.done.is_set() is (story.phase is Phase.ENDED)
    assert story.child.settled.is_set() is (story.phase in OVER or bool(story.child.record.survivors))


@pytest.mark.parametrize(("before", "after"), [(a, b) for a in Phase for b in Phase if b not in NEXT[a]])
async def test_an_edge_that_is_not_in_the_table_is_refused(before, after):
    child = Story().child
    child.phase = before
    with pytest.raises(AssertionError, match="never followed"):
        child._enter(after)
    assert child.phase is before


def test_the_groups_of_phases_are_those_of_the_table():
    assert set(ALIVE) | {Phase.DRAINING, Phase.SWEEPING} == set(SIGNALLABLE)
    assert {phase for phase in Phase if not NEXT[phase]} == set(OVER)
    assert set(Phase) == {Phase.STARTING, *SIGNALLABLE, *OVER}


@pytest.mark.parametrize("make", [lambda: Story(detach=True).start(streams=1), asked_to_stop_and_swept])
async def test_every_callback_into_an_abandoned_child_does_nothing(make):
    story = make()
    child, handle, before = story.child, story.handle, list(story.handle.signals)
    child.abandon()
    told = list(story.host.ends)
    child.received(Stream.STDOUT, b"late\n")
    child.output_lost(MemoryError())
    child.stream_ended()
    child.exited()
    child.kill_descendants()
    child.check_unkillable()
    child.shorten_grace()
    child.ask(STOP)
    child.ask(KILL)
    child.ask(Request(EndReason.SIGNALLED, signal.SIGHUP))
    if hasattr(handle, "swept"):
        handle.swept([], True)  # the reactor serves timers that are due once more after it was stopped
    assert child.phase is Phase.ABANDONED
    assert (handle.reaped, handle.signals, story.host.ends) == (False, before, told)
    assert child.output.capture.bytes() == b""
    assert child.record.output_error is None


@pytest.mark.parametrize("request_", [STOP, KILL, Request(EndReason.SIGNALLED, signal.SIGTERM)])
async def test_requests_that_came_early_do_nothing_to_a_child_that_could_not_be_watched(request_):
    story = Story()
    story.child.ask(request_)
    story.child.ask(request_)
    assert story.child.handle.requests == (request_, request_)
    story.start(ends_at_once=True)
    assert story.phase is Phase.ENDED
    assert story.handle.signals == []
    assert story.child.record.reason is EndReason.EXITED


async def test_requests_that_came_early_are_replayed_in_order_and_their_grace_counts_from_the_start(autojump_clock):
    story = Story()
    story.child.ask(Request(EndReason.SIGNALLED, signal.SIGHUP))
    story.child.ask(Request(EndReason.STOPPED, grace_period=3.0))
    await trio.sleep(100)
    story.start()
    assert story.handle.signals == [signal.SIGHUP, signal.SIGTERM, signal.SIGCONT]
    assert story.child.kill_at == trio.current_time() + 3
    story.handle.exit(-signal.SIGTERM)
    assert story.child.record.reason is EndReason.STOPPED


async def test_a_stop_that_is_asked_for_again_can_only_come_sooner(autojump_clock):
    story = Story().start()
    for grace, expected in [(4, 4), (9, 4), (2, 2), (3, 2)]:
        story.child.ask(Request(EndReason.STOPPED, grace_period=float(grace)))
        assert story.child.kill_at == expected
    assert story.handle.signals == [signal.SIGTERM, signal.SIGCONT]
    story.host.deadline.advance(1.0)
    story.child.shorten_grace()
    assert story.child.kill_at == 1
    story.host.deadline.advance(0.0)
    story.child.shorten_grace()
    assert story.handle.signals[-1] == signal.SIGKILL


async def test_what_the_timer_of_a_drain_finds_unread_is_read_first(autojump_clock):
    story = Story().start(streams=1)
    story.handle.exit()
    await trio.sleep(0.2)
    story.handle.rest = [b"late", b""]
    story.child._drain.check()
    assert story.phase is Phase.ENDED
    assert story.child.output.capture.bytes() == b"late"
    assert not story.child.record.output_incomplete


async def test_a_survivor_that_dies_later_stays_settled_until_its_end_is_known():
    story = Story().start(streams=1).unkillable()
    assert [tuple(survivor) for survivor in story.child.record.survivors] == [(4711, "D", "puppet")]
    with pytest.raises(StopFailedError):
        story.child.record.raise_trouble()
    story.handle.exit(-9)
    assert story.child.settled.is_set()
    assert not story.child.done.is_set()
    story.handle.close_stream()
    assert story.phase is Phase.ENDED
    story.child.record.raise_trouble()


async def test_a_child_that_has_just_died_is_not_called_unkillable():
    story = Story().start()
    story.child.ask(KILL)
    story.handle.exited = True  # and the reactor has not come to it yet
    story.child.check_unkillable()
    assert story.phase is Phase.RUNNING


async def test_an_event_is_made_for_those_who_wait_alone():
    story = Story().start()
    assert story.child._done is story.child._settled is None
    done, settled = story.child.done, story.child.settled
    assert done is story.child.done
    story.handle.exit()
    assert done.is_set()
    assert settled.is_set()
    assert done is story.child.done
    assert story.child._settled is None


async def test_an_adopted_child_has_the_start_that_it_was_given(autojump_clock):
    story = Story()
    began = datetime.now(UTC) - timedelta(seconds=50)
    story.child.started(PuppetHandle(), began)
    assert story.child.record.started_at is began
    assert 49 < story.child.record.duration(trio.current_time()) < 60


async def test_an_end_that_was_lost_with_its_machine_is_neither_an_exit_nor_a_death():
    story = Story().start()
    story.handle.reap = lambda: ExitInfo(255, ResourceUsage(), incomplete=True, lost="the agent went away")
    story.child.ask(STOP)
    story.handle.exit()
    result = story.child.result()
    assert (result.reason, result.status, result.ok, result.output_incomplete) == (
        EndReason.LOST,
        Status.FAILED,
        False,
        True,
    )


# the same from outside


async def test_a_detached_child_in_its_grace_period_is_abandoned_when_the_service_is_left(
    autojump_clock, fake_processes
):
    fake_processes.on("worker", exit_code=None, ignores=["SIGTERM"])
    async with Service(options=ServiceOptions(grace_period=50)) as service:
        process = await service.start("worker", detach=True)
        process.terminate()
    with pytest.raises(ServiceClosedError, match="no longer watched"):
        process.kill()
    with pytest.raises(ServiceClosedError):
        await process.wait()


async def test_a_start_that_a_test_refuses_leaves_no_record(autojump_clock, fake_processes):
    async with Service() as service:
        with pytest.raises(Exception, match=r"no script|not registered|is registered"):
            await service.start("unknown")
        assert service.list() == []


@pytest.mark.parametrize(
    ("script", "options"),
    [
        ("head -c 5000 /dev/zero; exec sleep 60", {}),  # has to be stopped
        ("head -c 5000 /dev/zero", {}),  # has exited before it could be
        ("head -c 600 /dev/zero; head -c 600 /dev/zero >&2", {}),  # both streams count together
        ("head -c 5000 /dev/zero", {"disable_capture": True, "stderr": Stdio.NULL}),
    ],
)
async def test_more_output_than_the_limit_ends_a_process_and_is_never_ok(script, options):
    with trio.fail_after(30):
        async with Service() as service:
            result = await service.run("sh", "-c", script, max_output=1000, check=False, **options)
            assert (result.reason, result.ok) == (EndReason.OUTPUT_LIMIT, False)
            with pytest.raises(CommandFailedError):
                result.check()
            if not options:
                assert len(result.output_bytes) > 1000  # what it wrote is captured


async def test_exactly_the_limit_is_fine_and_what_is_written_during_the_stop_is_captured():
    with trio.fail_after(30):
        async with Service() as service:
            assert (await service.run("head", "-c", "1000", "/dev/zero", max_output=1000)).ok
            script = "trap 'echo saved; exit 0' TERM; head -c 1001 /dev/zero; while :; do sleep 0.05; done"
            result = await service.run("sh", "-c", script, max_output=1000, check=False)
            assert result.stdout.endswith("saved\n")  # stderr may have "Terminated": the shell says so of its head
            assert (result.reason, result.exit_code, result.ok) == (EndReason.OUTPUT_LIMIT, 0, False)


def test_the_time_until_a_process_is_called_unkillable_has_one_home():
    assert backend.STUCK_AFTER == 5.0
