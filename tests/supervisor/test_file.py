"""`load_services`: what each key of `[services]` becomes, and what each mistake is answered with."""

from pathlib import Path

import pytest
import trio

from trio_process import PipelineError, Secret, Supervisor, load_pipeline, load_services
from trio_process._core import shown_args
from trio_process._pipeline.file.service.keys import SERVICE_KEYS
from trio_process._supervisor import Probe, UnitCondition

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "pipeline-file.md"


@pytest.fixture
def write(tmp_path):
    def write(text, name="trio-process.toml"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(text)
        return path

    return write


@pytest.fixture
def service(write):
    return lambda lines: load_services(write(f"[services.s]\nrun = 'x a'\n{lines}"))[0]


@pytest.fixture
def faults(write):
    def faults(text, load=load_services):
        path = write(text)
        with pytest.raises(PipelineError) as caught:
            load(path)
        return [fault.removeprefix(f"{path}:") for fault in caught.value.faults]

    return faults


def test_the_example_of_the_contract(write, tmp_path):
    path = write(
        'strategy = "one-for-one"\n[services.db]\nrun = ["postgres", "-D", "data"]\n'
        'ready = { line = "ready to accept connections" }\nlive = { tcp = "127.0.0.1:5432", period = "5s" }\n'
        'restart = "on-failure"\nstop-signal = "INT"\n[services.web]\nrun = "python -m web"\nafter = { db = "ready" }\n'
        'replicas = 2\n[tasks.test]\nrun = "pytest"\nuses = ["db"]\n'
    )
    db, web = load_services(path)
    assert (db.name, db.command, db.args, db.cwd, db.stop_signal) == (
        "db",
        "postgres",
        ("-D", "data"),
        str(tmp_path),
        2,
    )
    assert db.ready == Probe.line("ready to accept connections")
    assert db.live == Probe.tcp("127.0.0.1:5432", period=5.0)
    assert db.restart.mode == "on_failure"
    assert (web.after, web.replicas) == ({"db": UnitCondition.READY}, 2)
    [test] = load_pipeline(path)
    assert test.uses == ("db",)


@pytest.mark.parametrize(
    ("lines", "field", "value"),
    [
        ("settle = '2s'", "settle", 2.0),
        ("start-timeout = 5", "start_timeout", 5.0),
        ("essential = true", "essential", True),
        ("enabled = false", "enabled", False),
        ("replicas = 0", "replicas", 0),
        ("nice = 3", "nice", 3),
        ("ok-exit-codes = [0, 3]", "ok_exit_codes", (0, 3)),
        ("ready = { http = 'http://127.0.0.1/', status = 204, timeout = 2 }", "ready", Probe.http("http://127.0.0.1/", status=[204], timeout=2.0)),
        ("ready = { unix = 'a.sock' }", "ready", lambda place: Probe.unix(f"{place}/a.sock")),
        ("live = { file = '${file.dir}/f', failures = 1 }", "live", lambda place: Probe.file(f"{place}/f", failures=1)),
        ("live = { command = 'pg_isready -q' }", "live", Probe.command("pg_isready", "-q")),
        ("ready = { tcp = ':${TP_NONE:-80}', initial-delay = '1s', successes = 2 }", "ready", Probe.tcp(":80", initial_delay=1.0, successes=2)),
    ],
)  # fmt: skip
def test_a_key_reaches_its_field(service, tmp_path, lines, field, value):
    assert getattr(service(lines), field) == (
        value(tmp_path) if callable(value) and not isinstance(value, Probe) else value
    )


@pytest.mark.parametrize(
    ("value", "mode", "limit"),
    [
        ("'never'", "never", 5),
        ("'always'", "always", 5),
        ("{ max-restarts = 9, within = '1m' }", "on_failure", 9),
        ("{ mode = 'always' }", "always", 5),
    ],
)
def test_a_restart_policy(service, value, mode, limit):
    policy = service(f"restart = {value}").restart
    assert (policy.mode.value, policy.max_restarts) == (mode, limit)


def test_of_the_defaults_only_what_is_meant_for_services_holds(write, tmp_path):
    [unit] = load_services(
        write(
            "secrets = ['TOKEN']\n[defaults]\ndir = 'd'\nenv = { TP_A = '1', TOKEN = 'hunter22' }\ngrace-period = 3\ntimeout = 9\n"
            "retries = 2\n[services.s]\nshell = 'serve'\n"
        )
    )
    assert (unit.cwd, unit.grace_period, unit.timeout) == (str(tmp_path / "d"), 3.0, None)
    assert (unit.env, unit.redact) == ({"TP_A": "1", "TOKEN": Secret("hunter22")}, True)
    assert unit.args == ("-e", "-c", "serve")


def test_a_file_without_any_has_none(write):
    assert load_services(write("[tasks.t]\nrun = 'x'")) == []
    assert load_pipeline(write("[services.s]\nrun = 'x'")) == []


def test_an_included_file_s_have_its_name_in_front(write):
    write(
        "[services.db]\nrun = 'x'\n[services.web]\nrun = 'x'\nafter = ['db']\n[tasks.t]\nrun = 'x'\nuses = ['db']",
        "a/b.toml",
    )
    path = write(
        "include = { a = 'a/b.toml' }\n[services.top]\nrun = 'x'\nafter = ['a:web']\n[tasks.t]\nrun='x'\nuses=['a:db']"
    )
    assert {unit.name: list(unit.after) for unit in load_services(path)} == {
        "a:db": [],
        "a:web": ["a:db"],
        "top": ["a:web"],
    }
    assert {spec.name: spec.uses for spec in load_pipeline(path)} == {"a:t": ("a:db",), "t": ("a:db",)}


def test_a_procfile_s_processes_are_never_restarted_and_essential(write):
    web, worker = load_services(write("web: serve\nworker: work", "Procfile"))
    assert (web.restart.mode.value, web.essential, web.env["PORT"], worker.env["PORT"]) == (
        "never",
        True,
        "5000",
        "5100",
    )
    assert shown_args(web.options) == ("-c", "serve")


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("after = ['dbb']", "no service is named \"dbb\"; did you mean 'db'?"),
        ("after = ['s']", "a service can't wait for itself"),
        ("after = { db = 'redy' }", "did you mean 'ready'?"),
        ("after = 3", "expected a list of services"),
        ("ready = { tcp = ':80', unix = 'x' }", "exactly one of"),
        ("ready = { period = 3 }", "exactly one of"),
        ("ready = 'tcp'", "expected a table such as"),
        ("ready = { tpc = ':80' }", "unknown key; did you mean 'tcp'?"),
        ("ready = { tcp = ':80', perod = 3 }", "unknown key; did you mean 'period'?"),
        ("ready = { tcp = ':80', status = 200 }", "`status` is for `http`"),
        ("ready = { tcp = 'nonsense' }", "ready.tcp: "),
        ("live = { line = 'x' }", "live"),
        ("live = { http = 'x', status = 9 }", "a status code"),
        ("restart = 'unless-stopped'", '"never", "on-failure", "always"'),
        ("restart = { max-restart = 3 }", "did you mean 'max-restarts'?"),
        ("restart = { jitter = 101 }", "a share from 0 to 100"),
        ("replicas = -1", "a whole number, 0 or more"),
        ("essential = 1", "true or false"),
        ("retries = 3", "that is for tasks"),
        ("image = 'x'", "processes, not containers"),
        ("readiness_probe = 3", "this is written `ready` here"),
        ("depends_on = ['db']", "this is written `after` here"),
        ("WorkingDirectory = 'x'", "this is written `dir` here"),
        ("exitcodes = [0]", "this is written `ok-exit-codes` here"),
        ("priority = 1", "is written `after` here"),
        ("disabled = true", "has `enabled = false`"),
        ("redirect_stderr = true", "takes both streams"),
        ("shutdown = { signal = 2 }", "`stop-signal` and `grace-period`"),
        ("ExecStartPre = 'x'", "a service of its own"),
        ("shell = 'x'", "both `run` and `shell`"),
        ("run-as = 'x'", "unknown key"),
    ],
)
def test_a_fault_has_its_line_and_a_hint(faults, lines, said):
    found = faults(f"[services.db]\nrun = 'x'\n[services.s]\nrun = 'x'\n{lines}")
    assert any(said in fault for fault in found), found
    assert all(int(fault.split(":")[0]) in (3, 5) for fault in found), found


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("services = 3\n[tasks.t]\nrun='x'", "expected tables such as `[services.db]`"),
        ("[services]\ns = 'x'", "expected a table"),
        ("[services.'a b']\nrun = 'x'", "letters, digits"),
        ("[services.'a.2']\nrun = 'x'", "dot and digits"),
        ("[services.a]\nrun='x'\nafter=['b']\n[services.b]\nrun='x'\nafter=['a']", "a → b → a"),
        ("[services.db]\nrun='x'\n[tasks.t]\nrun='x'\nuses=['dbb']", "no service is named \"dbb\"; did you mean 'db'?"),
        ("strategy = 'one'\n[services.db]\nrun='x'", '"one-for-one"'),
    ],
)
def test_what_is_wrong_with_all_of_them_is_a_fault(faults, text, said):
    assert any(said in fault for fault in faults(text))


@pytest.mark.parametrize("load", [load_services, load_pipeline])
def test_the_faults_of_tasks_and_services_are_reported_at_once(faults, load):
    text = "[tasks.t]\nrunn = 1\nafter = ['u']\n[services.s]\nrun = 'x'\nredy = 3\n"
    assert faults(text, load) == [
        (
            '1: tasks.t: has neither `run` nor `shell`; write what it runs, such as run = "pytest -q"; a task that only '
            'groups others has run = "true"'
        ),
        "2: tasks.t.runn: unknown key; did you mean 'run'?",
        '3: tasks.t.after[0]: no task is named "u"',
        "6: services.s.redy: unknown key; did you mean 'ready'?",
    ]


def test_the_faults_that_only_a_unit_finds_are_reported_with_the_others(faults, tmp_path):
    (tmp_path / "more.toml").write_text("[services.x]\nrun = 'x'\nredy = 3\nready = { tcp = 'nowhere' }")
    text = """include = { more = "more.toml" }
[services.a]
run = 'x'
redy = 3
[services.b]
run = 'x'
live = { line = 'x' }
[services.c]
run = 'x'
replicas = 2
ready = { tcp = '127.0.0.1:80' }
[services.d]
run = 'x'
ready = { http = 'ftp://x' }
"""
    found = faults(text)
    for number, said in (
        (4, "services.a.redy"), (7, "services.b.live: live can't be a line"), (8, "{replica}"), (14, "like 'http://"),
        (3, "services.x.redy"), (4, "services.x.ready"),
    ):  # fmt: skip
        assert any(said in fault and str(number) in fault for fault in found), (said, found)
    assert len(found) == 6


@pytest.mark.parametrize(
    ("lines", "line", "said"),
    [
        ("ready = { http = 'localhost:80' }", 3, "ready.http: url must be like"),
        ("ready = { tcp = ':0' }", 3, "ready.tcp: address ':0' is not a valid address"),
        ("live = { unix = '%s' }" % ("x" * 200), 3, "live.unix: path"),
        ("live = { line = 'x' }", 3, "live: live can't be a line"),
        ("env = { A = 'b' }\nready = { tcp = ':6553{replica}' }\nreplicas = 6", 4, "ready: ready: for the last replica"),
        ("nice = 1\nuser = 'nobody-here'", 4, "user: user: there is no user 'nobody-here'"),
        ("settle = '1m'", 3, "settle: settle can't make the unit ready before 1 min"),
        ("restart = { backoff = 'inf' }", 3, "restart.backoff"),
        ("[services.b]\nrun='x'\nafter = { s = 'completed' }\n[services.s]\nrestart = 'always'\nrun = 'x'", 5, "'s' never completes"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("load", [load_services, load_pipeline])
def test_what_only_a_unit_finds_is_reported_with_its_key_and_line(faults, load, lines, line, said):
    name = "a" if "services.b" in lines else "s"
    text = f"[services.{name}]\nrun = 'x'\n{lines}"
    [found] = faults(text, load)
    assert found.startswith(f"{line}: services.{'b' if name == 'a' else 's'}.")
    assert said in found
    # beside a fault of a task it is reported, too
    assert found in faults(f"{text}\n[tasks.t]\nrunn = 'x'", load)


@pytest.mark.parametrize(
    ("ready", "said"),
    [
        ("{ tcp = '${TP_NOT_SET}' }", "ready.tcp: ${TP_NOT_SET}: the environment has no TP_NOT_SET"),
        ("{ tcp = 'nowhere' }", "ready.tcp: address 'nowhere' is not a valid address"),
        ("{ command = 'cd x' }", "ready.command: no shell runs here"),
        ("{ tpc = ':80' }", "ready.tpc: unknown key"),
        ("3", "ready: expected a table"),
    ],
)
@pytest.mark.parametrize("load", [load_services, load_pipeline])
def test_a_faulty_probe_is_the_only_fault_of_its_service(faults, load, ready, said):
    found = faults(f"[services.s]\nrun = 'x'\nready = {ready}\nsettle = '2m'", load)
    assert any(said in fault for fault in found), found
    assert all(fault.startswith("3: services.s.ready") for fault in found), found


def test_the_page_names_every_key():
    page = PAGE.read_text()
    assert [key for key in SERVICE_KEYS if f"`{key}`" not in page] == []


async def test_a_supervisor_of_a_file_runs_it_by_its_strategy(write):
    path = write("strategy = 'rest-for-one'\n[services.a]\nshell = 'echo up; exec sleep 60'\nready = { line = 'up' }")
    with trio.fail_after(30):
        async with Supervisor.from_file(path) as supervisor:
            await supervisor.wait_ready()
            assert supervisor["a"].ready
    assert supervisor._strategy.value == "rest_for_one"
