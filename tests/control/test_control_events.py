"""The event stream: snapshot, order, cursors, filters, gaps, and clients that don't read."""

import json
import time
from random import Random

import pytest
import trio
from asking import Refused, ask, connect, events, get, serving, websocket

from trio_process import ControlServer, DaemonEntry, HealthServer, Registry, Runner, RunSpec, Service
from trio_process._control.live import MAX_LINES, Query
from trio_process._control.live import hub as hub_module
from trio_process._control.live import logstore as logstore_module
from trio_process._control.live import sampler as sampler_module
from trio_process._control.live import streams as streams_module
from trio_process._control.live import watch as watch_module
from trio_process._control.live.hub import CHANNELS, Frame, Hub, Output, Wish
from trio_process._control.live.logstore import LogStore, Source
from trio_process._daemon.health import accept

BOTH = pytest.mark.parametrize("follow", [events, websocket])


@BOTH
async def test_a_stream_begins_with_a_snapshot_and_ends_with_a_bye(follow, monkeypatch):
    monkeypatch.setattr(accept, "_DRAIN", 30.0)  # seconds for a request in progress, which an open stream is not
    async with Service() as service:
        async with trio.open_nursery() as nursery:
            async with ControlServer("127.0.0.1:0", service=service) as control:
                joined = trio.Event()
                seen = []

                async def read():
                    async with follow(control) as stream:
                        seen.append(await stream.next())
                        joined.set()
                        seen.append(await stream.until(lambda message: message["type"] == "bye"))

                nursery.start_soon(read)
                await joined.wait()
                began = time.monotonic()
            assert time.monotonic() - began < 20
        first = seen[0]
        assert first["type"] == "snapshot"
        assert first["instance"] == first["data"]["instance"]
        assert {"services", "processes", "daemons", "pipelines", "cursor", "access"} <= set(first["data"])


@BOTH
async def test_the_life_of_a_process_comes_in_order(follow):
    async with serving() as (control, service), follow(control) as stream:
        await stream.next()
        process = await service.start("sh", "-c", "echo one; echo two; echo bad >&2; kill -9 $$", name="web")
        await stream.event("process.exited")
        found = [message for message in stream.seen if message["type"] == "event"]
        channels = [message["channel"] for message in found if message["channel"] != "sample"]
        assert channels == ["process.started", *["process.output"] * 3, "process.killed", "process.exited"]
        assert {message["processId"] for message in found} == {process.id}
        lines = [message["data"] for message in found if message["channel"] == "process.output"]
        assert [line["line"] for line in lines if line["stream"] == "stdout"] == ["one", "two"]
        assert [line["cursor"] for line in lines] == [1, 2, 3]
        assert {line["service"] for line in lines} == {"web"}
        assert found[0]["data"]["command"] == "sh"
        assert found[-1]["data"]["exitCode"] == -9


@BOTH
async def test_with_batch_several_lines_come_in_one_event(follow):
    async with serving() as (control, service), follow(control, "?batch=true&channels=process.output") as stream:
        await stream.next()
        process = await service.start("seq", "500")
        await process.wait()
        lines, messages = [], 0
        while len(lines) < 500:
            message = await stream.next()
            assert message["data"]["cursor"] == len(lines) + 1
            lines += message["data"]["lines"]
            messages += 1
        assert lines == [str(number) for number in range(1, 501)]
        assert messages < 50


async def test_channels_and_services_choose():
    async with (
        serving() as (control, service),
        events(control, "?channels=process.output,process.exited&service=b") as stream,
    ):
        await stream.next()
        for name in ("a", "b"):
            await (await service.start("echo", name, name=name)).wait()
        await stream.event("process.exited")
        found = [message["channel"] for message in stream.seen[1:]]
        assert found == ["process.output", "process.exited"]
        assert {
            message["data"]["name" if message["channel"] == "process.exited" else "service"]
            for message in stream.seen[1:]
        } == {"b"}


@BOTH
async def test_a_channel_that_does_not_exist_is_refused(follow):
    async with serving() as (control, _):
        if follow is websocket:
            with pytest.raises(Refused) as caught:
                async with websocket(control, "?channels=process.outputs"):
                    pass
            assert caught.value.status == 400
        else:
            got = await get(control, "/events?channels=process.outputs")
            assert got.json["error"]["details"] == {"field": "channels"}


async def test_a_hole_is_filled_by_the_cursor():
    async with serving() as (control, service):
        async with events(control, "?channels=process.output") as stream:
            await stream.next()
            await (await service.start("seq", "10")).wait()
            last = (await stream.until(lambda message: message["data"]["line"] == "4"))["data"]["cursor"]
        await (await service.start("seq", "11", "20")).wait()
        missed = (await get(control, f"/logs?after={last}")).data["lines"]
        assert [row["line"] for row in missed] == [str(number) for number in range(5, 21)]


async def test_pipelines_are_told_of():
    async with serving() as (control, service), events(control, "?channels=pipeline.update") as stream:
        await stream.next()
        specs = [RunSpec(name="one", command="true")]
        await Runner(service).run_all(specs, updates=control.pipeline("build", specs))
        done = await stream.until(lambda message: message["data"]["state"] == "passed")
        assert done["data"]["counts"] == {"passed": 1}
        states = [spec["state"] for message in stream.seen[1:] for spec in message["data"]["specs"]]
        assert states[0] == "pending"
        assert states[-1] == "passed"


async def test_daemons_are_told_of(tmp_path, monkeypatch):
    monkeypatch.setattr(watch_module, "PERIOD", 0.05)
    monkeypatch.setattr(watch_module, "_PROBE_EVERY", 1)
    monkeypatch.setattr(watch_module, "_PROBE_TIMEOUT", 0.5)
    registry = Registry(tmp_path)
    sick = []
    async with (
        HealthServer("127.0.0.1:0", checks=[lambda: "; ".join(sick)]) as health,
        ControlServer("127.0.0.1:0", registry=registry) as control,
        events(control) as stream,
    ):
        await stream.next()
        with registry.registered(DaemonEntry("app", "web", health=health.addr)):
            assert (await stream.event("process.daemon.started"))["data"]["daemon"] == "web"
            assert (await stream.event("process.daemon.health"))["data"]["healthy"] is True
            sick.append("disk full")
            changed = (await stream.event("process.daemon.health"))["data"]
            assert (changed["code"], changed["daemon"], changed["healthy"]) == ("app", "web", False)
            assert "disk full" in changed["reason"]
        gone = (await stream.event("process.daemon.stopped"))["data"]
        assert (gone["code"], gone["daemon"]) == ("app", "web")


async def test_usage_is_told_of(monkeypatch):
    monkeypatch.setattr(sampler_module, "PERIOD", 0.05)
    async with serving() as (control, service), events(control, "?channels=sample") as stream:
        process = await service.start("sleep", "1000", name="web")
        found = await stream.until(lambda message: message.get("channel") == "sample" and message["data"]["services"])
        (row,) = found["data"]["services"]
        assert (row["name"], row["service"], row["replica"], row["processes"]) == (process.id, "web", 1, 1)
        assert row["memory"] > 0
        assert row["descriptors"] >= 3
        process.kill()


async def test_streams_have_places_of_their_own_and_one_too_many_gets_503():
    async with serving(max_streams=3) as (control, _):
        async with events(control) as one, websocket(control) as two, events(control) as three:
            for stream in (one, two, three):
                await stream.next()
            assert (await get(control, "/events")).code == "unavailable"
            with pytest.raises(Refused) as caught:
                async with websocket(control):
                    pass
            assert caught.value.status == 503
            assert (await ask(control, "GET", "/health", token=False)).status == 200
        with trio.fail_after(10):
            while (await ask(control, "GET", "/metrics")).body.count(b"trio_process_streams_open 0") == 0:
                await trio.sleep(0.01)
        async with events(control) as again:
            await again.next()


async def test_silence_is_broken_by_a_beat(monkeypatch):
    monkeypatch.setattr(streams_module, "BEAT", 0.1)
    async with serving() as (control, _), events(control, "?channels=process.killed") as stream:
        await stream.next()
        assert (await stream.next())["type"] == "beat"


async def flood(service, seconds):
    code = f"timeout {seconds} yes 'a line of some sixty characters, as programs write them all day'"
    return await service.start("sh", "-c", code, disable_capture=True, name="flood")


async def test_a_client_that_never_reads_is_cut_and_disturbs_nobody(monkeypatch):
    monkeypatch.setattr("trio_process._daemon.health.connection._SEND_TIMEOUT", 1.0)
    async with serving() as (control, service):
        silent = await connect(control)
        head = f"GET /api/process/events HTTP/1.1\r\nHost: {control.addr}\r\n"
        await silent.send_all(f"{head}Authorization: Bearer {control.token.reveal()}\r\n\r\n".encode())
        process = await flood(service, 100)
        async with silent:
            with trio.fail_after(30):
                while b"trio_process_streams_open 0" not in (await ask(control, "GET", "/metrics")).body or (
                    b'route="/api/process/events"' not in (await ask(control, "GET", "/metrics")).body
                ):
                    began = time.monotonic()
                    assert (await ask(control, "GET", "/health", token=False)).status == 200
                    assert time.monotonic() - began < 2
                    await trio.sleep(0.1)
        process.kill()


UPGRADE = "Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
CLOSE = bytes([0x88, 0x80, 0, 0, 0, 0])  # of a client that waits for no answer


@pytest.mark.parametrize(
    ("upgrade", "more"), [("", b""), (UPGRADE, b""), (UPGRADE, CLOSE)], ids=["sse", "websocket", "closing"]
)
async def test_a_stream_that_is_not_read_gives_its_place_back(monkeypatch, tmp_path, upgrade, more):
    monkeypatch.setattr("trio_process._daemon.health.connection._SEND_TIMEOUT", 0.1)
    async with serving(f"unix:{tmp_path}/s", max_streams=1) as (control, service):
        await service.start("sh", "-c", "exec sleep 1000", *["x" * 100_000] * 8)  # a snapshot that no socket holds
        for _ in range(3):
            async with await connect(control) as silent:
                await silent.send_all(f"GET /api/process/events HTTP/1.1\r\nHost: x\r\n{upgrade}\r\n".encode())
                assert await silent.receive_some(12) in (b"HTTP/1.1 200", b"HTTP/1.1 101")
                await silent.send_all(more)
                with trio.fail_after(20):
                    while b"streams_open 0" not in (await ask(control, "GET", "/metrics")).body:
                        await trio.sleep(0.01)


def test_a_backlog_has_a_bound_and_what_is_dropped_becomes_a_gap(monkeypatch):
    monkeypatch.setattr(hub_module, "MAX_BACKLOG", 10_000)
    hub = Hub()
    client = hub.join(Wish())
    for number in range(100):
        hub.output(number * 10 + 1, ["x" * 50] * 10, "stdout", Source("web", 1, "p"), 0.0)
        hub.publish("service.changed", {"name": "web", "number": number}, service="web")
        hub.flush()
    messages = list(client.take())
    gaps = [message for message in messages if '"gap"' in message]
    assert len(gaps) == 1
    assert '"service":"web"' in gaps[0]
    kept = sum('"process.output"' in message for message in messages)
    assert f'"missed":{1000 - kept}' in gaps[0]
    assert hub.dropped == 1000 - kept
    assert sum('"service.changed"' in message for message in messages) == 100  # never dropped


@pytest.mark.parametrize(
    ("wish", "services"),
    [
        (Wish(), {None, "web"}),
        (Wish(frozenset({"process.output"})), {None, "web"}),
        (Wish(frozenset({"service.changed", "sample"})), set()),
        (Wish(services=frozenset({"web"})), {None, "web"}),
        (Wish(services=frozenset({"db"})), {None}),
    ],
)
def test_a_gap_is_for_those_who_asked_for_output(wish, services):
    hub = Hub()
    client = hub.join(wish)
    hub.miss(None, 3)
    hub.miss("web", 4)
    assert client.waiting is bool(services)
    gaps = [json.loads(message) for message in client.take()]
    assert {gap["service"] for gap in gaps} == services
    assert {gap["type"] for gap in gaps} <= {"gap"}


def test_a_frame_is_encoded_once_for_all_that_want_the_same():
    frame = Frame([Output(1, ["a"], "stdout", Source("web", 1, "p"), 0.0)])
    assert frame.encoded(Wish(batch=True)) is frame.encoded(Wish(batch=True))
    assert frame.encoded(Wish()) is not frame.encoded(Wish(batch=True))
    assert frame.encoded(Wish(services=frozenset({"db"}))).messages == []
    assert len(CHANNELS) == len(set(CHANNELS)) == 10


async def test_a_log_keeps_its_last_lines_and_the_cursors_go_on():
    store = LogStore()
    for _ in range(30):
        store.append(Source("web", 1, "p"), "stdout", ["x"] * 5000, 0.0)
    store.append(Source("db", 1, "q"), "stdout", ["y"], 0.0)
    ((_, total, dropped), _) = store.counts()
    assert (total, dropped) == (150_000, 150_000 - MAX_LINES)
    page = await store.read({"web"}, Query(after=0, limit=1))
    assert page["first"] == 50_001
    assert (await store.read((), Query(limit=1)))["last"] == 150_001


@pytest.mark.parametrize(
    ("line", "text", "found"),
    [
        ("\x1b[32mINFO\x1b[0m: up", "info: up", True),  # only a part is coloured
        ("\x1b[32mINFO\x1b[0m: up", "32", False),  # no text that is seen
        ("\x1b[32mINFO\x1b[0m: up", "\x1b[32m", True),  # asked for
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x07ed \x9b1mbold", "linked bold", True),
        ("\x1bPcut off", "cut", False),
        ("no sequence", "no s", True),
    ],
)
def test_a_search_leaves_escape_sequences_out(line, text, found):
    assert Query(grep=text, ignore_case=True).matches(line) is found


@pytest.mark.parametrize("seed", range(5))
async def test_pages_are_what_a_filter_of_all_lines_gives_also_while_lines_come_and_go(seed, monkeypatch):
    monkeypatch.setattr(logstore_module, "_PORTION", 1)
    monkeypatch.setattr(logstore_module, "_GAP", 3)
    monkeypatch.setattr(logstore_module, "_TURN", -1.0)  # other tasks get a turn after each chunk
    monkeypatch.setattr(logstore_module, "MAX_LINES", 300)
    random, store, kept, written = Random(seed), LogStore(), {}, {}

    def write(count):
        for _ in range(count):
            name = random.choice("aaaaab" if random.random() < 0.5 else "cd")
            lines = [f"{name} {random.randrange(100)}" for _ in range(random.choice((1, 1, 1, 4, 30)))]
            first = store.append(Source(name, 1, "p"), "stdout", lines, 0.0)
            written.update(enumerate(lines, first))
            own = kept[name] = [*kept.get(name, []), *enumerate(lines, first)]
            del own[: max(0, len(own) - 300)]

    async def write_on():
        while True:
            write(1)
            await trio.lowlevel.checkpoint()

    write(300)
    for _ in range(40):
        services = frozenset(random.sample("abcd", random.randrange(4)))
        after, before = (random.choice((None, random.randrange(-1, store.cursor + 9))) for _ in range(2))
        query = Query(after, before, random.randrange(1, 200), random.choice(("", "7")))
        before = min(store.cursor + 1, store.cursor + 1 if before is None else before)
        matching = [
            (cursor, line)
            for name in services or kept
            for cursor, line in kept.get(name, ())
            if (after is None or cursor > after) and cursor < before and query.grep in line
        ]
        matching.sort()
        wanted = matching[-query.limit :] if after is None else matching[: query.limit]
        page = await store.read(services, query)
        assert [(row["cursor"], row["line"]) for row in page["lines"]] == wanted
        assert page["more"] is (len(matching) > len(wanted))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(write_on)
            page = await store.read(services, query)
            nursery.cancel_scope.cancel()
        found = {row["cursor"]: row["line"] for row in page["lines"]}
        assert list(found) == sorted(found)
        assert found.items() <= written.items()
        assert all(query.grep in line and (not services or line[0] in services) for line in found.values())


async def test_searches_have_one_turn_at_a_time(monkeypatch):
    monkeypatch.setattr(logstore_module, "_TURN", -1.0)
    store, turns = LogStore(), 0
    for _ in range(50):
        store.append(Source("web", 1, "p"), "stdout", ["x"], 0.0)

    async def count():
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(count)
        async with trio.open_nursery() as searching:
            for _ in range(10):
                searching.start_soon(store.read, (), Query(grep="y"))
        nursery.cancel_scope.cancel()
    assert turns >= 50 * 10


async def test_a_log_is_bounded_by_its_size_too():
    store = LogStore()
    for _ in range(40):
        store.append(Source("web", 1, "p"), "stdout", ["x" * 2**20], 0.0)
    ((_, _, dropped),) = store.counts()
    assert dropped == 24
    page = await store.read((), Query(limit=100))
    assert page["more"] is True  # an answer has a bound as well
    assert len(page["lines"]) == 2
