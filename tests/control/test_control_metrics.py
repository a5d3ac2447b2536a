"""The metrics, read by prometheus-client's own parsers."""

import pytest
import trio
from asking import Refused, ask, events, get, raw, serving, websocket
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_prometheus

from trio_process import Registry, Runner, RunSpec
from trio_process._control.api.metrics import FAMILIES


async def metrics(control, accept, read):
    got = await ask(control, "GET", "/metrics", Accept=accept)
    return got.headers["content-type"], {family.name: family for family in read(got.body.decode())}


async def test_both_formats_are_accepted_by_their_parsers(tmp_path):
    async with serving(registry=Registry(tmp_path)) as (control, service):
        await (await service.start("seq", "7", name='odd "name"\n\\')).wait()
        specs = [RunSpec(name="one", command="true")]
        await Runner(service).run_all(specs, updates=control.pipeline("build", specs))
        await get(control, "/processes")
        await get(control, "/nothing")
        kind, families = await metrics(control, "application/openmetrics-text; version=1.0.0", read_openmetrics)
        assert kind == "application/openmetrics-text; version=1.0.0; charset=utf-8"
        assert set(families) <= {f"trio_process_{name}" for name in FAMILIES}
        (lines,) = families["trio_process_log_lines"].samples
        assert (lines.labels, lines.value) == ({"service": ""}, 7)  # no label that a client could make up
        answers = families["trio_process_http_requests"].samples
        assert {sample.labels["route"] for sample in answers} == {"/api/process/processes", "other"}
        kind, families = await metrics(control, "text/plain", read_prometheus)
        assert kind == "text/plain; version=0.0.4; charset=utf-8"
        assert families["trio_process_processes_started"].samples[0].value == 2
        assert families["trio_process_pipeline_tasks"].samples[0].labels["state"] == "pending"


@pytest.mark.parametrize(
    ("lines", "kind"),
    [
        (["text/plain", "application/openmetrics-text;q=0.9"], "text/plain"),
        (["application/openmetrics-text;q=0, */*"], "text/plain"),
        (["text/plain;q=0.1", "application/openmetrics-text;q=0.9"], "application/openmetrics-text"),
        (["application/openmetrics-text", "text/html"], "application/openmetrics-text"),
    ],
)
async def test_the_format_goes_by_the_weights_of_accept_however_many_headers_there_are(lines, kind):
    async with serving() as (control, _):
        head = ["GET /metrics HTTP/1.1", "Host: localhost", f"Authorization: Bearer {control.token.reveal()}"]
        got = await raw(control, "\r\n".join([*head, *(f"Accept: {each}" for each in lines), "", ""]).encode())
        assert got.headers["content-type"].partition(";")[0] == kind


async def test_a_stream_is_counted_with_the_status_that_it_got():
    async with serving(max_streams=1) as (control, _):
        async with events(control) as stream:
            await stream.next()
            assert (await get(control, "/events")).status == 503
            with pytest.raises(Refused):
                async with websocket(control):
                    pass
        with pytest.raises(Refused):
            async with websocket(control, headers=[(b"authorization", b"Bearer wrong")]):
                pass
        with trio.fail_after(10):
            while b"streams_open 0" not in (await ask(control, "GET", "/metrics")).body:
                await trio.sleep(0.01)
        async with websocket(control) as stream:
            await stream.next()
            _, families = await metrics(control, "text/plain", read_prometheus)
        answers = families["trio_process_http_requests"].samples
        found = {each.labels["status"]: each.value for each in answers if each.labels["route"].endswith("/events")}
        assert found == {"200": 1, "503": 2, "401": 1, "101": 1}


async def test_clients_make_no_series():
    async with serving() as (control, _):
        for number in range(20):
            await get(control, f"/processes/{number}")
            await ask(control, f"M{number}", "/health")
        _, families = await metrics(control, "text/plain", read_prometheus)
        assert len(families["trio_process_http_requests"].samples) == 2
        await trio.lowlevel.checkpoint()
