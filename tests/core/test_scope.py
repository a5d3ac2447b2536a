"""No exception group of our making."""

import asyncio
import logging

import attrs
import pytest
import trio
import trio.testing
from outcome import acapture

from trio_process._core import Block, ProcessError, open_scope, open_shielded_scope, raise_first


async def fails(error, after=0.0):
    await trio.sleep(after)
    raise error


@pytest.mark.parametrize(
    "error",
    [
        ValueError("body"),
        KeyboardInterrupt(),
        SystemExit(3),
        ExceptionGroup("the body's own", [ValueError(1)]),
        BaseExceptionGroup("the body's own", [KeyboardInterrupt()]),
        StopIteration(),
        StopAsyncIteration(),
        GeneratorExit(),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_the_body_error_leaves_as_the_same_object(error):
    with pytest.raises(type(error)) as caught:
        async with open_scope() as outer:
            outer.start_soon(trio.sleep_forever)
            async with open_scope() as inner:
                inner.start_soon(trio.sleep_forever)
                raise error
    assert caught.value is error


async def test_leaving_cancels_the_tasks():
    with trio.fail_after(5):
        async with open_scope() as nursery:
            nursery.start_soon(trio.sleep_forever)


async def test_leaving_waits_for_the_tasks_where_that_is_wanted():
    done = []

    async def work():
        await trio.lowlevel.checkpoint()
        done.append(1)

    with trio.fail_after(5):
        async with open_scope(wait=True) as nursery:
            nursery.start_soon(work)
    assert done == [1]


async def test_a_failed_body_does_not_wait_for_the_tasks():
    error = ValueError("body")
    with trio.fail_after(5), pytest.raises(ValueError) as caught:
        async with open_scope(wait=True) as nursery:
            nursery.start_soon(trio.sleep_forever)
            raise error
    assert caught.value is error


async def test_the_one_failure_of_a_task_leaves_bare():
    error = ProcessError("task")
    with trio.fail_after(5), pytest.raises(ProcessError) as caught:
        async with open_scope() as nursery:
            nursery.start_soon(fails, error)
            await trio.sleep_forever()
    assert caught.value is error


async def test_a_task_s_own_group_stays_as_it_is():
    group = ExceptionGroup("the task's own", [ValueError(1), ValueError(2)])
    with trio.fail_after(5), pytest.raises(ExceptionGroup) as caught:
        async with open_scope() as nursery:
            nursery.start_soon(fails, group)
            await trio.sleep_forever()
    # the same errors, no level more; trio itself makes the group anew when a cancelled scope looks through it
    assert caught.value.message == "the task's own"
    assert [id(error) for error in caught.value.exceptions] == [id(error) for error in group.exceptions]


async def test_only_several_failures_are_grouped():
    errors = [ProcessError("one"), ProcessError("two")]

    async def fails_when_cancelled(error):
        try:
            await trio.sleep_forever()
        finally:
            raise error

    with trio.fail_after(5), pytest.raises(ExceptionGroup) as caught:
        async with open_scope() as nursery:
            for error in errors:
                nursery.start_soon(fails_when_cancelled, error)
            await trio.testing.wait_all_tasks_blocked()
    assert set(caught.value.exceptions) == set(errors)


async def test_failures_of_the_way_out_become_notes_and_log_records(caplog):
    error, failure = ValueError("body"), ProcessError("way out")

    async def fails_when_cancelled():
        try:
            await trio.sleep_forever()
        finally:
            raise failure

    with trio.fail_after(5), pytest.raises(ValueError) as caught, caplog.at_level(logging.ERROR, "trio_process"):
        async with open_scope() as nursery:
            nursery.start_soon(fails_when_cancelled)
            await trio.testing.wait_all_tasks_blocked()
            raise error
    assert caught.value is error
    assert error.__notes__ == ["on the way out, this failed too: ProcessError('way out')"]
    assert [record.exc_info[1] for record in caplog.records] == [failure]


async def test_a_keyboard_interrupt_goes_before_everything_else():
    interrupt = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt) as caught:
        raise_first(ValueError("body"), [ProcessError("x"), interrupt])
    assert caught.value is interrupt
    assert len(interrupt.__notes__) == 2


async def test_cancellation_goes_through():
    with trio.fail_after(5), trio.CancelScope() as scope:
        async with open_scope() as nursery:
            nursery.start_soon(trio.sleep_forever)
            async with open_scope():
                scope.cancel()
                await trio.sleep_forever()
    assert scope.cancelled_caught


@pytest.mark.parametrize("count", [1, 3])
async def test_the_failure_of_a_task_is_told_though_the_body_was_in_a_nursery_of_its_own(count):
    error = ProcessError("task")

    async def body():
        async with open_scope() as nursery, trio.open_nursery() as inner:
            for _ in range(count):
                inner.start_soon(trio.sleep_forever)
            nursery.start_soon(fails, error)

    with trio.fail_after(5):
        # caught here, as pytest-trio takes a test that ends with Cancelled for one that passed
        found = await acapture(body)
    assert found.error is error
    assert not hasattr(error, "__notes__")


async def test_of_a_body_that_fails_while_it_is_cancelled_only_the_failure_is_left():
    async def fails_when_cancelled():
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("clean-up")

    with trio.fail_after(5), pytest.raises(ExceptionGroup) as caught:
        async with open_scope() as nursery:
            async with trio.open_nursery() as inner:
                inner.start_soon(trio.sleep_forever)
                inner.start_soon(fails_when_cancelled)
                await trio.testing.wait_all_tasks_blocked()
                nursery.start_soon(fails, ProcessError("task"))
                await trio.sleep_forever()
    assert [repr(leaf) for leaf in caught.value.exceptions] == ["ValueError('clean-up')"]
    assert caught.value.__notes__ == ["on the way out, this failed too: ProcessError('task')"]


async def test_cancellation_of_a_nursery_in_the_body_goes_through():
    with trio.fail_after(5), trio.CancelScope() as scope:
        async with open_scope() as nursery, trio.open_nursery() as inner:
            nursery.start_soon(trio.sleep_forever)
            for _ in range(3):
                inner.start_soon(trio.sleep_forever)
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
    assert scope.cancelled_caught


async def test_the_error_keeps_its_traceback_to_the_line_that_raised_it():
    with pytest.raises(ValueError) as caught:
        async with open_scope():
            raise ValueError("here")
    assert any("raise ValueError" in str(entry.statement) for entry in caught.traceback)


class OneEntry(Block):
    def _block(self):
        return open_scope()


async def test_a_block_is_not_entered_twice_at_once():
    block = OneEntry()
    async with block:
        with pytest.raises(ProcessError, match="already been entered"):
            async with block:
                pass
    async with block:  # one after the other is fine, unless a subclass refuses it
        pass


def test_a_block_outside_of_trio_says_so_and_can_be_entered_in_it():
    async def enter():
        async with block:
            return "entered"

    block = OneEntry()
    with pytest.raises(ProcessError, match=r"^a OneEntry runs in Trio: write trio\.run\(main\), not asyncio\.run"):
        asyncio.run(enter())
    assert trio.run(enter) == "entered"


@attrs.define
class Failing:
    error: Exception

    async def __aenter__(self):
        raise self.error

    async def __aexit__(self, *_):
        raise AssertionError("never entered")


async def test_a_failed_entry_is_bare_and_can_be_tried_again():
    error = OSError("taken")

    class Tries(Block):
        def _block(self):
            return Failing(error)

    block = Tries()
    for _ in range(2):
        with pytest.raises(OSError) as caught:
            async with block:
                pass
        assert caught.value is error


async def test_tasks_of_a_shielded_scope_serve_the_body_until_it_has_been_left():
    asked, answered = trio.Event(), trio.Event()

    async def serve():
        await asked.wait()
        answered.set()
        await trio.sleep_forever()

    with trio.fail_after(5), trio.CancelScope() as outside:
        async with open_shielded_scope() as nursery:
            nursery.start_soon(serve)
            outside.cancel()
            try:
                await trio.sleep_forever()
            finally:
                with trio.CancelScope(shield=True):
                    asked.set()
                    await answered.wait()
    assert outside.cancelled_caught


async def test_a_shielded_scope_is_left_when_it_is_entered_in_a_cancelled_one():
    with trio.fail_after(5), trio.CancelScope() as outside:
        outside.cancel()
        async with open_shielded_scope() as nursery:
            nursery.start_soon(trio.sleep_forever)
            await trio.sleep_forever()
    assert outside.cancelled_caught


async def test_a_shielded_scope_hands_on_errors_of_the_body_and_of_a_task_bare():
    error = ValueError("mine")
    with pytest.raises(ValueError, match="mine") as caught:
        async with open_shielded_scope() as nursery:
            nursery.start_soon(trio.sleep_forever)
            raise error
    assert caught.value is error
    with pytest.raises(ValueError, match="mine") as caught:
        async with open_shielded_scope() as nursery:
            nursery.start_soon(fails, error)
            await trio.sleep_forever()
    assert caught.value is error
