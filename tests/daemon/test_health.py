"""The health server: answers, checks, addresses, and its stop."""

import errno
import json
import os
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from functools import partial

import pytest
import trio

from trio_process._core import DaemonError, OptionError, ProcessError, socket_path
from trio_process._daemon import HealthServer, parse_address, probe_health
from trio_process._daemon.health import HealthChecks
from trio_process._process import Service
from trio_process._supervisor import Probe
from trio_process.testing.hostile import connect, exchange


async def get(addr, path, accept=""):
    """The status and body of a GET."""
    lines = [f"GET {path} HTTP/1.1", "Host: x", "Connection: close", *([f"Accept: {accept}"] if accept else [])]
    head, _, body = (await exchange(addr, "\r\n".join([*lines, "", ""]).encode())).partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]), body.decode()


def test_importing_the_layer_imports_no_http_stack():
    code = (
        "import sys, trio_process._daemon as d; d.HealthServer(':0'); d.Daemon(health_addr=':0');"
        "sys.exit(bool({'quart', 'quart_trio', 'hypercorn', 'h11', 'werkzeug'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


@pytest.fixture
async def server():
    with trio.fail_after(30):
        async with HealthServer("127.0.0.1:0") as server:
            yield server


async def test_it_is_healthy_and_ready_unless_told_otherwise(server):
    assert await get(server.addr, "/health") == (200, "ok\n")
    assert await get(server.addr, "/ready") == (200, "ready\n")
    assert server.ready


async def test_readiness_follows_set_ready_and_health_does_not_care():
    async with HealthServer("127.0.0.1:0", ready=False) as server:
        assert await get(server.addr, "/ready") == (503, "not ready\n")
        assert await get(server.addr, "/health") == (200, "ok\n")
        server.set_ready(True)
        assert await get(server.addr, "/ready") == (200, "ready\n")
        server.set_ready(False)
        assert not server.ready
        assert await get(server.addr, "/ready") == (503, "not ready\n")


class Pool:
    async def ping(self):
        pass


class Callable:
    async def __call__(self):
        return "no answer"


def raises(error):
    def check():
        raise error

    return check


async def raises_a_group():
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep_forever)
        raise KeyError("x")


async def raises_interrupt():
    raise BaseExceptionGroup("many", [KeyboardInterrupt(), SystemExit(3)])


async def returns_a_result_that_is_ok():
    async with Service() as service:
        return await service.run("true")


class NoReprError:
    def __repr__(self):
        raise ValueError


class NoTextError(Exception):
    def __str__(self):
        raise SystemExit(3)


@pytest.mark.parametrize(
    ("check", "why"),
    [
        (lambda: None, ""),
        (lambda: True, ""),
        (lambda: 0, "it returned 0: return True, False or a text"),
        (lambda: 1, "it returned 1: return True, False or a text"),
        (lambda: {"status": "fail"}, "it returned {'status': 'fail'}: return True, False or a text"),
        (lambda: (True, "fine"), ""),
        (lambda: (False, "connection refused"), "connection refused"),
        (lambda: (False, ""), "it returned False"),
        (lambda: (1, "down"), "it returned (1, 'down'): return True, False or a text"),
        (lambda: [True, ""], "it returned [True, '']: return True, False or a text"),
        (partial(probe_health, "127.0.0.1:1", 0.1), "connection refused"),
        (returns_a_result_that_is_ok, ""),
        (NoReprError, "it returned a NoReprError: return True, False or a text"),
        (lambda: "", ""),
        (Pool().ping, ""),
        (lambda: Pool().ping(), ""),
        (lambda: False, "it returned False"),
        (lambda: "disk full", "disk full"),
        (lambda: "two\nlines\x1b[2J", "two lines\\x1b[2J"),
        (lambda: "x" * 600, "x" * 500 + " […]"),
        (lambda: ValueError("bad"), "ValueError: bad"),
        (raises(OSError(2, "No such file")), "FileNotFoundError: [Errno 2] No such file"),
        (raises(ValueError()), "ValueError"),
        (raises(NoTextError()), "NoTextError"),
        (raises(FileNotFoundError("/tmp/\udcff")), "FileNotFoundError: /tmp/\\xff"),
        (raises(SystemExit(3)), "SystemExit: 3"),
        (raises(KeyboardInterrupt()), "KeyboardInterrupt"),
        (Callable(), "no answer"),
        (raises_a_group, "KeyError: 'x'"),
        (raises_interrupt, "BaseExceptionGroup: many (2 sub-exceptions)"),
    ],
)
async def test_what_a_check_says_decides(server, check, why):
    server.add_check(check, name="it")
    assert await get(server.addr, "/health") == ((503, f"unhealthy: it: {why}\n") if why else (200, "ok\n"))
    assert await get(server.addr, "/health") == ((503, f"unhealthy: it: {why}\n") if why else (200, "ok\n"))


async def test_every_failed_check_has_a_line_and_a_name():
    def broken():
        return "a"

    async with HealthServer("127.0.0.1:0", checks=[broken, lambda: "b", Callable(), Pool().ping]) as server:
        status, body = await get(server.addr, "/health")
        assert status == 503
        assert body == "unhealthy: broken: a\nunhealthy: check 2: b\nunhealthy: Callable: no answer\n"


async def test_json_that_is_not_wanted_is_not_sent(server):
    for lines in ("application/json;q=0", "text/plain\r\nAccept: application/json;q=0.5"):
        assert await get(server.addr, "/health", lines) == (200, "ok\n")


@pytest.mark.parametrize("accept", ["application/health+json", "text/html, application/json;q=0.9"])
async def test_json_has_every_check(server, accept):
    server.add_check(lambda: None, name="good")
    server.add_check(lambda: "down", name="bad")
    status, body = await get(server.addr, "/health", accept)
    found = json.loads(body)
    assert status == 503
    assert found["status"] == "fail"
    assert [(c["name"], c["status"]) for checks in found["checks"].values() for c in checks] == [
        ("good", "pass"),
        ("bad", "fail"),
    ]
    assert all(0 <= check["duration"] < 5 for [check] in found["checks"].values())
    assert found["checks"]["bad"][0]["output"] == "down"
    assert json.loads((await get(server.addr, "/ready", accept))[1]) == {"status": "pass"}


async def test_an_awaitable_in_an_awaitable_is_unhealthy_and_says_so(server):
    async def inner():
        pass

    async def outer():
        return inner()

    server.add_check(outer)
    status, body = await get(server.addr, "/health")
    assert status == 503
    assert body.startswith("unhealthy: outer: it returned <coroutine object ")


async def test_a_result_that_is_not_ok_is_unhealthy_with_its_account(server):
    async with Service() as service:
        server.add_check(partial(service.run, "sh", "-c", "echo broken >&2; exit 3", check=False), name="command")
        status, body = await get(server.addr, "/health")
    assert status == 503
    assert "exited with code 3" in body
    assert "broken" in body


def generator():
    yield


async def async_generator():
    yield


class GeneratorCallable:
    def __call__(self):
        yield


@pytest.mark.parametrize("check", [generator, async_generator, partial(generator), GeneratorCallable()])
def test_a_generator_function_is_refused_as_it_would_never_run(check):
    with pytest.raises(OptionError, match="generator function"):
        HealthServer(":0").add_check(check)


async def test_a_given_name_replaces_the_check_of_that_name(server):
    server.add_check(lambda: "old", name="db")
    server.add_check(lambda: "other", name="cache")
    server.add_check(lambda: "new", name="db")
    assert await get(server.addr, "/health") == (503, "unhealthy: db: new\nunhealthy: cache: other\n")


async def test_a_made_up_name_never_collides(server):
    server.add_check(lambda: "mine", name="ping")

    def ping():
        return "down"

    server.add_check(ping)
    server.add_check(ping)
    assert (await get(server.addr, "/health"))[
        1
    ] == "unhealthy: ping: mine\nunhealthy: ping 2: down\nunhealthy: ping 3: down\n"


async def test_a_removed_check_is_asked_no_more_and_an_unknown_one_names_the_nearest(server):
    server.add_check(lambda: "down", name="database")
    with pytest.raises(OptionError, match=r"no health check is called .databse.; did you mean .database."):
        server.remove_check("databse")
    server.remove_check("database")
    assert await get(server.addr, "/health") == (200, "ok\n")


async def test_checks_run_side_by_side_each_within_its_limit():
    def hangs_in_a_thread():
        released.wait(20)

    released = threading.Event()
    checks = [trio.sleep_forever, hangs_in_a_thread, lambda: trio.sleep(0.05)]
    try:
        with trio.fail_after(30):
            async with HealthServer("127.0.0.1:0", checks=checks, check_timeout=0.3) as server:
                began = trio.current_time()
                status, body = await get(server.addr, "/health")
                assert 0.25 < trio.current_time() - began < 3
                assert (status, body.count("timed out after 300 ms")) == (503, 2)
                # the thread still hangs: no second one is started beside it, and nobody waits for it again
                assert "is still running" in (await get(server.addr, "/health"))[1]
                began = trio.current_time()
            assert trio.current_time() - began < 2
    finally:
        released.set()


async def test_a_check_that_shields_itself_holds_up_neither_the_answer_nor_the_stop(caplog):
    released = trio.Event()

    async def stubborn():
        with trio.CancelScope(shield=True):
            await released.wait()

    with trio.fail_after(30):
        async with HealthServer("127.0.0.1:0", checks=[stubborn], check_timeout=0.1) as server:
            assert "stubborn: timed out" in (await get(server.addr, "/health"))[1]
            began = trio.current_time()
        assert trio.current_time() - began < 3
        assert "'stubborn' could not be cancelled" in caplog.text
    released.set()


async def test_all_who_ask_meanwhile_share_one_run(server, monkeypatch):
    calls = []
    asked = 0
    everybody_asked = trio.Event()
    answers = []
    results = HealthChecks.results

    async def counted(checkup):
        nonlocal asked
        asked += 1
        if asked == 20:
            everybody_asked.set()
        return await results(checkup)

    async def slow():
        calls.append("slow")
        await everybody_asked.wait()

    async def ask():
        answers.append(await get(server.addr, "/health"))

    monkeypatch.setattr(HealthChecks, "results", counted)
    server.add_check(slow)
    server.add_check(lambda: calls.append("fast"))
    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(ask)
    assert answers == [(200, "ok\n")] * 20
    assert sorted(calls) == ["fast", "slow"]


async def test_routes_of_ones_own_work_before_and_after_entering_and_after_the_first_request():
    server = HealthServer("127.0.0.1:0")

    @server.app.route("/early")
    async def early():
        return "early"

    with trio.fail_after(30):
        async with server:
            assert (await get(server.addr, "/none"))[0] == 404

            @server.app.route("/late", methods=["POST"])
            async def late():
                from quart import request

                return await request.get_data()

            @server.app.route("/broken")
            async def broken():
                raise BaseExceptionGroup("many", [SystemExit(1), ValueError(2)])

            assert await get(server.addr, "/early") == (200, "early")
            body = b"x" * 100_000
            answer = await exchange(
                server.addr,
                b"POST /late HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 100000\r\n\r\n" + body,
            )
            assert answer.endswith(b"\r\n\r\n" + body)
            assert (await get(server.addr, "/broken"))[0] == 500
            assert await get(server.addr, "/health") == (200, "ok\n")


async def test_quart_routes_keep_their_connection_alive(server):
    @server.app.route("/hello")
    async def hello():
        return "hello"

    async with await connect(server.addr) as stream:
        for _ in range(3):
            await stream.send_all(b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = b""
            while not answer.endswith(b"hello"):
                chunk = await stream.receive_some()
                assert chunk
                answer += chunk


async def test_it_stops_in_milliseconds_although_a_probe_is_connected():
    took = []
    with trio.fail_after(60):
        while not took or (min(took) >= 0.1 and len(took) < 20):  # the machine may be busy, not twenty times
            async with HealthServer("127.0.0.1:0") as server, await connect(server.addr) as stream:
                await stream.send_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
                assert (await stream.receive_some()).startswith(b"HTTP/1.1 200")
                began = trio.current_time()
                await server.__aexit__(None, None, None)
                took.append(trio.current_time() - began)
                assert await stream.receive_some() == b""
                await server.__aenter__()
    assert min(took) < 0.1


@pytest.mark.parametrize("path", [b"/health", b"/quart"])
async def test_it_stops_in_milliseconds_under_load(path):
    async def load(*, task_status):
        async with await connect(server.addr) as stream:
            with suppress(trio.BrokenResourceError):
                while True:
                    await stream.send_all(b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % path)
                    if not await stream.receive_some():
                        return
                    task_status.started()
                    task_status = trio.TASK_STATUS_IGNORED

    took = []
    with trio.fail_after(60):
        while len(took) < 5 or (min(took) >= 0.5 and len(took) < 20):  # the machine may be busy, not twenty times
            async with trio.open_nursery() as nursery:
                async with HealthServer("127.0.0.1:0") as server:

                    @server.app.route("/quart")
                    async def quart():
                        return "x"

                    for _ in range(4):
                        await nursery.start(load)
                    began = trio.current_time()
                took.append(trio.current_time() - began)
                assert took[-1] < 5
    assert min(took) < 0.5


async def test_a_request_in_progress_is_finished_before_the_stop():
    started = trio.Event()
    answers = []
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            async with HealthServer("127.0.0.1:0") as server:

                @server.app.route("/slow")
                async def slow():
                    started.set()
                    await trio.sleep(0.2)
                    return "done"

                async def ask():
                    answers.append(await get(server.addr, "/slow"))

                nursery.start_soon(ask)
                await started.wait()
        assert answers == [(200, "done")]


async def test_the_error_of_the_body_leaves_it_as_the_same_object():
    boom = ValueError("boom")
    with pytest.raises(ValueError) as caught:
        async with HealthServer("127.0.0.1:0"):
            raise boom
    assert caught.value is boom


async def test_a_taken_port_is_a_bare_error_that_says_so(server):
    with pytest.raises(DaemonError, match="another program listens there") as caught:
        async with HealthServer(server.addr):
            pass
    assert isinstance(caught.value, OSError)
    assert caught.value.errno == errno.EADDRINUSE


async def test_entering_twice_is_refused_and_entering_again_is_not():
    server = HealthServer("127.0.0.1:0")
    with trio.fail_after(30):
        for _ in range(2):
            async with server:
                with pytest.raises(ProcessError, match="already"):
                    await server.__aenter__()
                assert await get(server.addr, "/ready") == (200, "ready\n")
            assert server.addr == "127.0.0.1:0"


@pytest.mark.parametrize("addr", [":0", "localhost:0", "[::1]:0", "127.0.0.1:0"])
async def test_addresses_are_bound_and_reachable(addr):
    if "::1" in addr and not os.path.exists("/proc/net/if_inet6"):
        pytest.skip("no IPv6 here")
    with trio.fail_after(30):
        async with HealthServer(addr) as server:
            bound = parse_address(server.addr)
            assert bound.port
            for host in {"127.0.0.1"} if addr == ":0" else {bound.host}:
                assert (await get(str(type(bound)(host, bound.port)), "/health"))[0] == 200


async def test_no_listening_socket_is_inherited_by_children(server):
    inherited = [fd for fd in os.listdir("/proc/self/fd") if int(fd) > 2 and is_inheritable(int(fd))]
    sockets = [fd for fd in inherited if os.readlink(f"/proc/self/fd/{fd}").startswith("socket:")]
    assert sockets == []


def is_inheritable(fd):
    try:
        return os.get_inheritable(fd)
    except OSError:  # the descriptor of the listing itself
        return False


async def test_a_unix_socket_is_removed_at_the_end(tmp_path):
    path = tmp_path / "h.sock"
    with trio.fail_after(30):
        async with HealthServer(f"unix:{path}") as server:
            assert server.addr == f"unix:{path}"
            assert await get(server.addr, "/health") == (200, "ok\n")
        assert not path.exists()


@pytest.mark.parametrize("longer", [0, 1, 200])
async def test_a_unix_socket_can_be_in_a_directory_with_a_long_path(longer, tmp_path, no_leaks):
    directory = tmp_path / "d" / ("x" * max(1, 107 - len(f"{tmp_path}/d//h.sock") + longer))
    path = directory / "h.sock"
    assert len(str(path)) - 107 >= longer
    with trio.fail_after(30):
        assert not (await probe_health(f"unix:{path}", 0))[0]
        for _ in range(2):  # the second one replaces a dead socket
            async with HealthServer(f"unix:{path}") as server:
                assert server.addr == f"unix:{path}"
                assert await get(server.addr, "/health") == (200, "ok\n")
                assert await probe_health(server.addr, 5) == (True, "")
                assert await Probe.unix(path)() == (True, "")
                with pytest.raises(DaemonError, match="another program"):
                    async with HealthServer(f"unix:{path}"):
                        pass
            assert not path.exists()
            with socket_path(str(path)) as short, socket.socket(socket.AF_UNIX) as dead:
                dead.bind(short)


@pytest.mark.parametrize("program", ["HealthServer", "ControlServer"])
def test_a_server_starts_where_the_working_directory_was_removed(program, tmp_path):
    """As that of a release that a deployment has deleted."""
    code = (
        "import os, sys, trio, trio_process\n"
        "os.mkdir('gone'); os.chdir('gone'); os.rmdir('../gone')\n"
        "async def main():\n"
        f"    async with trio_process.{program}('unix:' + sys.argv[1]):\n"
        "        print(os.path.exists(sys.argv[1]))\n"
        "    try:\n"
        f"        trio_process.{program}('unix:x')\n"
        "    except trio_process.OptionError as error:\n"
        "        print('the working directory has been removed' in str(error))\n"
        "trio.run(main)\n"
    )
    command = [sys.executable, "-P", "-c", code, str(tmp_path / "s")]
    ended = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True, timeout=60)
    assert (ended.stdout, ended.stderr) == ("True\nTrue\n", "")


async def test_a_long_path_of_a_unix_socket_needs_proc_and_its_error_says_so(tmp_path, monkeypatch):
    path = tmp_path / ("x" * 120) / "h.sock"
    monkeypatch.setattr("trio_process._core.system.sockets._DESCRIPTORS", f"{tmp_path}/none")
    with pytest.raises(DaemonError, match="its path has more than 107 bytes, which needs /proc"):
        async with HealthServer(f"unix:{path}"):
            pass


def test_a_unix_socket_whose_name_is_too_long_is_refused():
    with pytest.raises(OptionError, match="the name of a unix socket has at most 82 bytes"):
        HealthServer("unix:/tmp/" + "x" * 83 + "/" + "y" * 83)


async def test_a_dead_unix_socket_makes_room_and_a_living_one_does_not(tmp_path):
    path = tmp_path / "h.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with trio.fail_after(30):
        async with HealthServer(f"unix:{path}") as server:
            with pytest.raises(DaemonError, match="another program"):
                async with HealthServer(f"unix:{path}"):
                    pass
            assert await get(server.addr, "/health") == (200, "ok\n")


async def test_a_unix_socket_that_can_t_be_removed_does_not_hide_the_bodys_error(tmp_path, caplog):
    folder = tmp_path / "run"
    folder.mkdir()
    with pytest.raises(ZeroDivisionError), trio.fail_after(30):
        async with HealthServer(f"unix:{folder}/h.sock"):
            (folder / "h.sock").unlink()
            folder.rmdir()
            folder.write_text("no directory any more")
            raise ZeroDivisionError
    assert "could not remove the unix socket" in caplog.text


async def test_what_is_no_socket_is_left_alone(tmp_path):
    path = tmp_path / "file"
    path.write_text("precious")
    with pytest.raises(DaemonError):
        async with HealthServer(f"unix:{path}"):
            pass
    assert path.read_text() == "precious"


async def test_the_socket_of_a_successor_is_left_alone(tmp_path):
    path = tmp_path / "h.sock"
    with trio.fail_after(30):
        async with HealthServer(f"unix:{path}"):
            path.unlink()
            with socket.socket(socket.AF_UNIX) as successor:
                successor.bind(str(path))
        assert path.exists()


@pytest.mark.parametrize(
    "addr",
    ["", "9090", "127.0.0.1", "h:65536", "h:-1", "h:+1", "h:1_0", "h:\u0661", "::1:80", "[x]:80", "unix:", "a b:1", "a\0:1", 80,
     "http://x:1", "a..b:1", ".:1", "x" * 64 + ":1", "unix:/" + "x" * 200],
)  # fmt: skip
def test_a_bad_address_is_refused_with_the_forms_that_are_good(addr):
    with pytest.raises(OptionError, match="write 'host:port'"):
        HealthServer(addr)


async def test_a_name_that_idna_does_not_allow_is_an_address_that_can_t_be_had():
    with pytest.raises(DaemonError, match="no host name"), trio.fail_after(30):
        async with HealthServer("\N{SNOWMAN}.net:80"):
            pass


@pytest.mark.parametrize(
    "options", [{"check_timeout": 0}, {"max_connections": 0}, {"ready": "no"}, {"checks": ["x"]}], ids=str
)
def test_bad_options_are_refused(options):
    with pytest.raises(OptionError):
        HealthServer(":0", **options)


async def test_a_failing_start_of_the_app_is_a_bare_error_and_frees_the_port():
    server = HealthServer("127.0.0.1:0")

    @server.app.before_serving
    async def fail():
        raise ValueError("no")

    with trio.fail_after(30):
        with pytest.raises(ValueError, match="no"):
            async with server:
                pass
