"""Amounts, however absurd: each is refused with its limit, the same in Python, in a file, over HTTP and on the command line.

Most of these once ran for hours without a checkpoint, filled the memory, or raised an `OverflowError` somewhere inside.
"""

import json
import math
import re
import signal
import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from functools import partial
from pathlib import Path

import pytest
import trio
from invoke import invoke
from support import wait_until

from trio_process import (
    ControlServer,
    Core,
    Daemon,
    DaemonEntry,
    HealthServer,
    OptionError,
    PipelineError,
    Probe,
    ProcessNotFoundError,
    RestartPolicy,
    RingBuffer,
    Runner,
    RunOptions,
    RunSpec,
    Secret,
    Service,
    ServiceOptions,
    Supervisor,
    UnitSpec,
    UnitState,
    load_pipeline,
    load_services,
)
from trio_process._control.api import api_routes
from trio_process._control.api.openapi import document
from trio_process._core import checks
from trio_process._pipeline.file.schema import json_schema
from trio_process.cluster import ClusterService, command_agents, local_agents, slurm_agents, ssh_agents

HUGE = 10**400  # no float can hold it
ENDLESS = 10**5000  # Python refuses to write it
LARGEST = 2**63 - 1
DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(autouse=True)
def _bounded():
    """Fail a test that hangs, also one without a checkpoint."""

    def expired(*_):
        raise TimeoutError("this test hangs")

    before = signal.signal(signal.SIGALRM, expired)
    signal.alarm(90)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


run = partial(RunOptions, command="x")
spec = partial(RunSpec, name="x", command="x")
unit = partial(UnitSpec, name="x", main=trio.sleep_forever)
policy = RestartPolicy.on_failure

OF_WHAT_IS_MADE = [
    (lambda n: unit(replicas=n), "replicas must be 0 to 10000, got {}"),
    (local_agents, "count must be 1 to 10000, got {}"),
    (slurm_agents, "count must be 1 to 10000, got {}"),
    (lambda n: local_agents(slots=n), "slots must be 1 to 2147483647, got {}"),
]
OF_NUMBERS = [
    (lambda n: run(buffer_size=n), "buffer_size must be at most {largest}, got {}; use math.inf for no limit"),
    (lambda n: run(max_line=n), "max_line must be at most {largest}, got {}"),
    (lambda n: run(log_max_bytes=n), "log_max_bytes must be at most {largest}, got {}"),
    (lambda n: run(log_keep=n), "log_keep must be at most {largest}, got {}"),
    (lambda n: run(max_output=n), "max_output must be at most {largest}, got {}"),
    (lambda n: run(resources={"cpus": n}), "resources['cpus'] must be at most {largest}, got {}"),
    (lambda n: run(limits={"nofile": n}), "limits['nofile'] must be at most {largest}, got {}; use math.inf"),
    (lambda n: run(nice=n), "nice must be -20 to 19, got {}"),
    (lambda n: run(umask=n), "umask must be 0 to 0o777, got {}"),
    (lambda n: run(ok_exit_codes=range(n, n + 10**9)), "ok_exit_codes must be 0 to 255, got {}"),
    (lambda n: spec(retries=n), "retries must be at most {largest}, got {}"),
    (lambda n: spec(weight=n), "weight must be at most {largest}, got {}"),
    (lambda n: policy(max_restarts=n), "max_restarts must be at most {largest}, got {}; use math.inf for no limit"),
    (lambda n: policy(jitter=n), "jitter must be a share of the delay, 0 to 100, got {}"),
    (lambda n: policy(backoff=n), "backoff must be at most 1000000000 seconds, got {}"),
    (lambda n: policy(backoff_max=n), "backoff_max must be at most 1000000000 seconds, got {}"),
    (lambda n: Probe.file("x", failures=n), "failures must be at most {largest}, got {}"),
    (lambda n: Probe.file("x", successes=n), "successes must be at most {largest}, got {}"),
    (lambda n: ServiceOptions(retain=n), "retain must be at most {largest}, got {}"),
    (lambda n: HealthServer(":0", max_connections=n), "max_connections must be at most {largest}, got {}"),
    (RingBuffer, "size must be at most {largest}, got {}"),
    (lambda n: Runner(Service(), max_parallel=n), "max_parallel must be at most {largest}, got {}"),
    (lambda n: run(stop_signal=n), "stop_signal must be a signal, such as signal.SIGTERM, 15 or 'SIGTERM'; got {}"),
    (lambda n: run(user=n), "user: there is no user {} on this machine"),
    (lambda n: Probe.http("http://localhost:1", status=n), "status must be 100 to 599, got {}"),
    (lambda n: DaemonEntry(code="a", daemon="b", pid=n), "pid must be 1 to 2147483647, got {}"),
]


@pytest.mark.parametrize("number", [10**9 + 10**11, HUGE, ENDLESS], ids=["many", "huge", "endless"])
@pytest.mark.parametrize(("make", "text"), OF_WHAT_IS_MADE)
def test_what_is_made_in_one_go_has_a_limit_that_its_error_names(make, text, number):
    with pytest.raises(OptionError, match=f"^{re.escape(text.format(checks.brief(number)))}"):
        make(number)


@pytest.mark.parametrize("number", [2**63, HUGE, ENDLESS], ids=["just too much", "huge", "endless"])
@pytest.mark.parametrize(("make", "text"), OF_NUMBERS)
def test_numbers_of_more_than_64_bits_are_refused_with_the_limit(make, text, number):
    said = text.format(checks.brief(number), largest=LARGEST)
    with pytest.raises(OptionError, match=f"^{re.escape(said)}"):
        make(number)


class _Nameless:
    def __repr__(self):
        raise RuntimeError("it has no repr")


@pytest.mark.parametrize(
    "value",
    [
        *("3", 1.5, math.nan, -math.inf, b"3", True),
        *(Decimal(3), Decimal("sNaN"), Fraction(ENDLESS, 7), _Nameless()),
        *([ENDLESS], {"a": ENDLESS}, "x" * 10**6, list(range(10**6))),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_value_that_is_no_number_is_refused_in_a_short_error_whatever_it_is(value):
    makers = [
        (RingBuffer, "size"),
        (lambda v: run(max_line=v), "max_line"),
        (lambda v: run(limits={"nofile": v}), "limits"),
        (lambda v: run(resources={"cpus": v}), "resources"),
        (lambda v: spec(retries=v), "retries"),
        (lambda v: unit(replicas=v), "replicas"),
        (lambda v: policy(max_restarts=v), "max_restarts"),
        (lambda v: ServiceOptions(retain=v), "retain"),
        (local_agents, "count"),
        (HealthServer, "addr"),
    ]
    if not isinstance(value, float):
        makers += [
            (lambda v: run(grace_period=v), "grace_period"),
            (lambda v: policy(backoff=v), "backoff"),
            (lambda v: policy(jitter=v), "jitter"),
        ]
    if not isinstance(value, (str, bytes)):
        makers += [
            (lambda v: slurm_agents(1, v), "srun_options"),
            (ssh_agents, "hosts"),
            (lambda v: ControlServer(":0", hosts=[v]), "hosts"),
        ]
    for make, option in makers:
        with pytest.raises(OptionError, match=rf"^{option}") as caught:
            make(value)
        assert caught.value.option == option
        assert len(str(caught.value)) < 1000


def test_a_user_whose_name_is_longer_than_any_is_not_looked_up():
    """A module of nsswitch.conf(5) aborts the program that asks for a name of megabytes."""
    with pytest.raises(OptionError, match="there is no user 'xxxx"):
        run(user="x" * 10**7)


def test_a_command_that_starts_agents_is_made_of_texts():
    with pytest.raises(OptionError, match="argvs can't contain a Secret") as caught:
        command_agents(["ssh", Secret("hunter2")])
    assert "hunter2" not in str(caught.value)
    [(_, _, argv)] = ssh_agents("h", options=[b"-p", Path("22")]).commands
    assert argv[:3] == ("ssh", "-p", "22")


@pytest.mark.parametrize("number", [-1, -HUGE, -ENDLESS], ids=["negative", "huge", "endless"])
def test_a_number_that_is_too_small_is_refused_however_long_it_is(number):
    for make in (lambda: run(timeout=number), lambda: spec(retries=number), lambda: unit(replicas=number)):
        with pytest.raises(OptionError, match="must be 0 "):
            make()


@pytest.mark.parametrize("seconds", [1e308, math.inf, 10**300])
async def test_a_duration_may_be_longer_than_any_clock_runs(seconds, tmp_path):
    async with Service(options=ServiceOptions(grace_period=seconds, drain_limit=seconds)) as service:
        options = {"timeout": seconds, "idle_timeout": seconds, "grace_period": seconds}
        assert (await service.run("true", **options)).ok
        report = await Runner(service).run_all([spec(command="true", **options)], timeout=seconds)
        assert report.success
        probe = Probe.file(tmp_path, timeout=seconds, period=seconds)
        specs = [UnitSpec(name="x", command="sleep", args=["1000"], ready=probe, start_timeout=seconds)]
        async with Supervisor(specs, service=service, shutdown_timeout=seconds) as supervisor:
            await supervisor.wait_ready(timeout=seconds)
            await supervisor["x"].process.stop(5)
    async with Daemon(shutdown_timeout=seconds, drain=seconds, signals=False) as daemon:
        daemon.stop()
        await daemon.run()


async def test_the_longest_delay_before_a_restart_has_a_time():
    always = policy(backoff=10**9, backoff_max=10**9, jitter=100)
    specs = [UnitSpec(name="x", command="false", restart=always)]
    async with Supervisor(specs) as supervisor:
        await supervisor["x"].wait(UnitState.BACKOFF, timeout=60)
        await wait_until(lambda: supervisor["x"].next_start is not None)
        assert supervisor["x"].info().to_dict()["nextStart"] > "2050"


async def test_a_thousand_replicas_come_up_and_can_be_looked_up():
    async with Supervisor([unit(replicas=1000), unit(name="y", after=["x"])]) as supervisor:
        await supervisor.wait_ready(timeout=60)
        for number in range(2, 1001):
            assert supervisor[f"x.{number}"].replica == number
        await supervisor.scale("x", 1)
        assert [each.name for each in supervisor.units] == ["x", "y"]
        for name in ("x.10001", "x." + "9" * 5000, "x.0", "x.1"):
            with pytest.raises(ProcessNotFoundError):
                supervisor[name]


@pytest.mark.parametrize("pid", [HUGE, ENDLESS], ids=["huge", "endless"])
async def test_a_pid_that_no_process_can_have_is_that_of_no_process(pid):
    async with Core(Service) as core:
        with pytest.raises(ProcessNotFoundError, match="is not a running process of this service"):
            await core.process.kill(pid=pid)
        with pytest.raises(OptionError, match="pid must be a process id"):
            core.service(Service).adopt(pid, datetime.now(UTC))
        process = await core.service(Service).start("sleep", "1000")
        with pytest.raises(OptionError, match="must be a signal"):
            process.signal(pid)


async def test_neither_scaling_nor_a_reload_makes_more_replicas_than_a_spec_may_have():
    async with Supervisor([unit()]) as supervisor:
        for number in (checks.MOST + 1, 10**9, ENDLESS):
            with pytest.raises(OptionError, match="replicas must be 0 to 10000"):
                await supervisor.scale("x", number)
        assert len(supervisor.units) == 1


# files


@pytest.fixture
def faults(tmp_path):
    """Return the faults of a service or a task with one more line."""

    def faults(line, table="tasks", load=load_pipeline):
        path = tmp_path / "trio-process.toml"
        path.write_text(f"[{table}.x]\nrun = 'true'\n{line}\n")
        with pytest.raises(PipelineError) as caught:
            load(path)
        return [fault.removeprefix(f"{path}:3: {table}.x.") for fault in caught.value.faults]

    return faults


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("timeout = 99999999999", "timeout: expected at most 1000000000 seconds, got 99999999999"),
        ("timeout = inf", "timeout: expected at most 1000000000 seconds, got Infinity"),
        ("timeout = '99999999d'", 'timeout: expected at most 1000000000 seconds, got "99999999d"'),
        (f"timeout = '{'9' * 308}s{'9' * 308}s'", "timeout: expected at most 1000000000 seconds, got "),
        (f"timeout = '{'9' * 5000}d'", "timeout: expected at most 1000000000 seconds, got "),
        ("idle-timeout = 1e308", "idle-timeout: expected at most 1000000000 seconds, got 1e+308"),
        (f"retries = {2**63}", f"retries: expected at most {LARGEST}, got {2**63}"),
        (f"weight = {HUGE}", f"weight: expected at most {LARGEST}, got 1000"),
        (f"resources = {{ cpus = {2**63} }}", f"resources.cpus: expected at most {LARGEST}, got {2**63}"),
        ("resources = { memory = '99999999T' }", f"resources.memory: expected at most {LARGEST}, got "),
        (f"resources = {{ memory = '{'9' * 5000}T' }}", f"resources.memory: expected at most {LARGEST}, got "),
        (f"limits = {{ nofile = {2**63} }}", f'limits.nofile: expected at most {LARGEST}, or "unlimited", got {2**63}'),
        (f"matrix = {{ a = [{2**63}] }}", f"matrix.a[0]: expected a whole number from -{LARGEST} to {LARGEST}, got "),
        (f"user = {2**32 - 1}", "user: expected the name or the number of a user, got 4294967295"),
    ],
)
def test_a_number_of_a_task_that_is_too_large_is_refused_with_the_limit(faults, line, said):
    [found] = faults(line)
    assert found.startswith(said)


@pytest.mark.parametrize(
    "line", [f"retries = {'9' * 5000}", f"timeout = -{'9' * 5000}", f"matrix = {{ a = [{'9' * 5000}] }}"]
)
def test_a_number_that_python_does_not_convert_has_a_line_and_a_limit(tmp_path, line):
    path = tmp_path / "trio-process.toml"
    path.write_text(f"[tasks.x]\n# {'9' * 10}\nrun = 'true'\n{line}\n")
    with pytest.raises(PipelineError) as caught:
        load_pipeline(path)
    assert caught.value.faults == (f"{path}:4: a number with thousands of digits; the largest is {LARGEST}",)


def test_a_negative_zero_is_shown_as_zero():
    assert str(run(timeout=-0.0).timeout) == "0.0"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("replicas = 10001", "replicas: expected at most 10000, got 10001"),
        ("replicas = 99999999999", "replicas: expected at most 10000, got 99999999999"),
        (f"replicas = {HUGE}", "replicas: expected at most 10000, got 1000"),
        ("start-timeout = 1e10", "start-timeout: expected at most 1000000000 seconds, got 10000000000.0"),
        (f"restart = {{ max-restarts = {2**63} }}", f"restart.max-restarts: expected at most {LARGEST}, got {2**63}"),
        ("restart = { backoff = '99999999d' }", "restart.backoff: expected at most 1000000000 seconds, got "),
        ("restart = { jitter = 101 }", "restart.jitter: expected a share from 0 to 100, got 101"),
        (f"ready = {{ file = 'x', failures = {HUGE} }}", f"ready.failures: expected at most {LARGEST}, got 1000"),
        (
            "ready = { tcp = ':65536' }",
            "ready.tcp: address ':65536' is not a valid address: the port must be 0 to 65535",
        ),
    ],
)
def test_a_number_of_a_service_that_is_too_large_is_refused_with_the_limit(faults, line, said):
    [found] = faults(line, "services", load_services)
    assert found.startswith(said)


def test_the_largest_values_of_a_file_are_those_of_python(tmp_path):
    path = tmp_path / "trio-process.toml"
    path.write_text(
        f"[tasks.x]\nrun = 'true'\nretries = {LARGEST}\ntimeout = '1000000000s'\nresources = {{ memory = {LARGEST} }}\n"
        f"[services.y]\nrun = 'true'\nreplicas = 10000\nrestart = {{ max-restarts = {LARGEST}, jitter = 100 }}\n"
    )
    [task] = load_pipeline(path)
    [service] = load_services(path)
    assert (task.retries, task.timeout, task.resources["memory"]) == (LARGEST, 1e9, LARGEST)
    assert (service.replicas, service.restart.max_restarts, service.restart.jitter) == (10000, LARGEST, 100)


def test_a_limit_is_the_same_in_python_in_files_over_http_and_in_the_documentation():
    of_file = json_schema()["definitions"]
    of_http = document(api_routes())
    replicas = of_file["service"]["properties"]["replicas"]
    body = of_http["paths"]["/api/process/services/{name}/replicas"]["put"]["requestBody"]
    assert replicas["maximum"] == checks.MOST
    assert body["content"]["application/json"]["schema"]["properties"]["replicas"]["maximum"] == checks.MOST
    assert of_file["task"]["properties"]["retries"]["maximum"] == checks.LARGEST
    assert f'"maximum": {checks.LARGEST}' in json.dumps(of_http)
    for page, text in (
        ("pipeline-file.md", f"at most {checks.MOST:,} |"),
        ("pipeline-file.md", f"longest is {checks.LONGEST:,} seconds"),
        ("pipeline-file.md", f"{checks.LARGEST} (2⁶³"),
        ("control.md", f"at most {checks.MOST:,} replicas"),
    ):
        assert text in (DOCS / "reference" / page).read_text()


# the command line


@pytest.fixture
def project(tmp_path):
    (tmp_path / "trio-process.toml").write_text("[tasks.x]\nrun = 'true'\n[services.y]\nrun = 'sleep 1000'\n")
    return tmp_path


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "--executor", "local:10001"], "the number of agents must be 1 to 10000, got 10001"),
        (["run", "--executor", "local:99999999999"], "the number of agents must be 1 to 10000, got 99999999999"),
        (["run", "--executor", f"slurm:{HUGE}"], "the number of agents must be 1 to 10000, got 1000"),
        (["run", "--executor", f"slurm:{'9' * 5000}"], "1 to 10000, got a number with thousands of digits"),
        (["run", "--executor", "local:0"], "the number of agents must be 1 to 10000, got 0"),
        (["run", "--jobs", str(HUGE)], f"'--jobs': it must be at most {LARGEST}, got 1000"),
        (
            ["run", "--jobs", "9" * 5000],
            f"'--jobs': it must be at most {LARGEST}, got a number with thousands of digits",
        ),
        (["run", "-j", "0"], "'-j' / '--jobs': it must be 1 or more, got 0"),
        (["run", "-j", "-1"], "'-j' / '--jobs': it must be a whole number, got '-1'"),
        (["run", "-j", "1_0"], "'-j' / '--jobs': it must be a whole number, got '1_0'"),
        (["run", "-j", "\u0663"], "'-j' / '--jobs': it must be a whole number, got '\u0663'"),
        (["logs", "-n", "9" * 5000], "'-n' / '--lines': it must be at most"),
        (["daemon", "logs", "-n", "1.5", "a", "b"], "'-n' / '--lines': it must be a whole number, got '1.5'"),
        (["scale", "y=10001"], "the number of replicas of 'y' must be 0 to 10000, got 10001"),
        (["scale", f"y={HUGE}"], "the number of replicas of 'y' must be 0 to 10000, got 1000"),
        (["scale", f"y={'9' * 5000}"], "must be 0 to 10000, got a number with thousands of digits"),
        (["logs", "--since", "0001-01-01"], "--since takes a duration (90s, 10m, 2h) or a time"),
        (["daemon", "start", "a", "b", "--tcp", ":65536", "--", "true"], "the port from 1 to 65535, got ':65536'"),
        (["daemon", "start", "a", "b", "--health-url", "http://h:65536/", "--", "true"], "the port from 1 to 65535"),
    ],
)
def test_the_command_line_refuses_what_is_too_much_with_the_limit(project, words, said):
    ended = invoke(*words, cwd=project, env={"XDG_STATE_HOME": str(project)})
    assert ended.returncode == 2
    assert said in ended.stderr


def test_the_variable_of_the_executor_has_the_same_limit_as_the_option(project):
    ended = invoke("run", cwd=project, env={"TRIO_PROCESS_EXECUTOR": "local:1000000"})
    assert ended.returncode == 2
    assert "the number of agents must be 1 to 10000, got 1000000" in ended.stderr


@pytest.mark.parametrize("slots", ["0", str(2**31), "9" * 5000, "two"])
def test_an_agent_refuses_slots_that_no_client_would_accept(slots):
    argv = [sys.executable, "-m", "trio_process.agent", "--slots", slots]
    ended = subprocess.run(argv, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2
    assert "--slots must be " in ended.stderr


@pytest.mark.parametrize("option", ["heartbeat", "grace_period", "drain_grace", "drain_limit"])
async def test_a_cluster_takes_a_duration_without_a_limit(option):
    unlimited = {option: math.inf}
    options = unlimited if option == "heartbeat" else {"options": ServiceOptions(**unlimited)}
    async with ClusterService(local_agents(1), **options) as cluster:
        assert (await cluster.run("echo", "x", timeout=60)).output == "x\n"


@pytest.mark.parametrize("grace", [math.inf, 1e308, 10**300])
async def test_a_process_on_a_cluster_may_be_given_any_time_to_stop(grace):
    async with ClusterService(local_agents(1)) as cluster:
        process = await cluster.start("sleep", "1000", grace_period=grace)
        assert (await process.stop(grace)).ok
        assert (await cluster.run("echo", "x", timeout=60)).output == "x\n"
