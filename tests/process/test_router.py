"""Subscriptions that begin while a process is writing, without a process."""

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from trio_process import ActionProcessOutput, RunOptions, Stream
from trio_process._core import Bus
from trio_process._process.output import OutputRouter

words = st.sampled_from(["a", "\n", "\r\n", "é", "€", "\N{GRINNING FACE}", "long" * 5])


def router_of(bus, size, **options):
    return OutputRouter(bus, "p", RunOptions(command="true", **options), size)


async def received(bus, subscription):
    bus.close()
    return [(event.line, event.partial) async for event in subscription]


async def lines_from(size, before, after, max_line):
    """Return what a subscription gets that begins between two chunks."""
    bus = Bus()
    router = router_of(bus, size, max_line=max_line)
    router.receive(Stream.STDOUT, before)
    with bus.subscribe(ActionProcessOutput) as late:
        router.receive(Stream.STDOUT, after)
        router.finish()
        return await received(bus, late)


@given(st.lists(words, max_size=25).map("".join), st.integers(0), st.integers(4, 30))
def test_a_late_subscription_gets_the_pieces_that_an_early_one_gets(text, place, max_line):
    data = text.encode()
    place %= len(data) + 1
    early = trio.run(lines_from, 1000, b"", data, max_line)
    late = trio.run(lines_from, 1000, data[:place], data[place:], max_line)
    assert late == early[len(early) - len(late) :]
    assert "".join(line for line, _ in late).endswith(data[place:].decode(errors="ignore").rpartition("\n")[2])


@pytest.mark.parametrize("character", ["é", "€", "\N{GRINNING FACE}"])
@pytest.mark.parametrize("size", range(5, 13))
def test_a_line_whose_beginning_was_overwritten_begins_with_a_whole_character(character, size):
    before, after = (character * 7).encode(), b"end\n"
    ((line, partial),) = trio.run(lines_from, size, before, after, 1000)
    assert not partial
    assert line == character * (size // len(character.encode())) + "end"


def test_invalid_bytes_at_the_beginning_of_a_whole_line_stay():
    assert trio.run(lines_from, 100, b"\x80\x80", b"x\n", 1000) == [("\ufffd\ufffdx", False)]
