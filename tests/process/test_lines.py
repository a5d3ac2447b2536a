from itertools import pairwise, product

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from trio_process import Stream
from trio_process._process.output import Capture, LineCursor, each_line
from trio_process._process.output.lines import LineSplitter

ENCODINGS = [
    "utf-8",
    "UTF8",
    "utf_8",
    "ascii",
    "latin-1",
    "utf-16",
    "utf-16-le",
    "utf-32",
    "shift_jis",
    "gb18030",
    "utf-8-sig",
]

# what goes wrong goes wrong at these
pieces = st.sampled_from(["a", "\n", "\r", "\r\n", "é", "€", "\N{GRINNING FACE}", "\0", "\x85", "\u2028", "long" * 5])
documents = st.lists(pieces, max_size=25).map("".join)
raw = st.lists(
    st.sampled_from(
        [b"a", b"\n", b"\r", b"\r\n", b"\xc3", b"\xa9", b"\xe2\x82", b"\xac", b"\xf0\x9f", b"\x98", b"\xff", b"\0"]
    ),
    max_size=25,
).map(b"".join)


def chunked(data, cuts):
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[begin:end] for begin, end in pairwise(places)]


def split(chunks, *args):
    """Return `(text, partial)` of every line."""
    splitter = LineSplitter(*args)
    found = []
    for step in (*(splitter.feed(chunk) for chunk in chunks), splitter.finish()):
        found += [(text, place in step.partial) for place, text in enumerate(step.lines)]
    assert not splitter.unfinished
    return found


def joined(lines):
    """Return whole lines, pieces put together."""
    found, line = [], ""
    for text, partial in lines:
        line += text
        if not partial:
            found.append(line)
            line = ""
    assert not line, "the last piece of a line is not partial"
    return found


def lines_of(text):
    r"""Return the lines of a text as the contract has it: without `\n` or `\r\n`, the last one too, if it is not empty."""
    lines = text.split("\n")
    last = lines.pop()
    return [line.removesuffix("\r") for line in lines] + ([last] if last else [])


cut_places = st.lists(st.integers(0, 200), max_size=8)


@given(
    documents,
    cut_places,
    st.sampled_from(["utf-8", "UTF8", "utf-16", "utf-16-be", "utf-32-le", "gb18030", "utf-8-sig"]),
)
@example("ab\r\ncd", [3], "utf-8")
@example("€", [1], "utf-8")
@example("\N{GRINNING FACE}\r\n", [3, 6, 7], "utf-16")
def test_any_chunking_gives_the_lines_of_the_whole(text, cuts, encoding):
    data = text.encode(encoding)
    assert joined(split(chunked(data, cuts), encoding)) == lines_of(text)


@given(documents, cut_places, st.integers(4, 9), st.sampled_from(["utf-8", "UTF8", "utf-16", "utf-16-be", "gb18030"]))
def test_pieces_join_to_the_line_and_no_character_is_torn(text, cuts, max_line, encoding):
    data = text.encode(encoding)
    found = split(chunked(data, cuts), encoding, "strict", max_line)
    assert joined(found) == lines_of(text)
    assert all(len(piece.encode()) <= max_line for piece, _ in found)
    assert found == split([data], encoding, "strict", max_line)  # where the pieces end does not depend on the chunks


@given(
    raw,
    cut_places,
    st.integers(4, 9),
    st.sampled_from(["replace", "ignore", "backslashreplace", "surrogateescape", "surrogatepass", "strict"]),
)
def test_invalid_bytes_are_the_same_in_any_chunking(data, cuts, max_line, errors):
    shown = "backslashreplace" if errors in ("strict", "surrogatepass") else errors  # those that raise
    found = split(chunked(data, cuts), "utf-8", errors, max_line)
    raw_lines = data.split(b"\n")
    last = raw_lines.pop()
    expected = [line.removesuffix(b"\r").decode("utf-8", shown) for line in raw_lines]
    if last:
        expected.append(last.decode("utf-8", shown))
    assert joined(found) == expected
    assert found == split([data], "utf-8", errors, max_line)


@given(
    raw,
    cut_places,
    st.sampled_from(ENCODINGS),
    st.sampled_from(["replace", "strict", "ignore", "surrogateescape", "surrogatepass"]),
)
def test_nothing_that_a_child_writes_raises(data, cuts, encoding, errors):
    whole = joined(split([data], encoding, errors))
    found = joined(split(chunked(data, cuts), encoding, errors))
    if not errors.startswith("surrogate"):  # from where on such a handler gives up does depend on the chunks
        assert found == whole


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"", []),
        (b"\n", [""]),
        (b"\n\n", ["", ""]),
        (b"a", ["a"]),
        (b"a\n", ["a"]),
        (b"a\r\n", ["a"]),
        (b"a\r\r\n", ["a\r"]),
        (b"a\rb\n", ["a\rb"]),
        (b"a\r", ["a\r"]),
        (b"\0\n", ["\0"]),
        (b"a\x0bb\x0cc\x85\n", ["a\x0bb\x0cc\N{REPLACEMENT CHARACTER}"]),
        ("a\u2028b\n".encode(), ["a\u2028b"]),  # unlike str.splitlines
    ],
)
def test_a_line_ends_at_a_newline_and_nowhere_else(data, lines):
    assert joined(split([data])) == lines


def test_only_the_pieces_before_the_last_are_partial():
    assert split([b"abcdefghij\nk\n"], "utf-8", "replace", 4) == [
        ("abcd", True),
        ("efgh", True),
        ("ij", False),
        ("k", False),
    ]


@given(
    documents,
    cut_places,
    st.integers(0, 8),
    st.integers(4, 30),
    st.sampled_from(["utf-8", "latin-1", "utf-16", "gb18030"]),
)
def test_lines_that_nobody_read_leave_the_rest_as_it_is(text, cuts, skipped, max_line, encoding):
    chunks = chunked(text.encode(encoding, "replace"), cuts)
    reader, late = (LineSplitter(encoding, "replace", max_line) for _ in range(2))
    for chunk in chunks[:skipped]:
        reader.feed(chunk)
        late.skip(chunk)
        assert late.unfinished == reader.unfinished
    for chunk in chunks[skipped:]:
        assert late.feed(chunk) == reader.feed(chunk)
    assert late.finish() == reader.finish()


def test_a_line_that_just_fits_is_whole():
    for chunks in ([b"abcd\n"], [b"abcd", b"\n"], [b"abcd\r", b"\n"], [b"abcd", b"\r\n"]):
        assert split(chunks, "utf-8", "replace", 4) == [("abcd", False)]


def test_a_line_without_end_is_held_to_its_bound():
    splitter = LineSplitter("utf-8", "replace", 1000)
    total = 0
    for _ in range(1000):
        step = splitter.feed(b"x" * 700)
        total += sum(map(len, step.lines))
        assert len(splitter._carry) <= 1000
    total += sum(map(len, splitter.finish().lines))
    assert total == 700_000


def feed_capture(capture, chunks):
    for stream, chunk in chunks:
        capture.write(stream, chunk)


def read_lines(capture, chunks, reads, *, source=None, given_up=False):
    cursor = LineCursor(capture, source, "utf-8", "replace", 2**20)
    found = []
    for place, (stream, chunk) in enumerate(chunks):
        capture.write(stream, chunk)
        if place in reads:
            found += each_line(cursor.read())
    if given_up:
        capture.release()
    found += each_line(cursor.finish())
    return found, cursor.missed


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32", "utf-8"])
@pytest.mark.parametrize("source", [None, Stream.STDOUT])
@pytest.mark.parametrize("text", ["", "a", "a\n", "a\nb"])
@pytest.mark.parametrize("given_up", [False, True])
def test_a_byte_order_mark_is_no_line(encoding, source, text, given_up):
    data = text.encode(encoding)
    for size in (0, 1, len(data), 100):
        capture = Capture(size)
        capture.write(Stream.STDOUT, data)
        if given_up:
            capture.release()
        cursor = LineCursor(capture, source, encoding, "replace", 2**20)
        found = [line.text for line in each_line(cursor.finish())]
        if not text or (size and not given_up and size >= len(data)):
            assert (found, cursor.missed) == (lines_of(text), 0)
        elif encoding.startswith("utf-8"):  # in which a newline is recognized without decoding
            assert len(found) + cursor.missed == len(lines_of(text))


texts = st.sampled_from([b"a", b"bb\n", b"\n", b"c\nd\ne", b"f" * 12 + b"\n", "€\n".encode(), b"\r\n"])
writes = st.lists(st.tuples(st.sampled_from(Stream), texts), max_size=25)


@given(writes, st.sets(st.integers(0, 24)), st.sampled_from([None, *Stream]))
def test_a_cursor_reads_every_line_once_whenever_it_looks(chunks, reads, source):
    found, missed = read_lines(Capture(10_000), chunks, reads, source=source)
    assert missed == 0
    for stream in Stream if source is None else (source,):
        whole = b"".join(chunk for each, chunk in chunks if each is stream).decode()
        assert [text for text, each in found if each is stream] == lines_of(whole)
    if source is not None:
        assert all(stream is source for _, stream in found)


@given(writes, st.sets(st.integers(0, 24)), st.integers(1, 30), st.sampled_from([None, *Stream]), st.booleans())
def test_what_a_cursor_did_not_see_is_missed_and_what_it_saw_is_in_order(chunks, reads, size, source, given_up):
    found, missed = read_lines(Capture(size), chunks, reads, source=source, given_up=given_up)
    count = 0
    for stream in Stream if source is None else (source,):
        whole = lines_of(b"".join(chunk for each, chunk in chunks if each is stream).decode())
        count += len(whole)
        rest = iter(whole)
        assert all(text in rest for text, each in found if each is stream), "torn, twice, or out of order"
    assert len(found) + missed == count


@given(writes, st.sets(st.integers(0, 24)), st.integers(0, 30), st.sampled_from([None, *Stream]), st.booleans())
def test_a_line_is_missed_only_if_a_byte_of_it_was_overwritten_unread(chunks, reads, size, source, given_up):
    expected = []
    capture = Capture(size)
    found, missed = read_lines(capture, chunks, reads, source=source, given_up=given_up)
    seen = [(stream, byte) for stream, chunk in chunks if source in (None, stream) for byte in chunk]
    ends = [sum(len(chunk) for each, chunk in chunks[: n + 1] if source in (None, each)) for n in range(len(chunks))]
    looks = [(ends[n], ends[n] - size) for n in sorted(reads) if n < len(chunks)]
    last = len(seen)
    lost, begin = set(), 0
    for end, start in [*looks, (last, last if given_up else last - size)]:
        if end > begin:
            lost.update(range(begin, max(begin, start)))
        begin = end
    for stream in Stream if source is None else (source,):
        line = []
        for place in [place for place, (each, _) in enumerate(seen) if each is stream]:
            line.append(place)
            if seen[place][1] == ord("\n"):
                expected.append((stream, line))
                line = []
        expected += [(stream, line)] if line else []
    texts = {
        stream: [
            bytes(seen[place][1] for place in line).decode().removesuffix("\n").removesuffix("\r")
            for each, line in expected
            if each is stream and not lost.intersection(line)
        ]
        for stream in Stream
    }
    assert {stream: [text for text, each in found if each is stream] for stream in Stream} == texts
    assert len(found) + missed == len(expected)


@pytest.mark.parametrize("size", [1, 2, 3, 6, 4095, 4096, 4097])
@pytest.mark.parametrize("chunk", [1, 2, 3, 4096, 10_000])
def test_a_capture_that_is_cut_at_the_start_of_a_line_keeps_that_line(size, chunk):
    for text in (b"\n", b"ab\n"):
        data = text * 5000
        capture = Capture(size)
        feed_capture(capture, [(Stream.STDOUT, data[at : at + chunk]) for at in range(0, len(data), chunk)])
        for source in (None, Stream.STDOUT):
            cursor = LineCursor(capture, source, "utf-8", "replace", 2**20)
            found = [line.text for line in each_line(cursor.read())]
            kept = min(size // len(text), 5000)
            assert (len(found), cursor.missed) == (kept, 5000 - kept)


def test_a_half_read_line_is_whole_if_only_the_other_stream_has_lost_something():
    capture = Capture(10)
    cursor = LineCursor(capture, None, "utf-8", "replace", 2**20)
    feed_capture(capture, [(Stream.STDERR, b"be")])
    assert cursor.read() == []
    feed_capture(capture, [(Stream.STDOUT, b"number\n" * 4), (Stream.STDERR, b"gun\n")])
    assert list(each_line(cursor.read())) == [("begun", Stream.STDERR)]
    assert cursor.missed == 4


def test_a_late_reader_begins_with_the_first_whole_line_that_is_left():
    capture = Capture(10)
    feed_capture(capture, [(Stream.STDOUT, b"first\nsecond\nthird\n")])
    cursor = LineCursor(capture, None, "utf-8", "replace", 2**20)
    assert [line.text for line in each_line(cursor.read())] == ["third"]
    assert cursor.missed == 2


def test_output_that_was_given_up_is_missed():
    capture = Capture(100)
    cursor = LineCursor(capture, None, "utf-8", "replace", 2**20)
    feed_capture(capture, [(Stream.STDOUT, b"one\ntwo\n")])
    assert [line.text for line in each_line(cursor.read())] == ["one", "two"]
    feed_capture(capture, [(Stream.STDOUT, b"three\n")])
    capture.release()
    late = LineCursor(capture, None, "utf-8", "replace", 2**20)
    assert (cursor.finish(), cursor.missed) == ([], 1)
    assert (late.finish(), late.missed) == ([], 3)


@pytest.mark.parametrize(
    "encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be", "cp037", "cp500", "gb18030", "utf-7"]
)
def test_lines_after_a_gap_are_whole_in_every_encoding(encoding):
    letters = "" if encoding.startswith("cp") else "\u4e0a\u0a0a"  # with bytes 0x0A that are no newline
    lines = [f"{number}{letters}" for number in range(60)]
    data = "".join(f"{line}\n" for line in lines).encode(encoding)
    begin = len(f"0{letters}\n".encode(encoding)) + 1  # a line, and a byte of the next one
    for size, chunk, source in product(range(97, 101), (1, 7, 1000), (None, Stream.STDOUT)):
        capture = Capture(size)
        cursor = LineCursor(capture, source, encoding, "replace", 2**20)
        capture.write(Stream.STDOUT, data[:begin])
        assert [line.text for line in each_line(cursor.read())] == lines[:1]
        feed_capture(capture, [(Stream.STDOUT, data[at : at + chunk]) for at in range(begin, len(data), chunk)])
        late = LineCursor(capture, source, encoding, "replace", 2**20)
        for reader in (cursor, late):
            texts = [line.text for line in each_line(reader.finish())]
            kept = size // len(f"10{letters}\n".encode(encoding))
            assert kept - 2 <= len(texts) <= kept + 1
            assert texts == lines[-len(texts) :]
            assert reader.missed
