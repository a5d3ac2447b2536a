"""start, stop, restart, scale and hold, in every state, any number of times, and from many tasks."""

import pytest
import trio
from support_units import FOR_EVER, crash, fake_service, starts, supervised, unit

from trio_process import (
    OptionError,
    Probe,
    ProcessError,
    ProcessNotFoundError,
    RestartPolicy,
    Runner,
    RunSpec,
    StopFailedError,
    UnitFailedError,
    UnitState,
)
from trio_process.testing import Behaviour

SLOW_STOP = {"exit_code": None, "lines": ["listening"], "reacts": {"SIGTERM": {"lines": [(2.0, "bye")]}}}
NEVER = RestartPolicy.never()


class Running:
    """Counts the processes of each label that run at the same time."""

    def __init__(self, fake):
        from trio_process import ActionProcessExited, ActionProcessStarted

        self._started, self._exited = ActionProcessStarted, ActionProcessExited
        self._events = fake.subscribe(ActionProcessStarted, ActionProcessExited, buffer=float("inf"))

    def most(self):
        running, most = {}, {}
        while True:
            try:
                event = self._events.receive_nowait()
            except trio.WouldBlock:
                self._events.close()
                return most
            step = 1 if isinstance(event, self._started) else -1
            running[event.name] = running.get(event.name, 0) + step
            most[event.name] = max(most.get(event.name, 0), running[event.name])


async def test_start_returns_when_it_is_ready_and_starts_what_it_needs(autojump_clock):
    units = [unit("db", enabled=False, settle=3.0), unit("web", enabled=False, after=["db"])]
    async with supervised(units) as (supervisor, fake, _):
        await trio.sleep(1)
        assert fake.calls == []
        await supervisor.start("web")
        assert supervisor["web"].ready
        assert supervisor["db"].ready
        assert trio.current_time() == pytest.approx(4.1)


async def test_stop_stops_dependents_first_and_they_stay_stopped(autojump_clock):
    fake = fake_service(db=SLOW_STOP, web=SLOW_STOP)
    units = [unit("db"), unit("web", after=["db"]), unit("mail")]
    async with supervised(units, fake) as (supervisor, fake, changes):
        await supervisor.wait_ready()
        await supervisor.stop("db")
        assert trio.current_time() == pytest.approx(4.2)
        assert changes.entered("stopped") == ["web", "db"]
        await supervisor.start("db")
        await trio.sleep(5)
        assert supervisor["web"].state is UnitState.STOPPED
        assert supervisor["mail"].ready


async def test_what_only_a_stopped_unit_needed_stops_too(autojump_clock):
    units = [unit("db", enabled=False), unit("web", enabled=False, after=["db"])]
    async with supervised(units) as (supervisor, _, changes):
        await supervisor.start("web")
        await supervisor.stop("web")
        assert await supervisor["db"].wait("stopped") == "stopped"
        assert changes.entered("stopped") == ["web", "db"]


@pytest.mark.parametrize("call", ["start", "stop", "restart"])
@pytest.mark.parametrize(
    "state", ["waiting", "starting", "ready", "unready", "stopping", "backoff", "completed", "failed"]
)
async def test_each_call_in_each_state_gets_there_with_one_process_at_a_time(call, state, autojump_clock):
    healthy = [True]
    policies = {"failed": NEVER, "completed": NEVER}
    behaviours = {
        "waiting": [FOR_EVER],
        "backoff": [crash(1.0), FOR_EVER],
        "completed": [Behaviour(exit_after=1.0), FOR_EVER],
        "failed": [crash(1.0), FOR_EVER],
    }.get(state, [Behaviour(**SLOW_STOP)])
    fake = fake_service(web=behaviours)

    async def well():
        return healthy[0]

    probe = Probe.call(well, period=1.0, failures=1)
    units = [
        unit("db", settle=10.0 if state == "waiting" else 0.0),
        unit(
            "web",
            after=["db"],
            ready=None if state in policies else probe,
            settle=0.0,
            restart=policies.get(state) or NEVER,
        ),
    ]
    if state == "backoff":
        units[1] = unit("web", after=["db"], settle=0.0)
    async with supervised(units, fake) as (supervisor, fake, _):
        running = Running(fake)
        if state == "starting":
            healthy[0] = False
        await supervisor["web"].wait("waiting" if state == "waiting" else "starting")
        async with trio.open_nursery() as nursery:
            if state == "stopping":
                await supervisor["web"].wait("ready")
                nursery.start_soon(supervisor.stop, "web")
            if state == "unready":
                await supervisor["web"].wait("ready")
                healthy[0] = False
            assert await supervisor["web"].wait(state, timeout=60) == state
            healthy[0] = True
            await getattr(supervisor, call)("web")
        expected = UnitState.STOPPED if call == "stop" else UnitState.READY
        if call == "stop" and state in ("completed", "failed"):
            expected = UnitState(state)
        if call == "start" and state == "ready":
            assert len(starts(fake, "web")) == 1
        assert supervisor["web"].state is expected
        await getattr(supervisor, call)("web") if call != "restart" else None
        assert supervisor["web"].state is expected
        assert running.most().get("web", 0) <= 1


async def test_a_restart_during_a_restart_is_that_one(autojump_clock):
    async with supervised([unit("web")], fake_service(web=SLOW_STOP)) as (supervisor, fake, _):
        await supervisor.wait_ready()
        async with trio.open_nursery() as nursery:
            for delay in (0.0, 0.0, 1.0, 2.05):  # asked, being stopped, being started
                nursery.start_soon(lambda delay=delay: later(delay, supervisor.restart, "web"))
        assert len(starts(fake)) == 2
        assert supervisor["web"].generation == 2
        assert supervisor["web"].restarts == 0
        await supervisor.restart("web")
        assert supervisor["web"].generation == 3


async def later(delay, function, *args):
    await trio.sleep(delay)
    await function(*args)


async def test_cancelling_a_call_changes_nothing_that_is_under_way(autojump_clock):
    async with supervised([unit("web")], fake_service(web=SLOW_STOP)) as (supervisor, _, _):
        await supervisor.wait_ready()
        with trio.move_on_after(0.5):
            await supervisor.restart("web")
        await trio.sleep(10)
        assert supervisor["web"].generation == 2
        assert supervisor["web"].ready
        with trio.move_on_after(0.5):
            await supervisor.stop("web")
        await trio.sleep(10)
        assert supervisor["web"].state is UnitState.STOPPED


async def test_a_start_fails_if_it_cannot_be_ready_or_is_stopped_meanwhile(autojump_clock):
    fake = fake_service(bad={"exit_code": 1})
    units = [unit("bad", restart=NEVER, enabled=False), unit("slow", settle=50.0, enabled=False)]
    async with supervised(units, fake) as (supervisor, _, _):
        with pytest.raises(UnitFailedError, match="unit 'bad' has failed"):
            await supervisor.start("bad")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: later(5, supervisor.stop, "slow"))
            with pytest.raises(UnitFailedError, match="unit 'slow'"):
                await supervisor.start("slow")


async def test_a_start_of_what_failed_is_a_new_try_of_what_it_needs(autojump_clock):
    fake = fake_service(db=[crash(0.0), FOR_EVER])
    async with supervised([unit("db", restart=NEVER), unit("web", after=["db"])], fake) as (supervisor, _, _):
        await supervisor["web"].wait("skipped")
        await supervisor.start("web")
        assert supervisor["db"].ready
        assert supervisor["web"].ready


async def test_a_skipped_unit_is_tried_again_when_what_it_misses_comes(autojump_clock):
    fake = fake_service(db=[crash(0.0), FOR_EVER])
    async with supervised([unit("db", restart=NEVER), unit("web", after=["db"])], fake) as (supervisor, _, _):
        await supervisor["web"].wait("skipped")
        await supervisor.start("db")
        await supervisor.wait_ready()
        assert supervisor["web"].ready


async def test_a_process_that_cannot_be_killed_gets_no_second_copy(autojump_clock):
    fake = fake_service()
    talk = Behaviour(lines=[(100.0, "back from the kernel")], exit_code=0, ignores=["SIGTERM", "SIGKILL"])
    fake.on("web", then=[talk, FOR_EVER])
    async with supervised([unit("web", grace_period=1.0)], fake) as (supervisor, fake, _):
        await supervisor.wait_ready()
        with pytest.raises(StopFailedError):
            await supervisor.restart("web")
        assert supervisor["web"].state is UnitState.FAILED
        assert isinstance(supervisor["web"].error, StopFailedError)
        for call in (supervisor.start, supervisor.restart):
            with pytest.raises(StopFailedError):
                await call("web")
        await trio.sleep(50)
        assert len(fake.calls) == 1
        await trio.sleep(50)
        await supervisor.start("web")
        assert len(fake.calls) == 2


async def test_scaling_takes_the_highest_away_first_and_goes_to_nothing_and_back(autojump_clock):
    async with supervised([unit("web", replicas=2), unit("proxy", after=["web"])]) as (supervisor, _, changes):
        await supervisor.wait_ready()
        await supervisor.scale("web", 4)
        assert [each.name for each in supervisor.units] == ["web", "web.2", "web.3", "web.4", "proxy"]
        assert all(each.ready for each in supervisor.units)
        await supervisor.scale("web", 1)
        assert [each.name for each in supervisor.units] == ["web", "proxy"]
        assert sorted(changes.entered("stopped")) == ["web.2", "web.3", "web.4"]
        await supervisor.scale("web", 0)
        assert supervisor["web"].state is UnitState.STOPPED
        assert supervisor["proxy"].ready
        await supervisor.wait_ready()
        await supervisor.scale("web", 2)
        assert [each.name for each in supervisor.units if each.ready] == ["web", "web.2", "proxy"]
        for wrong in (-1, 1.5, True, "2"):
            with pytest.raises(OptionError):
                await supervisor.scale("web", wrong)


async def test_a_replica_that_is_wanted_again_while_it_stops_gets_no_second_process(autojump_clock):
    async with supervised([unit("web", replicas=2)], fake_service(web=SLOW_STOP)) as (supervisor, fake, _):
        running = Running(fake)
        await supervisor.wait_ready()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(supervisor.scale, "web", 1)
            await supervisor["web.2"].wait("stopping")
            await supervisor.scale("web", 2)
        assert supervisor["web.2"].ready
        assert running.most() == {"web": 1, "web.2": 1}


@pytest.mark.parametrize("again", ["start", "restart", "hold"])
async def test_a_unit_does_not_wait_for_the_stop_of_one_that_is_wanted_again(autojump_clock, again):
    fake = fake_service(last=SLOW_STOP)
    units = [unit("db"), unit("web", after=["db"]), unit("last", after=["web"])]
    async with supervised(units, fake) as (supervisor, _, _):
        await supervisor.wait_ready()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(supervisor.stop, "web")
            await trio.sleep(0.5)
            nursery.start_soon(supervisor.scale, "db", 0)
            await trio.sleep(0.5)
            assert [str(each.state) for each in supervisor.units] == ["ready", "ready", "stopping"]
            if again == "hold":
                async with supervisor.hold("web"):
                    await trio.sleep(0.1)
                    assert supervisor["db"].state is UnitState.STOPPED
                return
            await getattr(supervisor, again)("web")
        assert supervisor["db"].state is UnitState.STOPPED
        assert supervisor["web"].ready


@pytest.mark.parametrize("state", ["failed", "starting"])
async def test_a_replica_that_is_scaled_away_holds_up_no_dependent(autojump_clock, state):
    fake = fake_service()
    fake.on(lambda call: call.options.env["TRIO_PROCESS_REPLICA"] == "2", exit_code=1 if state == "failed" else None)
    never = RestartPolicy.never()
    db = unit("db", replicas=2, restart=never, ready=Probe.line("listening"))
    async with supervised([db, unit("web", after=["db"]), unit("last", after=["web"])], fake) as (supervisor, _, _):
        await supervisor["db.2"].wait(state)
        await trio.sleep(1)
        await supervisor.scale("db", 1)
        with trio.fail_after(10):
            await supervisor["last"].wait("ready")


async def test_scaling_down_while_replicas_crash(autojump_clock):
    fake = fake_service(web={"exit_after": 0.5, "exit_code": 1})
    units = [unit("web", replicas=5, restart=RestartPolicy.on_failure(max_restarts=10**6, backoff=0.1, jitter=0.0))]
    async with supervised(units, fake) as (supervisor, fake, _):
        for number in (3, 1, 4, 0, 2, 0):
            with trio.move_on_after(1.3):
                await supervisor.scale("web", number)
        await supervisor.scale("web", 0)
        assert [each.name for each in supervisor.units] == ["web"]
        assert fake.running() == []


async def test_replicas_that_would_share_an_address_are_refused(autojump_clock):
    with pytest.raises(OptionError, match="same place for all 2 replicas"):
        unit("web", ready=Probe.tcp("127.0.0.1:8000"), replicas=2)
    unit("web", ready=Probe.tcp("127.0.0.1:800{replica}"), replicas=2)
    async with supervised([unit("web", live=Probe.unix("/tmp/web.sock"))]) as (supervisor, _, _):
        await supervisor.wait_ready()
        with pytest.raises(OptionError, match="same place"):
            await supervisor.scale("web", 2)
        assert [each.name for each in supervisor.units] == ["web"]


async def test_a_hold_starts_and_the_last_one_stops(autojump_clock):
    units = [unit("db", enabled=False, settle=1.0), unit("mail", enabled=False, after=["db"])]
    async with supervised(units, fake_service(mail=SLOW_STOP)) as (supervisor, fake, _):
        async with supervisor.hold("mail") as mail:
            assert mail is supervisor["mail"]
            assert mail.ready
            async with supervisor.hold("mail"):
                pass
            assert mail.ready
        assert mail.state is UnitState.STOPPED
        assert len(starts(fake, "mail")) == 1


async def test_a_hold_waits_for_the_end_of_dependencies_that_nothing_else_wants(autojump_clock):
    units = [
        unit("disk", enabled=False),
        unit("db", enabled=False, after=["disk"]),
        unit("cache", enabled=False),
        unit("mail", enabled=False, after=["db", "cache"]),
        unit("web", after=["net"]),
        unit("net"),
    ]
    async with supervised(units, fake_service(disk=SLOW_STOP, db=SLOW_STOP)) as (supervisor, _, _):
        async with supervisor.hold("mail"), supervisor.hold("web"):
            await supervisor.start("cache")
        assert {each.name for each in supervisor.units if each.state is UnitState.STOPPED} == {"disk", "db", "mail"}
        assert {each.name for each in supervisor.units if each.ready} == {"cache", "web", "net"}


async def test_a_hold_leaves_what_something_else_wants(autojump_clock):
    units = [unit("db", enabled=False), unit("web", enabled=False, after=["db"]), unit("always")]
    async with supervised(units) as (supervisor, _, _):
        await supervisor.start("web")
        for name in ("db", "web", "always"):
            async with supervisor.hold(name) as held:
                assert held.ready
            assert held.ready
        async with supervisor.hold("db"):
            await supervisor.stop("web")
            assert supervisor["db"].ready
        assert supervisor["db"].state is UnitState.STOPPED


async def test_holds_from_many_tasks_are_counted(autojump_clock):
    async with supervised([unit("db", enabled=False)]) as (supervisor, fake, _):

        async def use(begin, length):
            await trio.sleep(begin)
            async with supervisor.hold("db") as db:
                assert db.ready
                await trio.sleep(length)
                assert db.ready

        async with trio.open_nursery() as nursery:
            for number in range(10):
                nursery.start_soon(use, number, 1.5)
        assert len(fake.calls) == 1
        assert supervisor["db"].state is UnitState.STOPPED


@pytest.mark.parametrize("how", ["fails", "completes", "is stopped", "is stopped by what it needs"])
async def test_a_hold_ends_with_its_unit(how, autojump_clock):
    code = {"fails": 1, "completes": 0}.get(how)
    behaviour = {"exit_code": None} if code is None else {"exit_code": code, "exit_after": 5.0}
    units = [unit("db", enabled=False), unit("mail", enabled=False, after=["db"], restart=NEVER)]
    async with supervised(units, fake_service(mail=behaviour)) as (supervisor, _, _):
        async with trio.open_nursery() as nursery:
            if code is None:
                nursery.start_soon(lambda: later(5.2, supervisor.stop, "mail" if how == "is stopped" else "db"))
            with pytest.raises(UnitFailedError) as failure:
                async with supervisor.hold("mail"):
                    await trio.sleep_forever()
        assert failure.value.unit is supervisor["mail"]
        assert 5.0 < trio.current_time() < 5.5


async def test_the_error_of_a_holds_body_goes_on_as_it_is(autojump_clock):
    error = ValueError("mine")
    async with supervised([unit("mail", enabled=False)]) as (supervisor, _, _):
        with pytest.raises(ValueError) as caught:
            async with supervisor.hold("mail"):
                raise error
        assert caught.value is error
        assert supervisor["mail"].state is UnitState.STOPPED


async def test_a_hold_of_what_cannot_be_ready_is_an_error(autojump_clock):
    async with supervised([unit("mail", enabled=False, restart=NEVER)], fake_service(mail=[crash(0.0), FOR_EVER])) as (
        supervisor,
        _,
        _,
    ):
        with pytest.raises(UnitFailedError):
            async with supervisor.hold("mail"):
                raise AssertionError("entered")
        async with supervisor.hold("mail") as mail:  # a new try
            assert mail.ready
        with pytest.raises(ProcessError):
            supervisor.hold("male")


async def test_a_hold_of_what_has_completed_is_ready(autojump_clock):
    units = [unit("migrate", restart=NEVER)]
    async with supervised(units, fake_service(migrate={"exit_after": 1.0})) as (supervisor, fake, _):
        await supervisor["migrate"].wait("completed")
        async with supervisor.hold("migrate") as migrate:
            assert migrate.state is UnitState.COMPLETED
            await trio.sleep(5)
        assert len(fake.calls) == 1


async def test_the_way_out_ends_the_holds_of_other_tasks(autojump_clock):
    async with trio.open_nursery() as nursery:
        async with supervised([unit("mail", enabled=False)]) as (supervisor, _, _):
            ended = []

            @nursery.start_soon
            async def hold():
                with pytest.raises(UnitFailedError, match="being left"):
                    async with supervisor.hold("mail"):
                        await trio.sleep_forever()
                ended.append(True)

            await supervisor["mail"].wait("ready")
    assert ended


async def test_a_hold_is_judged_when_it_is_entered(autojump_clock):
    units = [unit("web"), unit("mail", enabled=False)]
    async with supervised(units) as (supervisor, _, _):
        first, second, third = [supervisor.hold("mail") for _ in range(3)]
        await supervisor.reload(units[:1])
        with pytest.raises(ProcessNotFoundError, match="mail"):
            async with first:
                pass
        await supervisor.reload(units)
        async with second as mail:
            assert mail is supervisor["mail"]
            assert mail.ready
    with pytest.raises(ProcessError, match="closing or closed"):
        async with third:
            pass


@pytest.mark.parametrize("replicas", [0, 1])
async def test_a_change_that_takes_replicas_away_ends_with_the_supervisor(replicas, autojump_clock):
    with trio.fail_after(100):
        async with trio.open_nursery() as nursery:
            async with supervised([unit("web", replicas=3)], fake_service(web=SLOW_STOP)) as (supervisor, fake, _):
                await supervisor.wait_ready()
                nursery.start_soon(supervisor.scale, "web", replicas)
                nursery.start_soon(supervisor.reload, [unit("web", replicas=replicas)])
                await trio.sleep(1)
                assert len(fake.running()) == 3
    assert fake.running() == []


async def test_a_wait_for_a_unit_ends_with_the_supervisor(autojump_clock):
    async with trio.open_nursery() as nursery:
        async with supervised([unit("web")]) as (supervisor, _, _):

            @nursery.start_soon
            async def wait():
                with pytest.raises(ProcessError, match="stays stopped"):
                    await supervisor["web"].wait("failed")

            await supervisor.wait_ready()
    for timeout in (None, 60, 0):
        with pytest.raises(ProcessError, match="stays stopped") as caught:
            await supervisor["web"].wait("failed", timeout=timeout)
        assert not isinstance(caught.value, TimeoutError)
        assert await supervisor["web"].wait(timeout=timeout) is UnitState.STOPPED


async def test_unit_wait_sees_a_state_that_is_left_again_at_once(autojump_clock):
    fake = fake_service(web=[crash(1.0), FOR_EVER])
    units = [unit("web", restart=RestartPolicy.on_failure(backoff=0.0, jitter=0.0))]
    async with supervised(units, fake) as (supervisor, _, _):
        assert await supervisor["web"].wait("backoff") is UnitState.BACKOFF
        with pytest.raises(OptionError):
            await supervisor["web"].wait("broken")


async def test_a_stop_that_is_overtaken_by_a_start_returns(autojump_clock):
    async with supervised([unit("web")]) as (supervisor, _, _):
        await supervisor.wait_ready()
        for _ in range(20):  # in either order, as Trio shuffles what can run
            async with trio.open_nursery() as nursery:
                nursery.start_soon(supervisor.stop, "web")
                nursery.start_soon(start_anyway, supervisor, "web")
            assert supervisor["web"].state in (UnitState.READY, UnitState.STOPPED)


async def start_anyway(supervisor, name):
    try:
        await supervisor.start(name)
    except UnitFailedError:
        pass  # the stop came second


async def test_what_is_scaled_away_during_a_group_restart_holds_up_nobody(autojump_clock):
    fake = fake_service(job={"exit_after": 1.0}, web=[crash(10.0), FOR_EVER])
    units = [unit("job", replicas=2), unit("web")]
    async with supervised(units, fake, strategy="one_for_all") as (supervisor, _, _):
        await supervisor["web"].wait("backoff")  # job and job.2 have completed, and are to be done again
        await supervisor.scale("job", 1)
        await supervisor["web"].wait("ready", timeout=60)


async def test_a_pipeline_uses_units(autojump_clock):
    fake = fake_service(test={"exit_after": 2.0})
    units = [unit("db", enabled=False, settle=3.0)]
    async with supervised(units, fake) as (supervisor, fake, _):
        specs = [RunSpec(name=f"test-{number}", command="test", uses=["db"]) for number in range(3)]
        whole = await Runner(fake, supervisor=supervisor).run_all(specs)
        assert whole.success
        assert starts(fake, "test") == [3.0] * 3
        assert supervisor["db"].state is UnitState.STOPPED
        assert len(starts(fake, "db")) == 1


async def test_a_pipeline_fails_with_the_unit_that_it_uses(autojump_clock):
    fake = fake_service(db={"exit_code": 1})
    async with supervised([unit("db", enabled=False, restart=NEVER)], fake) as (supervisor, fake, _):
        specs = [RunSpec(name="test", command="test", uses=["db"], retries=3), RunSpec(name="lint", command="test")]
        fake.on("test", exit_code=0)
        whole = await Runner(fake, supervisor=supervisor).run_all(specs)
        assert [result.passed for result in whole.results] == [False, True]
        assert isinstance(whole.results[0].error, UnitFailedError)
        assert len(starts(fake, "test")) == 1
