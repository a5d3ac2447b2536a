"""`trio-process daemon`, `daemons` and `health`, as somebody at a shell uses them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path

import forked
import pytest
import trio
from click.testing import CliRunner
from daemon_shell import PATIENCE, SLEEP, Shell, gone, well
from forked import Forked
from support import free_port

from trio_process import DaemonEntry, HealthServer
from trio_process._cli.main import cli


def test_a_command_is_started_shown_and_stopped(shell: Shell) -> None:
    command = ("sh", "-c", "echo it is up; exec sleep 1000")
    said = well(shell.program("daemon", "start", "my", "web", "--ready-line", "is up", "--", *command))
    pid = shell.pid()
    command_pid = int(said.split("its command PID ")[1].split(",")[0])
    assert f"started my/web: PID {pid}" in said

    assert well(shell.run("daemon", "status", "my", "web")).startswith("code     my\n")
    listed = json.loads(well(shell.run("daemons", "--json")))
    assert [(entry["code"], entry["daemon"], entry["pid"]) for entry in listed] == [("my", "web", pid)]
    assert str(pid) in well(shell.run("daemons"))
    assert well(shell.run("daemon", "logs", "my", "web")) == "it is up\n"

    assert well(shell.run("daemon", "stop", "my", "web")).startswith(f"stopped my/web (PID {pid})")
    gone(command_pid)
    ended = shell.run("daemon", "status", "my", "web", "--json")
    assert (ended.returncode, json.loads(ended.stdout)["running"]) == (3, False)
    assert well(shell.run("daemon", "stop", "my", "web")) == "my/web is not running\n"
    assert well(shell.run("daemons")) == "no daemon is running\n"


def test_a_second_one_is_refused_and_told_who_runs(shell: Shell) -> None:
    shell.ok("daemon", "start", "my", "web", "--settle", "0", "--", *SLEEP)
    ended = shell.here("daemon", "start", "my", "web", "--", *SLEEP)
    assert ended.returncode == 1
    assert f"already running: PID {shell.pid()}" in ended.stderr


def test_restart_repeats_the_last_start(shell: Shell) -> None:
    shell.ok("daemon", "start", "my", "web", "--settle", "0.1", "--", *SLEEP)
    first = shell.pid()
    said = shell.ok("daemon", "restart", "my", "web")
    assert f"stopped my/web (PID {first})" in said
    assert shell.pid() != first
    assert shell.here("daemon", "restart", "my", "other").returncode == 1


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
    ended = shell.here("daemon", "start", "my", "web", "--settle", "20", "--", *command)
    assert ended.returncode == 1
    assert why in ended.stderr
    assert "Traceback" not in ended.stderr
    assert shell.registry.list() == []
    assert not list(shell.state.glob("*.pid"))


def test_one_that_is_never_healthy_is_stopped_when_the_time_is_up(shell: Shell) -> None:
    ended = shell.here("daemon", "start", "my", "web", "--tcp", "127.0.0.1:1", "--timeout", "0.5", "--", *SLEEP)
    assert ended.returncode == 1
    assert "not healthy within 0.5 s" in ended.stderr
    assert shell.registry.list() == []


def test_a_port_and_a_url_tell_that_it_is_healthy(shell: Shell) -> None:
    port = free_port()
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
    assert shell.here("daemon", "status", "my", "web").returncode == 3
    assert shell.ok("daemon", "stop", "my", "web") == "my/web is not running\n"
    shell.ok("daemon", "start", "my", "web", "--settle", "0", "--", *SLEEP)
    assert shell.pid() != resident


def test_a_resident_that_does_not_stop_is_killed_and_that_is_said(shell: Shell) -> None:
    stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); signal.pause()"
    shell.ok(
        "daemon", "start", "my", "web", "--ready-line", "up", "--grace", "60", "--", sys.executable, "-c", stubborn
    )
    ended = shell.here("daemon", "stop", "my", "web", "--timeout", "0.3")
    assert ended.returncode == 1  # it may have lost something
    assert ended.stdout.startswith("killed my/web")
    assert shell.ok("daemons") == "no daemon is running\n"


@pytest.mark.parametrize(
    ("grace", "on_term", "status"),
    [
        ("0.3", "", 1),
        ("0.3", "sleep 30", 1),
        ("30", "exit 0", 0),
        ("0", "", 0),
    ],  # without a grace SIGKILL is what was asked for
)
def test_a_command_that_its_resident_had_to_kill_is_no_success(
    shell: Shell, grace: str, on_term: str, status: int
) -> None:
    script = f"trap '{on_term}' TERM; echo up; while :; do sleep 0.05; done"
    shell.ok("daemon", "start", "my", "web", "--ready-line", "up", "--grace", grace, "--", "sh", "-c", script)
    ended = shell.here("daemon", "stop", "my", "web")
    assert ended.returncode == status, ended
    assert ended.stdout.startswith("stopped my/web")
    assert ("its command was killed: it had not ended within 0.3 s of SIGTERM" in ended.stdout) == bool(status)


def test_a_target_that_accepts_connections_and_never_answers_is_named(shell: Shell) -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        url = f"http://127.0.0.1:{stranger.getsockname()[1]}/health"
        failed = shell.here("daemon", "start", "my", "web", "--health-url", url, "--timeout", "3", "--", *SLEEP)
    assert failed.returncode == 1
    assert f"it was not healthy within 3 s: no answer came from {url}" in failed.stderr


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
    follower = Forked(
        ["daemon", "logs", "-f", "my", "web"],
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
        ask = [sys.executable, "-m", "trio_process", "health", server.addr, "--timeout", "3"]
        with trio.fail_after(PATIENCE):
            healthy = await trio.run_process(ask, capture_stdout=True, env=shell.environment)
            ready = await trio.to_thread.run_sync(shell.run, *ask[3:], "--ready")
    assert healthy.stdout.decode().endswith("healthy\n")
    assert (ready.returncode, "not ready" in ready.stderr) == (1, True)
    assert shell.run("health", "nonsense").returncode == 2


def test_ctrl_c_ends_the_question_for_health_with_130_and_no_word(shell: Shell) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(PATIENCE)
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with Forked(
            ["health", address, "--timeout", "1000"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=shell.environment,
        ) as asking:
            try:
                connection, _ = server.accept()
                asking.send_signal(signal.SIGINT)
                said, _ = asking.communicate(timeout=PATIENCE)
                connection.close()
            finally:
                asking.kill()
    assert (asking.returncode, said) == (130, b"")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--tcp", "nonsense"),
        ("--tcp", ":99999"),
        ("--tcp", "unix:/x"),
        ("--health-url", "nonsense"),
        ("--health-url", "file:///etc/passwd"),
        ("--health-url", "http://127.0.0.1:x/"),
        ("--tcp", ":0"),
        ("--ready-line", "up\n"),
        ("--settle", "nan"),
        ("--settle", "30"),
        ("--settle", "1m"),
    ],
)
def test_what_can_never_be_healthy_is_refused_before_anything_runs(shell: Shell, option: str, value: str) -> None:
    ended = shell.here("daemon", "start", "my", "web", option, value, "--", *SLEEP)
    assert ended.returncode == 2
    assert f"Invalid value for '{option}'" in ended.stderr
    assert not shell.state.exists()


def test_a_start_that_is_refused_does_not_change_what_restart_does(shell: Shell) -> None:
    command = ("sh", "-c", "while :; do sleep 1000; done", "sh")
    shell.ok("daemon", "start", "my", "web", "--settle", "0", "--", *command, "first")
    assert shell.here("daemon", "start", "my", "web", "--", *command, "second").returncode == 1
    assert "first" in (shell.state / order_file(shell)).read_text()
    said = shell.ok("daemon", "restart", "my", "web")
    command = int(said.split("its command PID ")[1].split(",")[0])
    assert b"first" in Path(f"/proc/{command}/cmdline").read_bytes()


def order_file(shell: Shell) -> str:
    (found,) = shell.state.glob("*.order.json")
    return found.name


async def test_a_server_that_talks_nonsense_is_not_healthy_and_no_traceback(shell: Shell) -> None:
    async def nonsense(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"hello\r\n\r\n")
        await stream.aclose()

    start = ["daemon", "start", "my", "web", "--timeout", "1", "--health-url"]
    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, nonsense, 0, host="127.0.0.1"))
        url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}/"
        ended = await trio.to_thread.run_sync(lambda: shell.run(*start, url, "--", *SLEEP))
        nursery.cancel_scope.cancel()
    assert ended.returncode == 1
    assert "not healthy within 1 s" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_start_that_is_interrupted_is_taken_back(shell: Shell, number: signal.Signals) -> None:
    words = ("daemon", "start", "my", "web", "--settle", "1000", "--timeout", "2000", "--", "sh", "-c")
    with Forked(
        [*words, "echo $$ > $0; exec sleep 1000", str(fifo(shell))],
        env=shell.environment,
        stderr=subprocess.PIPE,
    ) as starting:
        command = int(fifo(shell).read_text())
        starting.send_signal(number)
        _, errors = starting.communicate(timeout=PATIENCE)
    assert (starting.returncode, b"Traceback" in errors) == (128 + number, False)
    assert b"stopped again" in errors
    gone(command)
    assert shell.registry.list() == []
    assert not list(shell.state.glob("*.[0-9]*.order.json"))


@pytest.mark.parametrize("name", ["a/b ünï", "new\nline\x1b[31m", "x" * 300, "-x"])
def test_names_out_of_the_ordinary_are_names_and_harm_no_terminal(shell: Shell, name: str) -> None:
    shell.ok("daemon", "start", "--settle", "0", "--", name, "web", *SLEEP)
    try:
        assert [entry.code for entry in shell.registry.list()] == [name]
        shown = shell.ok("daemon", "status", "--", name, "web") + shell.ok("daemons")
        assert "\x1b" not in shown
    finally:
        said = shell.ok("daemon", "stop", "--", name, "web")
    assert said.startswith("stopped ")
    assert said.count("\n") == 1
    assert all(file.name.isprintable() for file in shell.state.iterdir())


def test_a_name_that_the_encoding_of_the_output_lacks_is_listed_all_the_same(shell: Shell) -> None:
    with shell.registry.registered(DaemonEntry("my", "ü")):
        assert "\\xfc" in well(shell.program("daemons", env={"PYTHONIOENCODING": "ascii"}))


@pytest.mark.parametrize("name", [b"..", b"../../x", b"", b"\xff\xfe"])
@pytest.mark.parametrize("verb", ["start", "stop", "status", "logs", "restart"])
def test_names_that_cannot_be_keys_are_refused_in_one_line(shell: Shell, verb: str, name: bytes) -> None:
    command = ("sleep", "1") if verb == "start" else ()
    ended = CliRunner().invoke(cli, ["daemon", verb, "--", os.fsdecode(name), "web", *command], env=shell.environment)
    assert ended.exit_code == 1
    assert ended.output.startswith("trio-process daemon: code must ")
    assert ended.output.count("\n") == 1
    assert not shell.state.exists()


def test_one_that_is_suspended_is_stopped_like_any_other(shell: Shell) -> None:
    shell.ok("daemon", "start", "my", "web", "--settle", "0", "--", *SLEEP)
    os.kill(shell.pid(), signal.SIGSTOP)
    assert shell.ok("daemon", "stop", "my", "web").startswith("stopped my/web")


def test_when_stop_has_killed_it_the_command_is_gone_too(shell: Shell) -> None:
    stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); signal.pause()"
    said = shell.ok("daemon", "start", "my", "web", "--ready-line", "up", "--", sys.executable, "-c", stubborn)
    command = int(said.split("its command PID ")[1].split(",")[0])
    ended = shell.here("daemon", "stop", "my", "web", "--timeout", "0")
    assert (ended.returncode, ended.stdout[:13]) == (1, "killed my/web")
    assert not Path(f"/proc/{command}").exists() or state_of(command) == "Z"


def test_the_entry_of_another_pid_namespace_gets_no_signal(shell: Shell) -> None:
    with subprocess.Popen(SLEEP) as stranger:
        with shell.registry.registered(DaemonEntry("my", "web", pid=stranger.pid)):  # locked, and not by that PID
            ended = shell.here("daemon", "stop", "my", "web")
        assert ended.returncode == 1
        assert "elsewhere" in ended.stderr
        assert stranger.poll() is None
        stranger.kill()


def test_following_a_log_ends_when_its_reader_leaves(shell: Shell) -> None:
    shell.ok("daemon", "start", "my", "web", "--ready-line", "one", "--", "sh", "-c", "echo one; exec sleep 1000")
    follower = Forked(
        ["daemon", "logs", "-f", "my", "web"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=shell.environment,
    )
    with follower:
        assert follower.stdout is not None
        assert follower.stderr is not None
        assert follower.stdout.readline() == b"one\n"
        follower.stdout.close()
        assert follower.stderr.read() == b""
        assert follower.wait(PATIENCE) in (0, 141)


def test_a_log_that_is_rotated_and_one_that_is_emptied_are_followed(shell: Shell) -> None:
    shell.ok("daemon", "start", "my", "web", "--settle", "0", "--", *SLEEP)
    (log,) = shell.state.glob("*.log")
    log.write_text("one\n")
    follower = Forked(
        ["daemon", "logs", "-f", "my", "web"],
        stdout=subprocess.PIPE,
        env=shell.environment,
    )
    with follower:
        assert follower.stdout is not None
        assert follower.stdout.readline() == b"one\n"
        log.rename(log.with_suffix(".log.1"))
        log.write_text("two, which is longer\n")
        assert follower.stdout.readline() == b"two, which is longer\n"
        log.write_text("three\n")
        assert follower.stdout.readline() == b"three\n"
        follower.send_signal(signal.SIGINT)
        assert follower.wait(PATIENCE) == 130


def test_a_progress_bar_in_a_log_is_one_line(shell: Shell) -> None:
    shell.ok("daemon", "start", "my", "web", "--settle", "0", "--", *SLEEP)
    (log,) = shell.state.glob("*.log")
    log.write_bytes(b"one\ntwo\r\n1%\r2%\r3%\nend")
    ended = forked.run(["daemon", "logs", "-n", "3", "my", "web"], timeout=PATIENCE, env=shell.environment, text=False)
    assert ended.stdout == b"two\r\n1%\r2%\r3%\nend"


def test_without_a_home_the_files_go_where_nobody_else_writes(shell: Shell, tmp_path: Path) -> None:
    nowhere = {"HOME": "", "XDG_STATE_HOME": "relative", "TMPDIR": str(tmp_path)}
    ended = shell.here("daemon", "logs", "no", "body", env=nowhere)
    assert "/relative" not in ended.stderr
    assert "(/.local" not in ended.stderr
    assert "no/body has no log yet (/" in ended.stderr


def test_closed_standard_streams_are_no_traceback(shell: Shell) -> None:
    def run(words: str) -> subprocess.CompletedProcess[str]:
        script = f"exec {sys.executable} -m trio_process daemon {words} <&- >&-"
        return subprocess.run(
            ["sh", "-c", script],
            stderr=subprocess.PIPE,
            text=True,
            env=shell.environment,
            timeout=PATIENCE,
            check=False,
        )

    assert run("start my web --settle 0 -- sleep 1000").returncode == 0
    for words in ("status my web", "logs my web", "logs -f no body", "stop my web"):
        ended = run(words)
        assert "Traceback" not in ended.stderr
        assert ended.returncode == (1 if "body" in words else 0)


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
