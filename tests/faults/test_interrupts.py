"""Ctrl-C at any moment: it is raised, and leaves no process, no descriptor, and no block that waits for ever."""

import os
import signal
import subprocess
import sys

import pytest
import trio

from trio_process import Core, Daemon, HealthServer, Service, Supervisor, UnitSpec
from trio_process.exec import Command

PROGRAM = """
import os, signal, sys
import trio
import trio_process
from trio_process import *
from trio_process.cluster import ClusterService, local_agents
from trio_process.exec import Command

PACKAGE = os.path.dirname(trio_process.__file__)
met, wanted, is_traced = [], None, False


def tracer(frame, event, argument):
    # an interrupt comes when the wanted function is called for the first time, where Trio raises it at once
    code = frame.f_code
    if is_traced and not trio.lowlevel.currently_ki_protected() and (
        code.co_filename.startswith(PACKAGE) or code.co_filename.endswith("contextlib.py")
    ):
        name = f"{os.path.basename(code.co_filename)} {code.co_qualname}"
        if name not in met:
            met.append(name)
            if name == wanted:
                signal.raise_signal(signal.SIGINT)


async def leave(service):
    await service.start("sleep", "60")
    (await service.start("sleep", "60")).kill()


async def stop(service):
    await (await service.start("sleep", "60")).stop()


async def cancel(service):
    with trio.move_on_after(0.01):
        await service.run("sleep", "60")


async def enter(service):
    async with service.open("cat"):
        pass


async def supervise(service):
    units = [UnitSpec(name=name, command="sleep", args=["60"], settle=0) for name in ("first", "second")]
    async with Supervisor(units, service=service) as supervisor:
        await supervisor.wait_ready()
        async with supervisor.hold("first"):
            await supervisor.stop("second")


async def pipeline(service):
    specs = [RunSpec(name=name, command="sleep", args=["60"]) for name in ("first", "second")]
    with trio.move_on_after(0.05):
        await Runner(service).run_all(specs, updates=trio.open_memory_channel(100)[0])


async def lines(service):
    async with Command("sh", "-c", "echo a; sleep 60").lines() as lines:
        async for line in lines:
            break


async def cluster(service):
    async with ClusterService(local_agents(1)) as service:
        await service.run("true")


async def main():
    global is_traced
    body = globals()[sys.argv[1]]
    is_traced = body is leave
    with trio.fail_after(20):
        async with Service(options=ServiceOptions(grace_period=0.1, guardian=body is leave)) as service:
            is_traced = True
            try:
                await body(service)
            except KeyboardInterrupt:
                if body in (cancel, enter):
                    assert all(process._child.kill_at is not None for process in service.running())
                raise
            is_traced = body is leave
    is_traced = False


def run():
    sys.settrace(tracer)
    try:
        trio.run(main)
    except BaseException as error:
        return repr(error)
    finally:
        sys.settrace(None)
    return "no error"


def descriptors():
    return len(os.listdir("/proc/self/fd"))


def fork(function):
    pid = os.fork()
    if not pid:
        try:
            function()
        finally:
            os._exit(0)
    os.waitpid(pid, 0)


def report():
    assert run() == "no error"
    with open(sys.argv[2], "w") as file:
        file.write("\\n".join(met))


def interrupt():
    def end(*_):
        os.write(1, f"{wanted}: it waits for ever\\n".encode())
        os.system(f"pkill -KILL -P {os.getpid()}")
        os._exit(1)

    signal.signal(signal.SIGALRM, end)
    signal.alarm(20)
    before, outcome = descriptors(), run()
    children = open(f"/proc/self/task/{os.getpid()}/children").read().split()
    if outcome not in ("KeyboardInterrupt()", "no error") or children or descriptors() != before:
        os.write(1, f"{wanted}: {outcome}, {children}, {descriptors() - before} descriptors\\n".encode())


fork(report)
with open(sys.argv[2]) as file:
    names = [name for name in file.read().splitlines() if name.startswith(tuple(sys.argv[3].split(",")))]
for wanted in names:
    fork(interrupt)
print(len(names))
"""

BODIES = {
    "leave": "",
    "stop": "",
    "cancel": "",
    "enter": "",
    "supervise": "tasks,keeper,bell,hold,scope,contextlib",
    "pipeline": "outbox,services,scope,contextlib",
    "lines": "execution,scope,contextlib",
    "cluster": "crew,session,link,channels,scope,contextlib",
}
"""What is interrupted, and the files whose functions are, as some take long; empty for all of them."""


@pytest.mark.parametrize("body", BODIES)
def test_an_interrupt_at_the_call_of_any_function_leaves_nothing_and_nothing_waits_for_ever(body, tmp_path):
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, body, str(tmp_path / "names"), BODIES[body]],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    *failures, count = ended.stdout.splitlines()
    assert failures == []
    assert int(count) > 0


async def calls_by_a_core(note):
    class Manager:
        async def __aenter__(self):
            note("enter")

        async def __aexit__(self, *_):
            note("leave")

    async with Core(Service, lambda core: note("make") or Manager()):
        note("body")


async def calls_by_a_health_server(note):
    server = HealthServer("127.0.0.1:0")
    for kind in "before", "after":

        @getattr(server.app, f"{kind}_serving")
        async def hook(kind=kind):
            note(kind)

    @server.app.while_serving
    async def both():
        note("begin")
        yield
        note("end")

    async with server:
        note("body")


async def calls_by_a_supervisor(note):
    async def main():
        note("unit")
        await trio.sleep_forever()

    async with Supervisor([UnitSpec(name="a", main=main)]) as supervisor, supervisor.hold("a"):
        note("held")


async def calls_by_a_command(note):
    async def feed():
        note("feed")
        yield b"a\n"

    async with Command("cat").with_stdin(feed()).with_stdout(lambda line: note("handler")).lines() as lines:
        note("body")
        async for _ in lines:
            note("line")


async def calls_by_a_daemon(note):
    async def main():
        note("main")
        os.kill(os.getpid(), signal.SIGHUP)
        await reloaded.wait()

    reloaded = trio.Event()
    async with Daemon() as daemon:
        daemon.on_reload(lambda: note("reload") or reloaded.set())
        await daemon.run(main)


@pytest.mark.parametrize(
    ("calls", "places"),
    [
        (calls_by_a_core, "make enter body leave"),
        (calls_by_a_health_server, "before begin body after end"),
        (calls_by_a_supervisor, "unit held"),
        (calls_by_a_command, "body feed handler line"),
        (calls_by_a_daemon, "main reload"),
    ],
)
async def test_foreign_code_can_be_interrupted_everywhere(calls, places):
    """Where Ctrl-C waits for a checkpoint, it does not end a call that blocks."""
    noted = []
    await calls(lambda place: noted.append((place, trio.lowlevel.currently_ki_protected())))
    assert noted == [(place, False) for place in places.split()]
