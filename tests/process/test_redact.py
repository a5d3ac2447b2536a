"""The masking of secrets in a stream: the same as in the whole text, wherever its chunks end."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from trio_process._core import Masker, Secret
from trio_process._process import Redactor


def redacted(values, chunks, encoding="utf-8"):
    redactor = Redactor(Masker(Secret(value) for value in values), encoding)
    return b"".join([redactor.feed(chunk) for chunk in chunks]) + redactor.finish()


def in_one_piece(values, data):
    """What it has to be: leftmost first, the longest where several begin."""
    longest_first = sorted({value.encode() for value in values} - {b""}, key=len, reverse=True)
    return re.sub(b"|".join(map(re.escape, longest_first)), b"***", data) if longest_first else data


# few letters, so that secrets overlap, begin with each other and repeat themselves
letters = st.text("abc", min_size=1, max_size=5)


@given(values=st.lists(letters, min_size=1, max_size=4), chunks=st.lists(st.text("abcd", max_size=12), max_size=8))
@example(values=["abcd", "bc"], chunks=["abc", "d"])
@example(values=["ab", "abc"], chunks=["ab"])
@example(values=["ab", "abc"], chunks=["xab", "c"])
@example(values=["aab"], chunks=["aa", "ab"])
@example(values=["a"], chunks=[])
def test_chunks_make_no_difference(values, chunks):
    data = [chunk.encode() for chunk in chunks]
    assert redacted(values, data) == in_one_piece(values, b"".join(data))


@given(
    values=st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=3), text=st.text(max_size=30), data=st.data()
)
def test_no_secret_shows_however_the_stream_is_cut(values, text, data):
    values = [value for value in values if value.isprintable() and "*" not in value] or ["secret"]
    stream = (text + values[0] + text + values[-1]).encode("utf-8", "replace")
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    chunks = [stream[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    out = redacted(values, chunks)
    assert out == in_one_piece(values, stream)
    assert not any(value.encode() in out for value in values if value.encode() not in b"***")


def test_what_is_certain_is_passed_on_at_once():
    redactor = Redactor(Masker([Secret("hunter2")]), "utf-8")
    assert redactor.feed(b"hello hunt") == b"hello "
    assert redactor.feed(b"ing\n") == b"hunting\n"
    assert redactor.feed(b"hunter2 and more\n") == b"*** and more\n"
    assert redactor.feed(b"hunter") == b""
    assert redactor.finish() == b"hunter"
    assert redactor.finish() == b""


def test_a_secret_that_might_have_become_a_longer_one_is_masked_at_the_end():
    redactor = Redactor(Masker([Secret("key"), Secret("keyring")]), "utf-8")
    assert redactor.feed(b"my key") == b"my "
    assert redactor.finish() == b"***"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "latin-1", "cp1252"])
def test_secrets_are_found_in_the_encoding_of_the_stream(encoding):
    stream = "the pässword is päss\n".encode(encoding)
    for cut in range(len(stream)):
        out = redacted(["päss"], [stream[:cut], stream[cut:]], encoding)
        assert out.decode(encoding) == "the ***word is ***\n"


def test_a_secret_that_the_encoding_can_not_say_is_found_as_the_child_was_given_it():
    assert redacted(["pä$$"], [b"echo p\xc3", b"\xa4$$\n"], "ascii") == b"echo ***\n"


def test_a_secret_with_newlines_is_masked_as_a_whole():
    assert redacted(["one\ntwo"], [b"x one\n", b"two y\n"]) == b"x *** y\n"


def test_much_text_and_a_long_secret_are_no_slow_matter():
    secret = "ab" * 2000
    data = b"ab" * 30_000 + b"\n"
    assert redacted([secret], [data] * 20) == in_one_piece([secret], data * 20)
