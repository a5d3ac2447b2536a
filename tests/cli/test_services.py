"""`up`, `down`, `ps`, `logs` and the other commands of services, as a user runs them."""

import json
import os
import re
import select
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from urllib.request import Request, urlopen

import forked
import pytest
import trio
from forked import Forked, fork_residents
from invoke import invoke, reap_background
from support import free_port, state_of, wait_gone, wait_until
from typist import PROGRAM, at_a_terminal

from trio_process import OptionError, ProcessError, UnitState
from trio_process._cli.instance import Instance
from trio_process._cli.services import pages
from trio_process._cli.services.down import take_down
from trio_process._cli.services.live import choose
from trio_process._cli.services.up import bring_up

LIMIT = 60

FILE = """
[services.db]
run = ["sh", "-c", "echo db is up; exec sleep 1000"]
ready = { line = "db is up" }

[services.web]
run = ["sh", "-c", "echo web $TRIO_PROCESS_REPLICA; while read x; do echo got $x; done; exec sleep 1000"]
after = { db = "ready" }
replicas = 2

[services.mail]
run = "sleep 1000"
enabled = false
"""


class Site:
    """A directory with a file, and the command line in it."""

    def __init__(self, directory, state):
        self.directory = directory
        self.environment = {**os.environ, "XDG_STATE_HOME": str(state), "HOME": str(state), "NO_COLOR": "1"}
        self.state = state / "trio-process"

    def write(self, text):
        (self.directory / "trio-process.toml").write_text(text)

    def run(self, *args):
        """Run a command in this process, as starting another takes longer."""
        return invoke(*args, cwd=self.directory, env=self.environment)

    def run_apart(self, *args):
        """Run a command in a process of its own, to its end."""
        return forked.run(args, cwd=self.directory, env=self.environment, timeout=LIMIT)

    def program(self, *args):
        """Run the program, as its user starts it."""
        return subprocess.run(
            [sys.executable, "-m", "trio_process", *args],
            cwd=self.directory,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )

    def start(self, *args, **streams):
        """Start a command in a process of its own."""
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, **streams}
        return Forked(args, cwd=self.directory, env=self.environment, text=True, **streams)

    def rows(self):
        """Return what `ps` shows, without starting a program for it each time."""
        [address] = self.state.glob("*.sock")
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(address))
            client.sendall(b"GET /api/process/services HTTP/1.0\r\nHost: localhost\r\n\r\n")
            with client.makefile("rb") as reader:
                body = reader.read().partition(b"\r\n\r\n")[2]
        return {row["name"]: row for row in json.loads(body)["data"]}

    def listed(self):
        """Return what `ps` prints."""
        return {row["name"]: row for row in json.loads(self.run("ps", "--json").stdout)}

    def states(self):
        return {name: row["state"] for name, row in self.rows().items()}


@pytest.fixture
def site(monkeypatch):
    fork_residents(monkeypatch)
    # the path of a unix socket has at most 107 bytes
    with tempfile.TemporaryDirectory(prefix="tp") as name:
        directory, state = Path(name, "p"), Path(name, "s")
        directory.mkdir()
        state.mkdir()
        site = Site(directory, state)
        site.write(FILE)
        yield site
        if list(site.state.glob("*.pid")):  # `down` takes a third of a second even where nothing runs
            site.run("down", "--timeout", "30")
        reap_background()
        logs = "".join(log.read_text() for log in site.state.glob("up-*.log"))  # of the instances in the background
        assert not re.search(r"Traceback|led to \w+Error", logs), logs


@contextmanager
def foreground(site, *args):
    process = site.start("up", *args)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.communicate(timeout=LIMIT)


def seen(process, text):
    """Read lines until one has the text; return all of them."""
    lines = []
    for line in process.stdout:
        lines.append(line)
        if text in line:
            return lines
    raise AssertionError(f"{text!r} never came: {''.join(lines)}")


def test_without_an_instance_each_command_says_so_and_down_is_fine(site):
    for command in (
        ("ps",),
        ("logs",),
        ("start", "db"),
        ("stop", "db"),
        ("restart", "db"),
        ("scale", "db=2"),
        ("reload",),
        ("attach",),
    ):
        done = site.run(*command)
        assert done.returncode == 3, command
        assert done.stderr.endswith("are not running; start them with: trio-process up\n")
    other = site.directory / "other file.toml"
    other.write_text(FILE)
    assert site.run("ps", "-f", other.name).stderr.endswith(f"start them with: trio-process up --file '{other}'\n")
    done = site.run("down")
    assert (done.returncode, "are not running" in done.stdout) == (0, True)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_in_the_foreground_it_shows_the_services_and_a_signal_stops_them_in_order(site, number, status):
    with foreground(site) as process:
        lines = seen(process, "web.2 = ready")
        process.send_signal(number)
        rest = process.stdout.read()
        assert process.wait(LIMIT) == status
    text = "".join(lines)
    assert all(re.match("[a-z.2 ]{5} [=|] ", line) for line in lines), lines  # aligned with the longest name
    assert "db    | db is up" in text
    assert "web.2 | web 2" in text + rest
    assert rest.index("web   = stopped") < rest.index("db    = stopping")
    assert not list(site.state.glob("*.sock"))


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_on_the_way_in_ends_it_with_the_same_status(site, number, status):
    script = f"""
import os
from trio_process import PIDFile
from trio_process.__main__ import main

acquire = PIDFile.acquire

def interrupted(pid_file):
    acquire(pid_file)
    os.kill(os.getpid(), {number:d})

PIDFile.acquire = interrupted
main()
"""
    words = [sys.executable, "-c", script, "up"]
    done = subprocess.run(
        words, cwd=site.directory, env=site.environment, capture_output=True, text=True, timeout=LIMIT, check=False
    )
    assert (done.returncode, done.stderr) == (status, "")
    assert not list(site.state.glob("*.pid"))


@pytest.mark.parametrize("looks", [1, 2])
async def test_down_succeeds_if_the_instance_ends_at_that_moment(looks, capsys):
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        seen = []

        def pid():
            seen.append(process.pid)
            if len(seen) == looks:
                process.communicate(timeout=10)  # it ends, and is reaped
            return process.pid

        with trio.fail_after(10):
            assert await take_down(SimpleNamespace(pid=pid, file="f"), None) == 0
    assert len(seen) == looks
    assert capsys.readouterr().err == ""


def test_a_suspended_instance_is_reported_and_can_be_taken_down(site, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", site.environment["XDG_STATE_HOME"])
    assert site.run("up", "-d").returncode == 0
    instance = Instance(site.directory / "trio-process.toml")
    pid = instance.pid()
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(ProcessError, match=rf"\(PID {pid}\) does not respond; .*kill -CONT {pid}$"):
        trio.run(instance.reach, 0.2)
    done = site.run("down")
    assert (done.returncode, done.stdout[:7]) == (0, "stopped"), done.stderr


def at_terminal(site, *args):
    return at_a_terminal(*PROGRAM, *args, directory=site.directory, environment=site.environment)


def test_a_terminal_that_is_closed_ends_the_services_and_gives_129(site):
    with at_terminal(site, "up") as typist:
        typist.wait_for("web.2")
        pids = [row["pid"] for row in site.rows().values() if row["pid"]]
        os.close(typist.master)
        typist.master = -1
        assert os.waitstatus_to_exitcode(os.waitpid(typist.pid, 0)[1]) == 129
        typist.pid = 0
    trio.run(wait_gone, *pids)


def test_at_a_terminal_a_table_of_the_services_stands_below_their_lines(site):
    site.environment = {**site.environment, "TERM": "xterm", "NO_COLOR": "", "CI": ""}
    with at_terminal(site, "up") as typist:
        typist.wait_for("SERVICE +STATE")
        typist.wait_for("db is up")
        typist.wait_for("● +web.2 +ready")
        typist.type("\x1a")  # Ctrl-Z gives the terminal back, fg takes it again
        typist.wait_for(re.escape("\x1b[?25h"))
        trio.run(wait_until, lambda: state_of(typist.pid) == "T", LIMIT)
        os.kill(typist.pid, signal.SIGCONT)
        typist.wait_for(re.escape("\x1b[?25l"))
        typist.type("\x03")
        typist.wait_for("○ +db +stopped")
        assert typist.end() == 130


def test_of_many_services_those_that_need_attention_are_shown():
    units = tuple([SimpleNamespace(name=f"u{n}", state=UnitState.READY) for n in range(20)])
    assert choose(units[:5], 5) == (list(units[:5]), "")
    units[12].state = UnitState.BACKOFF
    units[17].state = UnitState.FAILED
    shown, rest = choose(units, 5)
    assert [unit.name for unit in shown] == ["u0", "u1", "u12", "u17"]
    assert rest == "… 16 more: 16 ready"


def test_nohup_keeps_the_services_of_a_closed_terminal(site):
    command = ["nohup", sys.executable, "-m", "trio_process", "up"]
    with open(site.directory / "out", "w") as out:
        process = subprocess.Popen(command, cwd=site.directory, env=site.environment, stdout=out, stderr=out)
    try:
        trio.run(wait_until, lambda: "web.2 = ready" in (site.directory / "out").read_text(), LIMIT)
        process.send_signal(signal.SIGHUP)
        assert site.states()["db"] == "ready"
        process.send_signal(signal.SIGTERM)
        assert process.wait(LIMIT) == 143
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def manager(site):
    """Return a socket that stands for the one of systemd."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.settimeout(LIMIT)
        sock.bind(str(site.directory / "notify"))
        site.environment["NOTIFY_SOCKET"] = str(site.directory / "notify")
        yield sock


def test_systemd_is_told_when_the_services_are_ready_and_when_they_are_stopped(site, manager):
    site.write("""
[services.db]
run = ["sh", "-c", "until test -e go; do sleep 0.05; done; echo db is up; exec sleep 1000"]
ready = { line = "db is up" }
""")
    with foreground(site) as process:
        seen(process, "db = starting")
        assert select.select([manager], [], [], 0)[0] == []
        (site.directory / "go").touch()
        assert manager.recv(4096) == b"READY=1"
        process.send_signal(signal.SIGTERM)
        assert manager.recv(4096) == b"STOPPING=1"


def test_systemd_is_told_although_a_service_fails_because_the_others_run_on(site, manager):
    site.write('[services.bad]\nrun = "false"\nrestart = "never"\n[services.good]\nrun = "sleep 1000"\n')
    with foreground(site):
        assert manager.recv(4096) == b"READY=1"
        assert site.states() == {"bad": "failed", "good": "ready"}


def test_the_unit_of_systemd_starts_reloads_and_stops_the_services(site, manager):
    unit = Path(__file__).parents[2].joinpath("docs", "examples", "up.service").read_text()
    service = dict(re.findall(r"^(\w+)=(.*)$", unit, re.MULTILINE))
    assert service["Type"] == "notify"
    start, reload = (service[key].split()[1:] for key in ("ExecStart", "ExecReload"))
    site.write('[services.web]\nrun = "sleep 1000"\n')
    process = site.start(*start)
    try:
        assert manager.recv(4096) == b"READY=1"
        site.write('[services.mail]\nrun = "sleep 1000"\n')
        assert site.run(*reload).returncode == 0
        assert list(site.states()) == ["mail"]
        process.send_signal(signal.SIGTERM)
        assert manager.recv(4096) == b"STOPPING=1"
    finally:
        process.terminate()
        process.communicate(timeout=LIMIT)
    assert str(process.returncode) in service["SuccessExitStatus"].split()
    site.write("[services.web\n")
    assert str(site.run(*start).returncode) == service["RestartPreventExitStatus"]


@pytest.mark.parametrize("closed", [1, 2])
def test_a_closed_descriptor_is_no_reason_not_to_run(site, closed):
    command = [*PROGRAM, "up"]
    options = forked.program(command, site.environment, closed=[closed])
    process = subprocess.Popen(
        command, cwd=site.directory, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options
    )
    try:
        trio.run(wait_until, lambda: list(site.state.glob("*.sock")), LIMIT)
        assert site.run("start", "web").returncode == 0
        process.send_signal(signal.SIGTERM)
        assert process.wait(LIMIT) == 143
    finally:
        process.kill()
        process.wait()


def test_in_the_background_until_down(site):
    done = site.program("up", "-d", "--wait", "--timeout", "40")
    assert (done.returncode, done.stderr) == (0, "")
    rows = {row["name"]: row for row in json.loads(site.run_apart("ps", "--json").stdout)}
    assert {name: row["state"] for name, row in rows.items()} == {
        "db": "ready", "web": "ready", "web.2": "ready", "mail": "stopped"
    }  # fmt: skip
    [address] = site.state.glob("*.sock")
    assert stat.S_IMODE(address.stat().st_mode) == 0o600
    assert stat.S_IMODE(site.state.stat().st_mode) == 0o700
    assert site.run_apart("daemons").stdout.splitlines()[1].startswith("up ")
    table = site.run_apart("ps").stdout.splitlines()
    assert table[0].split() == ["SERVICE", "STATE", "SINCE", "PID", "RESTARTS"]
    assert table[1].split()[:2] == ["db", "ready"]
    done = site.run_apart("down")
    assert (done.returncode, done.stdout.startswith("stopped the services of ")) == (0, True)
    assert site.run_apart("ps").returncode == 3
    trio.run(wait_gone, *[row["pid"] for row in rows.values() if row["pid"]])


def test_single_services_are_started_stopped_restarted_and_scaled(site):
    assert site.run("up", "-d", "--wait", "--timeout", "40").returncode == 0
    done = site.run("start", "mail")
    assert (done.returncode, done.stdout) == (0, "mail: ready\n")
    before = site.rows()["db"]["pid"]
    assert site.run("restart", "db", "--timeout", "30").returncode == 0
    assert site.rows()["db"]["pid"] != before
    assert site.run("scale", "web=1", "mail=3").returncode == 0
    assert set(site.states()) == {"db", "web", "mail", "mail.2", "mail.3"}
    assert site.run("stop", "db").stdout == "db: stopped\n"
    assert site.states()["web"] == "stopped"  # it depends on db
    assert site.run("scale", "mail=0").stdout == "mail: stopped\n"
    for word in ("start", "restart"):
        done = site.run(word, "mail")
        assert (done.returncode, "it has no replicas; trio-process scale mail=1 adds one" in done.stderr) == (1, True)
    for wrong in (("start", "nothing"), ("scale", "web"), ("scale", "web=x"), ("scale", "nothing=1")):
        done = site.run(*wrong)
        assert done.returncode == 2, wrong
        assert done.stderr.startswith("trio-process: ")


@pytest.mark.parametrize(
    "text",
    [
        '[services.mail]\nrun = "sleep 1000"\nenabled = false\n',
        '[services.mail]\nrun = "sleep 1000"\nreplicas = 0\n',
        '[tasks.test]\nrun = "true"\n',
    ],
)
def test_up_waits_for_nothing_where_nothing_is_wanted(site, text):
    site.write(text)
    done = site.run("up")
    assert (done.returncode, done.stdout.strip(), done.stderr) == (
        0,
        f"{site.directory / 'trio-process.toml'} has no service to start",
        "",
    )
    for _ in range(2):  # the second one attaches
        done = site.run("up", "-d", "--wait", "--timeout", "20")
        assert (done.returncode, done.stderr) == (0, "")


def test_up_waits_for_nothing_where_all_were_stopped(site):
    assert site.run("up", "-d", "--wait", "--timeout", "40").returncode == 0
    assert site.run("stop", "db", "mail", "web").returncode == 0
    assert site.run("up", "-d", "--wait", "--timeout", "20").returncode == 0
    assert set(site.states().values()) == {"stopped"}
    assert site.run("up", "-d", "--wait", "--timeout", "20", "web").returncode == 0
    assert site.states()["db"] == "ready"


def test_logs_of_one_or_all_with_their_options(site):
    assert site.run("up", "-d", "--wait", "--timeout", "40").returncode == 0
    lines = site.run("logs").stdout.splitlines()
    assert sorted(line.split(" | ")[1] for line in lines) == ["db is up", "web 1", "web 2"]
    assert site.run("logs", "db").stdout == "db | db is up\n"
    assert {line.index("|") for line in site.run("logs", "web").stdout.splitlines()} == {len("web.2 ")}
    assert site.run("logs", "--grep", "web 2").stdout.split(" | ")[1] == "web 2\n"
    assert len(site.run("logs", "-n", "1").stdout.splitlines()) == 1
    assert site.run("logs", "--since", "1h").stdout.splitlines() == lines
    assert site.run("logs", "--since", "2090-01-01").stdout == ""
    assert site.run("logs", "--since", "soon").returncode == 2
    done = site.run("logs", "nothing")
    assert (done.returncode, "there is no service 'nothing'" in done.stderr) == (2, True)


def test_followed_logs_and_an_attached_terminal_see_what_comes(site):
    assert site.run("up", "-d", "--wait", "--timeout", "40").returncode == 0
    follow = site.start("logs", "-f", "web")
    try:
        seen(follow, "web 1")
        typist = site.start("attach", "web", stdin=subprocess.PIPE)
        try:
            assert seen(typist, "web   = ready") == ["web   = ready\n"]  # and nothing of the others
            typist.stdin.buffer.write(b"hello\ncaf\xc3")
            typist.stdin.flush()
            seen(typist, "got hello")
            seen(follow, "got hello")
            typist.stdin.buffer.write(b"\xa9\n")
            typist.stdin.flush()
            assert "got café" in seen(typist, "got caf")[-1]
            typist.send_signal(signal.SIGINT)
            assert typist.wait(LIMIT) == 130
        finally:
            typist.kill()
            typist.communicate(timeout=LIMIT)
        assert site.states()["web"] == "ready"  # Ctrl-C leaves, and stops nothing
        site.run("down")
        assert follow.wait(LIMIT) == 3
    finally:
        follow.kill()
        follow.communicate(timeout=LIMIT)


def test_a_second_up_attaches_and_reports_a_changed_file(site):
    assert site.run("up", "-d").returncode == 0
    done = site.run("up", "-d", "mail")
    assert done.returncode == 0
    assert "are already running (PID " in done.stdout
    assert "the file differs" not in done.stdout
    assert site.states()["mail"] == "ready"
    done = site.run("up", "-d", "--listen", "127.0.0.1:0")
    assert (done.returncode, "without --listen" in done.stderr) == (1, True)
    site.write(FILE.replace("db is up; exec", "db is up; : ; exec") + '[services.new]\nrun = "sleep 1000"\n')
    assert "the file differs from them (new, db)" in site.run("up", "-d").stdout
    assert site.run("reload", "--dry-run").stdout == "would restart or change db (args)\nwould start new\n"
    assert "new" not in site.states()
    assert site.run("reload").stdout == "changed db (args)\nstarted new\n"
    assert site.states()["new"] == "ready"
    assert site.run("reload").stdout == "nothing has changed\n"
    site.write("[services.db]\nruns = 3\n")
    done = site.run("reload")
    assert (done.returncode, "runs" in done.stderr) == (2, True)
    assert site.states()["db"] == "ready"


async def test_of_two_that_start_at_once_one_is_the_instance(site):
    processes = [site.start("up", "-d", "--wait", "--timeout", "40") for _ in range(3)]
    outputs = [await trio.to_thread.run_sync(process.communicate) for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], outputs
    assert site.states()["db"] == "ready"
    pids = {path.read_text() for path in site.state.glob("*.pid")}
    assert len(pids) == 1


def test_only_the_named_services_and_what_they_need(site):
    assert site.run("up", "-d", "--wait", "--timeout", "40", "web").returncode == 0
    assert site.states() == {"db": "ready", "web": "ready", "web.2": "ready", "mail": "stopped"}
    site.run("down")
    assert site.run("up", "-d", "--wait", "--timeout", "40", "mail").returncode == 0
    assert {name: state for name, state in site.states().items() if state == "ready"} == {"mail": "ready"}
    assert site.run("reload").stdout == "nothing has changed\n"


@pytest.mark.parametrize(
    "text",
    [
        "[services.db\n",
        '[services.db]\nrun = "sleep 1"\nafter = ["nothing"]\n',
        '[services.db]\nready = { tcp = "x" }\n',
    ],
)
def test_a_bad_file_starts_nothing_and_gives_2(site, text):
    site.write(text)
    for command in (("up",), ("up", "-d")):
        done = site.run(*command)
        assert done.returncode == 2
        assert done.stderr.startswith("trio-process: ")
    assert site.run("ps").returncode == 3


def test_a_service_that_fails_gives_1(site):
    site.write('[services.bad]\nrun = ["sh", "-c", "echo broken >&2; exit 3"]\nrestart = "never"\n')
    done = site.run("up")
    assert done.returncode == 1
    assert "bad | broken" in done.stdout
    assert "bad = failed" in done.stdout
    done = site.run("up", "-d", "--wait")
    assert done.returncode == 1
    assert "bad: failed" in done.stderr
    assert site.states() == {"bad": "failed"}  # it stays up


@pytest.mark.parametrize(
    ("code", "why"),
    [(3, "bad: CommandFailedError: "), (0, "bad: has ended;")],
)
def test_up_that_waits_reports_a_service_that_ends_again_and_again(site, code, why):
    site.write(f"""
[services.bad]
run = ["sh", "-c", "sleep 0.2; exit {code}"]
ready = {{ line = "up" }}
restart = {{ mode = "always", backoff = 1000.0, backoff-max = 1000.0 }}
""")
    with_wait = site.start("up", "-d", "--wait", "--timeout", str(LIMIT))
    try:
        report = "".join(seen(with_wait, why))
        assert report.endswith("it will be restarted; `trio-process logs bad` shows why\n")
        assert with_wait.poll() is None  # it waits for the restart
    finally:
        with_wait.send_signal(signal.SIGTERM)
        with_wait.communicate(timeout=LIMIT)


def test_a_procfile_ends_with_its_first_process(site):
    (site.directory / "trio-process.toml").unlink()
    (site.directory / "Procfile").write_text("web: echo up; sleep 1000\nonce: sleep 0.5; echo done\n")
    done = site.run("up")
    assert done.returncode == 0
    assert "once | done" in done.stdout
    assert "web  = stopped" in done.stdout


def test_sigkill_of_the_instance_leaves_nothing_and_the_next_up_wins(site):
    assert site.run("up", "-d", "--wait", "--timeout", "40").returncode == 0
    pids = [row["pid"] for row in site.rows().values() if row["pid"]]
    [pid_file] = site.state.glob("*.pid")
    os.kill(int(pid_file.read_text()), signal.SIGKILL)
    trio.run(wait_gone, *pids)
    assert list(site.state.glob("*.sock"))  # the socket of a dead instance is only a file
    assert site.run("up", "-d", "--wait", "--timeout", "40").returncode == 0
    assert site.states()["db"] == "ready"


def test_sighup_reloads_in_the_background(site):
    assert site.run("up", "-d").returncode == 0
    site.write(FILE + '[services.new]\nrun = "sleep 1000"\n')
    [pid_file] = site.state.glob("*.pid")
    os.kill(int(pid_file.read_text()), signal.SIGHUP)
    trio.run(wait_until, lambda: site.states().get("new") == "ready", LIMIT)


def test_the_page_of_an_instance_is_opened_on_loopback(site):
    assert site.run("up", "-d").returncode == 0
    done = site.run("ui", "--no-browser")
    assert done.returncode == 0
    assert done.stdout.startswith("http://127.0.0.1:")
    assert "#token=" in done.stdout
    assert site.run("ui", "--no-browser").stdout == done.stdout  # one server for all who ask


def test_an_instance_whose_page_is_open_says_bye_to_it_and_ends_as_usual(site):
    with foreground(site) as process:
        seen(process, "web.2 = ready")
        url, token = site.run("ui", "--no-browser").stdout.strip().split("#token=")
        events = Request(f"{url}api/process/events", headers={"Authorization": f"Bearer {token}"})
        with urlopen(events, timeout=LIMIT) as stream:
            assert '"snapshot"' in next(stream).decode()
            process.send_signal(signal.SIGTERM)
            assert '"bye"' in [line for line in stream.read().decode().splitlines() if line][-1]
        assert process.wait(LIMIT) == 143
        assert "Traceback" not in process.stdout.read()


@pytest.mark.parametrize("listen", [False, True])
def test_the_page_has_the_lines_that_were_written_before_it_was_opened(site, listen):
    site.write('[services.web]\nshell = "echo hello; exec sleep 1000"\nready = { line = "hello" }\n')
    site.environment["TRIO_PROCESS_TOKEN"] = "secret"
    addr = f"127.0.0.1:{free_port()}"
    assert site.run("up", "-d", "--wait", *(["--listen", addr] if listen else [])).returncode == 0
    url, token = site.run("ui", "--no-browser").stdout.strip().split("#token=")
    logs = Request(f"{url}api/process/logs", headers={"Authorization": f"Bearer {token}"})
    with urlopen(logs, timeout=LIMIT) as answer:
        lines = json.load(answer)["data"]["lines"]
    assert [(row["service"], row["line"], row["cursor"]) for row in lines] == [("web", "hello", 1)]


@pytest.mark.parametrize("kept", [0.01, 1000.0])
async def test_the_file_that_opens_the_page_holds_the_token_for_a_moment_alone(monkeypatch, tmp_path, kept):
    directory = tmp_path / "temporary"
    directory.mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(directory))
    monkeypatch.setattr(pages, "_KEPT", kept)
    opened = []

    def browse(url):
        file = Path(url.removeprefix("file://"))
        opened.append((stat.S_IMODE(file.stat().st_mode), file.read_text()))
        return True

    monkeypatch.setattr(pages.webbrowser, "open", browse)
    with trio.fail_after(LIMIT):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pages.open_page, None, False)
            await wait_until(lambda: opened, LIMIT)
            if kept < 1:
                await wait_until(lambda: not list(directory.iterdir()), LIMIT)
            os.kill(os.getpid(), signal.SIGTERM)
    ((mode, text),) = opened
    assert mode == 0o600
    assert "#token=" in text
    assert list(directory.iterdir()) == []


async def test_an_address_for_others_without_a_token_is_refused_before_anything_starts(tmp_path):
    (tmp_path / "trio-process.toml").write_text(FILE)
    with pytest.raises(OptionError, match="TRIO_PROCESS_TOKEN"):
        await bring_up(Instance(tmp_path / "trio-process.toml"), [], False, False, None, "0.0.0.0:0")


USED = (
    FILE
    + """
[services.broken]
run = ["sh", "-c", "exit 3"]
enabled = false
restart = "never"

[tasks.see]
run = ["sh", "-c", "echo seen"]
uses = ["db"]

[tasks.fail]
run = "true"
uses = ["broken"]
"""
)


def test_run_uses_the_services_of_a_running_instance_and_else_its_own(site):
    site.write(USED.replace("echo db is up;", "echo start >> starts; echo db is up;"))
    starts = site.directory / "starts"
    done = site.run("run", "see")
    assert (done.returncode, starts.read_text()) == (0, "start\n"), done
    assert site.run("up", "-d", "--wait", "--timeout", "40").returncode == 0
    before = site.rows()["db"]["pid"]
    done = site.run("run", "see")
    assert (done.returncode, "seen" in done.stdout) == (0, True)
    assert starts.read_text() == "start\n" * 2  # ours, and the instance's: no third one
    assert site.rows()["db"]["pid"] == before
    done = site.run("run", "fail")
    assert (done.returncode, "exited with code 3" in done.stdout) == (1, True)
    assert site.run("stop", "db").returncode == 0
    assert site.run("run", "see").returncode == 0  # started by the hold
    assert starts.read_text() == "start\n" * 3
    trio.run(wait_until, lambda: site.states()["db"] == "stopped", LIMIT)  # whoever lets go does not wait for that


SHARED = """
[services.db]
run = ["sh", "-c", "echo start >> starts; echo db is up; exec sleep 1000"]
ready = { line = "db is up" }

[tasks.one]
run = ["sh", "-c", "echo one begins; until [ -e one ]; do sleep 0.02; done"]
uses = ["db"]

[tasks.two]
run = ["sh", "-c", "echo two begins; until [ -e two ]; do sleep 0.02; done"]
uses = ["db"]
"""


def test_no_second_copy_is_started_beside_the_services_of_a_run(site):
    site.write(SHARED)
    starts = site.directory / "starts"
    first = site.start("run", "one")
    seen(first, "one begins")
    second = site.start("run", "two")
    seen(second, "two begins")
    assert site.listed()["db"]["state"] == "ready"  # the commands of services see those of a run, too
    (site.directory / "one").touch()
    assert "another run uses the services" in "".join(seen(first, "waiting until it has ended"))
    done = site.run("up", "-d", "--timeout", "0.1")
    assert (done.returncode, "still uses the services after 100 ms" in done.stderr) == (1, True)
    up = site.start("up", "-d")
    seen(up, "waiting until it has ended")
    assert starts.read_text() == "start\n"
    (site.directory / "two").touch()
    assert [process.wait(LIMIT) for process in (second, first, up)] == [0, 0, 0]
    for process in (first, second, up):
        process.communicate()
    assert starts.read_text() == "start\n" * 2


def test_a_run_that_is_stopped_does_not_wait_for_another_one(site):
    site.write(SHARED)
    first = site.start("run", "one")
    seen(first, "one begins")
    second = site.start("run", "two")
    seen(second, "two begins")
    first.send_signal(signal.SIGTERM)
    assert first.wait(LIMIT) == 143
    assert second.wait(LIMIT) == 1
    assert "db" in second.communicate()[0]
    first.communicate()


def test_run_names_a_service_that_the_running_instance_does_not_have(site):
    assert site.run("up", "-d").returncode == 0
    site.write(USED.replace("services.db", "services.other").replace('"db"', '"other"').replace("db =", "other ="))
    done = site.run("run", "see")
    assert (done.returncode, "trio-process reload" in done.stdout) == (1, True)


@pytest.mark.parametrize("command", [("logs", "-f"), ("attach",), ("attach", "db")])
def test_what_follows_ends_when_its_reader_leaves_though_nothing_comes(site, command):
    assert site.run("up", "-d", "--wait", "--timeout", "40", "db").returncode == 0
    process = site.start(*command)
    try:
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(LIMIT) == 141
    finally:
        process.kill()
        process.wait(LIMIT)


def test_logs_of_one_replica(site):
    assert site.run("up", "-d", "--wait", "--timeout", "40").returncode == 0
    assert site.run("logs", "web.2").stdout == "web.2 | web 2\n"
    assert {line.split(" | ")[1] for line in site.run("logs", "web.2", "db").stdout.splitlines()} == {
        "web 2", "db is up"
    }  # fmt: skip
    for command in (("start", ""), ("logs", ""), ("up", "")):
        done = site.run(*command)
        assert (done.returncode, done.stderr) == (2, "trio-process: the name of a service is empty\n")


def test_an_instance_whose_file_is_deleted_is_found_by_its_path(site):
    assert site.run("up", "-d").returncode == 0
    (site.directory / "trio-process.toml").unlink()
    assert set(site.listed()) == {"db", "web", "web.2", "mail"}
    done = site.run("reload", "-f", "trio-process.toml")
    assert (done.returncode, "trio-process.toml" in done.stderr) == (2, True)
    done = site.run("down")
    assert (done.returncode, done.stdout.startswith("stopped the services of ")) == (0, True)


def test_an_instance_whose_directory_is_renamed_is_found_there(site):
    assert site.run("up", "-d").returncode == 0
    before = site.listed()["db"]["pid"]
    site.directory = site.directory.rename(site.directory.with_name("q"))
    assert site.listed()["db"]["pid"] == before
    done = site.run("up", "-d")
    assert (done.returncode, "are already running (PID " in done.stdout) == (0, True)
    assert site.run("down").stdout.startswith("stopped the services of ")
    assert not list(site.state.glob("*.place"))
    assert site.run("ps").returncode == 3


@pytest.mark.parametrize("option", [(), ("-d",)])
def test_a_state_directory_or_address_that_can_not_be_used_is_named(site, option):
    for address in ("nonsense", "127.0.0.1:99999"):
        done = site.run("up", *option, "--listen", address)
        assert (done.returncode, address in done.stderr, "Traceback" in done.stderr) == (2, True, False)
    (site.directory / "file").touch()
    site.environment["XDG_STATE_HOME"] = str(site.directory / "file")
    done = site.run("up", *option)
    assert (done.returncode, "set XDG_STATE_HOME to a directory" in done.stderr) == (1, True)


def test_a_state_directory_may_have_a_long_path(site):
    site.environment["XDG_STATE_HOME"] = str(site.directory / ("x" * 120) / ("y" * 120))
    assert site.run("up", "-d", "--wait").returncode == 0
    assert site.listed()["db"]["state"] == "ready"
    done = site.run("down")
    assert (done.returncode, done.stdout.startswith("stopped the services of ")) == (0, True)


def test_the_services_of_a_directory_whose_name_is_no_text_can_be_started(site):
    site.directory = site.directory / os.fsdecode(b"a\xfe b")
    site.directory.mkdir()
    site.write(FILE)
    assert site.run("up", "-d", "--wait").returncode == 0
    assert site.listed()["db"]["state"] == "ready"
    assert site.run("down").returncode == 0


def test_the_background_says_why_it_can_not_listen(site):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = site.run("up", "-d", "--listen", address)
    assert (done.returncode, address.rpartition(":")[2] in done.stderr, "Traceback" in done.stderr) == (1, True, False)
    assert site.run("ps").returncode == 3
