"""What the commands do and say when their own output can't be written: a full disk, a reader that has left."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import forked
import pytest
import trio

from trio_process import HealthServer, Registry

FULL = "No space left on device"
PATIENCE = 60


class Shell:
    """Runs `trio-process` with a home of its own, its stdout on a full disk."""

    def __init__(self, home: Path) -> None:
        self.registry = Registry(home / ".core" / "daemons")
        self.environment = {**os.environ, "HOME": str(home), "XDG_STATE_HOME": str(home / "state")}
        self.environment.pop("PYTHONUNBUFFERED", None)

    def run(self, words: str, to: str = ">/dev/full") -> subprocess.CompletedProcess[str]:
        """Run it without another start of Python."""
        with open("/dev/full", "w") as full:
            streams = {"stdout": full, "stderr": full if to.endswith("2>&1") else subprocess.PIPE}
            ended = forked.run(shlex.split(words), **streams, timeout=PATIENCE, env=self.environment)
        return self._without_traceback(ended)

    def program(self, words: str) -> subprocess.CompletedProcess[str]:
        """Run it as its user starts it."""
        ended = subprocess.run(
            ["bash", "-c", f"{sys.executable} -m trio_process {words} >/dev/full"],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            env=self.environment,
            check=False,
        )
        return self._without_traceback(ended)

    def _without_traceback(self, ended: subprocess.CompletedProcess[str]) -> subprocess.CompletedProcess[str]:
        ended.stdout, ended.stderr = ended.stdout or "", ended.stderr or ""
        assert "Traceback" not in ended.stderr
        assert "Exception ignored" not in ended.stderr
        return ended


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(tmp_path)
    yield shell
    if shell.registry.list():
        shell.run("daemon stop my web")
    assert shell.registry.list() == []


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_what_is_done_to_a_daemon_is_done_and_told_on_stderr(shell: Shell, unbuffered: str) -> None:
    # a buffer keeps what could not be written, and fails again at the end; without one, a write of nothing fails
    shell.environment["PYTHONUNBUFFERED"] = unbuffered
    started = shell.run("daemon start my web --settle 0 -- sleep 1000")
    assert (started.returncode, started.stdout) == (0, "")
    complaint, first, log = started.stderr.splitlines()
    assert complaint == f"trio-process: stdout can't be written ([Errno 28] {FULL}); the output is:"
    entry = shell.registry.get("my", "web")
    assert entry is not None
    assert first.startswith(f"started my/web: PID {entry.pid}, ")
    assert log.startswith("log: ")

    restarted = shell.run("daemon restart my web")
    assert restarted.returncode == 0
    assert [line.split()[0] for line in restarted.stderr.splitlines()] == [
        "trio-process:",
        "stopped",
        "started",
        "log:",
    ]
    again = shell.registry.get("my", "web")
    assert again is not None
    assert again.pid != entry.pid

    listed = shell.run("daemons")
    assert (listed.returncode, FULL in listed.stderr) == (1, True)
    asked = shell.run("daemon status my web")
    assert (asked.returncode, f"pid      {again.pid}" in asked.stderr) == (0, True)
    asked = shell.run("daemon status --json my web")
    assert (asked.returncode, FULL in asked.stderr) == (1, True)

    stopped = shell.run("daemon stop my web")
    assert (stopped.returncode, "stopped my/web" in stopped.stderr) == (0, True)
    asked = shell.run("daemon status my web")
    assert (asked.returncode, "my/web is not running" in asked.stderr) == (3, True)


def test_neither_a_reader_that_left_nor_a_full_stderr_makes_a_start_a_failure(shell: Shell) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        words = ["daemon", "start", "my", "web", "--settle", "0", "--", "sleep", "9"]
        started = forked.run(words, stdout=writing, timeout=PATIENCE, env=shell.environment)
    finally:
        os.close(writing)
    assert (started.returncode, started.stderr) == (0, "")
    assert shell.run("daemon stop my web", ">/dev/full 2>&1").returncode == 0
    assert shell.registry.get("my", "web") is None


@pytest.mark.parametrize("words", ["--version", "daemon start --help"])
def test_a_help_text_that_can_not_be_written_is_told(shell: Shell, words: str) -> None:
    ended = shell.program(words)
    assert ended.returncode == 1
    assert ended.stderr == f"trio-process: stopped, because the output can't be written: [Errno 28] {FULL}\n"


@pytest.mark.parametrize(
    ("words", "status"),
    [
        ("exec -- sh -c 'exit 3'", 3),
        ("exec -- no-such-program", 127),
        ("run -f no-such-file", 2),
        ("run --help", 1),
        ("daemon status my web", 3),
    ],
)
def test_where_nothing_can_be_said_the_exit_status_still_says_it(shell: Shell, words: str, status: int) -> None:
    assert shell.run(words, ">/dev/full 2>&1").returncode == status


async def test_a_healthy_server_is_healthy_on_a_full_disk_too(shell: Shell) -> None:
    with trio.fail_after(PATIENCE):
        async with HealthServer("127.0.0.1:0") as server:
            asked = await trio.to_thread.run_sync(shell.run, f"health {server.addr}")
            assert (asked.returncode, f"{server.addr}: healthy" in asked.stderr) == (0, True)
