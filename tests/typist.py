"""Somebody at a real terminal, for the tests of the command line."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from forked import program

PROGRAM = [sys.executable, "-m", "trio_process"]  # as a command of its own it is forked, and so is `python -c`
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
def at_a_terminal(
    *command: str, directory: str | os.PathLike[str] = ".", environment: Mapping[str, str] | None = None
) -> Iterator[Typist]:
    """Run a command at a terminal of its own, by default in a plain one's environment."""
    pid, master = pty.fork()
    if pid == 0:
        try:
            os.chdir(directory)
            environment = environment or {**os.environ, "TERM": "dumb", "PS1": "ready> "}
            if list(command[: len(PROGRAM)]) == PROGRAM or list(command[:2]) == [sys.executable, "-c"]:
                program(command, environment)["preexec_fn"]()
            os.execvpe(command[0], command, environment)
        finally:
            os._exit(127)
    typist = Typist(pid, master)
    try:
        yield typist
    finally:
        if typist.pid:
            os.kill(typist.pid, signal.SIGKILL)
            os.waitpid(typist.pid, 0)
        if typist.master >= 0:  # else the test has closed it
            os.close(typist.master)
