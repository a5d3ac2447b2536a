"""Real processes: signals, groups, crashes, the shutdown of many, and the death of the supervisor itself."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time

import forked
import pytest
import trio
import trio.testing
from support import is_gone, sh, state_of, wait_gone, wait_until

from trio_process import Daemon, Probe, RestartPolicy, Service, Supervisor, UnitFailedError, UnitSpec, UnitState

QUICK = RestartPolicy.on_failure(max_restarts=100, backoff=0.05, jitter=0.0)
STUBBORN = "trap '' TERM; echo deaf; while :; do sleep 100; done"


def shell(name, script, **options):
    command, *args = sh(script)
    options.setdefault("restart", QUICK)
    return UnitSpec(name=name, command=command, args=args, **options)


async def test_a_killed_process_is_started_again_at_once_after_its_backoff():
    async with Supervisor(
        [shell("web", "echo listening; exec sleep 1000", ready=Probe.line("listening"))]
    ) as supervisor:
        await supervisor.wait_ready(timeout=30)
        web = supervisor["web"]
        for generation in range(2, 5):
            pid = web.process.pid
            os.kill(pid, signal.SIGKILL)
            await web.wait("backoff", timeout=30)
            await web.wait("ready", timeout=30)
            assert web.generation == generation
            assert web.process.pid != pid
            assert is_gone(pid)
    assert web.state is UnitState.STOPPED


async def test_a_restart_is_not_later_than_its_backoff_needs():
    async with Supervisor([shell("web", "exec sleep 1000")]) as supervisor:
        await supervisor.wait_ready(timeout=30)
        web = supervisor["web"]
        delays = []
        for _ in range(5):
            began = time.monotonic()
            os.kill(web.process.pid, signal.SIGKILL)
            await web.wait("starting", timeout=30)
            delays.append(time.monotonic() - began)
            await web.wait("ready", timeout=30)
        # each backoff is twice the last: 0.05, 0.1, 0.2, 0.4, 0.8; nothing looks once a second
        assert min(delay - 0.05 * 2**number for number, delay in enumerate(delays)) < 0.9


FLOOD = "echo listening; head -c 200000 /dev/zero | tr '\\0' '\\n'; exec sleep 1000"


@pytest.mark.parametrize("options", [{"disable_capture": True}, {"buffer_size": 0}, {"buffer_size": 1000}])
async def test_a_line_makes_ready_however_little_of_the_output_is_kept(options):
    specs = [
        UnitSpec(name=f"web{number}", command="sh", args=["-c", FLOOD], ready=Probe.line("listening"), **options)
        for number in range(3)
    ]
    async with Supervisor(specs) as supervisor:
        await supervisor.wait_ready(timeout=20)


async def test_the_grandchildren_of_a_unit_are_gone_before_it_starts_again(tmp_path):
    script = f"sleep 1000 & echo $! >>{tmp_path}/pids; echo listening; wait"
    async with Supervisor([shell("web", script, ready=Probe.line("listening"))]) as supervisor:
        await supervisor.wait_ready(timeout=30)
        os.kill(supervisor["web"].process.pid, signal.SIGKILL)
        await supervisor["web"].wait("backoff", timeout=30)
        first = int((tmp_path / "pids").read_text().split()[0])
        assert is_gone(first)
        await supervisor["web"].wait("ready", timeout=30)
    assert all(is_gone(int(pid)) for pid in (tmp_path / "pids").read_text().split())


async def test_a_hundred_stubborn_units_take_one_grace():
    units = [shell(f"unit-{number}", STUBBORN, ready=Probe.line("deaf"), grace_period=1.0) for number in range(100)]
    async with Supervisor(units) as supervisor:
        await supervisor.wait_ready(timeout=50)
        pids = [each.process.pid for each in supervisor.units]
        began = time.monotonic()
    took = time.monotonic() - began
    assert took >= 1.0
    assert took < 10  # not a hundred graces; beyond the grace it is the work of killing them
    assert all(is_gone(pid) for pid in pids)


async def test_units_that_are_cancelled_end_in_their_order(tmp_path):
    log = tmp_path / "log"
    script = f"trap 'sleep 0.2; echo $0 >>{log}; exit 0' TERM; echo up; while :; do sleep 0.02; done"
    units = [
        UnitSpec(name="db", command="sh", args=["-c", script, "db"], ready=Probe.line("up")),
        UnitSpec(name="web", command="sh", args=["-c", script, "web"], ready=Probe.line("up"), after=["db"]),
    ]
    with trio.CancelScope() as scope:
        async with Supervisor(units) as supervisor:
            await supervisor.wait_ready(timeout=30)
            scope.cancel()
            await trio.sleep_forever()
    assert log.read_text().split() == ["web", "db"]


PROGRAM = """
import sys, trio
from trio_process import Daemon, Probe, Supervisor, UnitSpec

async def main():
    units = [
        UnitSpec(name=f"unit-{number}", command="sh", args=["-c", "sleep 1000 & echo $$ $!; wait"], ready=Probe.line(" "))
        for number in range(20)
    ]
    async with Daemon() as daemon, Supervisor(units) as supervisor:
        print("entered", flush=True)
        await supervisor.wait_ready()
        for unit in supervisor.units:
            print(unit.process.output().strip(), flush=True)
        print("ready", flush=True)
        await daemon.run()
    print("left", flush=True)

trio.run(main)
"""


@contextlib.contextmanager
def program():
    command = [sys.executable, "-c", PROGRAM]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **forked.program(command))
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=60)


def told_until_ready(process):
    assert process.stdout.readline() == "entered\n"
    pids = []
    for line in iter(process.stdout.readline, "ready\n"):
        assert line, "the program ended early"
        pids += map(int, re.findall(r"\d+", line))
    assert len(pids) == 40
    return pids


async def test_sigkill_of_the_supervisor_leaves_nothing():
    with program() as process:
        pids = told_until_ready(process)
        process.kill()
        await wait_gone(*pids, timeout=30)


async def test_sigterm_stops_everything_in_order():
    with program() as process:
        pids = told_until_ready(process)
        process.terminate()
        output, _ = process.communicate(timeout=60)
        assert output == "left\n"
        assert process.returncode == 0
        assert all(is_gone(pid) for pid in pids)


@pytest.mark.parametrize("delay", [0.0, 0.02, 0.05])
async def test_sigterm_in_the_middle_of_the_start_leaves_nothing(delay):
    with program() as process:
        assert process.stdout.readline() == "entered\n"
        await trio.sleep(delay)
        process.terminate()
        output, _ = process.communicate(timeout=60)
        assert output.endswith("left\n")
        assert process.returncode == 0
    # what it left behind would be found by the fixture that looks for descendants


async def test_the_daemons_deadline_is_that_of_the_units():
    async with Daemon(shutdown_timeout=0.5) as daemon:
        async with Supervisor([shell("web", STUBBORN, ready=Probe.line("deaf"), grace_period=100)]) as supervisor:
            await supervisor.wait_ready(timeout=30)
            pid = supervisor["web"].process.pid
            daemon.stop()
            began = time.monotonic()
        assert time.monotonic() - began < 30
    assert is_gone(pid)


async def test_a_stop_asked_for_by_the_daemon_ends_a_stop_that_is_under_way():
    async with Daemon(shutdown_timeout=0.2) as daemon:
        units = [shell("web", STUBBORN, ready=Probe.line("deaf"), grace_period=100)]
        async with Supervisor(units) as supervisor, trio.open_nursery() as nursery:
            await supervisor.wait_ready(timeout=30)
            nursery.start_soon(supervisor.stop, "web")
            await supervisor["web"].wait("stopping", timeout=30)
            daemon.stop()
            await supervisor["web"].wait("stopped", timeout=30)


async def test_a_given_service_is_used_and_goes_on():
    async with Service() as service:
        async with Supervisor([shell("web", "exec sleep 1000")], service=service) as supervisor:
            assert supervisor.service is service
            await supervisor.wait_ready(timeout=30)
            assert supervisor["web"].process in service.running()
        assert service.running() == []
        assert (await service.run("echo", "still here")).output == "still here\n"


async def test_its_own_service_has_a_guardian():
    async with Supervisor([shell("web", "exec sleep 1000")]) as supervisor:
        await supervisor.wait_ready(timeout=30)
        assert supervisor.service.statistics().guardian_pid is not None


async def test_a_stopped_process_is_stopped_all_the_same():
    async with Supervisor([shell("web", "exec sleep 1000", grace_period=30)]) as supervisor:
        await supervisor.wait_ready(timeout=30)
        process = supervisor["web"].process
        process.suspend()
        await wait_until(lambda: state_of(process.pid) == "T")
        await supervisor.stop("web")
        assert is_gone(process.pid)


async def test_the_log_files_of_replicas_have_their_numbers(tmp_path):
    units = [
        shell("web", "echo $TRIO_PROCESS_REPLICA; exec sleep 1000", replicas=3, log_file=tmp_path / "web.log",
              ready=Probe.line("{replica}")),
    ]  # fmt: skip
    async with Supervisor(units) as supervisor:
        await supervisor.wait_ready(timeout=30)
    found = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert found == {"web.log": "1\n", "web.2.log": "2\n", "web.3.log": "3\n"}


async def test_a_stack_with_a_probe_over_http_and_a_migration(tmp_path):
    server = (
        "import http.server, sys; s = http.server.ThreadingHTTPServer(('127.0.0.1', 0), http.server.SimpleHTTPRequestHandler);"
        "open(sys.argv[1], 'w').write(str(s.server_address[1])); s.serve_forever()"
    )
    port_file = tmp_path / "port"

    async def answers():
        if not port_file.exists() or not port_file.read_text():
            return "no port yet"
        return await Probe.http(f"http://127.0.0.1:{port_file.read_text()}/", timeout=5)()

    units = [
        UnitSpec(name="web", command=sys.executable, args=["-c", server, str(port_file)], cwd=tmp_path,
                 ready=Probe.call(answers, period=0.1, timeout=10), restart=QUICK),
        shell("migrate", f"echo done >{tmp_path}/migrated", after=["web"], restart=RestartPolicy.never()),
        shell("job", f"cat {tmp_path}/migrated", after={"migrate": "completed"}, restart=RestartPolicy.never()),
    ]  # fmt: skip
    async with Supervisor(units) as supervisor:
        await supervisor["job"].wait("completed", timeout=50)
        port_file.unlink()
        os.kill(supervisor["web"].process.pid, signal.SIGKILL)
        await supervisor["web"].wait("backoff", timeout=30)
        await supervisor["web"].wait("ready", timeout=30)


async def test_a_program_that_is_not_there_ends_an_essential_units_block():
    with pytest.raises(UnitFailedError, match="no-such-program"):
        async with Supervisor([UnitSpec(name="web", command="no-such-program", essential=True)]):
            await trio.sleep_forever()


async def test_ten_thousand_changes_leave_no_task_behind():
    before = len(trio.lowlevel.current_task().parent_nursery.child_tasks)
    async with Supervisor([UnitSpec(name="a", main=trio.sleep_forever, live=Probe.call(lambda: True))]) as supervisor:
        await supervisor.wait_ready(timeout=30)
        tasks = trio.lowlevel.current_statistics().tasks_living
        for _ in range(50):
            await supervisor.restart("a")
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert trio.lowlevel.current_statistics().tasks_living <= tasks + 1
    assert len(trio.lowlevel.current_task().parent_nursery.child_tasks) == before
