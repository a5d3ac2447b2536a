"""Units that are async functions."""

import functools
import logging
from pathlib import Path

import pytest
import trio
from support_units import STEADY, supervised, unit

from trio_process import (
    OptionError,
    Probe,
    ProcessError,
    RestartPolicy,
    Supervisor,
    UnitFailedError,
    UnitSpec,
    UnitState,
)

NEVER = RestartPolicy.never()


async def test_an_async_function_is_ready_when_it_has_settled(autojump_clock):
    async with supervised([unit("web", main=trio.sleep_forever)]) as (supervisor, fake, _):
        await supervisor.wait_ready()
        assert trio.current_time() == 0.1
        assert supervisor["web"].process is None
        assert fake.calls == []
    assert supervisor["web"].state is UnitState.STOPPED


async def test_one_that_takes_task_status_says_when_it_is_ready(autojump_clock):
    async def serve(*, task_status=trio.TASK_STATUS_IGNORED):
        await trio.sleep(7)
        task_status.started("a value")
        with pytest.raises(RuntimeError):
            task_status.started()
        await trio.sleep_forever()

    async with supervised([unit("web", main=serve)]) as (supervisor, _, _):
        await supervisor.wait_ready()
        assert trio.current_time() == 7


async def test_one_with_task_status_and_a_probe_needs_both(autojump_clock):
    async def serve(task_status):
        await trio.sleep(3)
        task_status.started()
        await trio.sleep_forever()

    async def late():
        return trio.current_time() >= 5

    async with supervised([unit("web", main=serve, ready=Probe.call(late))]) as (supervisor, _, _):
        await supervisor.wait_ready()
        assert trio.current_time() == 5


async def test_one_that_never_says_so_is_late(autojump_clock):
    async def serve(task_status):
        await trio.sleep_forever()

    async with supervised([unit("web", main=serve, start_timeout=9, restart=NEVER)]) as (supervisor, _, _):
        assert await supervisor["web"].wait() is UnitState.FAILED
        assert trio.current_time() == 9
        assert isinstance(supervisor["web"].error, TimeoutError)


@pytest.mark.parametrize(
    ("end", "expected"),
    [(None, "completed"), (ValueError("no"), "backoff"), (ExceptionGroup("several", [ValueError("no")]), "backoff")],
)
async def test_its_end_is_judged_by_the_policy(end, expected, autojump_clock):
    async def serve():
        await trio.sleep(3)
        if end is not None:
            raise end

    async with supervised([unit("web", main=serve)]) as (supervisor, _, _):
        assert await supervisor["web"].wait("completed", "backoff") == expected
        assert supervisor["web"].error is end


async def test_an_essential_one_has_its_own_error_as_the_cause(autojump_clock):
    error = ValueError("mine")

    async def serve():
        await trio.sleep(3)
        raise error

    with pytest.raises(UnitFailedError) as failure:
        async with supervised([unit("web", main=serve, essential=True, restart=NEVER)]):
            await trio.sleep_forever()
    assert failure.value.__cause__ is error


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt("of a unit"), SystemExit(3)])
async def test_what_is_no_exception_ends_the_supervisor_bare(interrupt, autojump_clock):
    async def serve():
        await trio.sleep(3)
        raise interrupt

    with pytest.raises(type(interrupt)) as caught:
        async with supervised([unit("web", main=serve), unit("db")]) as (supervisor, _, _):
            await trio.sleep_forever()
    assert caught.value is interrupt
    assert [each.state for each in supervisor.units] == ["failed", "stopped"]


async def test_one_that_raises_while_it_is_stopped_is_stopped_and_named(autojump_clock, caplog):
    async def serve():
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("in the clean-up")

    async with supervised([unit("web", main=serve)]) as (supervisor, _, _):
        await supervisor.wait_ready()
        await supervisor.stop("web")
        assert supervisor["web"].state is UnitState.STOPPED
    assert "unit web, while it was stopped: ValueError: in the clean-up" in caplog.text


async def test_one_that_shields_itself_is_named_every_five_seconds_and_waited_for(autojump_clock, caplog):
    async def serve():
        with trio.CancelScope(shield=True):
            await trio.sleep(17.0)

    with caplog.at_level(logging.WARNING):
        async with supervised([unit("db"), unit("web", main=serve, after=["db"])], shutdown_timeout=3) as (
            supervisor,
            _,
            changes,
        ):
            await supervisor.wait_ready()
    assert trio.current_time() == pytest.approx(17.1)
    named = [record for record in caplog.records if "unit web still runs" in record.message]
    assert len(named) == 3
    assert "in serve" in named[0].message
    assert changes.entered("stopped") == ["db", "web"]  # after the deadline, nobody waits for anybody


async def test_an_outer_cancellation_reaches_it_only_as_the_ordered_stop(autojump_clock):
    ends = []

    async def serve(name):
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(2)
            ends.append((name, trio.current_time()))

    units = [
        unit("db", main=functools.partial(serve, "db")),
        unit("web", main=functools.partial(serve, "web"), after=["db"]),
    ]
    with trio.move_on_after(10):
        async with supervised(units) as (supervisor, _, _):
            await supervisor.wait_ready()
            await trio.sleep_forever()
    assert ends == [("web", 12), ("db", 14)]


async def test_a_nested_supervisor_is_an_async_function_that_holds_one(autojump_clock):
    inner = []

    async def region(task_status):
        async with supervised([unit("a"), unit("b", after=["a"])]) as (supervisor, _, _):
            inner.append(supervisor)
            await supervisor.wait_ready()
            task_status.started()
            await supervisor.wait()

    async with supervised([unit("region", main=region), unit("last", after=["region"])]) as (supervisor, _, changes):
        await supervisor.wait_ready()
        assert [each.state for each in inner[0].units] == ["ready", "ready"]
        await supervisor.restart("region")
        assert [each.state for each in inner[0].units] == ["stopped", "stopped"]
        assert [each.state for each in inner[1].units] == ["ready", "ready"]
    assert changes.entered("stopped") == ["last", "region"]


async def test_a_nested_supervisor_has_the_deadline_of_the_outer_one(autojump_clock):
    from support_units import fake_service

    async def region():
        stubborn = fake_service(a={"exit_code": None, "ignores": ["SIGTERM"]})
        async with supervised([unit("a", grace_period=1000)], stubborn, shutdown_timeout=1000) as (supervisor, _, _):
            await supervisor.wait()

    async with supervised([unit("region", main=region)], shutdown_timeout=4) as (supervisor, _, _):
        await supervisor.wait_ready()
        began = trio.current_time()
    assert trio.current_time() - began == pytest.approx(4)


async def test_a_plain_function_is_a_failure_that_says_so(autojump_clock):
    async with supervised([unit("web", main=lambda: 7, restart=NEVER)]) as (supervisor, _, _):
        assert await supervisor["web"].wait() is UnitState.FAILED
        assert "can't be awaited" in str(supervisor["web"].error)


async def test_lines_of_an_async_function_end_with_the_supervisor(autojump_clock):
    async with supervised([unit("web", main=trio.sleep_forever)]) as (supervisor, _, _):
        await supervisor.wait_ready()
        lines = supervisor["web"].lines()
    assert [line async for line in lines] == []


def needs_an_argument(port):
    pass


async def numbers():
    yield 1


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "either a command or a main"),
        ({"command": "web", "main": trio.sleep_forever}, "either a command or a main"),
        ({"main": needs_an_argument}, "needs port; use functools.partial"),
        ({"main": numbers}, "not a generator"),
        ({"main": "web"}, "main takes the async function itself"),
        ({"main": trio.sleep_forever, "args": ["x"]}, "args is for a command"),
        ({"main": trio.sleep_forever, "env": {"A": "b"}}, "env is for a command"),
        ({"main": trio.sleep_forever, "grace_period": 3}, "grace_period is for a command"),
        ({"main": trio.sleep_forever, "ready": Probe.line("x")}, "ready can't be a line"),
        ({"command": "web", "stdout": "null", "stderr": "null", "ready": Probe.line("x")}, "ready can't be a line"),
        ({"command": "web", "live": Probe.line("x")}, "live can't be a line"),
        ({"command": "web", "ready": "tcp:80"}, "ready must be a Probe"),
        ({"command": "web", "after": "db"}, "after must be a list of names"),
        ({"command": "web", "after": [3]}, "after must be a str"),
        ({"command": "web", "settle": float("inf")}, "settle must be finite"),
        ({"command": "web", "settle": -1}, "settle must be 0 or more"),
        ({"command": "web", "start_timeout": 0}, "start_timeout must be more than 0"),
        ({"command": "web", "replicas": 2, "log_file": "/"}, "log_file must be the path of a file, got '/'"),
        ({"command": "web", "replicas": 2, "stdout": Path("/x/..")}, "stdout must be the path of a file"),
        ({"command": "web", "settle": 60}, "settle can't make the unit ready before 1 min 0 s, but start_timeout is"),
        ({"command": "web", "settle": 5, "start_timeout": 3}, "settle can't make the unit ready before 5 s"),
        ({"command": "web", "start_timeout": 0.1}, "settle can't make the unit ready before 100 ms"),
        ({"main": trio.sleep_forever, "settle": 61}, "settle can't make the unit ready"),
        (
            {"command": "web", "ready": Probe.tcp(":80", initial_delay=60)},
            "ready can't make the unit ready before 1 min",
        ),
        ({"command": "web", "ready": Probe.file("x", successes=61)}, "ready can't make the unit ready before 1 min"),
        ({"command": "web", "ready": Probe.file("x", successes=3, period=30)}, "ready can't make the unit ready"),
        ({"command": "web", "restart": "always"}, "restart must be a RestartPolicy"),
        ({"command": "web", "replicas": -1}, "replicas must be 0 to 10000"),
        ({"command": "web", "essential": 1}, "essential must be True or False"),
        ({"command": "web", "args": "-v"}, "args must be a list"),
        ({"command": ""}, "command must not be empty"),
        ({"command": "web", "timeout": "ten"}, "timeout must be a number of seconds"),
    ],
)
def test_a_spec_refuses_what_it_cannot_keep(options, text):
    with pytest.raises(OptionError, match=text):
        UnitSpec(name="web", **options)


async def reports_itself(task_status=trio.TASK_STATUS_IGNORED):
    task_status.started()


@pytest.mark.parametrize(
    "options",
    [
        {"settle": 59.9},
        {"settle": 3600, "start_timeout": float("inf")},
        {"settle": 99, "ready": Probe.tcp(":80")},
        {"ready": Probe.tcp(":80", initial_delay=59, successes=1, period=100)},
        {"ready": Probe.line("x", initial_delay=99, successes=99)},
        {"live": Probe.tcp(":80", initial_delay=99)},
        {"command": None, "main": reports_itself, "settle": 99},
    ],
)
def test_a_unit_that_can_become_ready_in_time_is_fine(options):
    assert UnitSpec(**{"name": "web", "command": "web", **options})


@pytest.mark.parametrize("name", ["", "web 1", "web/1", "web.2", "ä", "a\0", 3, None, "web\n"])
def test_a_name_is_refused(name):
    with pytest.raises(OptionError, match="name must"):
        UnitSpec(name=name, command="web")


@pytest.mark.parametrize("name", ["web", "web-1", "docs:build", "a.b", "v1.2b", "_", "7"])
def test_a_name_is_fine(name):
    assert UnitSpec(name=name, command="web").name == name


def test_every_process_option_is_one_of_a_unit():
    import attrs

    from trio_process import RunOptions

    units = {field.name: field.default for field in attrs.fields(UnitSpec)}
    for field in attrs.fields(RunOptions):
        if field.name not in ("name", "detach", "command"):
            assert units.get(field.name, "missing") == field.default or field.name in ("env", "limits", "resources"), (
                field.name
            )


def test_units_must_be_specs():
    with pytest.raises(OptionError):
        Supervisor("web.toml")
    with pytest.raises(OptionError):
        Supervisor([], service="local")
    with pytest.raises(OptionError):
        Supervisor([], shutdown_timeout=-1)
    assert STEADY.backoff == 1.0
    assert issubclass(UnitFailedError, ProcessError)
