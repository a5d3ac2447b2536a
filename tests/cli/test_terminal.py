"""`trio-process exec` in a real terminal: what is typed reaches the command, and the terminal comes back to us."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

PROGRAM = [sys.executable, "-m", "trio_process"]
PATIENCE = 30.0


class Typist:
    """Somebody at a terminal: types, and waits for what appears."""

    def __init__(self, pid: int, master: int) -> None:
        self.pid = pid
        self.master = master
        self.seen = ""

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Wait until `pattern` appears behind what was waited for before."""
        deadline = time.monotonic() + PATIENCE
        while True:
            match = re.search(pattern, self.seen)
            if match:
                self.seen = self.seen[match.end() :]
                return match
            ready = select.select([self.master], [], [], max(0, deadline - time.monotonic()))[0]
            assert ready, f"{pattern!r} never came; there was {self.seen!r}"
            try:
                data = os.read(self.master, 65536)
            except OSError:
                data = b""
            assert data, f"the terminal was closed before {pattern!r}; there was {self.seen!r}"
            self.seen += data.decode(errors="replace")

    def wait_for_group(self, wanted: object) -> int:
        """Wait until the terminal's foreground group satisfies `wanted`."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            group = os.tcgetpgrp(self.master)
            if wanted(group):  # type: ignore[operator]
                return group
            select.select([], [], [], 0.01)
        raise AssertionError(f"the foreground group stayed {os.tcgetpgrp(self.master)}")

    def end(self) -> int:
        """Wait for the end; return the exit code."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.pid = 0
                return os.waitstatus_to_exitcode(status)
            if select.select([self.master], [], [], 0.01)[0]:
                try:
                    self.seen += os.read(self.master, 65536).decode(errors="replace")
                except OSError:
                    select.select([], [], [], 0.01)
        raise AssertionError(f"it never ended; there was {self.seen!r}")


@contextmanager
def at_a_terminal(*command: str) -> Iterator[Typist]:
    pid, master = pty.fork()
    if pid == 0:
        try:
            os.execvpe(command[0], command, {**os.environ, "TERM": "dumb", "PS1": "ready> "})
        finally:
            os._exit(127)
    typist = Typist(pid, master)
    try:
        yield typist
    finally:
        if typist.pid:
            os.kill(typist.pid, signal.SIGKILL)
            os.waitpid(typist.pid, 0)
        os.close(master)


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
