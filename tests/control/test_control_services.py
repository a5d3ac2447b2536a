"""Services: a supervisor seen and steered through the control plane."""

from contextlib import asynccontextmanager, suppress

import pytest
import trio
from asking import ask, connect, events, get, post, websocket
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from trio_process import ControlServer, Probe, RestartPolicy, Service, Supervisor, UnitSpec
from trio_process._control.live import sampler as sampler_module
from trio_process._daemon.health import accept

WEB = UnitSpec(
    name="web",
    command="sh",
    args=["-c", "echo listening; exec sleep 1000"],
    ready=Probe.line("listening"),
    after=["db"],
)
DB = UnitSpec(name="db", command="sh", args=["-c", "echo open; exec sleep 1000"], ready=Probe.line("open"))
ONCE = UnitSpec(
    name="once", command="sh", args=["-c", "echo done"], after={"db": "started"}, restart=RestartPolicy.never()
)
OFF = UnitSpec(name="off", command="sh", args=["-c", "exec sleep 1000"], enabled=False, settle=0.0)
BROKEN = UnitSpec(
    name="broken",
    command="sh",
    args=["-c", "echo no luck >&2; exit 3"],
    enabled=False,
    restart=RestartPolicy.never(),
    settle=30.0,  # it fails before that
)


@asynccontextmanager
async def supervised(*specs, **options):
    supervisor = Supervisor(specs or (WEB, DB, ONCE, OFF))
    async with ControlServer("127.0.0.1:0", supervisor=supervisor, **options) as control, supervisor:
        with trio.fail_after(30):
            await supervisor.wait_ready()
        yield control, supervisor


async def test_services_are_listed_each_replica_for_itself():
    async with supervised() as (control, supervisor):
        rows = {row["id"]: row for row in (await get(control, "/services")).data}
        assert {name: row["state"] for name, row in rows.items()} == {
            "web": "ready",
            "db": "ready",
            "once": "completed",
            "off": "stopped",
        }
        web = rows["web"]
        assert (web["name"], web["service"], web["replica"], web["ready"]) == ("web", "web", 1, True)
        assert web["processId"] == supervisor["web"].process.id
        assert web["after"] == {"db": "ready"}
        assert "env" not in web
        assert (await get(control, "/services/web")).data["pid"] == supervisor["web"].process.pid
        assert (await get(control, "/services/nobody")).code == "not_found"
        got = await ask(control, "GET", "/ready", token=False)
        assert (got.status, got.body) == (200, b"ready\n")


async def test_the_graph_leads_from_what_is_needed_to_what_needs_it():
    async with supervised() as (control, _):
        graph = (await get(control, "/graph")).data
        assert [node["name"] for node in graph["nodes"]] == ["web", "db", "once", "off"]
        assert {"from": "db", "to": "web", "condition": "ready"} in graph["edges"]
        assert {"from": "db", "to": "once", "condition": "started"} in graph["edges"]


async def test_a_service_is_stopped_started_and_restarted():
    async with supervised() as (control, supervisor):
        got = await post(control, "/services/web/stop?wait=20")
        assert (got.status, got.data["stopped"], got.data["state"]) == (200, True, "stopped")
        got = await post(control, "/services/web/start?wait=20")
        assert (got.status, got.data["started"], got.data["state"]) == (200, True, "ready")
        pid = supervisor["web"].process.pid
        got = await post(control, "/services/web/restart?wait=20")
        assert (got.status, got.data["restarted"], got.data["state"]) == (200, True, "ready")
        assert supervisor["web"].process.pid != pid
        assert (await post(control, "/services/nobody/start")).code == "not_found"


@pytest.mark.parametrize("deed", ["stop", "restart", "start"])
@pytest.mark.parametrize("wait", ["999", "abc", "-1", "nan", "1_0"])
async def test_what_is_refused_for_its_wait_has_changed_nothing(deed, wait):
    async with supervised() as (control, supervisor):
        pid = supervisor["web"].process.pid
        got = await post(control, f"/services/web/{deed}?wait={wait}")
        assert (got.status, got.code) == (400, "invalid_request")
        await post(control, "/services/web/start?wait=20")  # comes after what the refused one might have begun
        assert supervisor["web"].process.pid == pid


async def test_without_a_wait_the_deed_is_begun_and_goes_on():
    async with supervised() as (control, supervisor):
        got = await post(control, "/services/off/start")
        assert got.status in (200, 202)
        with trio.fail_after(20):
            await supervisor["off"].wait("ready")


async def test_a_start_that_fails_is_a_conflict():
    async with supervised(DB, BROKEN) as (control, _):
        got = await post(control, "/services/broken/start?wait=20")
        assert (got.status, got.code) == (409, "conflict")
        assert "broken" in got.json["error"]["message"]
        assert (await get(control, "/services/broken")).data["state"] == "failed"
        got = await ask(control, "GET", "/ready", token=False)
        assert (got.status, got.body) == (503, b"not ready\n")


@pytest.mark.parametrize("replicas", [0, 1, 3])
async def test_a_service_is_scaled(replicas):
    async with supervised() as (control, _):
        got = await ask(control, "PUT", "/api/process/services/web/replicas?wait=20", {"replicas": replicas})
        assert (got.status, got.data["scaled"]) == (200, True)
        names = [
            row["id"] for row in (await get(control, "/services")).data if row["service"] == "web" and row["ready"]
        ]
        assert names == ["web", "web.2", "web.3"][:replicas]
        if replicas == 3:
            assert len((await get(control, "/services/web")).data["all"]) == 3
            assert (await get(control, "/services/web.3")).data["replica"] == 3
    for bad in (-1, 1.5, "3", 10**9):
        async with supervised(DB) as (control, _):
            got = await ask(control, "PUT", "/api/process/services/db/replicas", {"replicas": bad})
            assert got.json["error"]["details"] == {"field": "replicas"}


async def test_a_service_is_held_as_long_as_the_answer_is_read():
    async with supervised() as (control, supervisor):
        stream = await connect(control)
        head = f"POST /api/process/services/off/hold HTTP/1.1\r\nHost: {control.addr}\r\nContent-Length: 0\r\n"
        await stream.send_all(f"{head}Authorization: Bearer {control.token.reveal()}\r\n\r\n".encode())
        async with stream:
            data = b""
            with trio.fail_after(20):
                while b'"held":"off"' not in data:
                    data += await stream.receive_some(4096)
            assert supervisor["off"].ready
        with trio.fail_after(20):
            await supervisor["off"].wait("stopped")
        assert (await post(control, "/services/nobody/hold")).code == "not_found"


async def test_a_hold_that_fails_is_a_conflict():
    async with supervised(DB, BROKEN) as (control, _):
        assert (await post(control, "/services/broken/hold")).code == "conflict"


async def test_logs_know_service_and_replica_through_restarts():
    async with supervised() as (control, supervisor):
        await supervisor.scale("web", 2)
        await supervisor.restart("web")
        await supervisor.wait_ready()
        rows = (await get(control, "/services/web/logs")).data["lines"]
        assert [(row["service"], row["line"]) for row in rows] == [("web", "listening")] * 4
        assert sorted(row["replica"] for row in rows) == [1, 1, 2, 2]
        assert len({row["processId"] for row in rows}) == 4
        everything = (await get(control, "/logs")).data["lines"]
        assert {row["service"] for row in everything} == {"web", "db", "once"}


async def test_changes_are_told_with_the_state_as_it_is_now():
    async with (
        supervised() as (control, supervisor),
        events(control, "?channels=service.changed&service=web") as stream,
    ):
        snapshot = await stream.next()
        assert {row["id"] for row in snapshot["data"]["services"]} == {"web", "db", "once", "off"}
        await supervisor.restart("web")
        ready = await stream.until(lambda message: message["data"]["new"] == "ready")
        changes = [(message["data"]["old"], message["data"]["new"]) for message in stream.seen[1:]]
        assert changes == [
            ("ready", "stopping"),
            ("stopping", "waiting"),
            ("waiting", "starting"),
            ("starting", "ready"),
        ]
        assert ready["data"]["unit"]["generation"] == 2
        assert ready["data"]["name"] == "web"


async def test_a_server_around_a_supervisor_shows_its_stop():
    supervisor = Supervisor([WEB, DB])
    async with ControlServer("127.0.0.1:0", supervisor=supervisor) as control:
        assert (await get(control, "/services")).data == []
        assert (await ask(control, "GET", "/ready", token=False)).status == 503
        async with events(control, "?channels=service.changed") as stream:
            await stream.next()
            async with supervisor:
                await supervisor.wait_ready()
            last = await stream.until(
                lambda message: message["data"]["new"] == "stopped" and message["data"]["name"] == "db"
            )
            assert last["type"] == "event"
            assert [row["state"] for row in (await get(control, "/services")).data] == ["stopped", "stopped"]
            assert len((await get(control, "/services/web/logs")).data["lines"]) == 1
            assert len((await get(control, "/logs")).data["lines"]) == 2


async def test_a_reload_needs_a_file():
    async with supervised(DB) as (control, _):
        assert (await post(control, "/reload")).code == "conflict"


FILE = """
[services.db]
run = "sleep 1000"

[services.web]
run = "sleep 1001"
after = ["db"]
"""


async def test_a_reload_does_what_has_changed_in_the_file(tmp_path):
    path = tmp_path / "trio-process.toml"
    path.write_text(FILE)
    supervisor = Supervisor.from_file(path)
    async with ControlServer("127.0.0.1:0", supervisor=supervisor) as control, supervisor:
        await supervisor.wait_ready(timeout=30)
        pid = supervisor["db"].process.pid
        path.write_text(FILE.replace("1001", "1002") + '\n[services.mail]\nrun = "sleep 1003"\n')
        plan = {"added": ["mail"], "changed": {"web": ["args"]}, "removed": [], "kept": ["db"]}
        assert (await post(control, "/reload?dryRun=true")).data == plan
        assert supervisor["web"].process.args == ("1001",)
        assert (await post(control, "/reload")).data == plan
        await supervisor.wait_ready(timeout=30)
        assert supervisor["web"].process.args == ("1002",)
        assert supervisor["db"].process.pid == pid
        assert {row["id"] for row in (await get(control, "/services")).data} == {"db", "web", "mail"}
        path.write_text(FILE.replace("run", "rum"))
        got = await post(control, "/reload")
        assert got.json["error"]["details"]["field"] == "file"
        assert len(got.json["error"]["details"]["faults"]) >= 2
        assert supervisor["mail"].ready  # nothing was changed


async def test_metrics_tell_of_every_service():
    async with supervised() as (control, supervisor):
        await supervisor.restart("web")
        got = await ask(control, "GET", "/metrics", Accept="application/openmetrics-text")
        families = {family.name: family for family in text_string_to_metric_families(got.body.decode())}
        states = families["trio_process_service_state"].samples
        assert {(s.labels["service"], s.labels["state"]) for s in states if s.value} == {
            ("web", "ready"),
            ("db", "ready"),
            ("once", "completed"),
            ("off", "stopped"),
        }
        assert {s.labels["service"] for s in families["trio_process_log_lines"].samples} == {"web", "db", "once"}
        assert "trio_process_service_restarts" in families


async def test_a_process_that_is_called_like_a_service_is_not_taken_for_it(monkeypatch):
    monkeypatch.setattr(sampler_module, "PERIOD", 0.05)
    async with (
        Service() as service,
        ControlServer("127.0.0.1:0", supervisor=(supervisor := Supervisor([DB], service=service))) as control,
        events(control, "?channels=process.started,process.output,sample") as stream,
        supervisor,
    ):
        await supervisor.wait_ready()
        other = await service.start("sh", "-c", "echo false; exec sleep 1000", name="db")
        await stream.until(lambda message: message.get("data", {}).get("line") == "false")
        filed = {
            (each["processId"], each["data"]["service"])
            for each in stream.seen
            if each.get("channel", "sample") != "sample"
        }
        assert filed == {(supervisor["db"].process.id, "db"), (other.id, other.id)}
        assert [row["line"] for row in (await get(control, "/services/db/logs")).data["lines"]] == ["open"]
        assert [row["line"] for row in (await get(control, f"/logs?service={other.id}")).data["lines"]] == ["false"]

        def measured(message):
            rows = message["data"]["services"] if message.get("channel") == "sample" else ()
            return {(row["name"], row["service"]) for row in rows}

        await stream.until(lambda message: measured(message) == {("db", "db"), (other.id, other.id)})
        await supervisor.stop("db")
        await stream.until(lambda message: measured(message) == {(other.id, other.id)})
        async with events(control) as late:
            (row,) = (await late.next())["data"]["processes"]
        assert (row["name"], row["service"], row["replica"]) == ("db", other.id, 1)
        other.kill()


async def test_a_service_that_is_added_does_not_get_the_lines_of_a_process_of_its_name():
    async with (
        Service() as service,
        ControlServer("127.0.0.1:0", supervisor=(supervisor := Supervisor([DB], service=service))) as control,
        supervisor,
    ):
        other = await service.start("sh", "-c", "echo early; read x; echo late", name="off")
        await other.wait_for_line("early")
        assert [row["line"] for row in (await get(control, "/logs?service=off")).data["lines"]] == ["early"]
        await supervisor.reload([DB, OFF])
        await supervisor.start("off")
        await other.send_input("go\n")
        await other.wait()
        assert (await get(control, "/services/off/logs")).data["lines"] == []
        lines = (await get(control, f"/logs?service={other.id}")).data["lines"]
        assert [(row["line"], row["service"]) for row in lines] == [("early", other.id), ("late", other.id)]


@pytest.mark.parametrize("follow", [events, websocket])
async def test_a_cancellation_around_the_server_shows_how_all_stops_and_says_goodbye(follow):
    scope = trio.CancelScope()

    async def serve(task_status):
        with scope:
            async with supervised(DB) as (control, _):
                task_status.started(control)
                await trio.sleep_forever()

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            control = await nursery.start(serve)
            async with follow(control) as stream:
                await stream.next()
                scope.cancel()
                await stream.until(lambda message: message["type"] == "bye")
                seen = [m["data"]["new"] for m in stream.seen if m.get("channel") == "service.changed"]
    assert seen == ["stopping", "stopped"]
    assert scope.cancelled_caught


async def wait_for_cancellation(scope):
    scope.cancel()
    await trio.sleep_forever()


async def fail_when_cancelled(scope):
    try:
        await wait_for_cancellation(scope)
    finally:
        raise ValueError("from the clean-up")


async def fail_beside_a_cancelled_task(scope):
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fail_when_cancelled, scope)
        nursery.start_soon(trio.sleep_forever)


async def return_when_cancelled(scope):
    with suppress(trio.Cancelled):
        await wait_for_cancellation(scope)


async def return_shortly_before_it(scope):
    scope.deadline = trio.current_time() + 0.05


@pytest.mark.parametrize(
    ("body", "left_with"),
    [
        (wait_for_cancellation, type(None)),
        (fail_when_cancelled, ValueError),
        (fail_beside_a_cancelled_task, ExceptionGroup),
        (return_when_cancelled, type(None)),
        (return_shortly_before_it, type(None)),
    ],
)
async def test_a_handler_that_never_ends_does_not_hold_up_a_cancellation(monkeypatch, body, left_with):
    monkeypatch.setattr(accept, "_DRAIN", 25.0)
    entered = trio.Event()
    error = None
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            try:
                with trio.CancelScope() as scope:
                    async with ControlServer("127.0.0.1:0") as control:

                        @control.app.route("/mine")
                        async def mine():
                            entered.set()
                            await trio.sleep_forever()

                        async def come():
                            with pytest.raises(AssertionError, match="closed"):
                                await ask(control, "GET", "/mine")

                        nursery.start_soon(come)
                        await entered.wait()
                        began = trio.current_time()
                        await body(scope)
            except (ValueError, ExceptionGroup) as raised:
                error = raised
            assert type(error) is left_with
            assert trio.current_time() - began < 20  # without a cancellation, it would have all of that
