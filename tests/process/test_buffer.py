import io
import math
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_process import DEFAULT_BUFFER_SIZE, OptionError, RingBuffer, Stream
from trio_process._process.output import Capture, Ring
from trio_process._process.output.ring_buffer import count_newlines

sizes = st.one_of(st.integers(0, 40), st.just(5000), st.just(math.inf))
chunks = st.one_of(st.binary(max_size=30), st.integers(4000, 9000).map(lambda size: bytes(range(256)) * (size // 256)))
streams = st.sampled_from(Stream)


def tail(data, size):
    return data if size == math.inf else data[len(data) - min(len(data), size) :]


@given(sizes, st.lists(chunks, max_size=12))
def test_a_ring_keeps_exactly_the_last_bytes(size, written):
    ring, public = Ring(size), RingBuffer(size)
    whole = b""
    for chunk in written:
        assert ring.write(chunk) == len(chunk)
        whole += chunk
        kept = tail(whole, size)
        assert ring.bytes() == kept
        assert len(ring) == len(kept)
        assert ring.dropped == len(whole) - len(kept)
        assert public.write(chunk) == len(chunk)
        assert (public.bytes(), len(public), public.dropped) == (ring.bytes(), len(ring), ring.dropped)
        assert (ring.start, ring.total) == (len(whole) - len(kept), len(whole))
    for offset in {ring.start, (ring.start + ring.total) // 2, max(ring.start, ring.total - 1), ring.total}:
        assert ring.since(offset) == whole[offset:]
        assert ring.lines_before(offset) == whole.count(b"\n", 0, offset)
    twin = ring.copy()
    ring.write(b"more")
    assert twin.bytes() == tail(whole, size)
    lost = whole.count(b"\n")
    twin.release()
    assert (twin.bytes(), twin.total, twin.dropped, twin.lines_before(twin.total)) == (
        b"",
        len(whole),
        len(whole),
        lost,
    )
    twin.write(b"x\n")
    assert (twin.bytes(), twin.lines_before(twin.total)) == (b"", lost + 1)


@given(sizes, st.lists(st.tuples(streams, chunks), max_size=15), st.data())
def test_a_capture_keeps_both_streams_and_their_order(size, written, data):
    capture = Capture(size)
    whole = dict.fromkeys(Stream, b"")
    both = b""
    source = []  # whose each byte is
    for stream, chunk in written:
        capture.write(stream, chunk)
        whole[stream] += chunk
        both += chunk
        source += [stream] * len(chunk)
    for stream in Stream:
        assert capture.bytes(stream) == tail(whole[stream], size)
        unfinished, torn = capture.unfinished(stream)
        assert tail(whole[stream], size).endswith(unfinished)
        assert b"\n" not in unfinished
        assert torn == (unfinished != whole[stream][whole[stream].rfind(b"\n") + 1 :])
    assert capture.bytes() == tail(both, size)
    assert (capture.total, capture.dropped) == (len(both), len(both) - len(tail(both, size)))
    offset = data.draw(st.integers(capture.dropped, capture.total))
    parts = list(capture.parts(None, offset))
    assert b"".join(part for _, part in parts) == both[offset:]
    assert [stream for stream, part in parts for _ in part] == source[offset:]
    capture.release()
    assert (capture.bytes(), capture.total, capture.held) == (b"", len(both), 0)


def test_bytearrays_and_views_are_taken_and_copied():
    ring = RingBuffer(10)
    data = bytearray(b"abc")
    ring.write(data)
    ring.write(memoryview(b"de"))
    data[:] = b"xxx"
    assert ring.bytes() == b"abcde"


def test_reset_forgets_everything():
    ring = RingBuffer(2)
    ring.write(b"abc")
    ring.reset()
    assert (ring.bytes(), len(ring), ring.dropped, ring.capacity) == (b"", 0, 0, 2)
    ring.write(b"z")
    assert ring.bytes() == b"z"


def test_text_replaces_a_character_that_the_edge_cuts():
    ring = RingBuffer(4)
    ring.write("aé€".encode())
    assert ring.text() == "\N{REPLACEMENT CHARACTER}€"
    assert ring.text("latin-1") == "\xa9\xe2\x82\xac"


@pytest.mark.parametrize("size", [-1, 1.5, "1", None, True, -math.inf, math.nan])
def test_a_bad_size_is_refused(size):
    with pytest.raises(OptionError, match="size must be"):
        RingBuffer(size)


@pytest.mark.parametrize("chunk", [1, 7, 4095, 65536])
def test_memory_grows_with_what_is_written_and_not_past_the_size(chunk):
    size = max(2**15, 4 * chunk)
    tracemalloc.start()
    try:
        ring = RingBuffer(size)
        assert tracemalloc.get_traced_memory()[0] < 4096
        for _ in range(3 * size // chunk):
            ring.write(bytes(chunk))
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert len(ring) == size
    assert held < 2 * size + 16384


def test_what_is_kept_whole_is_given_away_without_a_copy_and_does_not_change_afterwards():
    tracemalloc.start()
    try:
        ring = RingBuffer(math.inf)
        for _ in range(64):
            ring.write(bytes(2**16))
        whole = ring.bytes()
        assert tracemalloc.get_traced_memory()[1] < 1.5 * 2**22
    finally:
        tracemalloc.stop()
    ring.write(b"x")
    assert whole == bytes(2**22)
    assert ring.bytes() == whole + b"x"


def test_a_ring_that_could_not_grow_says_what_it_has_lost():
    class Full(io.BytesIO):
        def write(self, data):
            self.close()  # as CPython's own does then
            raise MemoryError

    ring = Ring(math.inf)
    ring.write(b"abc")
    ring._all = Full()
    with pytest.raises(MemoryError):
        ring.write(b"def")
    assert (ring.bytes(), ring.dropped, len(ring)) == (b"", 6, 0)
    assert ring.write(b"ghi") == 3
    ring.release()
    assert (ring.bytes(), ring.dropped) == (b"", 9)


def test_a_chatty_pair_of_streams_does_not_grow_without_bound():
    capture = Capture(100)
    for _ in range(20_000):
        capture.write(Stream.STDOUT, b"a")
        capture.write(Stream.STDERR, b"b")
    assert len(capture._switches) <= 4097
    assert capture.bytes() == b"ab" * 50


def test_the_default_is_a_mebibyte():
    assert DEFAULT_BUFFER_SIZE == 2**20


@pytest.mark.parametrize("wrong", [5, "text", None])
def test_only_bytes_are_taken(wrong):
    ring = RingBuffer(10)
    with pytest.raises(TypeError):
        ring.write(wrong)
    assert len(ring) == 0


@given(st.lists(st.integers(0, 60), max_size=60))
def test_newlines_are_counted_where_they_are_many_and_where_they_are_few(lengths):
    block = b"".join(b"x" * length + b"\n" for length in lengths)
    assert count_newlines(block) == len(lengths)
