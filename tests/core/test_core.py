from collections.abc import Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Literal, TypedDict

import pytest
import trio
import trio.testing
from outcome import acapture

from trio_process import (
    ActionDisabledError,
    ActionNotRegisteredError,
    ActionOptionError,
    Core,
    ProcessError,
)
from trio_process._core import open_scope


class Recorder:
    """A service that notes when it is entered and left."""

    def __init__(self, core, name="x", log=None, fails=None, fails_on_exit=None):
        self.core = core
        self.name = name
        self.log = [] if log is None else log
        self.fails = fails
        self.fails_on_exit = fails_on_exit

    async def __aenter__(self):
        await trio.lowlevel.checkpoint()
        if self.fails is not None:
            raise self.fails
        self.log.append(f"enter {self.name}")
        return self

    async def __aexit__(self, kind, error, traceback):
        await trio.lowlevel.cancel_shielded_checkpoint()
        self.log.append(f"leave {self.name}{'' if kind is None else ' with ' + kind.__name__}")
        if self.fails_on_exit is not None:
            raise self.fails_on_exit


class Other(Recorder):
    pass


async def test_services_are_entered_in_order_and_left_in_reverse():
    log = []
    async with Core(partial(Recorder, name="a", log=log), partial(Recorder, name="b", log=log)):
        assert log == ["enter a", "enter b"]
    assert log == ["enter a", "enter b", "leave b", "leave a"]


async def test_a_service_gets_the_core_and_is_found_by_its_class():
    async with Core(Recorder, Other) as core:
        assert type(core.service(Other)) is Other
        assert type(core.service(Recorder)) is Recorder
        assert core.service(Recorder).core is core
        with pytest.raises(ProcessError, match=r"this core has no Core; enter it as Core\(Core\)"):
            core.service(Core)
    with pytest.raises(ProcessError):
        core.service(Recorder)


@pytest.mark.parametrize("error", [OSError("taken"), KeyboardInterrupt(), ExceptionGroup("its own", [ValueError()])])
async def test_a_failed_entry_leaves_those_already_entered_and_goes_on_bare(error):
    log = []
    with pytest.raises(type(error)) as caught:
        async with Core(partial(Recorder, name="a", log=log), partial(Recorder, fails=error)):
            pytest.fail("never entered")
    assert caught.value is error
    assert log == ["enter a", f"leave a with {type(error).__name__}"]


async def test_a_factory_that_raises_is_a_failed_entry():
    error, log = ValueError("no"), []

    def factory(core):
        raise error

    with pytest.raises(ValueError) as caught:
        async with Core(partial(Recorder, name="a", log=log), factory):
            pytest.fail("never entered")
    assert caught.value is error
    assert log == ["enter a", "leave a with ValueError"]


@pytest.mark.parametrize("error", [ValueError("body"), KeyboardInterrupt(), SystemExit(3)])
async def test_the_body_error_leaves_as_the_same_object(error):
    log = []
    with pytest.raises(type(error)) as caught:
        async with Core(partial(Recorder, name="a", log=log), partial(Recorder, name="b", log=log)):
            raise error
    assert caught.value is error
    assert log[2:] == [f"leave b with {type(error).__name__}", f"leave a with {type(error).__name__}"]


async def test_one_failure_of_the_way_out_is_bare_and_everything_is_left():
    error, log = ProcessError("way out"), []
    services = [partial(Recorder, name="a", log=log), partial(Recorder, name="b", log=log, fails_on_exit=error)]
    with pytest.raises(ProcessError) as caught:
        async with Core(*services):
            pass
    assert caught.value is error
    assert log[2:] == ["leave b", "leave a"]


async def test_several_failures_of_the_way_out_are_a_group():
    errors = [ProcessError("one"), ProcessError("two")]
    with pytest.raises(ExceptionGroup) as caught:
        async with Core(*(partial(Recorder, fails_on_exit=error) for error in errors)):
            pass
    assert list(caught.value.exceptions) == errors[::-1]


async def test_a_failed_body_goes_before_failures_of_the_way_out(caplog):
    body, failure = ValueError("body"), ProcessError("way out")
    with pytest.raises(ValueError) as caught:
        async with Core(partial(Recorder, fails_on_exit=failure)):
            raise body
    assert caught.value is body
    assert body.__notes__ == ["on the way out, this failed too: ProcessError('way out')"]
    assert "way out" in caplog.text


async def test_a_service_may_swallow_the_error_as_any_manager_may():
    @asynccontextmanager
    async def swallows(core):
        try:
            yield
        except ValueError:
            pass

    log = []
    async with Core(partial(Recorder, log=log), swallows):
        raise ValueError
    assert log == ["enter x", "leave x"]


@pytest.mark.parametrize("nested", [False, True])
async def test_the_failure_of_a_service_that_cancels_the_body_is_what_is_told(nested):
    failure, log = ProcessError("inside"), []

    @asynccontextmanager
    async def fails_inside(core):
        async def fail():
            raise failure

        async with open_scope() as nursery:
            nursery.start_soon(fail)
            yield

    async def body():
        async with Core(partial(Recorder, log=log), fails_inside):
            if not nested:
                await trio.sleep_forever()
            async with trio.open_nursery() as nursery:
                for _ in range(2):
                    nursery.start_soon(trio.sleep_forever)

    with trio.fail_after(5):
        # caught here, as pytest-trio takes a test that ends with Cancelled for one that passed
        found = await acapture(body)
    assert found.error is failure
    assert log == ["enter x", "leave x with ProcessError"]


async def test_cancellation_goes_through():
    log = []
    with trio.CancelScope() as scope:
        async with Core(partial(Recorder, log=log)):
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert log == ["enter x", "leave x with Cancelled"]


async def test_a_core_is_entered_once_at_a_time():
    core = Core(Recorder)
    async with core:
        with pytest.raises(ProcessError, match="already been entered"):
            async with core:
                pass
    async with core:
        assert core.service(Recorder)


def test_what_is_no_factory_is_refused():
    with pytest.raises(ActionOptionError, match="Core takes callables"):
        Core("service")


# actions


async def echo(text: str, times: int = 1, tag: str | None = None) -> str:
    await trio.lowlevel.checkpoint()
    return text * times + (tag or "")


async def test_an_action_runs_its_handler():
    async with Core() as core:
        action = core.action("test.echo")
        assert (action.exists, core.actions) == (False, [])
        assert core.action("test.echo", echo) is action
        assert (action.name, action.exists, action.enabled, core.actions) == ("test.echo", True, True, ["test.echo"])
        assert await action.run(text="a", times=2) == "aa"


async def test_a_call_of_an_action_is_a_checkpoint_whatever_its_handler_does():
    called = []

    async def note():
        called.append(1)

    async with Core() as core:
        with trio.testing.assert_checkpoints():
            await core.action("note", note).run()
        with trio.CancelScope() as scope:
            scope.cancel()
            await core.action("note").run()
    assert called == [1]


async def test_without_a_handler_nothing_runs():
    async with Core() as core:
        with pytest.raises(
            ActionNotRegisteredError, match=r"no action 'process.run' is registered; .* Core\(Service\)"
        ):
            await core.process.run("touch", "/nowhere")
        assert core.process.exists is False
        calls = [core.process.run_in("/", "ls"), core.process.run_with_env("/", {}, "ls"), core.process.start("ls")]
        calls += [core.process.kill("x"), core.process.list(), core.process.get("x")]
        for call in calls:
            with pytest.raises(ActionNotRegisteredError):
                await call


async def test_a_disabled_action_raises_until_it_is_enabled():
    async with Core() as core:
        action = core.action("test.echo", echo)
        action.disable()
        assert not action.enabled
        with pytest.raises(ActionDisabledError, match="disabled; call enable"):
            await action.run(text="a")
        action.enable()
        assert await action.run(text="a") == "a"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "the option 'text' is missing"),
        ({"text": 1}, "text must be str, got 1"),
        ({"text": "a", "times": "2"}, "times must be int, got '2'"),
        ({"text": "a", "tag": 3}, "tag must be str or None, got 3"),
        ({"text": "a", "timse": 2}, "unknown option 'timse'; did you mean 'times'"),
        ({"text": "a", "zzz": 2}, "unknown option 'zzz'; it takes text, times, tag"),
    ],
)
async def test_a_wrong_option_is_named_and_nothing_runs(options, text):
    ran = []

    async def handler(text: str, times: int = 1, tag: str | None = None) -> None:
        ran.append(text)

    async with Core() as core:
        with pytest.raises(ActionOptionError, match=text):
            await core.action("test", handler).run(**options)
    assert not ran


async def test_handlers_of_every_shape_are_called():
    class Counter:
        async def __call__(self, amount: float) -> float:
            return amount + 1

        async def method(self, **options: Any) -> dict[str, Any]:
            return options

    async with Core() as core:
        assert await core.action("a", Counter()).run(amount=1) == 2
        assert await core.action("b", Counter().method).run(x=1, y="z") == {"x": 1, "y": "z"}
        assert await core.action("c", partial(echo, times=3)).run(text="a") == "aaa"
        assert core.actions == ["a", "b", "c"]


async def test_the_last_registration_wins_and_keeps_its_place():
    async def fake(**options):
        return "fake"

    async with Core() as core:
        core.action("a", echo)
        core.action("b", echo)
        handle = core.action("a")
        core.action("a", fake)
        assert await handle.run(anything=1) == "fake"
        assert core.actions == ["a", "b"]


async def test_a_handler_that_is_no_function_is_refused():
    async with Core() as core:
        with pytest.raises(ActionOptionError, match="must be an async function"):
            core.action("a", "handler")


async def test_a_handler_s_own_error_goes_on():
    error = KeyError("mine")

    async def handler():
        raise error

    async with Core() as core:
        with pytest.raises(KeyError) as caught:
            await core.action("a", handler).run()
    assert caught.value is error


# broadcast


async def test_a_broadcast_reaches_every_subscriber_in_order():
    async with Core() as core:
        subscriptions = [core.subscribe(), core.subscribe(int), core.subscribe(str)]
        for event in (1, "a", 2):
            await core.broadcast(event)
    assert [[event async for event in subscription] for subscription in subscriptions] == [[1, "a", 2], [1, 2], ["a"]]


async def test_a_broadcast_waits_for_who_is_full_and_loses_nothing():
    got = []
    with trio.fail_after(5):
        async with Core() as core:
            with core.subscribe(buffer=2) as subscription:
                async with trio.open_nursery() as nursery:

                    @nursery.start_soon
                    async def send():
                        for number in range(10):
                            await core.broadcast(number)

                    await trio.testing.wait_all_tasks_blocked()
                    assert subscription.statistics().buffered == 2
                    while len(got) < 10:
                        got.append(await subscription.receive())
    assert got == list(range(10))


@pytest.mark.parametrize("how", ["close", "leave"])
async def test_who_waits_in_a_broadcast_is_let_go_when_the_reader_goes(how):
    done = trio.Event()
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            async with Core() as core:
                subscription = core.subscribe(buffer=1)

                @nursery.start_soon
                async def send():
                    await core.broadcast(1)
                    await core.broadcast(2)
                    done.set()

                await trio.testing.wait_all_tasks_blocked()
                if how == "close":
                    subscription.close()
                    await done.wait()
            await done.wait()
    subscription.close()


async def test_a_broadcast_that_drops_never_waits():
    with trio.fail_after(5):
        async with Core() as core:
            with core.subscribe(buffer=1, overflow="drop_oldest") as subscription:
                for number in range(100):
                    await core.broadcast(number)
                assert await subscription.receive() == 99
                assert subscription.dropped == 99


async def test_broadcasting_is_a_checkpoint():
    async with Core() as core:
        with trio.testing.assert_checkpoints():
            await core.broadcast(1)
        with trio.CancelScope() as scope:
            scope.cancel()
            await core.broadcast(2)
        assert scope.cancelled_caught


async def test_a_subscriber_that_raises_harms_only_itself():
    got = []

    async def fails(core, task_status):
        with core.subscribe() as subscription:
            task_status.started()
            await subscription.receive()
            raise ValueError("mine")

    with trio.fail_after(5):
        async with Core() as core:
            with core.subscribe() as other:
                with pytest.RaisesGroup(ValueError):
                    async with trio.open_nursery() as nursery:
                        await nursery.start(fails, core)
                        await core.broadcast(0)
                        await trio.sleep_forever()
                await core.broadcast(1)
                await core.broadcast(2)
                got += [await other.receive() for _ in range(3)]
    assert got == [0, 1, 2]


async def test_a_subscription_made_before_the_core_is_entered_sees_it_all():
    core = Core()
    with core.subscribe() as events, trio.fail_after(5):
        async with core:
            await core.broadcast("first")
        assert [event async for event in events] == ["first"]
    async with core:  # a second time, for others
        await core.broadcast("second")
        with core.subscribe() as events:
            await core.broadcast("third")
            assert await events.receive() == "third"


class Shape(TypedDict):
    side: int


@pytest.mark.parametrize(
    ("option", "good", "bad"),
    [
        ("tags", [["a"], []], ["abc", 5, ("a",)]),
        ("pair", [("a", 1), ["a", 1], None], ["abc", {}]),
        ("table", [{"a": 1}], [[("a", 1)], "a"]),
        ("shape", [{"side": 1}], [5]),
        ("call", [print], [5]),
        ("kind", [int], [5]),
        ("mode", ["r", 5], []),  # what no class stands for is not checked
    ],
)
async def test_what_a_generic_annotation_is_made_of_is_checked(option, good, bad):
    async def handler(
        *,
        tags: list[str] = [],  # noqa: B006 - never changed
        pair: tuple[str, int] | None = None,
        table: Mapping[str, int] = {},
        shape: Shape | None = None,
        call: Callable[[], None] = print,
        kind: type[int] = int,
        mode: Literal["r", "w"] = "r",
    ) -> tuple:
        await trio.lowlevel.checkpoint()
        return (tags, pair, table, shape, call, kind, mode)

    action = Core().action("a", handler)
    for value in good:
        assert value in await action.run(**{option: value})
    for value in bad:
        with pytest.raises(ActionOptionError, match=f"a: {option} must be"):
            await action.run(**{option: value})
