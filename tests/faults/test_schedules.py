"""Two hundred random schedules of starts, stops, kills, cancellations and crashes, against a model of the end."""

import os
import signal
from contextlib import suppress

import trio
from harness import new_tag, with_tag
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import is_gone, open_descriptors, sh

from trio_process import (
    ActionProcessExited,
    ActionProcessKilled,
    ActionProcessOutput,
    ActionProcessStarted,
    EndReason,
    ProcessNotRunningError,
    Service,
    ServiceOptions,
    Status,
)

_KINDS = {
    "obedient": "echo ready; exec cat",
    "stubborn": "trap '' TERM USR1; echo ready; exec cat",
    "escaping": "setsid sleep $1 >/dev/null 2>&1 & echo ready; exec cat",
    "crowded": "sleep $1 & sleep $1 & echo ready; exec cat",
    "quick": "echo ready; exit 7",
}

_which = st.integers(0, 5)
_steps = st.one_of(
    st.tuples(st.just("start"), st.sampled_from([*_KINDS])),
    st.tuples(st.just("run and cancel"), st.sampled_from([0.0, 0.001, 0.004])),
    st.tuples(st.just("stop"), _which, st.sampled_from([0.0, 0.01])),
    st.tuples(st.just("stop and cancel"), _which, st.sampled_from([0.0, 0.002])),
    st.tuples(st.just("kill"), _which),
    st.tuples(st.just("terminate"), _which),
    st.tuples(st.just("crash"), _which),
    st.tuples(st.just("suspend"), _which),
    st.tuples(st.just("resume"), _which),
    st.tuples(st.just("end of input"), _which),
    st.tuples(st.just("pause"), st.sampled_from([0.0, 0.002])),
)
_ways_out = st.sampled_from(["left", "error", "cancelled"])


class Expected:
    """What a process may end with, from what was asked of it while it may have been alive."""

    def __init__(self, kind):
        self.kind = kind
        self.asked = []
        self.ends_by_itself = kind == "quick"

    def check(self, process):
        reason, code = process.reason, process.exit_code
        possible = {EndReason.EXITED} if code is not None and code >= 0 else {EndReason.SIGNALLED}
        if self.asked:
            possible |= {asked for asked, number in self.asked if number in (None, -code)}
            if EndReason.STOPPED in possible and not self.ends_by_itself and self.asked[0][1] is None:
                possible = {self.asked[0][0]}
        if code is not None and code >= 0:
            assert self.ends_by_itself or self.asked
            assert code == (7 if self.kind == "quick" else 0)
        assert reason in possible, (self.kind, self.asked, reason, code)
        assert process.status is (Status.EXITED if code >= 0 else Status.KILLED)


class Schedule:
    def __init__(self, service, tag):
        self.service, self.tag = service, tag
        self.processes = []
        self.expected = {}

    async def step(self, name, *args):
        if name == "start":
            process = await self.service.start(*sh(_KINDS[args[0]], self.tag))
            self.processes.append(process)
            self.expected[process.id] = Expected(args[0])
            if args[0] == "stubborn":
                await process.wait_for_line("ready")  # the trap is set
        elif name == "run and cancel":
            with trio.move_on_after(args[0]):
                await self.service.run(*sh("sleep $1 & sleep $1", self.tag), check=False)
        elif name == "pause":
            await trio.sleep(args[0])
        elif self.processes:
            process = self.processes[args[0] % len(self.processes)]
            await self.act(name, process, self.expected[process.id], *args[1:])

    async def act(self, name, process, expected, *args):
        running = process.is_running
        if name in ("stop", "stop and cancel") and running:
            expected.asked.append((EndReason.STOPPED, None))
        if name == "stop":
            await process.stop(args[0])
            assert not process.is_running
        elif name == "stop and cancel":
            with trio.move_on_after(args[0]) as scope:
                await process.stop()
            if scope.cancelled_caught and running:
                expected.asked.append((EndReason.CANCELLED, None))
                assert not process.is_running
        elif name == "kill":
            if running:
                expected.asked.append((EndReason.KILLED, signal.SIGKILL))
            process.kill()
            await process.wait(check=False)
        elif name == "terminate":
            if running:
                expected.asked.append((EndReason.SIGNALLED, signal.SIGTERM))
            process.terminate()
        elif name == "crash" and running:
            expected.asked.append((EndReason.SIGNALLED, signal.SIGKILL))
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
            await process.wait(check=False)
        elif name in ("suspend", "resume"):
            with suppress(ProcessNotRunningError):
                (process.suspend if name == "suspend" else process.resume)()
        elif name == "end of input":
            expected.ends_by_itself = True
            with suppress(ProcessNotRunningError):
                await process.close_stdin()


@settings(max_examples=200, deadline=None, suppress_health_check=[*HealthCheck], database=None, derandomize=True)
@given(st.lists(_steps, min_size=2, max_size=12), _ways_out)
def test_random_schedules_end_as_the_model_says(steps, way_out):
    trio.run(run_schedule, steps, way_out)


async def run_schedule(steps, way_out):
    tag = new_tag()
    descriptors = open_descriptors()
    mine, raised = ValueError("mine"), None
    with trio.fail_after(20), trio.CancelScope() as scope:
        try:
            async with Service(options=ServiceOptions(grace_period=0.05, drain_grace=0.01)) as service:
                events = service.subscribe(buffer=10_000)
                schedule = Schedule(service, tag)
                for step in steps:
                    await schedule.step(*step)
                for process in service.running():
                    schedule.expected[process.id].asked.append((EndReason.STOPPED, None))
                if way_out == "error":
                    raise mine
                if way_out == "cancelled":
                    scope.cancel()
                    await trio.lowlevel.checkpoint()
        except ValueError as error:
            raised = error
    assert raised is (mine if way_out == "error" else None)
    assert with_tag(tag) == []
    assert open_descriptors() == descriptors
    assert service.running() == []
    told = [event async for event in events]
    for process in service.list():
        assert is_gone(process.pid)
        if process.id in schedule.expected:
            schedule.expected[process.id].check(process)
        else:
            assert process.reason in (EndReason.CANCELLED, EndReason.EXITED)
        of_it = [event for event in told if event.id == process.id]
        kinds = [type(event) for event in of_it if not isinstance(event, ActionProcessOutput)]
        killed = [ActionProcessKilled] if process.signal_name else []
        assert kinds == [ActionProcessStarted, *killed, ActionProcessExited]
        assert isinstance(of_it[0], ActionProcessStarted)
        assert isinstance(of_it[-1], ActionProcessExited)
        assert (
            "".join(event.line + "\n" for event in of_it if isinstance(event, ActionProcessOutput)) == process.output()
        )
