"""`trio-process exec` without a terminal: what is ours on the command line, and what is the command's."""

import subprocess
import sys

import pytest


def execute(*words):
    command = [sys.executable, "-m", "trio_process", "exec", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_an_option_that_there_is_not_is_a_fault_of_usage_and_nothing_runs():
    done = execute("--tiemout", "5", "--", "echo", "ran")
    assert (done.returncode, done.stdout) == (2, "")
    assert "No such option: --tiemout" in done.stderr or "No such option '--tiemout'" in done.stderr


@pytest.mark.parametrize("words", [["--", "echo", "--name", "x"], ["--name", "n", "echo", "--name", "x"]])
def test_what_follows_the_command_is_the_commands(words):
    done = execute(*words)
    assert (done.returncode, done.stdout) == (0, "--name x\n")
