"""Probes on virtual time: when they are asked, what their answers count for, and what they can't do."""

import functools
import gc
import re
import time

import pytest
import trio
from support_units import FOR_EVER, crash, fake_service, starts, supervised, unit

from trio_process import HealthServer, OptionError, Probe, RestartPolicy, Service, UnitFailedError, UnitState
from trio_process.testing import Behaviour

NEVER = RestartPolicy.never()


class Answers:
    """A function for `Probe.call` that knows when it was asked."""

    def __init__(self, answer=True):
        self.answer = answer
        self.asked = []
        self.running = 0
        self.most = 0

    async def __call__(self):
        self.asked.append(trio.current_time())
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            answer = self.answer(trio.current_time()) if callable(self.answer) else self.answer
            if isinstance(answer, (int, float)) and not isinstance(answer, bool):
                await trio.sleep(answer)
                return True
            return answer
        finally:
            self.running -= 1


async def test_readiness_is_asked_every_second_until_ready_and_every_ten_from_then_on(autojump_clock):
    answers = Answers(lambda now: now >= 3)
    async with supervised([unit("web", ready=Probe.call(answers))]) as (supervisor, _, _):
        await supervisor.wait_ready()
        assert trio.current_time() == 3
        await trio.sleep(25)
        assert answers.asked == [0, 1, 2, 3, 13, 23]


async def test_a_period_and_an_initial_delay_are_kept(autojump_clock):
    answers = Answers()
    async with supervised([unit("web", ready=Probe.call(answers, initial_delay=5, period=2))]) as (supervisor, _, _):
        await supervisor.wait_ready()
        assert trio.current_time() == 5
        await trio.sleep(5)
        assert answers.asked == [5, 7, 9]


async def test_successes_and_failures_are_counted_in_a_row(autojump_clock):
    bad = {1, 5, 6, 8, 9, 10, 13}
    answers = Answers(lambda now: now not in bad)
    probe = Probe.call(answers, period=1, successes=3, failures=3)
    async with supervised([unit("web", ready=probe)]) as (_, _, changes):
        await trio.sleep(30)
        at = [str(event.new) for event in changes.all()[2:]]
        # three good ones at 2, 3, 4; three bad ones at 8, 9, 10; three good ones at 14, 15, 16
        assert at == ["ready", "unready", "ready"]
    events = changes.all()
    assert "Answers(): it returned False" in events[3].reason


async def test_flapping_readiness_changes_no_process(autojump_clock):
    answers = Answers(lambda now: int(now) % 2 == 0)
    probe = Probe.call(answers, period=1, failures=1)
    async with supervised([unit("web", ready=probe), unit("next", after=["web"])]) as (supervisor, fake, changes):
        await trio.sleep(20.5)
        assert changes.of("web").count("unready") == 10
        assert starts(fake, "web") == [0]
        assert starts(fake, "next") == [0]  # losing a condition later changes nothing
        assert supervisor["web"].state is UnitState.READY


async def test_a_unit_that_is_not_ready_any_more_is_waited_for_again(autojump_clock):
    answers = Answers(lambda now: not 5 <= now < 20)
    async with supervised([unit("web", ready=Probe.call(answers, period=1, failures=1))]) as (supervisor, _, _):
        await supervisor["web"].wait("unready")
        with pytest.raises(TimeoutError, match="web is unready"):
            await supervisor.wait_ready(timeout=3)
        await supervisor.wait_ready(timeout=30)
        assert trio.current_time() == 20


async def test_liveness_begins_after_the_first_readiness(autojump_clock):
    answers = Answers()
    units = [unit("web", ready=Probe.call(Answers(lambda now: now >= 30)), live=Probe.call(answers))]
    async with supervised(units) as (_, _, changes):
        await trio.sleep(55)
        assert answers.asked == [30, 40, 50]
        assert changes.of("web") == ["waiting", "starting", "ready"]


async def test_a_dead_liveness_never_kills_a_slow_starter(autojump_clock):
    units = [unit("web", settle=50.0, live=Probe.call(Answers(False), period=1, failures=1), restart=NEVER)]
    async with supervised(units) as (supervisor, _, _):
        assert await supervisor["web"].wait() is UnitState.FAILED
        assert trio.current_time() == 50
        assert "not alive any more: Answers(): it returned False" in str(supervisor["web"].error)


async def test_lost_liveness_is_a_failure(autojump_clock):
    answers = Answers(lambda now: not 20 <= now < 60)
    async with supervised([unit("web", live=Probe.call(answers))]) as (supervisor, _, changes):
        await supervisor["web"].wait("backoff")
        assert trio.current_time() == pytest.approx(40.1, abs=1)
        await trio.sleep(200)
        assert changes.of("web")[:8] == [
            "waiting", "starting", "ready", "stopping", "backoff", "waiting", "starting", "ready",
        ]  # fmt: skip
        assert supervisor["web"].restarts >= 1


async def test_a_probe_that_hangs_is_a_failure_and_never_overlaps(autojump_clock):
    answers = Answers(1000)
    units = [unit("web", ready=Probe.call(answers, timeout=3), start_timeout=20, restart=NEVER)]
    async with supervised(units) as (supervisor, _, _):
        assert await supervisor["web"].wait() is UnitState.FAILED
        assert trio.current_time() == 20
        assert "Answers(): no answer within 3 s" in str(supervisor["web"].error)
        assert answers.most == 1
        assert answers.asked == [0, 3, 6, 9, 12, 15, 18]


async def test_a_probe_that_shields_itself_is_left_alone_and_never_doubled(autojump_clock):
    running = []

    async def stuck():
        running.append(trio.current_time())
        with trio.CancelScope(shield=True):
            await trio.sleep(50)

    units = [unit("web", live=Probe.call(stuck, period=5, timeout=2, failures=3), restart=NEVER)]
    async with supervised(units) as (supervisor, _, _):
        assert await supervisor["web"].wait() is UnitState.FAILED
        assert trio.current_time() == pytest.approx(10.1)
        assert "its last call is still running" in str(supervisor["web"].error)
        assert len(running) == 1
    assert trio.current_time() < 20
    await trio.sleep(60)


async def test_an_answer_counts_only_for_the_run_that_it_was_asked_for(autojump_clock):
    """The first run crashes while it is being asked; the answer comes when the second one runs."""
    answers = Answers(lambda now: 5.0 if now < 1 else False)
    fake = fake_service(web=[crash(2.0), FOR_EVER])
    units = [unit("web", ready=Probe.call(answers, timeout=10.0))]
    async with supervised(units, fake) as (supervisor, _, changes):
        await trio.sleep(30)
        assert "ready" not in changes.of("web")
        assert supervisor["web"].generation == 2
        assert answers.most == 1


async def test_a_line_of_the_last_run_is_not_taken_for_this_runs(autojump_clock):
    fake = fake_service(
        web=[
            Behaviour(lines=["listening"], exit_code=1, exit_after=1.0),
            Behaviour(lines=[(9.0, "listening")], exit_code=None),
        ]
    )
    async with supervised([unit("web", ready=Probe.line("listening"))], fake) as (supervisor, _, _):
        await supervisor["web"].wait("backoff")
        await supervisor.wait_ready()
        assert trio.current_time() == pytest.approx(11.0)


async def test_a_line_can_be_a_pattern_and_on_either_stream(autojump_clock):
    lines = {"stdout": ["starting", (2.0, "port 8080 open")], "stderr": [(4.0, "ready for 2")]}
    fake = fake_service(a={"lines": lines, "exit_code": None}, b={"lines": lines, "exit_code": None})
    units = [
        unit("a", ready=Probe.line(re.compile(r"port \d+"))),
        unit("b", ready=Probe.line("ready for {replica}"), replicas=1),
        unit("c", command="b", ready=Probe.line("ready for {replica}"), replicas=2, enabled=False),
    ]
    async with supervised(units, fake) as (supervisor, _, _):
        await supervisor["a"].wait("ready")
        assert trio.current_time() == 2
        await trio.sleep(10)
        assert supervisor["b"].state is UnitState.STARTING  # there is only a second one's line
        with trio.move_on_after(10):
            await supervisor.start("c")
        assert supervisor["c.2"].ready


async def test_a_command_is_run_by_the_service(autojump_clock):
    fake = fake_service()
    fake.on(
        "check", ..., then=[Behaviour(exit_code=1, lines=["not yet"]), Behaviour(exit_code=1), Behaviour(exit_code=0)]
    )
    probe = Probe.command("check", "--replica", "{replica}")
    async with supervised([unit("web", ready=probe, cwd="/", env={"A": "b"}, replicas=2)], fake) as (
        supervisor,
        fake,
        _,
    ):
        await supervisor.wait_ready()
        checks = [call for call in fake.calls if call.command == "check"]
        assert {call.args for call in checks} == {("--replica", "1"), ("--replica", "2")}
        assert not [each for each in fake.list() if each.command == "check"]  # their records are forgotten


async def test_a_command_that_hangs_is_killed_at_its_timeout(autojump_clock):
    fake = fake_service()
    fake.on("check", exit_code=None, ignores=["SIGTERM"])
    units = [unit("web", ready=Probe.command("check", timeout=2.5), start_timeout=6, restart=NEVER)]
    async with supervised(units, fake) as (supervisor, fake, _):
        assert await supervisor["web"].wait() is UnitState.FAILED
        assert trio.current_time() == 6
        assert starts(fake, "check") == [0, 2.5, 5.0]
        assert [each for each in fake.running() if each.command == "check"] == []


async def test_a_line_counts_without_a_delay_and_a_line_probe_can_be_changed_while_it_runs(autojump_clock):
    web = unit("web", ready=Probe.line("listening", initial_delay=1000.0))
    async with supervised([web]) as (supervisor, fake, _):
        await supervisor.wait_ready()
        assert trio.current_time() == 0
        await supervisor.reload([unit("web", ready=Probe.line("list"))])
        await supervisor.wait_ready()
        assert len(fake.calls) == 1


async def test_a_unit_that_ends_before_its_line_leaves_no_reader_behind(autojump_clock, caplog):
    web = unit("web", ready=Probe.line("never"), restart=RestartPolicy.on_failure(max_restarts=2, jitter=0.0))
    async with supervised([web], fake_service(web={"exit_code": 1})) as (supervisor, _, _):
        with pytest.raises(UnitFailedError):
            await supervisor.wait()
        gc.collect()
    assert not [record for record in caplog.records if "unclosed" in record.message]


@pytest.mark.parametrize("answer", [None, True, "", (True, "fine")])
async def test_what_is_healthy(answer, autojump_clock):
    async def ask():
        return answer

    assert await Probe.call(ask)() == (True, "")
    assert await Probe.call(lambda: answer)() == (True, "")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (False, "it returned False"),
        ("no disk", "no disk"),
        ((False, "no disk"), "no disk"),
        (ValueError("broken"), "ValueError: broken"),
        (7, "it returned 7"),
        ([], "it returned []"),
    ],
)
async def test_what_is_unhealthy_says_why(answer, reason, autojump_clock):
    async def ask():
        return raised(answer)

    assert await Probe.call(lambda: answer)() == (False, matching(f"<lambda>(): {reason}"))
    assert await Probe.call(ask)() == (False, matching(f"ask(): {reason}"))
    assert await Probe.call(functools.partial(raised, answer))() == (False, matching(f"raised(): {reason}"))


class matching:  # noqa: N801 - it reads as a function
    """Equal to each text that begins with the given one."""

    def __init__(self, start):
        self.start = start

    def __eq__(self, text):
        return text.startswith(self.start)

    __hash__ = None

    def __repr__(self):
        return f"{self.start!r}…"


def raised(answer):
    if isinstance(answer, BaseException):
        raise answer
    return answer


async def test_a_plain_function_runs_in_a_thread_and_takes_no_virtual_time(autojump_clock):
    def slow():
        time.sleep(0.2)
        return True

    units = [unit("web", ready=Probe.call(slow, timeout=0.05))]
    async with supervised(units) as (supervisor, _, _):
        await supervisor.wait_ready()
        assert trio.current_time() == 0


async def test_a_probe_is_a_health_check(autojump_clock):
    server = HealthServer("127.0.0.1:0", checks=[Probe.call(lambda: "no disk"), Probe.call(lambda: None)])
    assert server is not None
    assert await Probe.call(lambda: "no disk")() == (False, "<lambda>(): no disk")
    with pytest.raises(OptionError, match="can't be called by itself"):
        await Probe.line("x")()


@pytest.mark.parametrize(
    "make",
    [
        lambda: Probe.line(""),
        lambda: Probe.line(b"x"),
        lambda: Probe.line("ready\n"),
        lambda: Probe.line(re.compile(b"x")),
        lambda: Probe.tcp("127.0.0.1"),
        lambda: Probe.tcp("unix:/x"),
        lambda: Probe.tcp(80),
        lambda: Probe.tcp(":0"),
        lambda: Probe.tcp("127.0.0.1:0"),
        lambda: Probe.tcp("[::1]:00"),
        lambda: Probe.http("127.0.0.1:80"),
        lambda: Probe.http("ftp://127.0.0.1/"),
        lambda: Probe.http("http://user:secret@127.0.0.1/"),
        lambda: Probe.http("http://127.0.0.1:99999/"),
        lambda: Probe.http("http://127.0.0.1:0/"),
        lambda: Probe.http("https://127.0.0.1:0"),
        lambda: Probe.http("http://127.0.0.1/\r\nX: y"),
        lambda: Probe.http("http://127.0.0.1/", status=()),
        lambda: Probe.http("http://127.0.0.1/", status=20),
        lambda: Probe.http("http://127.0.0.1/", status="200"),
        lambda: Probe.unix(""),
        lambda: Probe.unix("/" + "x" * 107),
        lambda: Probe.file(3),
        lambda: Probe.command(""),
        lambda: Probe.command("x", 3),
        lambda: Probe.call("f"),
        lambda: Probe.call(print, timeout=0),
        lambda: Probe.call(print, period=0),
        lambda: Probe.call(print, failures=0),
        lambda: Probe.call(print, successes=0.5),
        lambda: Probe.call(print, initial_delay=-1),
        lambda: Probe.call(print, timout=3),
    ],
)
def test_a_probe_refuses_what_it_cannot_ask(make):
    with pytest.raises(OptionError):
        make()


@pytest.mark.parametrize(
    "url", ["http://user:hunter22@h/", "http://user:hunter22@h:0/", "https://user:hunter22@[::1/", "http://hunter22@ä/"]
)
def test_a_url_with_a_password_is_refused_without_it(url):
    with pytest.raises(OptionError, match="must not contain a user") as caught:
        Probe.http(url)
    assert "hunter22" not in str(caught.value)


@pytest.mark.parametrize(
    ("probe", "text"),
    [
        (Probe.tcp("127.0.0.1:6553{replica}"), "'127.0.0.1:65536'"),
        (Probe.http("http://127.0.0.1:6553{replica}/"), "'http://127.0.0.1:65536/'"),
        (Probe.unix("/" + "x" * 105 + "{replica}"), "10' is too long"),
    ],
)
async def test_an_address_must_be_valid_for_every_replica(probe, text, autojump_clock):
    last = 6 if "65536" in text else 10
    for option in ("ready", "live"):
        assert unit("web", replicas=last - 1, **{option: probe})
        with pytest.raises(OptionError, match=text):
            unit("web", replicas=last, **{option: probe})
    async with supervised([unit("web", live=probe)]) as (supervisor, _, _):
        await supervisor.wait_ready()
        with pytest.raises(OptionError, match=text):
            await supervisor.scale("web", last)
        assert supervisor["web"].ready


# with a real service and the real clock


async def test_tcp_and_unix_and_file_answer_when_they_are_there(tmp_path):
    path = tmp_path / "web.sock"
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    assert await Probe.tcp(f"127.0.0.1:{port}")() == (True, "")
    for listener in listeners:
        await listener.aclose()
    assert await Probe.tcp(f"127.0.0.1:{port}")() == (False, f"127.0.0.1:{port}: connection refused")
    assert await Probe.http(f"http://127.0.0.1:{port}/a")() == (False, f"http://127.0.0.1:{port}/a: connection refused")
    ok, why = await Probe.unix(path)()
    assert not ok
    assert why.startswith(f"unix:{path}: ")
    assert "No such file" in why
    with trio.socket.socket(trio.socket.AF_UNIX) as server:
        await server.bind(str(path))
        server.listen()
        assert await Probe.unix(path)() == (True, "")
        assert await Probe.file(path)() == (True, "")
    assert await Probe.unix(path)() == (False, f"unix:{path}: connection refused")
    assert await Probe.file(tmp_path / "none")() == (False, f"{tmp_path / 'none'}: there is no such file")


@pytest.mark.parametrize(
    ("answer", "options", "reason"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", {}, None),
        (b"HTTP/1.1 302 Found\r\nLocation: /x\r\n\r\n", {}, None),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", {}, "HTTP status 404 Not Found"),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", {"status": 404}, None),
        (b"HTTP/1.1 200 OK\r\n\r\n", {"status": [204, 205]}, "HTTP status 200 OK"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", {}, "ValueError: the server does not speak HTTP/1"),
        (b"", {}, "ValueError: the server closed the connection without an answer"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nX: " + b"y" * 200_000,
            {},
            "ValueError: the headers of the answer are longer than 64 KiB",
            id="long",
        ),
        (None, {"timeout": 0.2}, "no answer within 200 ms"),
    ],
)
async def test_http_judges_the_status(answer, options, reason):
    async def serve(stream):
        async with stream:
            request = await stream.receive_some()
            assert request.startswith(b"GET /health?deep=1 HTTP/1.1\r\nHost: 127.0.0.1:")
            if answer is None:
                await trio.sleep_forever()
            with trio.move_on_after(10):
                try:
                    await stream.send_all(answer)
                except trio.BrokenResourceError:
                    pass

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, serve, 0)
        port = listeners[0].socket.getsockname()[1]
        url = f"http://127.0.0.1:{port}/health?deep=1"
        expected = (True, "") if reason is None else (False, f"{url}: {reason}")
        assert await Probe.http(url, **options)() == expected
        nursery.cancel_scope.cancel()


async def test_a_command_by_itself_has_a_service_of_its_own():
    assert await Probe.command("true", timeout=30)() == (True, "")
    ok, why = await Probe.command("sh", "-c", "echo no such table >&2; exit 3", timeout=30)()
    assert not ok
    assert why.startswith("sh -c 'echo no such table >&2; exit 3': exited with code 3 after ")
    assert why.endswith(": no such table")
    ok, why = await Probe.command("no-such-program-here", timeout=30)()
    assert not ok
    assert why.startswith("ProgramNotFoundError: can't start `no-such-program-here`")
    long = "x" * 5_000
    ok, why = await Probe.command("sh", "-c", f": {long}\necho no such table >&2; exit 3", timeout=30)()
    assert why.startswith("sh -c ': xxx")
    assert why.endswith(": no such table")


async def test_a_command_that_floods_and_leaves_children_is_bounded_and_leaves_nothing():
    async with Service() as service:
        from trio_process._supervisor import Asker, Place

        flood = Probe.command("sh", "-c", "sleep 1000 & yes", timeout=0.5)
        ok, why = await Asker(flood._kind, flood.timeout).ask(Place(service))
        assert (ok, why) == (False, "sh -c 'sleep 1000 & yes': no answer within 500 ms")
        assert service.running() == []
        assert service.list() == []
