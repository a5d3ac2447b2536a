"""Chunks held back until their lines are whole."""

from hypothesis import given
from hypothesis import strategies as st

from trio_process._process.output.lines import LineBuffer


def test_a_line_is_passed_on_once_it_is_whole():
    lines = LineBuffer(100)
    assert lines.feed(b"one\ntw") == b"one\n"
    assert lines.feed(b"") == b""
    assert lines.feed(b"o") == b""
    assert lines.feed(b"\nthree\nfo") == b"two\nthree\n"
    assert lines.finish() == b"fo"
    assert lines.finish() == b""


def test_a_line_that_is_too_long_is_passed_on_without_an_end():
    lines = LineBuffer(4)
    assert lines.feed(b"abc") == b""
    assert lines.feed(b"d") == b"abcd"
    assert lines.feed(b"e\n") == b"e\n"


@given(st.lists(st.binary(max_size=20)), st.integers(1, 30))
def test_nothing_is_lost_and_nothing_changed(chunks: list[bytes], longest: int):
    lines = LineBuffer(longest)
    parts = [lines.feed(chunk) for chunk in chunks]
    assert b"".join(parts) + lines.finish() == b"".join(chunks)
    assert all(part.endswith(b"\n") or len(part) >= longest for part in parts if part)
