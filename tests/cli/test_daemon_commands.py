"""`trio-process daemon`, `daemons` and `health`, as somebody at a shell uses them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import trio

from trio_process import DaemonEntry, HealthServer, Registry

PATIENCE = 60
SLEEP = (sys.executable, "-c", "import signal; signal.pause()")


class Shell:
    """Runs `trio-process` with a home of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.registry = Registry(home / ".core" / "daemons")
        self.state = home / "state" / "trio-process"
        self.environment = {**os.environ, "HOME": str(home), "XDG_STATE_HOME": str(home / "state")}

    def run(self, *words: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "trio_process", *words],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            env={**self.environment, **(env or {})},
            check=False,
        )

    def ok(self, *words: str) -> str:
        ended = self.run(*words)
        assert ended.returncode == 0, ended
        return ended.stdout

    def pid(self) -> int:
        entry = self.registry.get("my", "web")
        assert entry is not None
        assert entry.pid is not None
        return entry.pid


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(tmp_path)
    yield shell
    shell.run("daemon", "stop", "my", "web")
    assert shell.registry.list() == []


def gone(pid: int) -> None:
    """Wait until a process that is not our child has ended."""

    async def wait() -> None:
        with trio.fail_after(PATIENCE):
            await trio.lowlevel.wait_readable(pidfd)

    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        trio.run(wait)
    finally:
        os.close(pidfd)


def test_a_command_is_started_shown_and_stopped(shell: Shell) -> None:
    said = shell.ok(
        "daemon", "start", "my", "web", "--ready-line", "is up", "--", "sh", "-c", "echo it is up; exec sleep 1000"
    )
    pid = shell.pid()
    command = int(said.split("its command PID ")[1].split(",")[0])
    assert f"started my/web: PID {pid}" in said

    assert shell.ok("daemon", "status", "my", "web").startswith("code     my\n")
    listed = json.loads(shell.ok("daemons", "--json"))
    assert [(entry["code"], entry["daemon"], entry["pid"]) for entry in listed] == [("my", "web", pid)]
    assert str(pid) in shell.ok("daemons")
    assert shell.ok("daemon", "logs", "my", "web") == "it is up\n"

    assert shell.ok("daemon", "stop", "my", "web").startswith(f"stopped my/web (PID {pid})")
    gone(command)
    ended = shell.run("daemon", "status", "my", "web", "--json")
    assert (ended.returncode, json.loads(ended.stdout)["running"]) == (3, False)
    assert shell.ok("daemon", "stop", "my", "web") == "my/web is not running\n"
    assert shell.ok("daemons") == "no daemon is running\n"


def test_a_second_one_is_refused_and_told_who_runs(shell: Shell) -> None:
    shell.ok("daemon", "start", "my", "web", "--settle", "0", "--", *SLEEP)
    ended = shell.run("daemon", "start", "my", "web", "--", *SLEEP)
    assert ended.returncode == 1
    assert f"already running: PID {shell.pid()}" in ended.stderr


def test_restart_repeats_the_last_start(shell: Shell) -> None:
    shell.ok("daemon", "start", "my", "web", "--settle", "0.1", "--", *SLEEP)
    first = shell.pid()
    said = shell.ok("daemon", "restart", "my", "web")
    assert f"stopped my/web (PID {first})" in said
    assert shell.pid() != first
    assert shell.run("daemon", "restart", "my", "other").returncode == 1


@pytest.mark.parametrize(
    ("command", "why"),
    [
        (("nonesuch-command",), "there is no program 'nonesuch-command'"),
        (("sh", "-c", "echo oops >&2; exit 3"), "oops"),
    ],
)
def test_a_command_that_does_not_come_up_is_reported_and_leaves_nothing(
    shell: Shell, command: tuple[str, ...], why: str
) -> None:
    ended = shell.run("daemon", "start", "my", "web", "--settle", "30", "--", *command)
    assert ended.returncode == 1
    assert why in ended.stderr
    assert "Traceback" not in ended.stderr
    assert shell.registry.list() == []
    assert not list(shell.state.glob("*.pid"))


def test_one_that_is_never_healthy_is_stopped_when_the_time_is_up(shell: Shell) -> None:
    ended = shell.run("daemon", "start", "my", "web", "--tcp", "127.0.0.1:1", "--timeout", "0.5", "--", *SLEEP)
    assert ended.returncode == 1
    assert "not healthy within 0.5 s" in ended.stderr
    assert shell.registry.list() == []


def test_a_port_and_a_url_tell_that_it_is_healthy(shell: Shell) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}/"
    server = (sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1")
    shell.ok("daemon", "start", "my", "web", "--tcp", f":{port}", "--health-url", url, "--", *server)
    (entry,) = shell.registry.list()
    assert entry.health == f"127.0.0.1:{port}"


def test_what_was_killed_leaves_files_that_harm_nobody(shell: Shell) -> None:
    said = shell.ok("daemon", "start", "my", "web", "--settle", "0", "--", *SLEEP)
    command = int(said.split("its command PID ")[1].split(",")[0])
    resident = shell.pid()
    os.kill(resident, signal.SIGKILL)
    gone(resident)
    gone(command)  # the guardian's work
    assert shell.run("daemon", "status", "my", "web").returncode == 3
    assert shell.ok("daemon", "stop", "my", "web") == "my/web is not running\n"
    shell.ok("daemon", "start", "my", "web", "--settle", "0", "--", *SLEEP)
    assert shell.pid() != resident


def test_a_resident_that_does_not_stop_is_killed_and_that_is_said(shell: Shell) -> None:
    stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); signal.pause()"
    shell.ok(
        "daemon", "start", "my", "web", "--ready-line", "up", "--grace", "60", "--", sys.executable, "-c", stubborn
    )
    said = shell.ok("daemon", "stop", "my", "web", "--timeout", "0.3")
    assert said.startswith("killed my/web")
    assert shell.ok("daemons") == "no daemon is running\n"


def test_the_log_is_followed_until_the_end(shell: Shell) -> None:
    shell.ok(
        "daemon",
        "start",
        "my",
        "web",
        "--ready-line",
        "one",
        "--",
        "sh",
        "-c",
        "echo one; read line < $0; echo two",
        str(fifo(shell)),
    )
    follower = subprocess.Popen(
        [sys.executable, "-m", "trio_process", "daemon", "logs", "-f", "my", "web"],
        stdout=subprocess.PIPE,
        env=shell.environment,
    )
    with follower:
        assert follower.stdout is not None
        assert follower.stdout.readline() == b"one\n"
        fifo(shell).write_text("go on\n")
        assert follower.stdout.readline() == b"two\n"
        assert follower.wait(PATIENCE) == 0


def fifo(shell: Shell) -> Path:
    path = shell.home / "fifo"
    if not path.exists():
        os.mkfifo(path)
    return path


def test_the_others_in_the_registry_are_listed_and_stopped_too(shell: Shell) -> None:
    with subprocess.Popen(SLEEP) as other:
        shell.registry.register(DaemonEntry("go", "process", pid=other.pid, health="127.0.0.1:9"))
        assert "127.0.0.1:9" in shell.ok("daemons")
        assert shell.ok("daemon", "stop", "go", "process").startswith("stopped go/process")
        assert other.wait(PATIENCE) == -signal.SIGTERM


async def test_health_is_asked_for(shell: Shell) -> None:
    async with HealthServer("127.0.0.1:0", ready=False) as server:
        ask = [sys.executable, "-m", "trio_process", "health", server.addr, "--timeout", "0.3"]
        with trio.fail_after(PATIENCE):
            healthy = await trio.run_process(ask, capture_stdout=True, env=shell.environment)
            ready = await trio.run_process([*ask, "--ready"], capture_stderr=True, check=False, env=shell.environment)
    assert healthy.stdout.decode().endswith("healthy\n")
    assert (ready.returncode, b"not ready" in ready.stderr) == (1, True)
    assert shell.run("health", "nonsense").returncode == 2


def test_a_bad_port_is_refused(shell: Shell) -> None:
    ended = shell.run("daemon", "start", "my", "web", "--tcp", "nonsense", "--", *SLEEP)
    assert ended.returncode == 1
    assert "--tcp takes HOST:PORT" in ended.stderr
