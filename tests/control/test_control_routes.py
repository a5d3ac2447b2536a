"""The API: paths, the envelope, codes, and go-process's own requests."""

import json
import os
import sys

import pytest
import trio
from asking import answer, ask, connect, events, get, post, raw, serving, websocket

from trio_process import Access, ControlServer, DaemonEntry, HealthServer, Registry, Secret, Service
from trio_process._control.live import Plane

PYTHON = sys.executable


async def test_an_answer_is_an_envelope():
    async with serving() as (control, service):
        process = await service.start("cat", name="echo")
        got = await get(control, "/processes")
        assert got.headers["content-type"] == "application/json"
        assert got.headers["cache-control"] == "no-store"
        assert got.json == {"success": True, "data": [got.data[0]]}
        assert got.data[0] == process.info().to_dict() | {"duration": got.data[0]["duration"]}
        assert (await get(control, "/processes/nobody")).json == {
            "success": False,
            "error": {"code": "not_found", "message": "there is no process with the id 'nobody'"},
        }


async def test_a_process_is_seen_fed_and_stopped():
    async with serving() as (control, service):
        process = await service.start("cat")
        one = f"/processes/{process.id}"
        assert (await get(control, one)).data["status"] == "running"
        assert (await post(control, f"{one}/input", {"input": "hello\n"})).data == {"written": True}
        await process.wait_for_line("hello", timeout=10)
        assert (await get(control, f"{one}/output")).data == "hello\n"
        assert (await post(control, f"{one}/close-stdin")).data == {"closed": True}
        got = await post(control, f"{one}/wait")
        assert (got.status, got.data["exitCode"]) == (200, 0)
        assert (await get(control, "/processes?runningOnly=true")).data == []
        assert len((await get(control, "/processes")).data) == 1
        assert (await post(control, f"{one}/input", {"input": "x"})).code == "conflict"
        assert (await post(control, f"{one}/signal", {"signal": "TERM"})).code == "conflict"
        assert (await post(control, f"{one}/kill")).data == {"killed": True}


async def test_waiting_is_200_whatever_the_exit_code_and_202_when_the_time_is_up():
    async with serving() as (control, service):
        failed = await service.start("sh", "-c", "exit 3")
        assert (await post(control, f"/processes/{failed.id}/wait")).data["exitCode"] == 3
        running = await service.start("sleep", "100")
        got = await post(control, f"/processes/{running.id}/wait?wait=0.1")
        assert (got.status, got.data["running"]) == (202, True)
        got = await post(control, f"/processes/{running.id}/stop?wait=20")
        assert (got.status, got.data["stopped"], got.data["running"]) == (200, True, False)
        assert (await post(control, f"/processes/{running.id}/stop")).status == 200


async def test_a_stop_without_a_wait_is_begun_and_goes_on():
    async with serving() as (control, service):
        process = await service.start(
            "sh", "-c", "trap 'sleep 0.3; exit 0' TERM; echo set; while :; do sleep 0.05; done"
        )
        await process.wait_for_line("set", timeout=10)
        got = await post(control, f"/processes/{process.id}/stop")
        assert (got.status, got.data["running"]) == (202, True)
        with trio.fail_after(20):
            await process.done.wait()
        assert process.exit_code == 0


@pytest.mark.parametrize("given", ["SIGUSR1", "usr1", "USR1", "10", 10])
async def test_a_signal_is_given_by_name_or_number(given):
    async with serving() as (control, service):
        process = await service.start("sh", "-c", "trap 'exit 7' USR1; echo set; while :; do sleep 0.05; done")
        await process.wait_for_line("set", timeout=10)
        got = await post(control, f"/processes/{process.id}/signal", {"signal": given})
        assert got.data == {"signalled": True}
        assert await process.wait(check=False) == 7


async def test_an_id_that_is_a_number_is_never_a_pid():
    async with serving() as (control, service):
        process = await service.start("sleep", "100")
        for path in ("kill", "stop", "wait"):
            assert (await post(control, f"/processes/{process.pid}/{path}")).code == "not_found"
        assert (await post(control, f"/processes/{os.getpid()}/signal", {"signal": 9})).code == "not_found"
        assert process.is_running


async def test_secrets_and_environments_are_never_sent():
    async with serving() as (control, service):
        code = "import os, sys; print(sys.argv[1], os.environ['KEY'], os.environ['PLAIN'])"
        env = {"KEY": Secret("hunter2-key"), "PLAIN": "plain-value"}
        process = await service.start(PYTHON, "-c", code, Secret("hunter2-arg"), env=env)
        await process.wait()
        texts = [
            (await get(control, "/processes")).body,
            (await get(control, f"/processes/{process.id}")).body,
            (await get(control, f"/processes/{process.id}/output")).body,
            (await get(control, "/logs")).body,
        ]
        assert not any(b"hunter2" in text for text in texts)
        assert (await get(control, f"/processes/{process.id}/output")).data == "*** *** plain-value\n"
        assert b"plain-value" not in texts[0] + texts[1]
        assert (await get(control, "/logs")).data["lines"][0]["line"] == "*** *** plain-value"


async def test_a_name_is_one_segment_and_routes_go_by_the_raw_path(tmp_path):
    registry = Registry(tmp_path)
    async with ControlServer("127.0.0.1:0", registry=registry) as control:
        with registry.registered(DaemonEntry("my/code", "web server")):
            assert (await get(control, "/daemons/my%2Fcode/web%20server")).data["code"] == "my/code"
            assert (await get(control, "/daemons/my/code/web%20server")).code == "not_found"
        for path in ("/daemons/%2e%2e/x", "/daemons/a%00b/x", "/daemons/%ff/x", "/daemons//x"):
            assert (await get(control, path)).code == "not_found"


async def test_what_was_not_given_is_unavailable():
    async with ControlServer("127.0.0.1:0") as control:
        for path in ("/processes", "/daemons", "/services", "/graph", "/logs", "/services/x/logs"):
            assert (await get(control, path)).code == "unavailable", path
        assert (await get(control, "/pipelines")).data == []
        assert (await ask(control, "GET", "/ready")).body == b"ready\n"


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/processes/ID/input", {}, "input"),
        ("/processes/ID/input", {"input": 5}, "input"),
        ("/processes/ID/input", {"input": "x", "more": 1}, "more"),
        ("/processes/ID/signal", {"signal": "NOPE"}, "signal"),
        ("/processes/ID/signal", {"signal": 4096}, "signal"),
        ("/processes/ID/signal", {"signal": "9" * 5000}, "signal"),
        ("/processes/ID/signal", {"signal": True}, "signal"),
        ("/processes/ID/stop", {"gracePeriod": -1}, "gracePeriod"),
        ("/processes/ID/stop", {"grace": 1}, "grace"),
        ("/processes/ID/kill", {"anything": 1}, "anything"),
        ("/processes/ID/wait?wait=-1", None, "wait"),
        ("/processes/ID/wait?wait=301", None, "wait"),
        ("/processes/ID/wait?wait=nan", None, "wait"),
        *[
            (f"/processes/ID/wait?wait={text}", None, "wait")
            for text in ("%D9%A3", "%203", "3%0a", "+3", "1_0", "0x1", "")
        ],
        ("/processes/ID/stop?waits=1", None, "waits"),
        ("/session", {"token": ""}, "token"),
        ("/session", {}, "token"),
        ("/processes", {}, "command"),
        ("/processes", {"command": ""}, "command"),
        ("/processes", {"command": "a\0b"}, "command"),
        ("/processes", {"command": "true", "argz": []}, "argz"),
        ("/processes", {"command": "true", "args": "x"}, "args"),
        ("/processes", {"command": "true", "env": ["NOVALUE"]}, "env[0]"),
        ("/processes", {"command": "true", "env": {"a=b": "c"}}, "env"),
        ("/processes", {"command": "true", "timeout": -1}, "timeout"),
        ("/processes", {"command": "true", "encoding": "klingon"}, "encoding"),
        ("/processes", {"command": "true", "stopSignal": "NOPE"}, "stopSignal"),
        ("/processes", {"command": "\ud800"}, "command"),
        ("/processes", {"command": "true", "args": ["a", "\udc80"]}, "args[1]"),
        ("/processes", {"command": "true", "env": {"A": "\ud800"}}, "env.A"),
        ("/processes", {"command": "true", "env": {"\ud800": "A"}}, "env.\\ud800"),
        ("/processes", {"command": "true", "env": ["A=\ud800"]}, "env[0]"),
        ("/processes", {"command": "true", "\ud800": 1}, "\\ud800"),
        ("/processes", b'{"command": "true", "timeout": 1e400}', "timeout"),
        ("/processes", b'{"command": "true", "nice": 1%b}' % (b"0" * 5000), "nice"),
        ("/processes", {"command": "true", "limits": {"nofile": 10**30}}, "limits.nofile"),
        ("/processes", {"command": "true", "detach": True, "logFile": "x", "logMaxBytes": 1}, "logMaxBytes"),
        ("/processes", {"command": "true", "detach": True, "logFile": "x", "stdin": "y"}, "stdin"),
        ("/processes", {"command": "true", "name": "x", "user": "name"}, "user"),
        ("/processes", {"command": "true", "stdin": "\xfc", "encoding": "ascii"}, "stdin"),
        ("/processes/ID/input", {"input": "\ud800"}, "input"),
        ("/processes/ID/signal", {"signal": "\ud800"}, "signal"),
        ("/processes/ID/signal", {"signal": 10**4000}, "signal"),
        ("/processes/ID/stop", {"gracePeriod": 10**400}, "gracePeriod"),
        ("/processes/ID/stop?wait=1e400", None, "wait"),
        ("/processes/ID/stop?wait=%ED%A0%80", None, "wait"),
        ("/processes/ID/stop?%FF=1", None, "\\xff"),
        ("/session", {"token": "\ud800"}, "token"),
        ("/pipelines/run", {"specs": [{"name": "a", "command": "true", "retries": 10**400}]}, "specs[0].retries"),
        ("/pipelines/run", {"specs": [{"name": "a", "command": "\ud800"}]}, "specs[0].command"),
        ("/pipelines/run", {"specs": [{"name": "a"}]}, "specs[0].command"),
        ("/pipelines/run", {"specs": [{"name": "a", "command": "true"}] * 2}, "specs"),
        ("/pipelines/run", {"specs": [], "mode": "backwards"}, "mode"),
        ("/pipelines/run", {"specs": [], "mode": "sequential", "schedule": "waves"}, "schedule"),
        ("/pipelines/run", {"specs": [], "mode": "parallel", "onFailure": "kill"}, "onFailure"),
        ("/pipelines/run", {"specs": [], "schedule": "never"}, "schedule"),
    ],
)
async def test_a_field_that_is_refused_is_named(path, body, field):
    async with serving(access=Access.RUN) as (control, service):
        process = await service.start("cat")
        got = await post(control, path.replace("ID", process.id), body)
        assert (got.status, got.code) == (400, "invalid_request")
        assert got.json["error"]["details"]["field"] == field


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("idleTimeout", "0", "idleTimeout must be more than 0 seconds, got 0"),
        ("stopSignal", "0", "stopSignal must be a signal"),
        ("okExitCodes", "[0, 256]", "okExitCodes[1] must be 0 to 255, not 256"),
        ("umask", "512", "umask must be 0 to 511, not 512"),
        ("nice", f"-1{'0' * 400}", "nice must be -20 to 19, not a number of hundreds of digits"),
        ("logKeep", f"1{'0' * 5000}", f"logKeep must be 0 to {2**63 - 1}, not a number of hundreds of digits"),
        ("logKeep", "1e300", f"logKeep must be 0 to {2**63 - 1}, not 1e+300"),
        ("logKeep", "1.5", "logKeep must be a whole number, not a number"),
        ("limits", f'{{"core": {2**63}}}', f"limits.core must be -1 to {2**63 - 1}, not {2**63}"),
    ],
)
async def test_a_number_that_is_refused_is_named_as_the_client_wrote_it_with_its_limits(field, value, text):
    async with serving(access=Access.RUN) as (control, _):
        got = await post(control, "/processes", f'{{"command": "true", "{field}": {value}}}'.encode())
        assert got.status == 400
        assert got.json["error"]["message"].startswith(text)


@pytest.mark.parametrize("body", [b"{", b"[]", b'"x"', b"\xff", b"[" * 100_000, b"nul", "{}".encode("utf-16")])
async def test_a_body_that_is_no_object_is_a_bad_request(body):
    async with serving() as (control, _):
        assert (await post(control, "/session", body)).code == "invalid_request"


@pytest.mark.parametrize(
    ("path", "body"), [("/processes/x/input", '{"input": "x"}'), ("/processes/x/kill", "{}"), ("/session", "[")]
)
async def test_a_refusal_waits_for_no_body_that_was_read(monkeypatch, path, body):
    monkeypatch.setattr("trio_process._control.frontend._DRAIN_TIMEOUT", 1000)
    async with serving() as (control, _):
        head = f"POST /api/process{path} HTTP/1.1\r\nHost: {control.addr}\r\nAuthorization: Bearer {control.token.reveal()}"
        request = f"{head}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
        stream = await connect(control)
        async with stream:
            with trio.fail_after(20):
                for _ in range(3):  # the next one is answered once the one before is over
                    await stream.send_all(request)
                    assert 400 <= (await answer(stream)).status < 500


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_over_a_mebibyte_is_too_large(chunked):
    async with serving() as (control, _):
        body = b'{"token": "%b"}' % (b"x" * 2**20)
        if not chunked:
            assert (await post(control, "/session", body)).code == "too_large"
            return
        head = f"POST /api/process/session HTTP/1.1\r\nHost: {control.addr}\r\nContent-Type: application/json\r\n"
        data = head.encode() + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        assert (await raw(control, data)).code == "too_large"


async def test_the_methods_of_a_path_are_told():
    async with serving() as (control, _):
        got = await ask(control, "DELETE", "/api/process/processes")
        assert (got.code, got.headers["allow"]) == ("method_not_allowed", "GET, HEAD, POST")
        head = await ask(control, "HEAD", "/health", token=False)
        assert head.status == 200
        for method in ("HEAD", "POST"):
            got = await ask(control, method, "/api/process/events")  # an answer to HEAD would have no end
            assert (got.status, got.headers["allow"]) == (405, "GET")


async def test_commands_run_where_that_is_allowed(tmp_path):
    async with serving(access=Access.RUN) as (control, service):
        got = await post(
            control,
            "/processes/run",
            {"command": "sh", "args": ["-c", "pwd; echo $A"], "dir": str(tmp_path), "env": ["A=b=c"]},
        )
        assert got.data == f"{tmp_path}\nb=c\n"
        failed = await post(control, "/processes/run", {"command": "sh", "args": ["-c", "echo no; exit 4"]})
        assert (failed.status, failed.code) == (409, "run_failed")
        assert failed.json["error"]["details"]["exitCode"] == 4
        assert failed.json["error"]["details"]["output"] == "no\n"
        assert (await post(control, "/processes/run", {"command": "/no/such/program"})).code == "run_failed"
        started = (await post(control, "/processes", {"command": "sleep", "args": ["100"], "name": "long"})).data
        assert started["running"] is True
        assert service.get(started["id"]).name == "long"


@pytest.mark.parametrize("mode", ["all", "sequential", "parallel"])
async def test_a_pipeline_is_200_whatever_becomes_of_it(mode):
    async with serving(access=Access.RUN) as (control, _):
        specs = [
            {"name": "one", "command": "echo", "args": ["1"]},
            {"name": "two", "command": "false", "after": ["one"], "allowFailure": True},
        ]
        got = await post(control, "/pipelines/run", {"mode": mode, "specs": specs})
        assert got.status == 200
        assert (got.data["passed"], got.data["failed"], got.data["success"]) == (1, 1, False)
        assert [result["name"] for result in got.data["results"]] == ["one", "two"]
        assert (await get(control, f"/pipelines/{got.data['id']}")).data["state"] in ("passed", "failed")


@pytest.mark.parametrize("mode", ["all", "sequential", "parallel"])
async def test_a_pipeline_that_a_client_runs_is_stopped_by_another(mode):
    async with serving(access=Access.RUN) as (control, _), trio.open_nursery() as nursery, events(control) as stream:
        ended = []

        async def run():
            specs = [{"name": "long", "command": "sleep", "args": ["1000"]}]
            ended.append(await post(control, "/pipelines/run", {"mode": mode, "specs": specs}))

        nursery.start_soon(run)
        await stream.event("process.started")
        (row,) = (await get(control, "/pipelines")).data
        assert row["stoppable"] is True
        got = await post(control, f"/pipelines/{row['id']}/stop?wait=20")
        assert (got.status, got.data["stopped"], got.data["state"]) == (200, True, "failed")
        with trio.fail_after(20):
            while not ended:
                await trio.sleep(0.01)
        assert ended[0].data["failed"] == 1


async def test_logs_are_read_by_cursors():
    async with serving() as (control, service):
        process = await service.start(
            "sh", "-c", "for i in $(seq 1 25); do echo line $i; done; echo Oops >&2", name="web"
        )
        await process.wait()

        async def page(query):
            return (await get(control, f"/logs?{query}")).data

        newest = await page("limit=10")
        assert [row["line"] for row in newest["lines"]][-2:] == ["line 25", "Oops"] or newest["lines"][-1][
            "line"
        ] == "line 25"
        assert newest["more"] is True
        assert (newest["first"], newest["last"]) == (newest["lines"][0]["cursor"], newest["lines"][-1]["cursor"])
        older = await page(f"limit=100&before={newest['first']}")
        assert (len(older["lines"]), older["more"]) == (16, False)
        cursors = [row["cursor"] for row in older["lines"] + newest["lines"]]
        assert cursors == sorted(set(cursors))
        after = await page(f"after={older['first']}&limit=3")
        assert [row["cursor"] for row in after["lines"]] == cursors[1:4]
        assert after["more"] is True
        between = await page(f"after={cursors[3]}&before={cursors[6]}")
        assert [row["cursor"] for row in between["lines"]] == cursors[4:6]
        assert [row["line"] for row in (await page("grep=line%202"))["lines"]] == [
            "line 2",
            *(f"line {n}" for n in range(20, 26)),
        ]
        assert (await page("grep=line%20."))["lines"] == []  # no pattern
        assert (await page("grep=oops"))["lines"] == []
        found = (await page("grep=oops&ignoreCase=true"))["lines"]
        assert [(row["service"], row["replica"], row["stream"]) for row in found] == [("web", 1, "stderr")]
        assert (await page("service=nobody")) == {"lines": [], "first": None, "last": None, "more": False}
        assert (await get(control, "/logs?limit=0")).code == "invalid_request"
        assert (await get(control, "/logs?after=x")).json["error"]["details"] == {"field": "after"}


async def test_daemons_are_seen_asked_and_stopped(tmp_path):
    registry = Registry(tmp_path)
    program = (
        "import sys, trio, trio_process as t\n"
        "async def main():\n"
        "    async with t.Daemon(health_addr='127.0.0.1:0', registry=t.Registry(sys.argv[1]),\n"
        "        registry_entry=t.DaemonEntry('app', 'srv')) as d:\n"
        "        print('up', flush=True); await d.run(trio.sleep_forever)\n"
        "trio.run(main)\n"
    )
    async with Service() as service, ControlServer("127.0.0.1:0", registry=registry) as control:
        process = await service.start(PYTHON, "-c", program, str(tmp_path))
        await process.wait_for_line("up", timeout=30)
        rows = (await get(control, "/daemons")).data
        assert [(row["code"], row["daemon"], row["pid"]) for row in rows] == [("app", "srv", process.pid)]
        assert (await get(control, "/daemons/app/srv")).data == rows[0]
        health = (await get(control, "/daemons/app/srv/health")).data
        assert health == {"healthy": True, "address": rows[0]["health"]}
        assert (await get(control, "/daemons/app/other")).code == "not_found"
        got = await post(control, "/daemons/app/srv/stop?wait=20")
        assert (got.status, got.data["stopped"]) == (200, True)
        with trio.fail_after(20):
            await process.done.wait()
        assert (await get(control, "/daemons")).data == []


async def test_a_daemon_without_a_health_server_is_not_healthy_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr("trio_process._control.live.watch._PROBE_TIMEOUT", 0.5)
    registry = Registry(tmp_path)
    async with (
        HealthServer("127.0.0.1:0", checks=[lambda: "disk full"]) as sick,
        ControlServer("127.0.0.1:0", registry=registry) as control,
    ):
        with (
            registry.registered(DaemonEntry("a", "none")),
            registry.registered(DaemonEntry("a", "sick", health=sick.addr)),
        ):
            none = await get(control, "/daemons/a/none/health")
            assert none.status == 200
            assert none.data == {"healthy": False, "address": "", "reason": "no health endpoint configured"}
            found = await get(control, "/daemons/a/sick/health")
            assert found.status == 503  # as go-process has it, so that a monitor needn't read the body
            assert (found.data["healthy"], found.data["address"]) == (False, sick.addr)
            assert "disk full" in found.data["reason"]


async def test_the_requests_of_go_processs_own_client_work(tmp_path):
    """`ui/src/shared/api.ts`: no content type, no body, the envelope read whatever the status."""
    registry = Registry(tmp_path)
    async with ControlServer("127.0.0.1:0", registry=registry) as control:
        with registry.registered(DaemonEntry("core", "web")):
            head = f"Host: {control.addr}\r\nAuthorization: Bearer {control.token.reveal()}\r\n"

            async def request(path, method="GET"):
                length = "Content-Length: 0\r\n" if method == "POST" else ""
                got = await raw(control, f"{method} /api/process{path} HTTP/1.1\r\n{head}{length}\r\n".encode())
                envelope = json.loads(got.body)
                if not envelope["success"]:
                    raise AssertionError(envelope["error"]["message"])
                return envelope["data"]

            (entry,) = await request("/daemons")
            assert {"code", "daemon", "pid", "started"} <= set(entry)
            assert (await request("/daemons/core/web"))["pid"] == os.getpid()
            assert (await request("/daemons/core/web/health"))["healthy"] is False


async def test_a_fault_of_ours_is_an_answer_and_one_line_in_the_log(monkeypatch, caplog):
    async with serving() as (control, service):
        monkeypatch.setattr(type(service), "list", lambda self: 1 / 0)
        got = await get(control, "/processes")
        assert (got.status, got.code) == (500, "internal")
        assert "ZeroDivisionError" in caplog.text
        assert "Traceback" not in caplog.text
        assert (await ask(control, "GET", "/health")).status == 200


@pytest.mark.parametrize("path", ["/mine", "/api/process/events"])
async def test_a_stream_that_fails_ends_early_and_is_one_line_in_the_log(monkeypatch, caplog, path):
    async with serving() as (control, _):

        @control.app.route("/mine")
        async def mine():
            async def pieces():
                yield b"one"
                raise ZeroDivisionError

            return pieces()

        monkeypatch.setattr(Plane, "snapshot", lambda self: 1 / 0)
        stream = await connect(control)
        async with stream:
            head = (
                f"GET {path} HTTP/1.1\r\nHost: {control.addr}\r\nAuthorization: Bearer {control.token.reveal()}\r\n\r\n"
            )
            await stream.send_all(head.encode())
            data = b""
            with trio.fail_after(20):
                while chunk := await stream.receive_some(65536):
                    data += chunk
        assert not data or data.startswith(b"HTTP/1.1 200")  # the head may wait for the first piece
        assert not data.endswith(b"0\r\n\r\n")  # so that a client knows that it isn't whole
        (record,) = caplog.records
        assert " led to ZeroDivisionError" in record.message
        assert "Traceback" not in caplog.text
        assert (await ask(control, "GET", "/health")).status == 200


async def test_a_websocket_that_fails_is_closed_and_is_one_line_in_the_log(monkeypatch, caplog):
    async with serving() as (control, _):
        monkeypatch.setattr(Plane, "snapshot", lambda self: 1 / 0)
        async with websocket(control) as stream:
            assert await stream.next() == {"type": "closed", "code": 1011}
        assert [record.levelname for record in caplog.records] == ["ERROR"]
        assert "Traceback" not in caplog.text
