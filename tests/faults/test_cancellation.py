"""Cancellation at every await of a start, a run, a stop: at the n-th checkpoint, for n = 1, 2, 3 … until it ends."""

from contextlib import nullcontext
from functools import partial

import pytest
import trio
from harness import new_tag, with_tag
from support import is_gone, open_descriptors, sh

from trio_process import (
    ActionProcessExited,
    ActionProcessKilled,
    ActionProcessStarted,
    CommandTimeoutError,
    RunOptions,
    Service,
    ServiceOptions,
)

_ENOUGH = 200  # checkpoints; what needs more never ends


class CancelAt(trio.abc.Instrument):
    """Cancels a scope when a task, or any task of all, is about to go on for the n-th time."""

    def __init__(self, number, scope, task):
        self.left = number
        self.scope = scope
        self.task = task

    def before_task_step(self, task):
        if self.task is None or task is self.task:
            self.left -= 1
            if self.left == 0:
                self.scope.cancel()


async def whole_start(service, tag):
    await service.start(*sh("setsid sleep $1 & sleep $1", tag))


async def whole_launch(service, tag):
    await service.start("sleep", tag, nice=1, log_file="/dev/null")


async def whole_open(service, tag):
    async with service.open(*sh("sleep $1 & cat", tag)) as process:
        await process.send_input("hello\n")
        await process.wait_for_line("hello")
        await process.close_stdin()


async def whole_run(service, tag):
    await service.run(*sh("echo out; echo err >&2; exit 3"), check=False)


async def whole_run_process(service, tag):
    async with trio.open_nursery() as nursery:
        options = RunOptions(command="sleep", args=(tag,), timeout=0.02, name="x")
        process = await nursery.start(partial(service.run_process, check=False), options)
        with pytest.raises(CommandTimeoutError):
            await process.wait()


async def whole_stop(service, tag):
    process = await service.start(*sh("trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.01; done"))
    await process.wait_for_line("ready")
    await process.stop()
    await process.stop()


async def whole_escalation(service, tag):
    process = await service.start(*sh("trap '' TERM; echo ready; while :; do sleep 0.01; done"))
    await process.wait_for_line("ready")
    await process.stop(0.02)


async def whole_subscription(service, tag):
    with service.subscribe() as events:
        process = await service.start("echo", "hello")
        await events.receive()
        await process.wait()
        await service.wait_all()


@pytest.mark.parametrize(
    "whole",
    [
        whole_start,
        whole_launch,
        whole_open,
        whole_run,
        whole_run_process,
        whole_stop,
        whole_escalation,
        whole_subscription,
    ],
    ids=lambda whole: whole.__name__,
)
@pytest.mark.parametrize("inside", [True, False], ids=["in the service", "around the service"])
@pytest.mark.parametrize("own", [True, False], ids=["its own", "any task's"])
async def test_cancelled_at_any_checkpoint_it_leaves_nothing(whole, inside, own):
    with trio.fail_after(60):
        await trio.sleep(0)
        descriptors = open_descriptors()
        for number in range(1, _ENOUGH):
            finished = await once(whole, number, inside=inside, own=own)
            assert open_descriptors() == descriptors, f"cancelled at {number}"
            if finished:
                break
        else:
            pytest.fail("it never ended")
        assert number > 1


async def once(whole, number, *, inside, own):
    """Cancel it at that checkpoint and look for all that must hold; return whether it ended before."""
    tag = new_tag()
    began = trio.current_time()
    finished = False
    seen, events = [], []
    scope = trio.CancelScope()
    instrument = CancelAt(number, scope, trio.lowlevel.current_task() if own else None)
    trio.lowlevel.add_instrument(instrument)
    try:
        with nullcontext() if inside else scope:
            async with Service(options=ServiceOptions(grace_period=0.05, drain_grace=0.01)) as service:
                seen.append(service)
                events.append(service.subscribe(ActionProcessStarted, ActionProcessKilled, ActionProcessExited))
                with scope if inside else nullcontext():
                    await whole(service, tag)
                    finished = True
                if inside and scope.cancelled_caught:  # what was cancelled has harmed nobody else
                    assert (await service.run("echo", "on")).output == "on\n"
    finally:
        trio.lowlevel.remove_instrument(instrument)
    assert trio.current_time() - began < 10
    assert with_tag(tag) == []
    for service, subscription in zip(seen, events, strict=True):
        told = [event async for event in subscription]
        for process in service.list():
            assert not process.is_running
            assert process.pid is None or is_gone(process.pid)
            assert process.reason is not None
            kinds = [type(event).__name__ for event in told if event.id == process.id]
            killed = ["ActionProcessKilled"] if process.signal_name else []
            started = ["ActionProcessStarted"] if process.pid is not None else []
            assert kinds == [*started, *killed, "ActionProcessExited"]
    return finished and not scope.cancel_called
