"""The life of units on virtual time: order, conditions, readiness, restarts, ends."""

import math
import re
from datetime import UTC, datetime, timedelta

import pytest
import trio
from support_units import FOR_EVER, STEADY, crash, fake_service, starts, supervised, unit

from trio_process import (
    CommandFailedError,
    OptionError,
    Probe,
    ProcessError,
    ProgramNotFoundError,
    RestartLimitError,
    RestartPolicy,
    Supervisor,
    UnitCondition,
    UnitFailedError,
    UnitState,
)
from trio_process.testing import Behaviour

LISTENING = Probe.line("listening")


async def test_entering_starts_and_does_not_wait(autojump_clock):
    async with supervised([unit("web")]) as (supervisor, _, changes):
        assert trio.current_time() == 0
        assert supervisor["web"].state is UnitState.STOPPED
        await supervisor.wait_ready()
        assert trio.current_time() == 0.1  # settle
        assert supervisor["web"].ready
        assert changes.of("web") == ["waiting", "starting", "ready"]
    assert supervisor["web"].state is UnitState.STOPPED
    assert changes.of("web")[3:] == ["stopping", "stopped"]


async def test_dependencies_are_ready_before_what_needs_them_starts(autojump_clock):
    fake = fake_service(db={"lines": [(3.0, "listening")], "exit_code": None})
    units = [unit("web", after=["db"]), unit("db", ready=LISTENING), unit("proxy", after=["web"])]
    async with supervised(units, fake) as (supervisor, fake, _):
        await supervisor.wait_ready()
        assert [starts(fake, name) for name in ("db", "web", "proxy")] == [[0], [3.0], [3.1]]


@pytest.mark.parametrize(
    ("condition", "behaviour", "expected"),
    [
        ("started", {"lines": [(5.0, "listening")], "exit_code": None}, 0.0),
        ("ready", {"lines": [(5.0, "listening")], "exit_code": None}, 5.0),
        ("ready", {"exit_after": 3.0}, 3.0),
        ("completed", {"lines": ["listening"], "exit_after": 4.0}, 4.0),
        ("ended", {"lines": ["listening"], "exit_after": 4.0}, 4.0),
        ("ended", {"lines": ["listening"], "exit_after": 4.0, "exit_code": 1}, 4.0),
    ],
)
async def test_a_condition_holds_when_the_contract_says(condition, behaviour, expected, autojump_clock):
    units = [
        unit("first", ready=LISTENING, restart=RestartPolicy.never()),
        unit("second", after={"first": condition}),
    ]
    async with supervised(units, fake_service(first=behaviour)) as (supervisor, fake, _):
        await supervisor["second"].wait(UnitState.READY, timeout=60)
        assert starts(fake, "second") == [expected]


@pytest.mark.parametrize("condition", ["started", "ready", "completed"])
async def test_a_condition_that_cannot_come_skips(condition, autojump_clock):
    units = [
        unit("first", ready=LISTENING, restart=RestartPolicy.never()),
        unit("second", after={"first": condition}),
        unit("third", after={"second": "ended"}),
    ]
    fake = fake_service(first={"exit_code": 3, "exit_after": 1.0})
    if condition == "started":  # it must not have run when the second is looked at
        fake.on("first", error=FileNotFoundError)
    async with supervised(units, fake) as (supervisor, _, _):
        assert await supervisor["second"].wait(timeout=60) is UnitState.SKIPPED
        assert await supervisor["third"].wait(timeout=60) is UnitState.SKIPPED
        assert supervisor["second"].waiting_for == ("first",)
        assert "second is after first" in str(supervisor["second"].error)
        with pytest.raises(UnitFailedError):
            await supervisor.wait_ready()


async def test_a_condition_counts_for_all_replicas(autojump_clock):
    fake = fake_service(db=[FOR_EVER, Behaviour(lines=[(5.0, "x")], exit_code=None)])
    units = [unit("db", replicas=2, settle=2.0), unit("web", after=["db"])]
    async with supervised(units, fake) as (supervisor, fake, _):
        await supervisor.wait_ready()
        assert starts(fake, "web") == [2.0]


async def test_conditions_hold_again_at_a_restart(autojump_clock):
    fake = fake_service(
        db=[crash(10.0), Behaviour(lines=[(5.0, "listening")], exit_code=None)], web=[crash(10.5), FOR_EVER]
    )
    units = [unit("db"), unit("web", after=["db"])]
    async with supervised(units, fake) as (supervisor, fake, _):
        await supervisor["web"].wait(UnitState.BACKOFF, timeout=60)
        await supervisor.wait_ready()
        # db is back at 11 and ready at 11.1; web crashed at 10.6
        assert starts(fake, "db") == [0, 11.0]
        assert starts(fake, "web") == pytest.approx([0.1, 11.6])


async def test_losing_a_condition_later_changes_nothing(autojump_clock):
    fake = fake_service(db=[crash(10.0), FOR_EVER])
    async with supervised([unit("db"), unit("web", after=["db"])], fake) as (supervisor, fake, _):
        await supervisor["db"].wait(UnitState.BACKOFF, timeout=60)
        assert supervisor["web"].ready
        await supervisor.wait_ready()
        assert starts(fake, "web") == [0.1]


async def test_a_quick_failure_is_never_taken_for_readiness(autojump_clock):
    fake = fake_service(web={"exit_code": 1, "exit_after": 0.05})
    policy = RestartPolicy.on_failure(max_restarts=2, backoff=1.0, jitter=0.0)
    async with supervised([unit("web", restart=policy)], fake) as (supervisor, fake, changes):
        with pytest.raises(UnitFailedError) as failure:
            await supervisor.wait_ready()
        assert failure.value.unit is supervisor["web"]
        assert isinstance(failure.value.__cause__, RestartLimitError)
        assert isinstance(failure.value.__cause__.__cause__, CommandFailedError)
        assert "ready" not in changes.of("web")
        assert starts(fake, "web") == pytest.approx([0, 1.05, 3.1])


async def test_settle_says_how_long_it_must_live(autojump_clock):
    async with supervised([unit("web", settle=7.5)]) as (supervisor, _, _):
        await supervisor.wait_ready()
        assert trio.current_time() == 7.5
    async with supervised([unit("web", settle=0)]) as (supervisor, _, _):
        await supervisor.wait_ready()
        assert trio.current_time() == 7.5


async def test_start_timeout_is_a_failure(autojump_clock):
    policy = RestartPolicy.on_failure(max_restarts=1, backoff=1.0, jitter=0.0)
    units = [unit("web", ready=Probe.line("never"), start_timeout=20.0, restart=policy)]
    async with supervised(units) as (supervisor, fake, changes):
        assert await supervisor["web"].wait(timeout=1000) is UnitState.FAILED
        assert changes.of("web")[:5] == ["waiting", "starting", "stopping", "backoff", "waiting"]
        assert starts(fake) == [0, 21.0]  # and no third one: a run that was never ready is no good one
        assert isinstance(supervisor["web"].error.__cause__, TimeoutError)
        assert "start_timeout" in str(supervisor["web"].error)


async def test_the_backoff_doubles_and_a_good_run_forgets_it(autojump_clock):
    fake = fake_service(web=[crash(0.01), crash(0.01), crash(50.0), crash(0.01), FOR_EVER])
    async with supervised([unit("web")], fake) as (supervisor, fake, _):
        await supervisor["web"].wait(UnitState.READY)
        assert supervisor["web"].restarts == 2
        await supervisor["web"].wait(UnitState.BACKOFF)
        await supervisor["web"].wait(UnitState.READY)
        assert starts(fake) == pytest.approx([0, 1.01, 3.02, 54.02, 56.03])
        info = supervisor["web"].info()
        assert (info.generation, info.restarts, info.error) == (5, 4, None)


@pytest.mark.parametrize("jump", [timedelta(days=-400), timedelta(days=400)])
async def test_a_wall_clock_that_jumps_changes_no_restart(autojump_clock, monkeypatch, jump):
    class Jumped(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + jump

    fake = fake_service(web=[crash(5.0), crash(0.01), FOR_EVER])
    async with supervised([unit("web")], fake) as (supervisor, fake, _):
        await supervisor["web"].wait(UnitState.READY)
        monkeypatch.setattr("trio_process._supervisor.replicas.replica.datetime", Jumped)
        await supervisor["web"].wait(UnitState.BACKOFF)
        web = supervisor["web"]
        assert (web.next_start - web.since).total_seconds() == pytest.approx(1.0)
        assert abs(web.since - datetime.now(UTC)) > timedelta(days=399)
        while web.restarts < 2:
            await web.wait(UnitState.READY)
            await trio.sleep(0.1)
        assert starts(fake) == pytest.approx([0, 6.0, 8.01])


async def test_next_start_is_known_during_a_backoff(autojump_clock):
    fake = fake_service(web=[crash(1.0), FOR_EVER])
    async with supervised([unit("web")], fake) as (supervisor, _, _):
        await supervisor["web"].wait(UnitState.BACKOFF)
        web = supervisor["web"]
        assert (web.next_start - web.since).total_seconds() == pytest.approx(1.0)
        assert not web.process.is_running
        assert (web.info().pid, web.info().process_id) == (None, None)
        assert isinstance(web.error, CommandFailedError)
        await web.wait(UnitState.READY)
        assert web.next_start is None
        assert web.error is None
        assert web.process.name == "web"


@pytest.mark.parametrize(
    ("policy", "code", "expected"),
    [
        (RestartPolicy.never(), 0, "completed"),
        (RestartPolicy.never(), 1, "failed"),
        (RestartPolicy.on_failure(), 0, "completed"),
        (RestartPolicy.on_failure(), 1, "backoff"),
        (RestartPolicy.always(), 0, "backoff"),
        (RestartPolicy.always(), 1, "backoff"),
    ],
)
@pytest.mark.parametrize("after", [0.01, 5.0])
async def test_an_end_leads_where_the_policy_says(policy, code, expected, after, autojump_clock):
    fake = fake_service(job={"exit_code": code, "exit_after": after})
    async with supervised([unit("job", restart=policy)], fake) as (supervisor, _, changes):
        await supervisor["job"].wait("completed", "failed", "backoff", timeout=60)
        wanted = ["waiting", "starting", expected] if after < 0.1 else ["waiting", "starting", "ready", expected]
        assert changes.of("job") == wanted


async def test_ok_exit_codes_are_a_good_end(autojump_clock):
    fake = fake_service(job={"exit_code": 7})
    async with supervised([unit("job", ok_exit_codes=[0, 7])], fake) as (supervisor, _, _):
        assert await supervisor["job"].wait() is UnitState.COMPLETED


async def test_a_program_that_is_not_there_is_final(autojump_clock):
    fake = fake_service()
    fake.on("web", error=FileNotFoundError)
    async with supervised([unit("web")], fake) as (supervisor, fake, _):
        assert await supervisor["web"].wait() is UnitState.FAILED
        assert isinstance(supervisor["web"].error, ProgramNotFoundError)
        assert len(fake.calls) == 1


async def test_wait_ends_when_nothing_runs_or_will_run(autojump_clock):
    fake = fake_service(a={"exit_after": 3.0}, b={"exit_after": 5.0, "exit_code": 1})
    units = [unit("a"), unit("b", restart=RestartPolicy.never()), unit("c", enabled=False), unit("d", after=["b"])]
    units[3] = unit("d", after={"b": "completed"})
    async with supervised(units, fake) as (supervisor, _, _):
        await supervisor.wait(check=False)
        assert trio.current_time() == 5.0
        with pytest.raises(UnitFailedError) as failure:
            await supervisor.wait()
        assert failure.value.unit is supervisor["b"]
        assert [str(each.state) for each in supervisor.units] == ["completed", "failed", "stopped", "skipped"]


async def test_wait_ready_names_what_each_waits_for(autojump_clock):
    units = [unit("db", ready=Probe.line("never"), start_timeout=math.inf), unit("web", after=["db"])]
    units.append(unit("mail", restart=RestartPolicy.on_failure(backoff=10)))
    fake = fake_service(mail={"lines": {"stderr": ["no route"]}, "exit_code": 1})
    async with supervised(units, fake) as (supervisor, _, _):
        with pytest.raises(TimeoutError) as failure:
            await supervisor.wait_ready(timeout=5)
        assert "db is starting, and waits for a line with 'never'" in str(failure.value)
        assert "web is waiting, for db (ready)" in str(failure.value)
        assert re.search(r"\nmail is in backoff: `mail` exited with code 1(.|\n)*  no route$", str(failure.value))
        assert supervisor["web"].waiting_for == ("db",)


async def test_wait_ready_of_what_nobody_wants_is_an_error(autojump_clock):
    async with supervised([unit("db", enabled=False)]) as (supervisor, _, _):
        with pytest.raises(ProcessError, match="the unit 'db' is not wanted"):
            await supervisor.wait_ready("db")
        await supervisor.wait_ready(timeout=0)
        for name in ("bd", "web"):
            with pytest.raises(ProcessError, match="there is no unit"):
                await supervisor.wait_ready(name)


async def test_wait_ready_without_time_answers_at_once(autojump_clock):
    async with supervised([unit("db")]) as (supervisor, _, _):
        with pytest.raises(TimeoutError):
            await supervisor.wait_ready(timeout=0)
        await supervisor.wait_ready()
        await supervisor.wait_ready("db", timeout=0)


async def test_the_units_are_stopped_in_reverse_order_and_side_by_side(autojump_clock):
    slow = {"exit_code": None, "lines": ["listening"], "reacts": {"SIGTERM": {"lines": [(2.0, "bye")]}}}
    fake = fake_service(db=slow, web=slow, mail=slow, migrate={"exit_after": 0.2})
    units = [
        unit("db"),
        unit("migrate", after=["db"]),
        unit("web", after={"migrate": "completed"}),
        unit("mail", after=["db"]),
    ]
    async with supervised(units, fake) as (supervisor, _, changes):
        await supervisor["web"].wait("ready")
        await supervisor["mail"].wait("ready")
        began = trio.current_time()
    assert trio.current_time() - began == pytest.approx(4.0)
    assert changes.entered("stopping") == ["web", "mail", "db"] or changes.entered("stopping") == ["mail", "web", "db"]


async def test_the_shutdown_has_one_deadline(autojump_clock):
    stubborn = {"exit_code": None, "ignores": ["SIGTERM"]}
    fake = fake_service(a=stubborn, b=stubborn, c=stubborn)
    units = [
        unit("a", grace_period=60),
        unit("b", after=["a"], grace_period=60),
        unit("c", after=["b"], grace_period=60),
    ]
    async with supervised(units, fake, shutdown_timeout=10) as (supervisor, _, _):
        await supervisor.wait_ready()
        began = trio.current_time()
    assert trio.current_time() - began == pytest.approx(10.0)


async def test_the_error_of_the_body_goes_on_as_it_is(autojump_clock):
    error = ValueError("of the body")
    with pytest.raises(ValueError) as caught:
        async with supervised([unit("web")]) as (supervisor, _, _):
            await supervisor.wait_ready()
            raise error
    assert caught.value is error
    assert supervisor["web"].state is UnitState.STOPPED


async def test_a_cancellation_from_outside_is_an_ordered_stop(autojump_clock):
    slow = {"exit_code": None, "reacts": {"SIGTERM": {"lines": [(2.0, "bye")]}}}
    with trio.move_on_after(5) as scope:
        async with supervised([unit("db"), unit("web", after=["db"])], fake_service(db=slow, web=slow)) as (
            _,
            _,
            changes,
        ):
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert trio.current_time() == pytest.approx(9.0)
    assert changes.entered("stopped") == ["web", "db"]


async def test_the_faults_of_the_specs_come_in_one_error(autojump_clock):
    units = [
        unit("web", after=["db", "web", "catche"]),
        unit("cache", after=["queue"]),
        unit("queue", after=["cache"]),
        unit("web"),
        unit("mail", enabled=False),
        unit("post", after=["mail"]),
        unit("loop", restart=RestartPolicy.always()),
        unit("last", after={"loop": "completed"}),
        "sleep 60",
    ]
    with pytest.raises(OptionError) as failure:
        async with Supervisor(units):
            pass
    text = str(failure.value)
    assert text.startswith("8 faults:")
    for part in (
        "the name 'web' is used twice",
        "'web' is after 'db', but there is no such unit",
        "'web' waits for itself",
        "did you mean 'cache'?",
        "cache → queue → cache",
        "'post' is enabled and needs 'mail', which is not",
        "'loop' has completed, but that is always restarted",
        "got 'sleep 60'",
    ):
        assert part in text


async def test_a_supervisor_is_entered_once(autojump_clock):
    async with supervised([]) as (supervisor, _, _):
        with pytest.raises(ProcessError, match="entered once"):
            async with supervisor:
                pass
    with pytest.raises(ProcessError, match="entered once"):
        async with supervisor:
            pass
    with pytest.raises(ProcessError, match="is closing or closed"):
        await supervisor.start("web")
    with pytest.raises(ProcessError, match="not entered"):
        await Supervisor([]).start("web")


async def test_an_essential_failure_ends_the_block(autojump_clock):
    fake = fake_service(web=[crash(5.0)])
    with pytest.raises(UnitFailedError) as failure:
        async with supervised([unit("web", essential=True, restart=RestartPolicy.never())], fake) as (supervisor, _, _):
            await trio.sleep_forever()
    assert failure.value.unit is supervisor["web"]
    assert isinstance(failure.value.__cause__, CommandFailedError)
    assert trio.current_time() == 5.0


async def test_an_essential_storm_has_its_limit_as_the_cause(autojump_clock):
    fake = fake_service(web={"exit_code": 1})
    policy = RestartPolicy.on_failure(max_restarts=1, jitter=0.0)
    with pytest.raises(UnitFailedError) as failure:
        async with supervised([unit("web", essential=True, restart=policy)], fake):
            await trio.sleep_forever()
    assert isinstance(failure.value.__cause__, RestartLimitError)


async def test_an_essential_that_was_skipped_ends_the_block(autojump_clock):
    fake = fake_service(db={"exit_code": 1})
    units = [unit("db", restart=RestartPolicy.never()), unit("web", essential=True, after=["db"])]
    with pytest.raises(UnitFailedError) as failure:
        async with supervised(units, fake):
            await trio.sleep_forever()
    assert failure.value.unit.name == "web"


async def test_an_essential_that_has_completed_ends_the_block_well(autojump_clock):
    fake = fake_service(job={"exit_after": 3.0})
    async with supervised([unit("job", essential=True), unit("web")], fake) as (supervisor, _, _):
        await trio.sleep_forever()
    assert trio.current_time() == 3.0
    assert [each.state for each in supervisor.units] == ["completed", "stopped"]


async def test_the_stop_of_an_essential_is_no_end(autojump_clock):
    async with supervised([unit("web", essential=True)]) as (supervisor, _, _):
        await supervisor.wait_ready()
        await supervisor.stop("web")
        await trio.sleep(10)
        await supervisor.start("web")
        assert supervisor["web"].ready


async def test_the_error_of_the_body_has_an_essential_failure_as_its_note(autojump_clock):
    error = ValueError("while it was cancelled")
    with pytest.raises(ValueError) as caught:
        async with supervised(
            [unit("web", essential=True, restart=RestartPolicy.never())], fake_service(web=[crash(5)])
        ):
            try:
                await trio.sleep_forever()
            finally:
                raise error
    assert caught.value is error
    assert any("UnitFailedError" in note for note in error.__notes__)


async def test_units_see_their_replica_and_have_labels(autojump_clock):
    async with supervised([unit("web", replicas=3, log_file="/tmp/web.log"), unit("one")]) as (supervisor, _, _):
        await supervisor.wait_ready()
        assert [each.name for each in supervisor.units] == ["web", "web.2", "web.3", "one"]
        assert [each.replica for each in supervisor.units] == [1, 2, 3, 1]
        assert [each.process.name for each in supervisor.units] == ["web", "web.2", "web.3", "one"]
        assert [each.process.env["TRIO_PROCESS_REPLICA"] for each in supervisor.units] == ["1", "2", "3", "1"]
        options = [each.spec._options_of(each.replica, each.name) for each in supervisor.units[:3]]
        assert [each.log_file.name for each in options] == ["web.log", "web.2.log", "web.3.log"]


async def test_the_lines_of_a_unit_go_on_over_its_runs(autojump_clock):
    fake = fake_service(
        web=[
            Behaviour(lines=["one", (1.0, "two")], exit_code=1),
            Behaviour(lines=["three"], exit_code=1),
            Behaviour(lines=["four"], exit_code=None),
        ]
    )
    async with supervised([unit("web")], fake) as (supervisor, _, _):
        lines = supervisor["web"].lines()
        async with trio.open_nursery() as nursery:
            found = []

            @nursery.start_soon
            async def read():
                async for line in lines:
                    found.append(line.text)

            while len(found) < 4:
                await trio.sleep(0.1)
            await supervisor.stop("web")
            assert found == ["one", "two", "three", "four"]
            late = supervisor["web"].lines()
            assert (await anext(late)).text == "four"
            nursery.cancel_scope.cancel()
    with pytest.raises(StopAsyncIteration):
        await anext(late)


async def test_every_change_is_an_event_with_its_reason(autojump_clock):
    fake = fake_service(web=[crash(5.0), FOR_EVER])
    async with supervised([unit("web")], fake) as (supervisor, _, changes):
        await supervisor["web"].wait("backoff")
        await supervisor["web"].wait("ready")
        events = changes.all()
        assert [(str(each.old), str(each.new), each.generation) for each in events] == [
            ("stopped", "waiting", 0),
            ("waiting", "starting", 1),
            ("starting", "ready", 1),
            ("ready", "backoff", 1),
            ("backoff", "waiting", 1),
            ("waiting", "starting", 2),
            ("starting", "ready", 2),
        ]
        assert "exited with code 1" in events[3].reason
        assert list(events[0].to_dict()) == ["name", "replica", "old", "new", "reason", "generation", "at"]


async def test_a_condition_is_a_member_or_its_value(autojump_clock):
    spec = unit("web", after={"db": "started", "queue": UnitCondition.ENDED}, restart=STEADY)
    assert spec.after == {"db": UnitCondition.STARTED, "queue": UnitCondition.ENDED}
    with pytest.raises(OptionError, match="must be one of 'started', 'ready', 'completed', 'ended'"):
        unit("web", after={"db": "up"})
