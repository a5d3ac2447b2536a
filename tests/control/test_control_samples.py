"""Usage: measured while somebody looks, and counted also while nobody does."""

from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
from asking import ask, events, websocket
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from trio_process import ControlServer, Registry, RestartPolicy, Service, Supervisor, UnitSpec
from trio_process._control.live import sampler
from trio_process._control.live.samples import Samples, Used

BUSY = "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done"  # some tenths of a second
MB = 2**20


@asynccontextmanager
async def supervised(spec):
    supervisor = Supervisor([spec])
    async with ControlServer("127.0.0.1:0", supervisor=supervisor) as control, supervisor:
        with trio.fail_after(30):
            await supervisor.wait_ready()
        yield control, supervisor


async def value(control, name):
    got = await ask(control, "GET", "/metrics", Accept="application/openmetrics-text")
    families = {family.name: family for family in text_string_to_metric_families(got.body.decode())}
    found = families[f"trio_process_{name}"].samples
    return found[0].value if found else None


async def test_nothing_is_measured_while_no_stream_has_asked_for_samples(monkeypatch):
    ticks, measured, ticked = [], [], trio.Event()

    def lag(self, seconds):
        nonlocal ticked
        ticks.append(seconds)
        ticked.set()
        ticked = trio.Event()

    def measure(leaders):
        measured.append(leaders)
        return {}

    async def tick(times):
        with trio.fail_after(10):
            for _ in range(times):
                await ticked.wait()

    monkeypatch.setattr(Samples, "lag", lag)
    monkeypatch.setattr(sampler, "measure", measure)
    monkeypatch.setattr(sampler, "PERIOD", 0.001)
    async with Service() as service, ControlServer("127.0.0.1:0", service=service) as control:
        process = await service.start("sleep", "1000")
        async with websocket(control, "?channels=process.output") as stream:
            await stream.next()
        assert ticks == []
        await ask(control, "GET", "/metrics")  # from now on the delay of the loop is measured
        assert measured.pop() == {process.id: process.pid}
        await tick(5)
        assert measured == []
        async with events(control, "?channels=sample") as stream:
            await stream.until(lambda message: message.get("channel") == "sample")
        assert measured[0] == {process.id: process.pid}
        process.kill()


async def test_the_metrics_are_measured_when_they_are_read():
    async with supervised(UnitSpec(name="db", command="sleep", args=["1000"])) as (control, _):
        assert await value(control, "service_memory_bytes") > 0
        assert await value(control, "service_processes") == 1


async def test_the_processor_time_of_processes_that_nobody_saw_is_counted():
    spec = UnitSpec(name="once", command="sh", args=["-c", BUSY], restart=RestartPolicy.never())
    async with supervised(spec) as (control, supervisor):
        with trio.fail_after(30):
            await supervisor.wait()
            while await value(control, "service_cpu_seconds") is None:
                await trio.lowlevel.checkpoint()
        usage = supervisor["once"].process.result().usage
        assert await value(control, "service_cpu_seconds") == pytest.approx(usage.user + usage.system)
        assert await value(control, "service_memory_bytes") == 0


def test_no_second_of_a_process_is_counted_twice():
    samples = Samples()
    samples.add({"web": 7}, {"web": Used(1.0, MB, 3, 1)}, 10.0)
    samples.add({"web": 7}, {"web": Used(3.0, MB, 3, 1)}, 12.0)
    assert samples.history() == {"web": [(1.0, MB)]}
    samples.add({"web": 8}, {"web": Used(0.5, MB, 3, 1)}, 14.0)  # restarted, and the end of the first is known later
    samples.ended("web", 7, 4.0)
    assert [(name, cpu) for name, cpu, _ in samples.totals()] == [("web", 4.5)]
    samples.begin()
    samples.ended("web", 8, 0.75)
    samples.add({"web": 8}, {"web": Used(0.7, MB, 3, 1)}, 16.0)  # of a scan during which it ended
    assert [(name, cpu) for name, cpu, _ in samples.totals()] == [("web", 4.75)]


def test_a_history_begins_anew_after_a_gap():
    samples = Samples()
    for at in (10.0, 12.0):
        samples.add({"web": 7}, {"web": Used(1.0, MB, 3, 1)}, at)
    samples.add({"web": 7}, {"web": Used(9.0, MB, 3, 1)}, 100.0)
    assert samples.history() == {"web": []}
    samples.add({"web": 7}, {"web": Used(10.0, MB, 3, 1)}, 102.0)
    assert samples.history() == {"web": [(0.5, MB)]}
    assert [cpu for _, cpu, _ in samples.totals()] == [10.0]


async def test_an_idle_server_and_its_services_are_never_woken(tmp_path):
    supervisor = Supervisor([UnitSpec(name="db", command="sleep", args=["1000"])])
    control = ControlServer("127.0.0.1:0", supervisor=supervisor, registry=Registry(tmp_path))
    async with control, supervisor:
        await supervisor.wait_ready(timeout=30)
        await trio.testing.wait_all_tasks_blocked()
        assert trio.lowlevel.current_statistics().seconds_to_next_deadline > 10  # the next one is this test's own
