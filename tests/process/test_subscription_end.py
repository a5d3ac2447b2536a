"""A subscription to one process ends with it, whichever events it asked for."""

import pytest
import trio

from trio_process import ActionProcessOutput, ActionProcessStarted, Core, Service


@pytest.mark.parametrize("kinds", [(), (ActionProcessOutput,), (ActionProcessStarted,)])
async def test_a_subscription_to_one_process_ends_with_it(kinds):
    with trio.fail_after(30):
        async with Service() as service:
            process = await service.start("sh", "-c", "read line; echo $line")
            with service.subscribe(*kinds, id=process.id) as events:
                await process.send_input("hi\n")
                lines = [event.line async for event in events if isinstance(event, ActionProcessOutput)]
            assert lines == ([] if kinds == (ActionProcessStarted,) else ["hi"])


async def test_a_subscription_of_a_core_to_one_process_ends_with_it():
    with trio.fail_after(30):
        async with Core(Service) as core:
            key = await core.process.start("sh", "-c", "echo hi; sleep 0.2; echo ho")
            with core.subscribe(ActionProcessOutput, id=key) as events:
                assert [event.line async for event in events][-1] == "ho"
