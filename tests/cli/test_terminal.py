"""`trio-process exec` in a real terminal: what is typed reaches the command, and the terminal comes back to us."""

from __future__ import annotations

import os
import signal
import sys

import pytest
from typist import PROGRAM, at_a_terminal


def test_cat_can_be_typed_into_and_is_the_foreground_group_while_it_runs() -> None:
    with at_a_terminal(*PROGRAM, "exec", "--", "sh", "-c", "echo up; exec cat") as typist:
        typist.wait_for("up")
        ours = os.getpgid(typist.pid)
        typist.wait_for_group(lambda group: group != ours)
        typist.type("hello\n")
        typist.wait_for("hello\r\nhello\r\n")
        typist.type("\x04")
        assert typist.end() == 0


def test_python_is_interactive() -> None:
    with at_a_terminal(*PROGRAM, "exec", "--", sys.executable, "-q") as typist:
        typist.wait_for(">>> ")
        typist.type("print(6 * 7)\n")
        typist.wait_for("\n42\r\n")
        typist.type("raise SystemExit(5)\n")
        assert typist.end() == 5


@pytest.mark.parametrize(("key", "number"), [("\x03", signal.SIGINT), ("\x1c", signal.SIGQUIT)])
def test_keys_that_signal_go_to_the_command(key: str, number: int) -> None:
    with at_a_terminal(*PROGRAM, "exec", "--", "sh", "-c", "ulimit -c 0; echo up; exec cat") as typist:
        typist.wait_for("up")
        ours = os.getpgid(typist.pid)
        typist.wait_for_group(lambda group: group != ours)
        typist.type(key)
        assert typist.end() == 128 + number


def test_a_shell_gets_its_terminal_back_when_the_command_ends_is_killed_or_suspended() -> None:
    quoted = " ".join(PROGRAM)
    with at_a_terminal("bash", "--norc", "-i") as typist:
        typist.wait_for("ready> ")
        shell = typist.wait_for_group(lambda group: group > 0)

        typist.type(f"{quoted} exec -- sh -c 'echo u''p $$; exec cat'\n")
        typist.wait_for(r"up (\d+)\r\n")
        typist.type("one\n")
        typist.wait_for("one\r\none\r\n")
        typist.type("\x1a")  # Ctrl-Z
        typist.wait_for("Stopped")
        typist.wait_for("ready> ")
        typist.wait_for_group(lambda group: group == shell)

        typist.type("fg\n")
        typist.wait_for_group(lambda group: group != shell)
        typist.type("two\n")
        typist.wait_for("two\r\ntwo\r\n")
        typist.type("\x04")
        typist.wait_for("ready> ")
        typist.wait_for_group(lambda group: group == shell)

        typist.type(f"{quoted} exec -- sh -c 'echo u''p $$; exec cat'\n")
        command = int(typist.wait_for(r"up (\d+)\r\n")[1])
        typist.wait_for_group(lambda group: group == command)
        os.kill(command, signal.SIGKILL)
        typist.wait_for("ready> ")
        typist.wait_for_group(lambda group: group == shell)
        typist.type("echo code $?\n")
        typist.wait_for("code 137")
        typist.type("exit 0\n")
        assert typist.end() == 0
