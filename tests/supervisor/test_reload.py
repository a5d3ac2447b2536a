"""Reload: the plan, and that only what changed is touched."""

import functools
import random

import attrs
import pytest
import trio
from support_units import FOR_EVER, SERVER, crash, fake_service, starts, supervised, unit

from trio_process import OptionError, Probe, RestartPolicy, Stdio, Strategy, UnitFailedError, UnitState
from trio_process.testing import Behaviour

SLOW_STOP = {"exit_code": None, "reacts": {"SIGTERM": {"lines": [(2.0, "bye")]}}}


async def test_a_plan_says_what_changes_and_changes_nothing(autojump_clock):
    units = [unit("db"), unit("web", after=["db"], env={"A": "1"}), unit("mail")]
    new = [unit("db"), unit("web", after=["db"], env={"A": "2"}, grace_period=3), unit("cache")]
    async with supervised(units) as (supervisor, fake, _):
        await supervisor.wait_ready()
        plan = supervisor.plan(new)
        assert (plan.added, plan.changed, plan.removed, plan.kept) == (
            ("cache",),
            {"web": ("env", "grace_period")},
            ("mail",),
            ("db",),
        )
        assert plan.to_dict() == {
            "added": ["cache"],
            "changed": {"web": ["env", "grace_period"]},
            "removed": ["mail"],
            "kept": ["db"],
        }
        assert len(fake.calls) == 3
        assert [each.name for each in supervisor.units] == ["db", "web", "mail"]


async def test_a_reload_restarts_only_what_changed(autojump_clock):
    units = [unit("db"), unit("web", after=["db"], env={"A": "1"}), unit("mail")]
    new = [unit("cache"), unit("db"), unit("web", after=["db"], env={"A": "2"})]
    async with supervised(units) as (supervisor, fake, changes):
        await supervisor.wait_ready()
        plan = await supervisor.reload(new)
        assert plan.changed == {"web": ("env",)}
        assert [each.name for each in supervisor.units] == ["cache", "db", "web"]
        assert all(each.ready for each in supervisor.units)
        assert [len(starts(fake, name)) for name in ("db", "web", "mail", "cache")] == [1, 2, 1, 1]
        assert changes.of("mail")[-2:] == ["stopping", "stopped"]
        assert supervisor["web"].process.env["A"] == "2"
        assert supervisor["web"].restarts == 0
        again = await supervisor.reload(new)
        assert again.kept == ("cache", "db", "web")
        assert len(fake.calls) == 5


async def test_what_is_removed_is_stopped_after_what_needed_it(autojump_clock):
    units = [unit("db"), unit("web", after=["db"]), unit("proxy", after=["web"])]
    new = [unit("web"), unit("proxy", after=["web"], env={"A": "1"})]
    fake = fake_service(db=SLOW_STOP, web=SLOW_STOP, proxy=SLOW_STOP)
    async with supervised(units, fake) as (supervisor, _, changes):
        await supervisor.wait_ready()
        await supervisor.reload(new)
        gone = [event.name for event in changes.all() if event.old == "stopping"]
        assert gone == ["proxy", "web", "db"]
        assert [each.name for each in supervisor.units] == ["web", "proxy"]
        assert all(each.ready for each in supervisor.units)


@pytest.mark.parametrize(
    "new",
    [
        lambda: [unit("web", after=["db"])],
        lambda: [unit("db"), unit("db"), unit("web")],
        lambda: [unit("db", after=["web"]), unit("web", after=["db"])],
        lambda: "units.toml",
        lambda: [3],
    ],
)
async def test_an_invalid_reload_changes_nothing(new, autojump_clock):
    async with supervised([unit("db"), unit("web", after=["db"])]) as (supervisor, fake, _):
        await supervisor.wait_ready()
        with pytest.raises(OptionError):
            supervisor.plan(new())
        with pytest.raises(OptionError):
            await supervisor.reload(new())
        await trio.sleep(5)
        assert all(each.ready for each in supervisor.units)
        assert len(fake.calls) == 2


async def test_what_is_held_is_not_removed(autojump_clock):
    async with supervised([unit("db", enabled=False), unit("web")]) as (supervisor, _, _):
        async with supervisor.hold("db") as db:
            for call in (supervisor.plan, supervisor.reload):
                with pytest.raises(OptionError, match="'db' can't be removed while it is held"):
                    found = call([unit("web")])
                    await found
            assert db.ready
        await supervisor.reload([unit("web")])
        with pytest.raises(LookupError):
            supervisor["db"]


async def test_replicas_and_probes_change_without_a_restart(autojump_clock):
    async def well():
        return True

    async def sick():
        return "sick"

    async with supervised([unit("web", replicas=2, ready=Probe.call(well))]) as (supervisor, fake, _):
        await supervisor.wait_ready()
        plan = await supervisor.reload([unit("web", replicas=3, ready=Probe.call(well), live=Probe.call(well))])
        assert plan.changed == {"web": ("live", "replicas")}
        assert len(fake.calls) == 3
        await supervisor.reload([unit("web", replicas=1, ready=Probe.call(sick, period=1))])
        assert [each.name for each in supervisor.units] == ["web"]
        await supervisor["web"].wait("unready")
        assert len(fake.calls) == 3
        await supervisor.reload([unit("web", ready=None)])
        await supervisor["web"].wait("ready")
        await supervisor.reload([unit("web", live=Probe.call(sick, period=1))])
        await supervisor["web"].wait("backoff")
        assert "sick" in str(supervisor["web"].error)


async def test_reloads_wait_for_one_another(autojump_clock):
    fake = fake_service(web=SLOW_STOP)
    async with supervised([unit("web")], fake) as (supervisor, fake, _):
        await supervisor.wait_ready()
        plans = []

        async def reload(number):
            plans.append((trio.current_time(), await supervisor.reload([unit("web", args=[str(number)])])))

        async with trio.open_nursery() as nursery:
            for number in range(3):
                nursery.start_soon(reload, number)
        assert supervisor["web"].generation == 4
        assert [plan.changed for _, plan in plans] == [{"web": ("args",)}] * 3


async def test_a_reload_mends_what_has_failed(autojump_clock):
    fake = fake_service()
    fake.on("web", exit_code=1)
    fake.on("web", "--right", exit_code=None)
    never = RestartPolicy.never()
    async with supervised([unit("web", restart=never), unit("next", after=["web"])], fake) as (supervisor, _, _):
        await supervisor["next"].wait("skipped")
        await supervisor.reload([unit("web", args=["--right"], restart=never), unit("next", after=["web"])])
        await supervisor.wait_ready()
        assert all(each.ready for each in supervisor.units)


async def test_a_reload_of_what_fails_returns_and_the_state_says_so(autojump_clock):
    fake = fake_service()
    fake.on("bad", exit_code=1)
    async with supervised([unit("web")], fake) as (supervisor, _, _):
        await supervisor.reload([unit("web"), unit("bad"), unit("worse", command="bad", restart=RestartPolicy.never())])
        assert supervisor["bad"].state is UnitState.BACKOFF
        assert supervisor["worse"].state is UnitState.FAILED


@pytest.mark.parametrize("crash_after", [0.0, 0.05, 1.0])
async def test_a_reload_does_not_wait_for_what_waits_for_a_failing_unit(autojump_clock, crash_after):
    fake = fake_service(db={"exit_after": crash_after, "exit_code": 1})
    db = unit("db", settle=2.0, restart=RestartPolicy.always(max_restarts=1_000_000, backoff=1.0, jitter=0.0))
    web, last = unit("web", after=["db"]), unit("last", after=["web"])
    async with supervised([db], fake) as (supervisor, _, _):
        with trio.fail_after(200):
            await supervisor.reload([db, web, last])
            assert [supervisor[name].state for name in ("db", "web", "last")] == ["backoff", "waiting", "waiting"]
            fake.on("db", ..., **SERVER)
            await supervisor.reload([attrs.evolve(each, env={"RIGHT": "1"}) for each in (db, web, last)])
            assert supervisor["last"].ready


async def test_a_reload_does_not_wait_until_all_that_fail_do_so_at_the_same_moment(autojump_clock):
    fake = fake_service(db={"exit_after": 40.0, "exit_code": 1}, mail={"exit_after": 60.0, "exit_code": 1})
    async with supervised([], fake) as (supervisor, _, _):
        await supervisor.reload(
            [unit("db", settle=100.0, start_timeout=200.0), unit("mail", settle=100.0, start_timeout=200.0)]
        )
        assert trio.current_time() == pytest.approx(60.0)


async def test_a_reload_does_not_wait_for_what_waits_for_readiness_that_was_lost(autojump_clock):
    answers = iter([True])
    db = unit("db", ready=Probe.call(lambda: next(answers, False), period=1.0, failures=1))
    async with supervised([db]) as (supervisor, _, _):
        await supervisor["db"].wait("unready")
        with trio.fail_after(200):
            await supervisor.reload([db, unit("web", after=["db"])])
        assert supervisor["web"].state is UnitState.WAITING


async def test_a_reload_that_waits_for_an_end_lets_the_next_one_begin(autojump_clock):
    units = [unit("job"), unit("web", after={"job": "completed"})]
    async with supervised([]) as (supervisor, _, _):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(supervisor.reload, units)
            await trio.sleep(100)
            assert supervisor["web"].state is UnitState.WAITING
            with trio.fail_after(10):
                await supervisor.reload([unit("job"), unit("web", after=["job"])])  # and so ends the first one
        assert supervisor["web"].ready


async def test_a_reload_waits_for_the_end_that_a_unit_waits_for(autojump_clock):
    fake = fake_service(job={"exit_after": 100.0, "exit_code": 0})
    async with supervised([], fake) as (supervisor, _, _):
        await supervisor.reload([unit("job"), unit("web", after={"job": "completed"})])
        assert supervisor["web"].ready
        assert trio.current_time() == pytest.approx(100.1)


async def test_what_was_stopped_stays_stopped_and_enabled_says_what_runs(autojump_clock):
    units = [unit("a"), unit("b"), unit("c", enabled=False)]
    async with supervised(units) as (supervisor, _, _):
        await supervisor.wait_ready()
        await supervisor.stop("a")
        await supervisor.reload([unit("a", args=["-v"]), unit("b", enabled=False), unit("c", enabled=True)])
        await trio.sleep(5)
        assert [str(each.state) for each in supervisor.units] == ["stopped", "stopped", "ready"]


async def test_a_partial_that_means_the_same_is_the_same(autojump_clock):
    async def serve(port):
        await trio.sleep_forever()

    async with supervised([unit("web", main=functools.partial(serve, 80))]) as (supervisor, _, _):
        assert supervisor.plan([unit("web", main=functools.partial(serve, 80))]).kept == ("web",)
        assert supervisor.plan([unit("web", main=functools.partial(serve, 81))]).changed == {"web": ("main",)}


async def test_a_cancelled_reload_goes_on(autojump_clock):
    fake = fake_service(web=SLOW_STOP, old=SLOW_STOP)
    async with supervised([unit("web"), unit("old")], fake) as (supervisor, _, _):
        await supervisor.wait_ready()
        with trio.move_on_after(0.5):
            await supervisor.reload([unit("web", args=["-v"])])
        await trio.sleep(10)
        assert [(each.name, each.generation) for each in supervisor.units] == [("web", 2)]
        assert (await supervisor.reload([unit("web", args=["-v"])])).kept == ("web",)


async def test_a_unit_that_crashes_is_reloaded_at_once(autojump_clock):
    fake = fake_service(web=[crash(1.0), FOR_EVER])
    policy = RestartPolicy.on_failure(backoff=1000, backoff_max=1000, jitter=0)
    async with supervised([unit("web", restart=policy)], fake) as (supervisor, _, _):
        await supervisor["web"].wait("backoff")
        await supervisor.reload([unit("web", restart=policy, env={"A": "1"})])
        assert supervisor["web"].ready
        assert trio.current_time() == pytest.approx(1.1)


@pytest.mark.parametrize(
    "attempt", range(6)
)  # Trio runs tasks in random order: one in two showed a reload that did not wait
@pytest.mark.parametrize("between", [[], [unit("web", enabled=False)]])
async def test_a_unit_that_is_removed_or_disabled_and_wanted_again_stops_first(between, attempt, autojump_clock):
    async with supervised([unit("web")], fake_service(web=[Behaviour(**SLOW_STOP)])) as (supervisor, fake, _):
        await supervisor.wait_ready()
        first = supervisor["web"]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(supervisor.reload, between)
            await first.wait("stopping")
            nursery.start_soon(supervisor.reload, [unit("web")])
        await supervisor.wait_ready()
        assert (supervisor["web"] is first) == bool(between)
        assert starts(fake) == pytest.approx([0, 2.1])


async def reload_soon(supervisor, specs):
    """Reload within a bound that only a deadlock reaches."""
    with trio.fail_after(1000):
        return await supervisor.reload(specs)


@pytest.mark.parametrize("strategy", Strategy)
@pytest.mark.parametrize("pause", [0.0, 0.05, 1.0])
async def test_a_reload_may_reverse_the_dependencies(strategy, pause, autojump_clock):
    forth = [unit("a"), unit("b", after=["a"]), unit("c", after=["b"])]
    back = [unit("a", after=["b"]), unit("b", after=["c"]), unit("c")]
    async with supervised(forth, strategy=strategy) as (supervisor, _, changes):
        for specs, order in ((back, ["a", "b", "c"]), (forth, ["c", "b", "a"])):
            await trio.sleep(pause)
            await reload_soon(supervisor, specs)
            await supervisor.restart(order[-1])
            await supervisor.wait_ready()
            changes.all().clear()
            await supervisor.stop(order[-1])
            assert [event.name for event in changes.all() if event.new is UnitState.STOPPED] == order
            for name in order:
                await supervisor.start(name)


@pytest.mark.parametrize("seed", range(12))
async def test_any_dependencies_may_follow_any_others(seed, autojump_clock):
    chance = random.Random(seed)
    behaviours = [Behaviour(exit_code=None), Behaviour(**SLOW_STOP)]
    fake = fake_service(a={"exit_code": 0}, **{name: chance.choices(behaviours, k=20) for name in "bcdef"})

    def specs():
        names = chance.sample("abcdef", chance.randint(2, 6))
        return [
            unit(name, after=chance.sample(names[:index], chance.randint(0, index)), replicas=chance.randint(1, 2))
            for index, name in enumerate(names)
        ]

    async with supervised(specs(), fake, strategy=chance.choice(list(Strategy))) as (supervisor, _, changes):
        for _ in range(20):
            with trio.move_on_after(chance.choice([0.0, 0.1, 1.0, 3.0])):
                await supervisor.reload(specs())
        last = specs()
        await reload_soon(supervisor, last)
        with trio.fail_after(1000):
            await supervisor.wait_ready()
        running = {each.spec.name for each in supervisor.units if each.ready}
        changes.all().clear()
    ends = [event.name.partition(".")[0] for event in changes.all() if event.old is UnitState.STOPPING]
    for spec in last:
        for need in running.intersection(spec.after):
            if spec.name in running:
                assert max(i for i, name in enumerate(ends) if name == spec.name) < ends.index(need)


async def test_a_unit_that_is_added_again_while_it_is_being_removed_runs(autojump_clock):
    both = [unit("web"), unit("mail")]
    async with supervised(both, fake_service(mail=SLOW_STOP)) as (supervisor, fake, changes):
        await supervisor.wait_ready()
        with trio.move_on_after(1):
            await supervisor.reload(both[:1])
        assert (await reload_soon(supervisor, both)).added == ("mail",)
        assert supervisor["mail"].ready
        assert changes.of("mail")[3:] == ["stopping", "waiting", "starting", "ready"]
        assert [each.name for each in fake.running()] == ["web", "mail"]


async def test_a_reload_returns_when_what_it_disables_is_stopped(autojump_clock):
    async with supervised([unit("web")], fake_service(web=SLOW_STOP)) as (supervisor, fake, _):
        await supervisor.wait_ready()
        await supervisor.reload([unit("web", enabled=False)])
        assert supervisor["web"].state is UnitState.STOPPED
        assert fake.running() == []


@pytest.mark.parametrize("how", ["stopped", "removed", "scaled"])
@pytest.mark.parametrize("old", ["command", "function"])
async def test_a_unit_that_is_wanted_again_before_it_has_stopped_has_the_new_spec(autojump_clock, how, old):
    fake = fake_service(last=SLOW_STOP)
    was = unit("web", **({"main": trio.sleep_forever} if old == "function" else {"args": ["--old"]}))
    new, last = unit("web", args=["--new"], ready=Probe.line("listening")), unit("last", after=["web"])
    async with supervised([was, last], fake) as (supervisor, _, _):
        await supervisor.wait_ready()
        async with trio.open_nursery() as nursery:
            with trio.move_on_after(0.5):  # the stop of `last` takes 2 s, and `web` waits for it
                if how == "stopped":
                    await supervisor.stop("web")
                else:
                    await supervisor.reload([] if how == "removed" else [attrs.evolve(was, replicas=0)])
            nursery.start_soon(supervisor.reload, [new])
            await trio.sleep(0.1)
            nursery.start_soon(supervisor.start, "web")
        assert supervisor["web"].ready
        assert supervisor["web"].process.args == ("--new",)


async def test_two_that_were_each_started_after_the_other_do_not_wait_for_each_other(autojump_clock):
    fake = fake_service(last=SLOW_STOP)
    async with supervised([unit("db"), unit("web", after=["db"]), unit("last", after=["web"])], fake) as (
        supervisor,
        _,
        _,
    ):
        await supervisor.wait_ready()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(supervisor.reload, [unit("web", replicas=0), unit("db", after=["web"])])
            await trio.sleep(0.5)
            supervisor["db"].process.kill()  # it was waiting for `web` to stop, and that for `last`
            await supervisor["db"].wait("starting")
            await supervisor["db"].wait("ready")
            with trio.fail_after(20):
                await supervisor.restart("db")
        assert [(each.name, str(each.state)) for each in supervisor.units] == [("web", "stopped"), ("db", "ready")]


async def test_a_start_ends_when_its_unit_is_removed(autojump_clock):
    units = [unit("web"), unit("mail", ready=Probe.line("never"), enabled=False)]
    async with supervised(units) as (supervisor, _, _), trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.reload, units[:1])
        with pytest.raises(UnitFailedError, match="'mail' was stopped"):
            await supervisor.start("mail")


@pytest.mark.parametrize("strategy", Strategy)
@pytest.mark.parametrize("pause", [0.0, 0.05, 1.0])
@pytest.mark.parametrize("restarted", ["db", "web"])
async def test_a_reload_during_a_restart_restarts_the_run_with_the_old_spec(strategy, pause, restarted, autojump_clock):
    slow = {"lines": [(5.0, "listening")], "exit_code": None}
    old, new = [
        [unit("db"), unit("web", after=["db"], args=args, ready=Probe.line("listening"))] for args in ([], ["-v"])
    ]
    async with supervised(old, fake_service(web=slow), strategy=strategy) as (supervisor, fake, _):
        await supervisor.wait_ready()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(supervisor.restart, restarted)
            await supervisor[restarted].wait("starting")
            await trio.sleep(pause)
            assert (await supervisor.reload(new)).changed == {"web": ("args",)}
            assert supervisor["web"].ready
            assert supervisor["web"].process.args == ("-v",)
        assert [(each.command, each.args) for each in fake.running()] == [("db", ()), ("web", ("-v",))]


async def shown_ready(task_status):
    await trio.sleep(3)
    task_status.started()
    await trio.sleep_forever()


@pytest.mark.parametrize("pause", [0.01, 0.05, 1.0, 30.0])
@pytest.mark.parametrize("strategy", Strategy)
async def test_a_command_and_a_function_replace_each_other_whatever_makes_them_ready(pause, strategy, autojump_clock):
    fake = fake_service(web=SLOW_STOP | {"lines": [(2.0, "listening")]})
    kinds = [
        {"main": trio.sleep_forever},
        {"ready": Probe.line("listening")},
        {"main": shown_ready},
        {"stdout": Stdio.NULL, "stderr": Stdio.NULL},
        {"ready": Probe.line("listening"), "live": Probe.call(lambda: None)},
        {"main": shown_ready, "ready": Probe.call(lambda: None)},
    ]
    async with supervised([], fake, strategy=strategy) as (supervisor, _, _):
        for kind in [*kinds, *reversed(kinds)]:
            with trio.move_on_after(pause):
                await supervisor.reload([unit("web", **kind), unit("proxy", after=["web"])])
            await supervisor.wait_ready(timeout=60)
            spec = supervisor["web"].spec
            assert sorted(process.name for process in fake.running()) == ["proxy"] + ["web"] * (spec.main is None)
