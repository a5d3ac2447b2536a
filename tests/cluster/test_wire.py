"""The wire by itself: whatever comes in, and in whatever pieces, it gives frames or one clear error."""

import json
import os
import random
import struct
from typing import Any, get_args, get_origin, get_type_hints

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from trio_process import RunOptions, Secret, Stdio
from trio_process._cluster import messages, wire
from trio_process._cluster.link import PATIENCE, WINDOW, Inflow, Link, Outflow
from trio_process._cluster.options import pack_options, unpack_options
from trio_process._cluster.wire import DATA_LIMIT, MAGIC, PREAMBLE_LIMIT, Frame, Kind, Parser, WireError, pack
from trio_process._core import Written, shown_args

FRAMES = st.lists(
    st.one_of(
        st.builds(
            Frame, st.sampled_from([Kind.STDIN, Kind.STDOUT, Kind.STDERR]), st.integers(1, 2**64 - 1), st.binary()
        ),
        st.builds(Frame, st.just(Kind.MESSAGE), st.just(0), st.binary()),
    ),
    max_size=8,
)


def in_pieces(data, cuts):
    """Yield `data` cut at the given places."""
    begin = 0
    for cut in sorted({cut % (len(data) + 1) for cut in cuts}):
        yield data[begin:cut]
        begin = cut
    yield data[begin:]


def joined(frames):
    """Join the raw data of each stream that follow each other: they arrive in parts of any size."""
    found = []
    for frame in frames:
        if found and frame.kind is not Kind.MESSAGE and found[-1][:2] == frame[:2]:
            found[-1] = Frame(*frame[:2], found[-1].body + frame.body)
        else:
            found.append(frame)
    return found


@given(FRAMES, st.lists(st.integers(0, 10_000)), st.binary(max_size=200).filter(lambda data: b"\0" not in data))
def test_frames_arrive_as_they_were_sent_in_whatever_pieces(frames, cuts, chatter):
    data = chatter + MAGIC + b"".join(pack(*frame) for frame in frames)
    parser = Parser()
    assert joined([frame for piece in in_pieces(data, cuts) for frame in parser.feed(piece)]) == joined(frames)
    assert parser.skipped == chatter
    parser.finish()


@given(st.binary(max_size=400), st.lists(st.integers(0, 400)))
def test_garbage_gives_frames_or_one_error_that_stays(garbage, cuts):
    parser = Parser(preamble=False)
    errors = []
    for piece in in_pieces(garbage, cuts):
        try:
            frames = parser.feed(piece)
            assert not errors
            assert all(isinstance(frame, Frame) for frame in frames)
        except WireError as failure:
            errors.append(failure)
    if errors:
        with pytest.raises(WireError) as again:
            parser.finish()
        assert all(error is again.value for error in errors)


def test_raw_data_are_passed_on_as_they_arrive():
    parser = Parser(preamble=False)
    data = pack(Kind.STDOUT, 7, b"hello world")
    assert parser.feed(data[:15]) == [Frame(Kind.STDOUT, 7, b"he")]
    assert parser.feed(data[15:20]) == [Frame(Kind.STDOUT, 7, b"llo w")]
    assert parser.feed(data[20:] + data[:1]) == [Frame(Kind.STDOUT, 7, b"orld")]


@given(FRAMES.filter(bool), st.integers(1, 10_000))
def test_a_stream_that_ends_within_a_frame_is_an_error(frames, cut):
    data = b"".join(pack(*frame) for frame in frames)
    last = len(pack(*frames[-1]))
    parser = Parser(preamble=False)
    parser.feed(data[: len(data) - 1 - cut % (last - 1)])
    with pytest.raises(WireError, match="in the middle of a frame"):
        parser.finish()


@pytest.mark.parametrize(
    ("header", "why"),
    [
        ((2**32 - 1, Kind.STDOUT, 1), "4294967295 bytes was announced"),
        ((2**31, Kind.MESSAGE, 0), "2147483648 bytes was announced"),
        ((1, 9, 1), "unknown kind 9"),
        ((1, Kind.MESSAGE, 7), "MESSAGE came for process 7"),
        ((1, Kind.STDOUT, 0), "STDOUT came for process 0"),
    ],
)
def test_a_header_that_can_not_be_right_is_refused_before_its_body_comes(header, why):
    with pytest.raises(WireError, match=why):
        Parser(preamble=False).feed(struct.pack("!IBQ", *header))


@pytest.mark.parametrize(
    "greeting",
    [b"", b"Welcome to node1\r\n", "Gr\N{LATIN SMALL LETTER U WITH DIAERESIS}ezi\n".encode(), b"x" * PREAMBLE_LIMIT],
)
def test_what_a_login_prints_is_skipped(greeting):
    parser = Parser()
    assert parser.feed(greeting) == []
    assert parser.feed(MAGIC + pack(Kind.STDOUT, 1, b"x")) == [Frame(Kind.STDOUT, 1, b"x")]


def test_a_login_that_prints_too_much_is_no_agent():
    with pytest.raises(WireError, match="no agent answered"):
        Parser().feed(b"x" * (PREAMBLE_LIMIT + len(MAGIC) + 1))


def test_a_connection_that_ends_before_the_hello_says_so():
    parser = Parser()
    parser.feed(b"Permission denied")
    with pytest.raises(WireError, match="before the agent's hello"):
        parser.finish()
    assert parser.skipped == b"Permission denied"


# messages

TEXT = st.text(st.characters(codec=None, exclude_categories=()), max_size=20)
MESSAGES = st.one_of(
    st.builds(messages.Started, st.integers(1, 2**62), st.integers(1, 2**22)),
    st.builds(
        messages.Failed, st.integers(1, 9), st.booleans(), TEXT, st.none() | st.integers(1, 99), st.none() | TEXT
    ),
    st.builds(messages.Stop, st.integers(1, 9), st.floats(0)),
    st.builds(messages.Stuck, st.integers(1, 9), st.lists(st.tuples(st.integers(1, 9), TEXT, TEXT).map(list))),
    st.builds(messages.Leaving, TEXT),
    st.just(messages.Ping()),
)


@given(MESSAGES)
def test_a_message_arrives_as_it_was_sent(message):
    [frame] = Parser(preamble=False).feed(messages.encode(message))
    assert messages.decode(frame.body) == message


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=12,
)


@given(st.one_of(st.binary(max_size=60), JSON.map(lambda value: json.dumps(value).encode())))
def test_a_body_that_is_no_message_is_refused(body):
    try:
        message = messages.decode(body)
    except WireError:
        return
    assert isinstance(message, messages.Message)


@given(st.sampled_from(sorted(messages._CLASSES)), st.lists(JSON, max_size=10))
def test_a_message_with_wrong_fields_is_refused(name, fields):
    try:
        message = messages.decode(json.dumps([name, *fields]).encode())
    except WireError:
        return
    for field, hint in get_type_hints(type(message)).items():
        assert fits(getattr(message, field), hint)


def fits(value, hint):
    """Return whether a value is of a type, by looking at the type."""
    kind, parts = get_origin(hint), get_args(hint)
    if hint is float:
        return type(value) in (float, int) and 0 <= value < float("inf")
    if kind is tuple:
        return type(value) is list and len(value) == len(parts) and all(map(fits, value, parts))
    if kind in (list, dict):
        return type(value) is kind and all(fits(item, parts[0]) for item in value)
    if parts:
        return any(fits(value, part) for part in parts)
    return hint is Any or type(value) is hint


def refuse(*_):
    raise TypeError("other arguments")


@pytest.mark.parametrize("found", [None, refuse, "as it is"])
def test_messages_are_the_same_whether_or_not_json_has_its_writer_in_c(monkeypatch, found):
    message = [
        "Over",
        1,
        None,
        True,
        False,
        -2.5e-07,
        2**63,
        'a "text"\n\0\udcff\u20ac',
        [[1, "D", "sh"]],
        {"a": {}, "b": []},
    ]
    expected = json.dumps(message, separators=(",", ":"))
    if found != "as it is":
        monkeypatch.setattr(json.encoder, "c_make_encoder", found)
    write = messages._json_writer()
    monkeypatch.undo()
    assert write(message) == expected


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b"7",
        b'["Ping"] ',
        b'["Ping"]["Ping"]',
        b'["Nope"]',
        b'["Stop",1]',
        b'["Stop",1,NaN]',
        b'["Stop",1,-1e999]',
        b'["Stop",1,9223372036854775808]',
        b'["Stop",1,-1]',
        b'["Stop",true,1]',
        b'["Signal",1,65]',
        b'["Signal",1,-1]',
        b'["Started",1,-1]',
        b'["Stuck",1,[[]]]',
        b'["Stuck",1,[[1,"D"]]]',
        b'["Stuck",1,[["1","D","sh"]]]',
        b'["Failed",1,false,"",2147483648,null]',
    ],
)
def test_some_bodies_that_others_have_fallen_for(body):
    with pytest.raises(WireError):
        messages.decode(body)


@pytest.mark.parametrize("theirs", [0, wire.VERSION + 1, None, str(wire.VERSION), [wire.VERSION]])
@pytest.mark.parametrize("name", ["Hello", "Welcome"])
def test_another_version_is_refused_and_both_are_named_whatever_else_it_says(name, theirs):
    with pytest.raises(
        WireError, match=rf"different versions.*ours is {wire.VERSION}.*install the same version"
    ) as refused:
        messages.decode(json.dumps([name, theirs, "fields", "of", "the", "future"]).encode())
    assert repr(theirs) in str(refused.value)


# options


@given(
    st.lists(st.one_of(st.text(max_size=5), st.binary(max_size=5), st.text(max_size=5).map(Secret)), max_size=5),
    st.dictionaries(st.sampled_from("ABC"), st.none() | st.text(max_size=5) | st.text(max_size=5).map(Secret)),
    st.sampled_from(["pipe", "null", "some text"]),
)
def test_options_arrive_and_secrets_are_still_secret(args, env, stdin):
    def plain(value):
        return value.reveal() if isinstance(value, Secret) else value

    try:
        options = RunOptions(command="work", args=args, env=env, stdin=stdin, nice=3, limits={"nofile": 99}, cwd="/")
    except ValueError:
        return  # a NUL, or a lone surrogate
    packed = json.loads(json.dumps(pack_options(options, grace_period=2.0, stdin=True)))
    arrived = unpack_options(packed, "7")
    assert [type(arg) is Secret for arg in arrived.args] == [type(arg) is Secret for arg in args]
    assert shown_args(arrived) == shown_args(options)
    assert [plain(arg) for arg in arrived.args] == [
        arg.decode(errors="surrogateescape") if isinstance(arg, bytes) else plain(arg) for arg in args
    ]
    assert {name: plain(value) for name, value in arrived.env.items()} == {
        name: plain(value) for name, value in env.items()
    }
    # a text for stdin that reads "pipe" stays text: it is streamed, and never a word of the protocol
    assert (arrived.stdin, arrived.cwd, arrived.nice, arrived.grace_period) == (Stdio.PIPE, "/", 3, 2.0)


def test_the_environment_and_how_arguments_are_shown_arrive_too():
    options = RunOptions(command="work", args=[Written("curl -u me:hunter2", "curl -u ${LOGIN}")], env={"A": "1"})
    packed = json.loads(json.dumps(pack_options(options, grace_period=2.0, stdin=False)))
    arrived = unpack_options(packed, "7")
    assert arrived.env == {"A": "1"}
    assert (arrived.args, shown_args(arrived)) == (("curl -u me:hunter2",), ("curl -u ${LOGIN}",))


@given(JSON)
def test_options_that_can_not_be_right_are_refused(value):
    options = RunOptions(
        command="x", env={"A": "1"}, stdout=Stdio.NULL, stderr=Stdio.NULL, umask=0, nice=1, limits={"nofile": 99},
        stop_signal=2, kill_group=False,
    )  # fmt: skip
    packed = pack_options(options, grace_period=1.0, stdin=True)
    assert len(packed) == 13  # what has its usual value is not sent
    for key in packed:
        try:
            unpack_options({**packed, key: value}, "1")
        except WireError:
            continue
    with pytest.raises(WireError):
        unpack_options({}, "1")


def test_only_options_that_differ_from_the_usual_ones_are_sent():
    packed = pack_options(RunOptions(command="x", cwd="/"), grace_period=1.0, stdin=False)
    assert packed == {"command": "x", "args": [], "cwd": "/", "grace_period": 1.0}
    arrived = unpack_options(packed, "1")
    usual = RunOptions(command="x", cwd="/", grace_period=1.0, name="1", stdin=Stdio.NULL, disable_capture=True)
    assert arrived == usual


# credit


class Sent:
    """A link that only counts."""

    def __init__(self):
        self.data = b""
        self.credits = []

    def send_data(self, kind, process, data):
        self.data += data

    def send(self, message):
        self.credits.append(message.amount)


@given(st.lists(st.one_of(st.integers(1, 2 * WINDOW), st.just("credit")), max_size=20))
def test_an_outflow_never_sends_more_than_its_credit_and_loses_nothing(steps):
    sent, written, given = Sent(), 0, 0
    outflow = Outflow(sent, Kind.STDOUT, 1)
    for step in steps:
        if step == "credit":
            missing = len(sent.data) - given
            if missing:
                outflow.add(missing)
                given += missing
        else:
            outflow.write(b"x" * step)
            written += step
        assert len(sent.data) - given <= WINDOW
        assert len(sent.data) + outflow.held == written
        assert not outflow.held or len(sent.data) - given == WINDOW


@pytest.mark.parametrize("amount", [0, -1, 1, WINDOW, WINDOW + 1])
def test_credit_that_was_never_spent_is_refused(amount):
    with pytest.raises(WireError, match="credit"):
        Outflow(Sent(), Kind.STDOUT, 1).add(amount)


def test_an_inflow_notices_who_sends_too_much_and_gives_credit_in_large_pieces():
    sent = Sent()
    inflow = Inflow(sent, Kind.STDERR, 1)
    for _ in range(8):
        inflow.arrived(WINDOW // 8)
        inflow.take(WINDOW // 8)
    assert sent.credits == [WINDOW // 2] * 2
    with pytest.raises(WireError, match="more than it may"):
        inflow.arrived(WINDOW + 1)


class Slow(trio.abc.SendStream):
    """Notes what is sent, each piece copied."""

    def __init__(self):
        self.pieces = []

    async def send_all(self, data):
        self.pieces.append(bytes(data))
        await trio.lowlevel.checkpoint()

    async def wait_send_all_might_not_block(self):
        await trio.lowlevel.checkpoint()

    async def aclose(self):
        await trio.lowlevel.checkpoint()


async def test_what_waits_is_sent_in_order_and_in_large_pieces():
    """Chunks of one stream become one frame, up to its limit; a message or another stream begins a new one."""
    sent = Slow()
    link = Link(sent)
    chunk = os.urandom(2**16)
    long_message = messages.Leaving("x" * 2**21)
    for _ in range(2):  # the second time with the buffer of the first
        for _ in range(5):
            link.send_data(Kind.STDOUT, 1, chunk)
        link.send_data(Kind.STDERR, 1, b"a")
        link.send_data(Kind.STDERR, 2, b"b")
        link.send(messages.Ping())
        link.send_data(Kind.STDERR, 2, b"c" * (DATA_LIMIT + 1))
        link.send(long_message)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(link.write)
            await link.flush()
            nursery.cancel_scope.cancel()
    frames = [
        (Kind.STDOUT, 1, 4 * chunk), (Kind.STDOUT, 1, chunk), (Kind.STDERR, 1, b"a"), (Kind.STDERR, 2, b"b"), "Ping",
        (Kind.STDERR, 2, b"c" * DATA_LIMIT), (Kind.STDERR, 2, b"c"), "Leaving",
    ]  # fmt: skip
    parser = Parser()
    arrived = parser.feed(b"".join(sent.pieces))
    shown = [tuple(frame) if frame.kind is not Kind.MESSAGE else json.loads(frame.body)[0] for frame in arrived]
    assert shown == 2 * frames
    assert len(sent.pieces) <= 2 * 5


# the heartbeat


class Cable(trio.abc.Stream):
    """One end of a connection that can be cut: from then on nothing arrives, and nobody notices."""

    def __init__(self, end, cut):
        self.end = end
        self.cut = cut

    async def send_all(self, data):
        await (trio.lowlevel.checkpoint() if self.cut.is_set() else self.end.send_all(data))

    async def wait_send_all_might_not_block(self):
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes=None):
        return await self.end.receive_some(max_bytes)

    async def aclose(self):
        await self.end.aclose()


@pytest.mark.parametrize("seed", range(12))
async def test_an_agent_has_given_up_its_client_when_the_client_supposes_that(seed, autojump_clock):
    heartbeat, chance = 10.0, random.Random(seed)
    cut = trio.Event()
    client, agent = [Link(Cable(end, cut)) for end in trio.testing.memory_stream_pair()]
    lost = {}

    async def read(link):
        while await link.receive():
            pass

    async def serve(link, nursery):
        nursery.start_soon(link.write)
        nursery.start_soon(read, link)
        nursery.start_soon(link.beat, heartbeat, lambda: lost.setdefault(link, trio.current_time()))
        while True:
            await trio.sleep(chance.expovariate(chance.choice([0.1, 1, 10])))
            link.send(messages.Ping())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, client, nursery)
        nursery.start_soon(serve, agent, nursery)
        await trio.sleep(chance.uniform(heartbeat, 5 * heartbeat))
        assert not lost
        cut.set()
        await trio.sleep(2 * heartbeat)
        nursery.cancel_scope.cancel()
    assert lost[agent] == pytest.approx(agent.heard + heartbeat)
    assert lost[client] == pytest.approx(client.heard + heartbeat)
    assert lost[agent] < client.heard + PATIENCE * heartbeat
