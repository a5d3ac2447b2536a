import copy
import gc
import logging
import math
import pickle
from typing import Protocol

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from trio_process import (
    ActionProcessExited,
    ActionProcessKilled,
    ActionProcessOutput,
    ActionProcessStarted,
    EndReason,
    EventBatch,
    OptionError,
    Overflow,
    Stream,
)
from trio_process._core import Bus, batch_of
from trio_process._core.events.backlog import MAX_WEIGHT


def lines(*texts, key="p", name=None, stream=Stream.STDOUT, weight=None, partial=frozenset()):
    weight = sum(map(len, texts)) if weight is None else weight
    return EventBatch(id=key, name=name, stream=stream, lines=texts, weight=weight, partial=partial)


def exited(key="p", name=None):
    return ActionProcessExited(key, name, "true", (), 0, 0.1, None, EndReason.EXITED)


def killed(key="p", name=None):
    return ActionProcessKilled(key, name, "SIGKILL")


def offer(bus, batch):
    """Hand a batch of lines out as a process does; return whether somebody is full."""
    targets = bus.targets(batch._kind, batch.id, batch.name)
    for backlog in targets:
        backlog.offer(batch)
    return any(backlog.full for backlog in targets)


async def drain(subscription):
    return [event async for event in subscription]


def texts(events):
    return [event.line if isinstance(event, ActionProcessOutput) else event for event in events]


@pytest.fixture
def bus():
    bus = Bus()
    yield bus
    bus.close()


async def test_any_object_is_an_event_and_comes_in_order(bus):
    with bus.subscribe() as subscription:
        for event in (1, "two", None, ["three"]):
            bus.publish(event)
        bus.close()
        assert await drain(subscription) == [1, "two", None, ["three"]]


async def test_types_id_and_name_choose(bus):
    every = bus.subscribe()
    outputs = bus.subscribe(ActionProcessOutput)
    ends = bus.subscribe(ActionProcessExited, ActionProcessKilled)
    of_p = bus.subscribe(id="p")
    of_web = bus.subscribe(name="web")
    offer(bus, lines("a", name="web"))
    offer(bus, lines("b", key="q"))
    bus.publish(killed("p", "web"))
    bus.publish(exited("p", "web"))
    bus.publish(exited("q"))
    bus.publish("other")
    bus.close()
    assert texts(await drain(every)) == ["a", "b", killed("p", "web"), exited("p", "web"), exited("q"), "other"]
    assert texts(await drain(outputs)) == ["a", "b"]
    assert await drain(ends) == [killed("p", "web"), exited("p", "web"), exited("q")]
    assert texts(await drain(of_p)) == ["a", killed("p", "web"), exited("p", "web")]
    assert texts(await drain(of_web)) == ["a", killed("p", "web"), exited("p", "web")]


async def test_a_base_class_asks_for_all_that_derive_from_it(bus):
    class Mine:
        pass

    class Derived(Mine):
        pass

    with bus.subscribe(Mine) as subscription:
        event = Derived()
        bus.publish(event)
        bus.publish(object())
        bus.close()
        assert await drain(subscription) == [event]


async def test_a_subscription_to_one_process_ends_with_it_and_stays_ended(bus):
    subscription = bus.subscribe(ActionProcessOutput, id="p")  # although it does not ask for Exited
    offer(bus, lines("a"))
    bus.publish(exited())
    offer(bus, lines("never"))
    with trio.fail_after(5):
        assert texts(await drain(subscription)) == ["a"]
        for _ in range(2):  # as with any channel
            assert await drain(subscription) == []
            with pytest.raises(trio.EndOfChannel):
                await subscription.receive()
            with pytest.raises(trio.EndOfChannel):
                await subscription.receive_batch()
        subscription.close()
        with pytest.raises(trio.ClosedResourceError):
            await subscription.receive()


async def test_the_end_reaches_every_waiting_reader(bus):
    subscription = bus.subscribe()
    ends = []

    async def read():
        with pytest.raises(trio.EndOfChannel):
            await subscription.receive()
        ends.append(1)

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            nursery.start_soon(read)
            await trio.testing.wait_all_tasks_blocked()
            assert subscription.statistics().tasks_waiting == 2
            bus.close()
    assert len(ends) == 2


async def test_one_made_after_the_end_has_ended(bus):
    bus.close()
    with bus.subscribe() as subscription, trio.fail_after(5), pytest.raises(trio.EndOfChannel):
        await subscription.receive()


async def test_closing_wakes_a_waiting_reader(bus):
    subscription = bus.subscribe()
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def read():
                with pytest.raises(trio.ClosedResourceError):
                    await subscription.receive()

            await trio.testing.wait_all_tasks_blocked()
            subscription.close()
            subscription.close()
    await subscription.aclose()


async def test_closing_in_the_middle_of_a_batch_throws_the_rest_away(bus):
    with bus.subscribe() as subscription:
        offer(bus, lines("a", "b"))
        assert (await subscription.receive()).line == "a"
        subscription.close()
        with pytest.raises(trio.ClosedResourceError):
            await subscription.receive()
        with pytest.raises(trio.ClosedResourceError):
            async for _ in subscription:
                pass
        assert not bus.targets(ActionProcessOutput, "p", None)


async def test_batches_and_events_can_be_mixed(bus):
    with bus.subscribe() as subscription:
        offer(bus, lines("a", "b", "c", partial=frozenset({1})))
        offer(bus, lines("d", stream=Stream.STDERR))
        bus.publish("x")
        assert (await subscription.receive()).line == "a"
        rest = await subscription.receive_batch()
        assert (list(rest.lines), rest.stream, rest.id) == (["b", "c"], Stream.STDOUT, "p")
        assert [event.partial for event in rest] == [True, False]
        whole = await subscription.receive_batch()
        assert (list(whole.lines), whole.stream) == (["d"], Stream.STDERR)
        other = await subscription.receive_batch()
        assert (list(other), list(other.lines), len(other)) == (["x"], [], 1)


@pytest.mark.parametrize("method", ["receive", "__anext__"])
async def test_receiving_is_a_checkpoint_once_a_batch(bus, method):
    with bus.subscribe() as subscription:
        receive = getattr(subscription, method)
        for chunk in (("a", "b", "c"), ("d", "e")):
            offer(bus, lines(*chunk))
        for chunk in ("abc", "de"):
            with trio.testing.assert_checkpoints():
                assert (await receive()).line == chunk[0]
            for text in chunk[1:]:
                with trio.testing.assert_no_checkpoints():
                    assert (await receive()).line == text
        offer(bus, lines("f"))
        with trio.testing.assert_checkpoints():
            await subscription.receive_batch()


async def test_a_cancelled_receive_loses_nothing(bus):
    with bus.subscribe() as subscription:
        offer(bus, lines("a"))
        with trio.CancelScope() as scope:
            scope.cancel()
            await subscription.receive()
        assert scope.cancelled_caught
        assert (await subscription.receive()).line == "a"


async def test_wait_is_full_at_the_buffer_and_free_when_the_batch_is_read(bus):
    with bus.subscribe(buffer=3) as subscription:
        freed = []
        assert not offer(bus, lines("a", "b"))
        assert offer(bus, lines("c", "d"))  # one chunk may overshoot
        (backlog,) = bus.targets(ActionProcessOutput, "p", None)
        backlog.when_room(lambda: freed.append(1))
        for _ in range(2):
            await subscription.receive()
        assert not freed  # the batch that is being read counts until the next one is begun
        assert subscription.statistics().buffered == 2
        await subscription.receive()
        assert freed == [1]
        assert subscription.dropped == 0


async def test_a_buffer_of_nothing_takes_a_chunk_at_a_time(bus):
    with bus.subscribe(buffer=0) as subscription:
        assert offer(bus, lines("a"))
        assert len(await subscription.receive_batch()) == 1
        assert not any(backlog.full for backlog in bus.targets(ActionProcessOutput, "p", None))


async def test_an_endless_buffer_is_bounded_by_its_text(bus):
    with bus.subscribe(buffer=math.inf) as subscription:
        assert not offer(bus, lines("a", weight=MAX_WEIGHT - 1))
        assert offer(bus, lines("b", weight=1))
        assert subscription.statistics().buffered_bytes == MAX_WEIGHT


async def test_drop_newest_keeps_the_first_and_counts(bus):
    with bus.subscribe(buffer=3, overflow=Overflow.DROP_NEWEST) as subscription:
        assert not offer(bus, lines("a", "b"))
        assert not offer(bus, lines("c", "d", "e"))
        assert not offer(bus, lines("f"))
        bus.publish(killed())
        bus.publish(exited())
        assert subscription.dropped == 3
        bus.close()
        assert texts(await drain(subscription)) == ["a", "b", "c", killed(), exited()]


async def test_drop_oldest_keeps_the_last_and_counts(bus):
    with bus.subscribe(buffer=3, overflow="drop_oldest") as subscription:
        bus.publish(ActionProcessStarted("p", None, "true", (), None, 1, None))
        offer(bus, lines("a", "b"))
        offer(bus, lines("c", "d", "e"))
        bus.publish(exited())
        bus.close()
        events = texts(await drain(subscription))
        assert isinstance(events[0], ActionProcessStarted)
        assert events[1:] == ["e", exited()]
        assert subscription.dropped == 4


async def test_drop_oldest_does_not_drop_newer_events_than_those_in_hand(bus):
    with bus.subscribe(buffer=3, overflow="drop_oldest") as subscription:
        offer(bus, lines("a", "b", "c"))
        assert (await subscription.receive()).line == "a"
        offer(bus, lines("d", "e"))
        bus.close()
        assert texts(await drain(subscription)) == ["b", "c", "d", "e"]
        assert subscription.dropped == 0


async def test_dropping_is_bounded_by_text_too(bus):
    newest = bus.subscribe(buffer=math.inf, overflow="drop_newest")
    oldest = bus.subscribe(buffer=math.inf, overflow="drop_oldest")
    for _ in range(20):
        offer(bus, lines("x", weight=2**20))
    for subscription in (newest, oldest):
        assert subscription.statistics().buffered_bytes == MAX_WEIGHT
        assert subscription.dropped == 4
        subscription.close()


async def test_one_s_policy_is_not_another_s(bus):
    slow = bus.subscribe(buffer=1)
    dropping = bus.subscribe(buffer=1, overflow="drop_newest")
    other = bus.subscribe(buffer=100)
    assert offer(bus, lines("a", "b"))
    assert [subscription.statistics().buffered for subscription in (slow, dropping, other)] == [2, 1, 2]
    slow.close()
    assert not offer(bus, lines("c"))
    dropping.close()
    other.close()


async def test_the_beginning_and_the_end_are_never_dropped_nor_waited_for(bus):
    for overflow in Overflow:
        with bus.subscribe(buffer=0, overflow=overflow) as subscription:
            for _ in range(5):
                bus.publish(killed())
                bus.publish(exited("q"))
            assert subscription.statistics().buffered == 10
            assert subscription.dropped == 0


async def test_the_end_lets_go_of_who_waits_for_room(bus):
    freed = []
    subscription = bus.subscribe(buffer=1)
    assert offer(bus, lines("a"))
    (backlog,) = bus.targets(ActionProcessOutput, "p", None)
    backlog.when_room(lambda: freed.append(1))
    bus.close()
    assert freed == [1]
    assert not backlog.full
    assert texts(await drain(subscription)) == ["a"]


async def test_a_forgotten_subscription_closes_itself_and_says_where_it_was_made(bus, caplog):
    bus.subscribe(buffer=1)
    with caplog.at_level(logging.WARNING, "trio_process"):
        gc.collect()
        with trio.fail_after(5):
            while bus.targets(ActionProcessOutput, "p", None):
                await trio.lowlevel.checkpoint()
    (record,) = caplog.records
    assert "garbage-collected" in record.getMessage()
    assert "test_bus.py" in record.getMessage()


async def test_one_that_was_closed_or_read_to_its_end_is_forgotten_in_silence(bus, caplog):
    bus.subscribe().close()
    ended = bus.subscribe(id="p")
    bus.publish(exited())
    await drain(ended)
    del ended
    gc.collect()
    assert not caplog.records


async def test_a_bus_hands_on_to_its_parent(bus):
    child = Bus(bus, lambda key: key == "old")
    above, here = bus.subscribe(), child.subscribe()
    child.publish("both")
    bus.publish("above")
    version = child.version
    late = bus.subscribe(id="p")
    assert child.version != version  # who caches its targets has to look again
    child.publish(exited())
    child.close()
    assert await drain(here) == ["both", exited()]
    assert await drain(late) == [exited()]
    bus.close()
    assert await drain(above) == ["both", "above", exited()]


async def test_one_for_a_process_that_has_ended_ends_at_once(bus):
    child = Bus(bus, lambda key: key == "old")
    for place in (bus, child):
        assert await drain(place.subscribe(id="old")) == []
    child.close()


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"buffer": -1}, "buffer must be 0 or more"),
        ({"buffer": 1.5}, "buffer must be a whole number"),
        ({"overflow": "drop"}, "overflow must be one of 'wait', 'drop_oldest', 'drop_newest'"),
        ({"id": 3}, "id must be a process id"),
    ],
)
async def test_bad_arguments_are_refused(bus, given, text):
    with pytest.raises(OptionError, match=text):
        bus.subscribe(**given)


async def test_a_type_that_is_none_is_refused(bus):
    with pytest.raises(OptionError, match="takes event classes"):
        bus.subscribe("output")


@given(
    sizes=st.lists(st.integers(1, 7), max_size=12),
    buffer=st.integers(0, 10),
    overflow=st.sampled_from([Overflow.DROP_NEWEST, Overflow.DROP_OLDEST]),
    reads=st.lists(st.booleans(), min_size=12, max_size=12),
)
def test_dropping_keeps_the_order_and_the_count(sizes, buffer, overflow, reads):
    async def main():
        bus = Bus()
        written, got = [], []
        with bus.subscribe(buffer=buffer, overflow=overflow) as subscription:
            for size, read in zip(sizes, reads, strict=False):
                batch = [str(len(written) + place) for place in range(size)]
                written += batch
                assert not offer(bus, lines(*batch))
                assert subscription.statistics().buffered <= max(buffer, 1)
                if read:
                    got.append((await subscription.receive()).line)
            bus.close()
            got += [event.line async for event in subscription]
        assert len(got) + subscription.dropped == len(written)
        assert got == sorted(got, key=int)
        if overflow is Overflow.DROP_OLDEST and written:
            assert got[-1] == written[-1]

    trio.run(main)


@given(st.lists(st.text(max_size=3), max_size=6), st.data())
def test_a_batch_is_a_sequence_of_its_events(texts, data):
    partial = data.draw(st.frozensets(st.integers(0, max(0, len(texts) - 1)), max_size=len(texts)))
    batch = lines(*texts, name="n", partial=partial)
    events = [ActionProcessOutput("p", "n", text, Stream.STDOUT, place in partial) for place, text in enumerate(texts)]
    assert list(batch) == events
    assert len(batch) == len(events)
    assert all(type(event) is ActionProcessOutput for event in batch)
    cut = data.draw(st.slices(len(events)))
    assert list(batch[cut]) == events[cut]
    for place in range(-len(events), len(events)):
        assert batch[place] == events[place]
    with pytest.raises(IndexError):
        batch[len(events)]
    for event in events:
        assert list(batch_of(event)) == [event]


def test_a_batch_can_not_be_changed_and_compares_by_what_it_holds():
    texts = ["a", "b"]
    batch = EventBatch(id="p", name=None, stream=Stream.STDOUT, lines=texts, partial=frozenset({1}))
    texts.append("c")
    assert batch.lines == ("a", "b")
    for name in ("id", "name", "stream", "lines", "weight", "new"):
        with pytest.raises(AttributeError):
            setattr(batch, name, None)
    same = pickle.loads(pickle.dumps(batch))
    assert same == batch == copy.copy(batch) == batch[:]
    assert hash(same) == hash(batch)
    assert batch[:1] != batch
    assert batch_of(1) == batch_of(1) != batch_of(2)


@pytest.mark.parametrize("name", [5, b"x", ["x"]])
def test_a_name_that_is_no_text_is_refused(bus, name):
    with pytest.raises(OptionError, match="name must be the label of processes"):
        bus.subscribe(name=name)


@pytest.mark.parametrize("overflow", Overflow)
async def test_several_readers_share_the_events_and_none_is_lost(bus, overflow):
    with bus.subscribe(overflow=overflow, buffer=8) as subscription:
        got = []

        async def read():
            async for event in subscription:
                got.append(event.line)
                await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(read)
            for start in range(0, 400, 8):
                offer(bus, lines(*map(str, range(start, start + 4))))
                offer(bus, lines(*map(str, range(start + 4, start + 8))))  # two readers find a batch each
                await trio.testing.wait_all_tasks_blocked()
            statistics = subscription.statistics()
            bus.close()
    assert sorted(got, key=int) == [str(number) for number in range(400)]
    assert (statistics.buffered, statistics.buffered_bytes, statistics.dropped) == (0, 0, 0)


async def test_readers_that_begin_while_another_has_a_batch_take_part_in_it(bus):
    with bus.subscribe(buffer=math.inf) as subscription:
        offer(bus, lines("a", "b", "c"))
        offer(bus, lines("d"))
        assert (await subscription.receive()).line == "a"
        got = []

        async def read():
            got.append((await subscription.receive()).line)

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(read)
        assert sorted(got) == ["b", "c", "d"]
        assert not subscription.statistics().buffered


async def test_a_batch_whose_reading_is_cancelled_keeps_what_receive_has_left_of_it(bus):
    with bus.subscribe() as subscription:
        offer(bus, lines("a", "b", "c"))
        bus.publish("next")
        assert (await subscription.receive()).line == "a"
        with trio.CancelScope() as scope:
            scope.cancel()
            await subscription.receive_batch()
        assert scope.cancelled_caught
        assert (await subscription.receive_batch()).lines == ("b", "c")
        assert await subscription.receive() == "next"


class HasLine(Protocol):
    line: str


@pytest.mark.parametrize("kind", [HasLine, "ActionProcessOutput", int | str, list[int], 5])
async def test_only_what_an_event_can_be_an_instance_of_is_subscribed_to(bus, kind):
    with pytest.raises(OptionError, match="takes event classes"):
        bus.subscribe(kind)


async def test_a_closed_subscription_holds_nothing(bus):
    subscription = bus.subscribe()
    offer(bus, lines("a", "b", "c"))
    await subscription.receive()
    subscription.close()
    statistics = subscription.statistics()
    assert (statistics.buffered, statistics.buffered_bytes) == (0, 0)


async def test_what_is_buffered_is_read_at_once_and_in_a_cancelled_scope_too(bus):
    subscription = bus.subscribe()
    with pytest.raises(trio.WouldBlock):
        subscription.receive_nowait()
    offer(bus, lines("a", "b"))
    bus.publish("event")
    with trio.CancelScope() as scope, trio.testing.assert_no_checkpoints():
        scope.cancel()
        assert texts([subscription.receive_nowait() for _ in range(3)]) == ["a", "b", "event"]
        with pytest.raises(trio.WouldBlock):
            subscription.receive_nowait()
    offer(bus, lines("c"))
    bus.close()
    assert subscription.receive_nowait().line == "c"
    for _ in range(2):
        with pytest.raises(trio.EndOfChannel):
            subscription.receive_nowait()
    subscription.close()
    with pytest.raises(trio.ClosedResourceError):
        subscription.receive_nowait()


async def test_reading_at_once_makes_room_as_any_reading_does(bus):
    freed = []
    with bus.subscribe(buffer=2) as subscription:
        assert offer(bus, lines("a", "b"))
        (backlog,) = bus.targets(ActionProcessOutput, "p", None)
        backlog.when_room(lambda: freed.append(1))
        assert subscription.statistics().tasks_waiting_send == 1
        subscription.receive_nowait()
        subscription.receive_nowait()
        with pytest.raises(trio.WouldBlock):
            subscription.receive_nowait()
        assert freed == [1]
        assert subscription.statistics().tasks_waiting_send == 0


async def test_each_event_goes_to_one_of_the_clones_whichever_way_they_read(bus):
    seen = {name: [] for name in ("receive", "loop", "batch", "nowait")}
    every = [f"{number}" for number in range(400)]

    async def receive(channel):
        with channel, pytest.raises(trio.EndOfChannel):
            while True:
                seen["receive"].append(await channel.receive())
                await trio.lowlevel.checkpoint()

    async def loop(channel):
        async with channel:
            async for event in channel:
                seen["loop"].append(event)
                await trio.lowlevel.checkpoint()

    async def batch(channel):
        with channel, pytest.raises(trio.EndOfChannel):
            while True:
                seen["batch"].extend(await channel.receive_batch())

    async def nowait(channel):
        with channel, pytest.raises(trio.EndOfChannel):
            while True:
                try:
                    seen["nowait"].append(channel.receive_nowait())
                except trio.WouldBlock:
                    pass
                await trio.lowlevel.checkpoint()

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            with bus.subscribe(buffer=math.inf) as subscription:
                for reader in (receive, loop, batch, nowait):
                    nursery.start_soon(reader, subscription.clone())
            for start in range(0, len(every), 5):
                offer(bus, lines(*every[start : start + 5]))
                await trio.lowlevel.checkpoint()
            bus.close()
    assert sorted(texts([event for events in seen.values() for event in events]), key=int) == every
    assert all(seen.values())
    for events in seen.values():
        assert texts(events) == sorted(texts(events), key=int)


async def test_the_backlog_is_closed_with_the_last_clone(bus):
    first = bus.subscribe()
    second = first.clone()
    third = second.clone()
    offer(bus, lines("a", "b", "c", "d"))
    assert first.receive_nowait().line == "a"
    first.close()
    first.close()  # closing twice counts once
    with pytest.raises(trio.ClosedResourceError):
        first.receive_nowait()
    with pytest.raises(trio.ClosedResourceError):
        first.clone()
    assert second.statistics().open_receive_channels == 2
    assert second.receive_nowait().line == "b"  # of the batch that the first one had begun
    assert third.receive_nowait().line == "c"
    second.close()
    assert bus.targets(ActionProcessOutput, "p", None)
    late = third.clone()
    third.close()
    assert late.receive_nowait().line == "d"
    late.close()
    assert not bus.targets(ActionProcessOutput, "p", None)


async def test_closing_a_clone_ends_its_own_wait_alone(bus):
    first = bus.subscribe()
    second = first.clone()
    got = []

    async def wait():
        with pytest.raises(trio.ClosedResourceError):
            await first.receive()
        got.append("closed")

    async def read():
        got.append((await second.receive()).line)

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            nursery.start_soon(read)
            await trio.testing.wait_all_tasks_blocked()
            assert second.statistics().tasks_waiting_receive == 2
            first.close()
            await trio.testing.wait_all_tasks_blocked()
            assert got == ["closed"]
            offer(bus, lines("a"))
    assert got == ["closed", "a"]
    second.close()


async def test_a_clone_that_is_forgotten_counts_as_closed(bus, caplog):
    with bus.subscribe() as first:
        first.clone()
        with caplog.at_level(logging.WARNING, "trio_process"):
            gc.collect()
            with trio.fail_after(5):
                while first.statistics().open_receive_channels > 1:
                    await trio.sleep(0)
        assert "garbage-collected unclosed" in caplog.text
        offer(bus, lines("a"))
        assert first.receive_nowait().line == "a"


async def test_the_statistics_have_the_fields_of_a_memory_channel(bus):
    sender, receiver = trio.open_memory_channel(3)
    fields = {name for name in dir(receiver.statistics()) if not name.startswith("_")}
    sender.close()
    receiver.close()
    with bus.subscribe(buffer=3) as subscription:
        offer(bus, lines("a", "b"))
        found = subscription.statistics()
        assert {name for name in dir(found) if not name.startswith("_")} >= fields
        assert (found.current_buffer_used, found.max_buffer_size) == (found.buffered, found.buffer) == (2, 3)
        assert (found.open_send_channels, found.open_receive_channels) == (1, 1)
        bus.close()
        assert subscription.statistics().open_send_channels == 0
