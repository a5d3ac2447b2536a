"""`trio-process exec` without a terminal: what is ours on the command line, and what is the command's."""

import os
import signal
import subprocess
import sys
import time

import forked
import pytest
from forked import Forked


def execute(*words, stdout=subprocess.PIPE, stderr=subprocess.PIPE):
    return forked.run(["exec", *words], stdout=stdout, stderr=stderr, timeout=60)


def test_an_option_that_there_is_not_is_a_fault_of_usage_and_nothing_runs():
    done = execute("--tiemout", "5", "--", "echo", "ran")
    assert (done.returncode, done.stdout) == (2, "")
    assert "No such option: --tiemout" in done.stderr or "No such option '--tiemout'" in done.stderr


@pytest.mark.parametrize("words", [["--", "echo", "--name", "x"], ["--name", "n", "echo", "--name", "x"]])
def test_what_follows_the_command_is_the_commands(words):
    done = execute(*words)
    assert (done.returncode, done.stdout) == (0, "--name x\n")


@pytest.mark.parametrize(
    ("script", "status"),
    [("echo said", 1), ("echo said; exit 3", 3), ("echo said; kill -9 $$", 137), ("exit 0", 0), ("echo said >&2", 0)],
)
def test_output_that_a_full_disk_did_not_take_is_no_success(script, status):
    with open("/dev/full", "w") as full:
        done = execute("--", "sh", "-c", script, stdout=full)
    assert done.returncode == status
    told = "trio-process exec: stdout of this program accepts no more output of processes: [Errno 28]" in done.stderr
    assert told == ("said;" in script or script == "echo said")


@pytest.mark.parametrize(("script", "status"), [("echo said >&2", 1), ("echo said >&2; exit 3", 3), ("echo said", 0)])
def test_errors_that_a_full_disk_did_not_take_are_no_success(script, status):
    with open("/dev/full", "w") as full:
        done = execute("--", "sh", "-c", script, stderr=full)
    assert done.returncode == status


def test_a_reader_that_left_is_no_loss_but_the_end_by_sigpipe():
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = execute("--", "sh", "-c", "while echo said; do :; done", stdout=writing)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, "")


def with_a_stuck_reader(*words):
    """Start with stdout and stderr on one pipe that nobody reads; return the process and the pipe's end."""
    reading, writing = os.pipe()
    try:
        return Forked(["exec", *words], stdout=writing, stderr=writing), reading
    finally:
        os.close(writing)


def test_a_timeout_strikes_though_the_reader_of_our_output_is_stuck():
    process, reading = with_a_stuck_reader(
        "--timeout", "0.3", "--", "sh", "-c", "head -c 1000000 /dev/zero; exec sleep 60"
    )
    try:
        assert process.wait(30) == 128 + signal.SIGTERM
    finally:
        process.kill()
        process.wait()
        os.close(reading)


def test_a_signal_ends_what_only_waits_for_a_stuck_reader(tmp_path):
    ended = tmp_path / "ended"
    script = f"head -c 300000 /dev/zero; echo >{ended}"
    process, reading = with_a_stuck_reader("--", "sh", "-c", script)
    try:
        deadline = time.monotonic() + 30
        while not ended.exists():  # then a signal strikes either the command's last moment, or the waiting
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) in (0, 128 + signal.SIGTERM)
    finally:
        process.kill()
        process.wait()
        os.close(reading)


def test_a_fifo_that_is_its_own_reader_is_no_reader_that_has_left(tmp_path):
    run = f"{sys.executable} -m trio_process exec -- sh -c 'echo one; sleep 0.3; echo two'"
    script = f"mkfifo fifo; exec 7<>fifo; {run} >&7; echo $?; read one <&7; read two <&7; echo $one $two"
    done = subprocess.run(["sh", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.split() == ["0", "one", "two"]
