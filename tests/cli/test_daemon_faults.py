"""`trio-process daemon` against starts and stops that go wrong, and readers that must be told the truth."""

from __future__ import annotations

import base64
import errno
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import trio
from daemon_shell import PATIENCE, SLEEP, Shell, gone, well
from support import free_port, is_gone, wait_until

from trio_process import AlreadyRunningError, DaemonEntry, DaemonError, ProcessError, Registry
from trio_process._cli.daemon import readiness, resident
from trio_process._cli.daemon.files import DaemonSpec
from trio_process._cli.daemon.readiness import refuse_answering_target
from trio_process._cli.daemon.resident import health_address
from trio_process._cli.state import explain, state_directory
from trio_process._daemon import hold_entry
from trio_process.testing import FaultyDisk

TRAP = "trap 'echo hangup' HUP; echo up; while :; do sleep 0.05; done"


def wait_for(true: Any, timeout: float = PATIENCE) -> Any:
    end = time.monotonic() + timeout
    while not (found := true()):
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.05)
    return found


def status(shell: Shell) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(shell.here("daemon", "status", "my", "web", "--json").stdout)
    return found


def log_of(shell: Shell) -> str:
    (path,) = shell.state.glob("*.log")
    return path.read_text()


@contextmanager
def server(answer: int = 200, authorization: str = "") -> Iterator[tuple[int, list[str]]]:
    """An HTTP server that always answers the same, or 401 without the right credentials."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            given = self.headers.get("Authorization", "")
            self.send_response(401 if given != authorization else answer)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        try:
            yield http.server_port, asked
        finally:
            http.shutdown()
            thread.join()


# a start watches the command


@pytest.mark.parametrize("restart", ["never", "on-failure", "always"])
def test_a_command_that_ends_again_and_again_is_not_a_start(shell: Shell, restart: str) -> None:
    options = ("--restart", restart, "--timeout", "3")
    ended = shell.here("daemon", "start", "my", "web", *options, "--", "sh", "-c", "echo boom; exit 3")
    assert ended.returncode == 1
    assert "boom" in ended.stderr
    assert "exited with code 3" in ended.stderr or "ended with exit status 3" in ended.stderr
    assert shell.registry.list() == []


def test_a_command_that_a_restart_brings_up_is_started(shell: Shell) -> None:
    counter = shell.home / "count"
    script = f"echo x >> {counter}; [ $(wc -l < {counter}) -ge 3 ] || exit 1; exec sleep 1000"
    said = shell.ok("daemon", "start", "my", "web", "--restart", "on-failure", "--", "sh", "-c", script)
    command = int(said.split("its command PID ")[1].split(",")[0])
    assert (status(shell)["command"], status(shell)["restarts"]) == (command, 2)


@pytest.mark.parametrize("kind", ["--tcp", "--health-url", "both"])
def test_a_target_that_answers_before_the_start_is_refused(shell: Shell, kind: str) -> None:
    with server() as (port, _):
        tcp, url = ("--tcp", f"127.0.0.1:{port}"), ("--health-url", f"http://127.0.0.1:{port}/")
        options = {"--tcp": tcp, "--health-url": url, "both": (*tcp, *url)}[kind]
        ended = shell.here("daemon", "start", "my", "web", *options, "--", *SLEEP)
    assert ended.returncode == 1
    assert "another program answers at" in ended.stderr
    assert str(port) in ended.stderr
    assert not list(shell.state.glob("*.log"))


@pytest.mark.parametrize("answer", [301, 401, 404, 500, 503])
def test_an_error_status_is_an_answer_too(answer: int) -> None:
    """A stranger that is sick now may be healthy a moment later, and would be taken for the command."""
    with server(answer) as (port, _), pytest.raises(DaemonError, match=f"another program answers at .*:{port}/"):
        trio.run(refuse_answering_target, spec(f"http://127.0.0.1:{port}/"))


@pytest.mark.parametrize("answer", [502, 504])
def test_a_proxy_that_reports_that_nothing_answers_behind_it_does_not_answer_itself(answer: int) -> None:
    with server(answer) as (port, asked):
        trio.run(refuse_answering_target, spec(f"http://127.0.0.1:{port}/"))
        assert asked == ["/"]


def spec(url: str) -> DaemonSpec:
    return DaemonSpec(code="my", daemon="web", command=["true"], directory="/", health_url=url)


def test_a_second_start_is_told_who_runs_and_not_that_its_target_answers(shell: Shell) -> None:
    port = free_port()
    command = (
        sys.executable,
        "-c",
        f"import socket, signal; s = socket.create_server(('127.0.0.1', {port})); signal.pause()",
    )
    shell.ok("daemon", "start", "my", "web", "--tcp", f"127.0.0.1:{port}", "--", *command)
    ended = shell.here("daemon", "start", "my", "web", "--tcp", f"127.0.0.1:{port}", "--", *command)
    assert f"already running: PID {shell.pid()}" in ended.stderr
    shell.ok("daemon", "restart", "my", "web")  # asks after its stop


@pytest.mark.parametrize("late", ["0", "0.3"])
def test_a_command_that_ends_while_a_stranger_answers_is_not_healthy(
    shell: Shell, late: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stranger, here this test, comes after the start: the command can't bind the port, and ends."""
    monkeypatch.setattr(readiness, "_CONFIRMED_AFTER", 20)
    port = free_port()
    runs, taken = shell.home / "runs", shell.home / "taken"
    over = threading.Event()

    def be_the_stranger() -> None:
        wait_for(runs.exists)
        with socket.create_server(("127.0.0.1", port)):
            taken.touch()
            over.wait(60)

    script = f"touch {runs}; until [ -e {taken} ]; do sleep 0.01; done; sleep {late}; exit 1"
    stranger = threading.Thread(target=be_the_stranger)
    stranger.start()
    try:
        start = ("daemon", "start", "my", "web", "--tcp", f"127.0.0.1:{port}", "--timeout", "20")
        ended = shell.here(*start, "--", "sh", "-c", script)
        assert ended.returncode == 1, ended
        assert taken.exists(), ended
        assert "exited with code 1" in ended.stderr
        assert shell.registry.list() == []
    finally:
        over.set()
        stranger.join()


def test_waiting_to_restart_is_shown(shell: Shell) -> None:
    go = shell.home / "go"
    script = f"[ -e {go} ] && exit 1; exec sleep 1000"
    said = shell.ok("daemon", "start", "my", "web", "--restart", "always", "--", "sh", "-c", script)
    command = int(said.split("its command PID ")[1].split(",")[0])
    assert f"command  {command}\n" in shell.ok("daemon", "status", "my", "web")
    go.touch()
    os.kill(command, signal.SIGKILL)
    wait_for(lambda: status(shell)["command"] is None)
    assert "waiting to restart" in shell.ok("daemon", "status", "my", "web")
    go.unlink()
    wait_for(lambda: status(shell)["command"])
    assert status(shell)["restarts"] >= 1


# a failed start gives its reason


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--tcp", "127.0.0.1:1"), "connection refused"),
        (("--tcp", "no-such-host.invalid:80"), "'no-such-host.invalid' was not found"),
        (("--health-url", "http://127.0.0.1:1/"), "connection refused"),
        (("--health-url", "http://no-such-host.invalid/"), "'no-such-host.invalid' was not found"),
        (("--health-url", "https://127.0.0.1:1/"), "connection refused"),
        (("--ready-line", "never"), "no line with 'never'"),
    ],
)
def test_the_last_reason_is_in_the_text(shell: Shell, options: tuple[str, str], reason: str) -> None:
    ended = shell.here("daemon", "start", "my", "web", *options, "--timeout", "2", "--", *SLEEP)
    assert ended.returncode == 1
    assert "not healthy within 2 s" in ended.stderr
    assert reason in ended.stderr


@pytest.mark.parametrize("answer", [404, 502, 503])
def test_the_status_of_the_answer_is_in_the_text(shell: Shell, answer: int) -> None:
    """The command answers itself: an answer before the start is refused."""
    port = free_port()
    sick = (
        "import socket\n"
        f"s = socket.create_server(('127.0.0.1', {port}))\n"
        "while True:\n"
        "    a, _ = s.accept()\n"
        "    print(a.recv(65536).split()[1].decode(), flush=True)\n"
        f"    a.sendall(b'HTTP/1.0 {answer} Sick\\r\\n\\r\\n')\n"
        "    a.close()\n"
    )
    url = f"http://localhost:{port}/a%20b?c=d"
    command = (sys.executable, "-c", sick)
    ended = shell.here("daemon", "start", "my", "web", "--health-url", url, "--timeout", "4", "--", *command)
    assert f"HTTP status {answer} Sick" in ended.stderr
    assert "/a%20b?c=d" in log_of(shell).splitlines()


@pytest.mark.parametrize(
    ("userinfo", "pair"),
    [("user:pw", "user:pw"), ("user", "user:"), ("u%40x:p%3aw%20", "u@x:p:w "), (":pw", ":pw")],
)
def test_user_and_password_are_sent_and_not_registered(shell: Shell, userinfo: str, pair: str) -> None:
    authorization = f"Basic {base64.b64encode(pair.encode()).decode()}"
    with server(authorization=authorization) as (port, _):
        # an answer before the start is refused, so the command opens the way: a relay to the server
        relay_port = free_port()
        relay = (
            "import socket, sys, threading\n"
            "def pump(a, b):\n"
            "    while data := a.recv(65536): b.sendall(data)\n"
            "    b.shutdown(socket.SHUT_WR)\n"
            f"s = socket.create_server(('127.0.0.1', {relay_port}))\n"
            "while True:\n"
            "    a, _ = s.accept()\n"
            f"    b = socket.create_connection(('127.0.0.1', {port}))\n"
            "    threading.Thread(target=pump, args=(a, b), daemon=True).start()\n"
            "    threading.Thread(target=pump, args=(b, a), daemon=True).start()\n"
        )
        url = f"http://{userinfo}@127.0.0.1:{relay_port}/"
        shell.ok("daemon", "start", "my", "web", "--health-url", url, "--", sys.executable, "-c", relay)
        (entry,) = shell.registry.list()
        assert entry.health == f"127.0.0.1:{relay_port}"
        shell.ok("daemon", "stop", "my", "web")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl, for a certificate")
def test_a_redirect_of_https_is_an_answer_and_gives_no_password_away(shell: Shell) -> None:
    with server() as (other, asked):
        port = free_port()
        key, certificate = str(shell.home / "key.pem"), str(shell.home / "certificate.pem")
        pair = ("-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate)
        name = ("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost")
        subprocess.run(["openssl", "req", "-x509", *pair, *name], check=True, capture_output=True, timeout=60)
        redirect = (
            "import socket, ssl\n"
            "context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)\n"
            f"context.load_cert_chain({certificate!r}, {key!r})\n"
            f"s = context.wrap_socket(socket.create_server(('127.0.0.1', {port})), server_side=True)\n"
            "while True:\n"
            "    a, _ = s.accept()\n"
            "    a.recv(65536)\n"
            f"    a.sendall(b'HTTP/1.0 302 Found\\r\\nLocation: http://127.0.0.1:{other}/\\r\\n\\r\\n')\n"
            "    a.close()\n"
        )
        url = f"https://user:pw@localhost:{port}/"
        start = ("daemon", "start", "my", "web", "--health-url", url, "--", sys.executable, "-c", redirect)
        well(shell.here(*start, env={"SSL_CERT_FILE": certificate}))
        assert asked == []
        shell.ok("daemon", "stop", "my", "web")


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://localhost/x", "localhost:80"),
        ("http://user:pw@h:8080/", "h:8080"),
        ("http://[::1]/", "[::1]:80"),
        ("http://[::1]:90/", "[::1]:90"),
        ("https://h/x", ""),
        ("https://h:8443/x", ""),
        ("", ""),
    ],
)
def test_the_registered_address_always_has_a_port(url: str, address: str) -> None:
    assert health_address(url) == address


@pytest.mark.parametrize(
    ("script", "parts"),
    [
        ("exit 0", ["exit status 0", "run it in the foreground"]),
        ("sleep 1000 & exit 0", ["exit status 0", "run it in the foreground"]),
        ("exit 7", ["7"]),
        ("kill -9 $$", ["SIGKILL"]),
    ],
)
def test_an_early_end_is_told_with_its_status(shell: Shell, script: str, parts: list[str]) -> None:
    ended = shell.here("daemon", "start", "my", "web", "--", "sh", "-c", script)
    assert ended.returncode == 1
    for part in parts:
        assert part in ended.stderr


# restart looks first


@pytest.mark.parametrize("missing", ["program", "x bit", "directory", "path"])
def test_a_restart_that_cannot_start_leaves_the_daemon_running(shell: Shell, missing: str) -> None:
    work = shell.home / "work"
    work.mkdir()
    program = work / "program"
    program.write_text("#!/bin/sh\nexec sleep 1000\n")
    program.chmod(0o755)
    command = "program" if missing == "path" else "./program"
    path = {"PATH": f"{work}:{os.environ['PATH']}"}
    well(shell.here("daemon", "start", "my", "web", "--settle", "0", "--", command, cwd=work, env=path))
    pid = shell.pid()
    match missing:
        case "program":
            program.unlink()
        case "x bit":
            program.chmod(0o644)
        case "directory":
            work.rename(shell.home / "moved")
    ended = shell.here("daemon", "restart", "my", "web")
    assert ended.returncode == 1
    assert "can't be started again" in ended.stderr
    assert ("directory" if missing == "directory" else "program") in ended.stderr
    assert ended.stdout == ""
    assert shell.pid() == pid


# stop


def test_a_stop_waits_for_the_grace_of_the_start(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    from trio_process._cli.daemon import stop

    monkeypatch.setattr(stop, "_SHORTEST_WAIT", 0.2)  # in place of 30 s; the command takes 1 s of its 45
    saving = "trap 'sleep 1; echo saved all; exit 0' TERM; echo up; while :; do sleep 0.05; done"
    shell.ok("daemon", "start", "my", "web", "--grace", "45", "--ready-line", "up", "--", "sh", "-c", saving)
    ended = shell.here("daemon", "stop", "my", "web")
    assert (ended.returncode, ended.stdout[:14]) == (0, "stopped my/web")
    assert "saved all" in log_of(shell)


@pytest.mark.parametrize(("grace", "expected"), [(5.0, 30.0), (45.0, 55.0), (0.0, 30.0)])
def test_without_a_timeout_a_stop_waits_long_enough(shell: Shell, grace: float, expected: float) -> None:
    from trio_process._cli.daemon import stop
    from trio_process._cli.daemon.files import DaemonSpec, StateFiles

    os.environ["XDG_STATE_HOME"], before = str(shell.home / "state"), os.environ.get("XDG_STATE_HOME")
    try:
        files = StateFiles("my", "web")
        assert stop._wait_for(files) == 30.0
        files.directory.mkdir(mode=0o700, parents=True)
        files.keep(DaemonSpec(code="my", daemon="web", command=["x"], directory="/", grace=grace))
        assert stop._wait_for(files) == expected
    finally:
        os.environ.pop("XDG_STATE_HOME") if before is None else os.environ.update(XDG_STATE_HOME=before)


def test_a_restart_that_had_to_kill_goes_on_and_has_the_status_of_the_start(shell: Shell) -> None:
    stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); signal.pause()"
    command = (sys.executable, "-c", stubborn)
    shell.ok("daemon", "start", "my", "web", "--grace", "60", "--ready-line", "up", "--", *command)
    ended = shell.here("daemon", "restart", "my", "web", "--timeout", "0.3")
    assert ended.returncode == 0
    assert "killed my/web" in ended.stdout
    assert "started my/web" in ended.stdout
    shell.here("daemon", "stop", "my", "web", "--timeout", "0")


# the registry and the PID file


def test_a_daemon_without_its_entry_is_shown_stopped_and_restarted(shell: Shell) -> None:
    shell.ok("daemon", "start", "my", "web", "--settle", "0", "--", *SLEEP)
    pid = shell.pid()
    shell.registry.unregister("my", "web")
    assert (status(shell)["running"], status(shell)["pid"]) == (True, pid)
    shell.registry.unregister("my", "web")
    assert f"stopped my/web (PID {pid})" in shell.ok("daemon", "restart", "my", "web")
    again = shell.pid()
    shell.registry.unregister("my", "web")
    assert shell.ok("daemon", "stop", "my", "web").startswith(f"stopped my/web (PID {again})")


def test_a_resident_writes_its_entry_again(shell: Shell) -> None:
    shell.ok("daemon", "start", "my", "web", "--settle", "0", "--", *SLEEP)
    pid = shell.pid()
    shell.registry.unregister("my", "web")
    entry: DaemonEntry = wait_for(lambda: shell.registry.get("my", "web"))
    assert entry.pid == pid
    shell.ok("daemon", "stop", "my", "web")
    assert os.listdir(shell.registry.directory) == []


@pytest.mark.parametrize("how", ["unregister", "remove the directory", "remove the file"])
async def test_whatever_removed_an_entry_it_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(resident, "_RENEW_EVERY", 0.02)  # in place of 10 s
    registry = Registry(tmp_path / "daemons")
    registration = hold_entry(registry, DaemonEntry("my", "web"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(resident._renew, registration)
        match how:
            case "unregister":
                registry.unregister("my", "web")
            case "remove the file":
                (registry.directory / "my-web.json").unlink()
            case _:
                shutil.rmtree(registry.directory)
        entry = await wait_until(lambda: registry.get("my", "web"))
        assert entry.pid == os.getpid()
        nursery.cancel_scope.cancel()
    registration.withdraw()
    assert os.listdir(registry.directory) == []


def test_a_start_without_a_home_is_found_from_a_login_shell(shell: Shell) -> None:
    """Both find the home of the passwd entry; a program of its own stands for that file."""
    code = (
        "import os, pwd, sys; home = sys.argv.pop(1)\n"
        "real = pwd.getpwuid; pwd.getpwuid = lambda uid: type(real(uid))((*real(uid)[:5], home, real(uid)[6]))\n"
        "from trio_process._cli.daemon.files import StateFiles; from trio_process import default_registry\n"
        "print(default_registry().directory, StateFiles('a', 'b').directory)"
    )
    found = set()
    for home in ({}, {"HOME": ""}, {"HOME": "relative"}, {"HOME": str(shell.home)}):
        ended = subprocess.run(
            [sys.executable, "-c", code, str(shell.home)], capture_output=True, text=True, check=True, timeout=PATIENCE,
            env={"PATH": os.environ["PATH"], **home}, cwd=Path(__file__).parents[2],
        )  # fmt: skip
        found.add(ended.stdout)
    assert found == {f"{shell.home}/.core/daemons {shell.home}/.local/state/trio-process\n"}


@pytest.mark.parametrize("verb", ["stop", "status"])
def test_an_entry_of_another_boot_or_container_is_named_and_gets_no_signal(shell: Shell, verb: str) -> None:
    with subprocess.Popen(SLEEP) as stranger:
        shell.registry.register(DaemonEntry("my", "web", pid=stranger.pid))
        path = shell.registry.directory / "my-web.json"
        path.write_text(path.read_text().replace('"trio_process.boot": "', '"trio_process.boot": "x'))
        ended = shell.here("daemon", verb, "my", "web")
        assert ended.returncode == {"stop": 1, "status": 3}[verb]
        assert "another container, boot or machine" in ended.stdout + ended.stderr
        assert stranger.poll() is None
        assert path.exists()
        stranger.kill()
    shell.ok("daemon", "start", "my", "web", "--settle", "0", "--", *SLEEP)  # takes the entry's place
    assert shell.pid() != stranger.pid


# reload


def test_a_reload_sends_sighup_to_the_command(shell: Shell) -> None:
    said = shell.ok("daemon", "start", "my", "web", "--ready-line", "up", "--", "sh", "-c", TRAP)
    command = int(said.split("its command PID ")[1].split(",")[0])
    assert (
        shell.ok("daemon", "reload", "my", "web")
        == f"reloaded my/web: SIGHUP was sent to its command (PID {command})\n"
    )
    wait_for(lambda: log_of(shell).count("hangup\n") == 1)
    os.kill(shell.pid(), signal.SIGHUP)
    wait_for(lambda: log_of(shell).count("hangup\n") == 2)
    assert not is_gone(command)


def test_a_reload_of_another_program_is_refused(shell: Shell) -> None:
    assert "is not running" in shell.here("daemon", "reload", "my", "web").stderr
    with subprocess.Popen(SLEEP) as stranger:
        shell.registry.register(DaemonEntry("my", "web", pid=stranger.pid))
        ended = shell.here("daemon", "reload", "my", "web")
        assert ended.returncode == 1
        assert f"kill -HUP {stranger.pid}" in ended.stderr
        assert stranger.poll() is None
        stranger.kill()
        stranger.wait()


# what is printed


def test_a_crash_loop_is_one_line_per_restart_in_the_log(shell: Shell) -> None:
    script = "echo boom >&2; sleep 0.3; exit 3"
    shell.ok("daemon", "start", "my", "web", "--restart", "always", "--settle", "0", "--", "sh", "-c", script)
    wait_for(lambda: log_of(shell).count("restarting in") >= 2)
    shell.ok("daemon", "stop", "my", "web")
    ours = [line for line in log_of(shell).splitlines() if line != "boom"]
    assert "Traceback" not in log_of(shell)
    restarts = [line for line in ours if "restarting in" in line]
    assert all("3" in line.split("restarting in")[0] for line in restarts)
    assert len(ours) <= len(restarts) + 3  # and some words about the stop


@pytest.mark.parametrize(
    ("started", "age"), [("2999-01-01T00:00:00Z", "0 s"), ("0001-01-01T00:00:00Z", "-"), (None, "0 s")]
)
def test_ages_are_never_negative_and_a_zero_time_is_no_age(shell: Shell, started: str | None, age: str) -> None:
    shell.registry.directory.mkdir(parents=True)
    fields = {"code": "go", "daemon": "d", "pid": os.getpid(), "started": started}
    (shell.registry.directory / "go-d.json").write_text(json.dumps(fields))
    row = shell.ok("daemons").splitlines()[1]
    assert age in row
    assert "-1" not in row
    (entry,) = json.loads(shell.ok("daemons", "--json"))
    assert entry["age"] in ({"-": [None]}.get(age) or [pytest.approx(0, abs=5)])
    shell.registry.unregister("go", "d")


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:9090/health", "http://h:1", "127.0.0.1:9090/health", "https://h/"]
)
def test_a_url_in_the_place_of_an_address_is_told_so(shell: Shell, address: str) -> None:
    ended = shell.here("health", address)
    assert ended.returncode == 2
    assert "leave out 'http://' and the path" in ended.stderr


@pytest.mark.parametrize(
    ("place", "advice"),
    [
        ("a file", "set XDG_STATE_HOME to a directory that this user can write to"),
        ("below a file", "set XDG_STATE_HOME to a directory that this user can write to"),
        ("a full disk", "make room on its file system"),
    ],
)
def test_a_state_directory_that_cannot_be_written_is_named_with_advice(shell: Shell, place: str, advice: str) -> None:
    blocked = shell.home / "blocked"
    start = ("daemon", "start", "my", "web", "--", *SLEEP)
    if place == "a full disk":
        shell.state.mkdir(parents=True)
        with FaultyDisk(shell.state):
            ended = shell.here(*start)
    else:
        blocked.write_text("x")
        state = blocked if place == "a file" else blocked / "below"
        ended = shell.here(*start, env={"XDG_STATE_HOME": str(state)})
    assert ended.returncode == 1
    assert "order.json" in ended.stderr
    assert ended.stderr.endswith(f"; {advice}\n")
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (DaemonError("x; choose a pid_file on a local disk"), "x; set XDG_STATE_HOME to a place on a local disk"),
        (AlreadyRunningError(7, Path("/x.pid")), "already running: PID 7 holds the PID file /x.pid; stop it first"),
        (OSError(errno.ENOSPC, "full", "/other/x"), "/other/x: full; make room on its file system"),
        (OSError(errno.EACCES, "denied", "STATE/x"), "STATE/x: denied; set XDG_STATE_HOME to a directory that"),
        (OSError(errno.EACCES, "denied", "/other/x"), "/other/x: denied"),
        (OSError(errno.EAGAIN, "no more processes"), "no more processes"),
    ],
)
def test_the_advice_of_the_command_line_fits_what_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: ProcessError | OSError, said: str
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    state = str(state_directory())
    if isinstance(error, OSError) and error.filename:
        error.filename = error.filename.replace("STATE", state)
    found = explain(error).replace(state, "STATE")
    assert found.startswith(said) if said.endswith("that") else found == said


def test_an_unwritable_home_is_told_by_the_registry_with_advice_that_fits(shell: Shell) -> None:
    (shell.home / ".core").write_text("a file in the way")
    ended = shell.here("daemon", "start", "my", "web", "--", *SLEEP)
    assert ended.returncode == 1
    assert str(shell.home / ".core") in ended.stderr
    assert "Registry(" not in ended.stderr
    (shell.home / ".core").unlink()


def test_a_pid_file_that_is_not_one_is_told_of_by_start(shell: Shell) -> None:
    shell.ok("daemon", "start", "my", "web", "--settle", "0", "--", *SLEEP)
    shell.ok("daemon", "stop", "my", "web")
    (state,) = shell.state.glob("*.order.json")
    pid_file = state.with_name(state.name.replace(".order.json", ".pid"))
    pid_file.write_text("precious " * 100)
    ended = shell.here("daemon", "start", "my", "web", "--", *SLEEP)
    assert ended.returncode == 1
    assert "is not a PID file" in ended.stderr
    assert pid_file.read_text() == "precious " * 100


@pytest.mark.parametrize("mask", ["000", "002", "077"])
def test_whatever_the_umask_the_state_is_private_and_no_file_is_writable_by_others(shell: Shell, mask: str) -> None:
    before = os.umask(int(mask, 8))
    try:
        well(shell.here("daemon", "start", "my", "web", "--settle", "0", "--", *SLEEP, env={"XDG_STATE_HOME": ""}))
    finally:
        os.umask(before)
    state = shell.home / ".local" / "state" / "trio-process"
    assert state.stat().st_mode & 0o777 == 0o700
    for path in (*shell.home.rglob("*"),):
        assert not path.lstat().st_mode & 0o022, path
    well(shell.here("daemon", "stop", "my", "web", env={"XDG_STATE_HOME": ""}))


def test_what_is_bound_by_the_command_is_free_after_a_stop(shell: Shell) -> None:
    port = free_port()
    command = (
        sys.executable,
        "-c",
        f"import socket, signal; s = socket.create_server(('127.0.0.1', {port})); signal.pause()",
    )
    said = shell.ok("daemon", "start", "my", "web", "--tcp", f"127.0.0.1:{port}", "--", *command)
    shell.ok("daemon", "stop", "my", "web")
    gone(int(said.split("its command PID ")[1].split(",")[0]))
    with socket.create_server(("127.0.0.1", port)):
        pass
