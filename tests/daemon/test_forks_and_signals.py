"""Signals of several daemons, during the entry and in forks; each in a program of its own."""

import os
import signal
import textwrap
from pathlib import Path

import pytest
import trio
from started import started
from support import is_gone, wait_gone

ROOT = str(Path(__file__).parents[2])
HEAD = """
import concurrent.futures, logging, multiprocessing, os, signal, sys, time
import trio
from trio_process import Daemon, HealthServer, PIDFile, Registry, DaemonEntry, RunOptions, Service

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

fork = multiprocessing.get_context("fork")
"""


def program(script, *args):
    """Start a script, with the names of HEAD."""
    return started("-c", HEAD + textwrap.dedent(script), *args)


FORKED = """
def child(behaviour):
    try:
        say("child", os.getpid())
        time.sleep(60)
    except KeyboardInterrupt:
        say("interrupted")
        sys.exit(7)

async def main():
    async with Daemon() as daemon:
        p = fork.Process(target=child, args=(1,))
        p.start()
        await trio.to_thread.run_sync(p.join)
        say("exit code", p.exitcode)
        say("stopping", daemon.stopping.is_set())

logging.basicConfig(level=logging.INFO)
trio.run(main)
"""


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (signal.SIGTERM, ["exit code -15"]),
        (signal.SIGHUP, ["exit code -1"]),
        (signal.SIGINT, ["interrupted", "exit code 7"]),
    ],
)
async def test_a_child_forked_inside_a_daemon_dies_of_the_signals_that_the_daemon_handles(number, expected):
    async with program(FORKED) as running:
        os.kill(int((await running.line()).split()[1]), number)
        assert await running.rest() == [*expected, "stopping False"]
        assert "stopping\n" not in await running.errors()


async def test_an_os_fork_and_a_process_pool_die_of_sigterm_too():
    script = """
        def child():
            signal.pause()

        async def main():
            async with Daemon():
                pid = os.fork()
                if not pid:
                    signal.pause()
                    os._exit(99)
                os.kill(pid, signal.SIGTERM)
                say("fork", os.waitpid(pid, 0)[1])
                pool = concurrent.futures.ProcessPoolExecutor(1, mp_context=fork)
                pool.submit(child)
                while not pool._processes:
                    await trio.sleep(0.001)
                [worker] = pool._processes.values()
                worker.terminate()
                await trio.to_thread.run_sync(pool.shutdown)  # its thread reaps the worker; `worker.join` would compete
                say("worker", worker.exitcode)

        trio.run(main)
    """
    async with program(script) as running:
        assert await running.rest() == ["fork 15", "worker -15"]


LEFT = """
import trio_process
from trio_process import Supervisor, UnitSpec
from trio_process.exec import Command
kind, directory = sys.argv[1:]

def block(outer):
    return {
        "Service": lambda: Service(),
        "Daemon": lambda: Daemon(pid_file=directory + "/pid", registry=Registry(directory + "/r"),
                                 registry_entry=DaemonEntry("a", "b"), health_addr="127.0.0.1:0"),
        "HealthServer": lambda: HealthServer("127.0.0.1:0"),
        "open": lambda: outer.open("sleep", "60"),
        "lines": lambda: Command("sleep", "60").lines(),
        "hold": lambda: supervisor.hold("a"),
    }[kind]()

async def main():
    global supervisor
    unit = UnitSpec(name="a", command="sleep", args=["60"], settle=0)
    async with Service() as outer, Supervisor([unit], service=outer) as supervisor:
        child = await outer.start("sleep", "60")
        try:
            async with block(outer) as inner:
                own = await inner.start("sleep", "60") if kind == "Service" else inner if kind == "open" else None
                for way in "exit", "raise", "fall out", "text":
                    pid = os.fork()
                    if not pid:
                        if way == "exit":
                            sys.exit(3)
                        if way == "raise":
                            raise ValueError("in the fork")
                        if way == "text":
                            sys.exit("why")
                        break
                    say(way, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
                else:
                    await trio.sleep(0.05)
                    say(child.is_running, own is None or own.is_running)
                    if kind == "Daemon":
                        say(os.path.exists(directory + "/pid"), len(Registry(directory + "/r").list()))
                        say(await trio_process.probe_health(inner.health_addr, 5))
                    if own is not None:
                        own.kill()
                        await own.wait(check=False)
        finally:
            child.kill()
    say("end")

logging.basicConfig(level=logging.INFO)
trio.run(main)
"""


@pytest.mark.parametrize("kind", ["Service", "Daemon", "HealthServer", "open", "lines", "hold"])
async def test_a_fork_that_leaves_a_block_of_its_parent_changes_nothing_there(kind, tmp_path):
    async with program(LEFT, kind, tmp_path) as running:
        assert await running.line() == "exit 3"
        assert await running.line() == "raise 1"
        assert await running.line() == "fall out 0"
        assert await running.line() == "text 1"
        assert await running.line() == "True True"
        if kind == "Daemon":
            assert await running.line() == "True 1"
            assert await running.line() == "(True, '')"
        assert await running.rest() == ["end"]
        errors = await running.errors()
        assert "in the fork" in errors
        assert "\nwhy\n" in errors
        assert "bug" not in errors
        assert await running.process.wait() == 0


MAIN = """
from trio_process import Probe, RestartPolicy, Supervisor, UnitSpec, probe_health

async def work():
    if done.is_set():
        return
    for way in "exit", "raise", "return":
        pid = os.fork()
        if not pid:
            if way == "exit":
                sys.exit(3)
            if way == "raise":
                raise ValueError("in the fork")
            return
        say(way, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    done.set()
    if sys.argv[1] in ("unit", "daemon"):
        await trio.sleep_forever()

async def main():
    global done
    done = trio.Event()
    if sys.argv[1] == "unit":
        async with Supervisor([UnitSpec(name="a", main=work)]) as supervisor:
            await done.wait()
            say((await supervisor.service.run("echo", "on")).output.strip())
    elif sys.argv[1] == "probe":
        async with Supervisor([UnitSpec(name="a", command="sleep", args=["60"], ready=Probe.call(work))]) as supervisor:
            await supervisor.wait_ready()
    elif sys.argv[1] == "check":
        async with HealthServer("127.0.0.1:0", checks=[work]) as server:
            say(await probe_health(server.addr, 30))
    elif sys.argv[1] == "reload":
        async with Daemon() as daemon:
            daemon.on_reload(work)
            os.kill(os.getpid(), signal.SIGHUP)
            await done.wait()
    else:
        async with Daemon(restart=RestartPolicy.always(backoff=0.01)) as daemon, trio.open_nursery() as nursery:
            nursery.start_soon(daemon.run, work)
            await done.wait()
            daemon.stop()

trio.run(main)
"""


@pytest.mark.parametrize(
    ("kind", "rest"), [("unit", ["on"]), ("daemon", []), ("probe", []), ("check", ["(True, '')"]), ("reload", [])]
)
async def test_a_fork_that_ends_a_function_called_by_its_parent_ends_itself(kind, rest):
    async with program(MAIN, kind) as running:
        ends, *others = await running.line(), await running.line(), await running.line()
        assert ends in ("exit 3", "exit 1")  # 1 where SystemExit cancels the other tasks first
        assert others == ["raise 1", "return 0"]
        assert await running.rest() == rest
        assert await running.process.wait() == 0
        assert "ValueError: in the fork" in await running.errors()


# nothing may happen to a process around the fork: its loop would take the news away from that of its parent (epoll(7))
CANCELLED = """
import trio.testing

async def in_open(service):
    async with service.open("sleep", "60"):
        begun.set()
        await trio.sleep_forever()

async def run(service):
    begun.set()
    await service.run("sleep", "60")

async def stop(service):
    process = await service.start("sh", "-c", "trap '' TERM; echo ready; exec sleep 60")
    await process.wait_for_line("ready")
    begun.set()
    await process.stop(50)

async def main():
    global begun
    begun = trio.Event()
    async with Service() as service, trio.open_nursery() as nursery:
        nursery.start_soon({"open": in_open, "run": run, "stop": stop}[sys.argv[1]], service)
        await begun.wait()
        await trio.testing.wait_all_tasks_blocked()
        for way in "raise", "exit":
            pid = os.fork()
            if not pid:
                raise ValueError if way == "raise" else SystemExit
            say(way, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        await trio.sleep(0.1)
        say([each.reason for each in service.list()], (await service.run("echo", "on")).output.strip())
        nursery.cancel_scope.cancel()
    say("end")

trio.run(main)
"""


@pytest.mark.parametrize("kind", ["open", "run", "stop"])
async def test_a_fork_that_cancels_the_tasks_of_its_parent_ends_no_process_of_it(kind):
    async with program(CANCELLED, kind) as running:
        assert await running.line() == "raise 1"
        assert await running.line() == "exit 1"
        assert await running.rest() == ["[None] on", "end"]
        assert "bug" not in await running.errors()


USED = """
async def main():
    async with Service() as service, Daemon() as daemon:
        process = await service.start("cat")
        pid = os.fork()
        if not pid:
            for action in (process.kill, process.terminate, process.suspend, daemon.stop, service.subscribe):
                try:
                    say("done", action())
                except ProcessError as error:
                    say("that this one was forked from" in str(error))
            for action in (process.stop, process.wait, lambda: process.send_input("x"), lambda: service.run("true")):
                try:
                    say("done", await action())
                except ProcessError as error:
                    say("that this one was forked from" in str(error))
            sys.exit(3)
        os.waitpid(pid, 0)
        say(process.is_running, (await service.run("echo", "on")).output)

trio.run(main)
"""


async def test_a_fork_can_not_use_a_service_of_its_parent():
    async with program("from trio_process import ProcessError\n" + USED) as running:
        assert await running.rest() == [*["True"] * 9, "True on", ""]
        assert "bug" not in await running.errors()


TWO = """
async def one(name):
    async with Daemon(shutdown_timeout=60) as daemon:
        say(name, "in")
        if name == sys.argv[1]:
            daemon.stop()
            return
        await daemon.run()
    say(name, "ended")

async def main():
    before = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)]
    async with trio.open_nursery() as nursery:
        for name in "first", "second", "third":
            nursery.start_soon(one, name)
    say(before == [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)])

trio.run(main)
"""


@pytest.mark.parametrize("left_early", ["none", "first", "second", "third"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_one_signal_stops_every_daemon_of_the_program(left_early, number):
    async with program(TWO, left_early) as running:
        assert {await running.line() for _ in range(3)} == {"first in", "second in", "third in"}
        running.process.send_signal(number)
        rest = await running.rest()
        assert rest[-1] == "True"
        assert sorted(rest[:-1]) == [f"{name} ended" for name in ("first", "second", "third") if name != left_early]


async def test_of_nested_daemons_both_are_stopped_and_each_reloads():
    script = """
        async def main():
            async with Daemon() as outer, Daemon() as inner:
                reloaded = trio.Event()
                outer.on_reload(lambda: say("outer reloaded"))
                inner.on_reload(lambda: say("inner reloaded"))
                say("in")
                await inner.run()
                say(outer.stopping.is_set(), inner.stopping.is_set())
            say("left")

        trio.run(main)
    """
    async with program(script) as running:
        assert await running.line() == "in"
        running.process.send_signal(signal.SIGHUP)
        assert {await running.line(), await running.line()} == {"inner reloaded", "outer reloaded"}
        running.process.send_signal(signal.SIGTERM)
        assert await running.rest() == ["True True", "left"]
        assert await running.process.wait() == 0


ENTERING = """
from quart import Quart
async def main():
    daemon = Daemon(pid_file=sys.argv[1] + "/pid", health_addr="127.0.0.1:0",
                    registry=Registry(sys.argv[1] + "/r"), registry_entry=DaemonEntry("a", "b"))

    @daemon.health.app.before_serving
    async def slow():
        say("starting")
        await trio.sleep(60)

    async with daemon:
        say("body", daemon.stopping.is_set(), os.path.exists(sys.argv[1] + "/pid"), Registry(sys.argv[1] + "/r").list())
        await daemon.run(trio.sleep_forever)
        say("after run")
    say("left")
    async with daemon if len(sys.argv) > 2 else Daemon() as again:
        say("again", again.stopping.is_set())

trio.run(main)
say("end")
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_cuts_the_entry_short_and_undoes_what_was_done(number, tmp_path):
    async with program(ENTERING, tmp_path) as running:
        assert await running.line() == "starting"
        running.process.send_signal(number)
        assert await running.rest() == ["body True False []", "left", "again False", "end"]
        assert await running.process.wait() == 0


async def test_two_signals_on_the_way_in_do_the_same(tmp_path):
    async with program(ENTERING, tmp_path) as running:
        assert await running.line() == "starting"
        running.process.send_signal(signal.SIGTERM)
        running.process.send_signal(signal.SIGINT)
        assert (await running.rest())[-1] == "end"


OUTSIDE = """
async def main():
    async with Service() as service, Daemon(shutdown_timeout=float(sys.argv[1])) as daemon:
        child = await service.start("sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done", grace_period=50.0)
        await child.wait_for_line("ready")
        say(child.pid)
        await daemon.run()
    say("left")

trio.run(main)
"""


async def test_a_second_signal_ends_the_grace_of_a_service_entered_before_the_daemon():
    async with program(OUTSIDE, 40) as running:
        child = int(await running.line())
        running.process.send_signal(signal.SIGTERM)
        await trio.sleep(0.3)  # the daemon is left, and the service waits for its child
        assert not is_gone(child)
        running.process.send_signal(signal.SIGTERM)
        with trio.fail_after(20):
            assert await running.rest() == ["left"]
        assert await running.process.wait() == 0
        await wait_gone(child)


async def test_the_shutdown_timeout_holds_for_a_service_entered_before_the_daemon():
    async with program(OUTSIDE, 0.3) as running:
        child = int(await running.line())
        running.process.send_signal(signal.SIGTERM)
        with trio.fail_after(20):
            assert await running.rest() == ["left"]
        await wait_gone(child)


async def test_a_daemon_that_ends_by_itself_leaves_the_signals_and_the_graces_alone():
    script = """
        async def main():
            before = signal.getsignal(signal.SIGTERM)
            async with Service() as service:
                async with Daemon(shutdown_timeout=0.0) as daemon:
                    await daemon.run(trio.lowlevel.checkpoint)
                say(signal.getsignal(signal.SIGTERM) == before)
                child = await service.start("sh", "-c", "trap 'echo cleaned; exit' TERM; echo ready; while :; do sleep 0.02; done")
                await child.wait_for_line("ready")
                result = await child.stop()
                say(result.output.split()[-1])

        trio.run(main)
    """
    async with program(script) as running:
        assert await running.rest() == ["True", "cleaned"]
