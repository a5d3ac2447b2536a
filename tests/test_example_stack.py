"""A real stack, from the documentation: Redis, a migration, a web server; killed one by one and together."""

import os
import shutil
import signal
import sys
import tempfile
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

import forked
import pytest
import trio
from support import free_port, wait_gone

from trio_process._cli.instance import Instance

STACK = Path(__file__).parent.parent / "docs" / "examples" / "stack"
LIMIT = 60.0


class Stack:
    """The stack in a directory of its own, at a free port."""

    def __init__(self, directory):
        self.port = free_port()
        self.directory = directory / "stack"
        shutil.copytree(STACK, self.directory)
        self.file = self.directory / "trio-process.toml"
        self.file.write_text(
            self.file.read_text().replace("8000", str(self.port)).replace('"python3"', f'"{sys.executable}"')
        )

    def run(self, *args):
        done = forked.run(args, cwd=self.directory, timeout=LIMIT)
        assert done.returncode == 0, done
        return done.stdout

    def rows(self):
        """Return what `ps` shows, without starting a program for it each time."""
        return {row["name"]: row for row in trio.run(Instance(self.file).client().get, "/services")}

    def visit(self):
        """Return what the web server says, once it does."""
        deadline = time.monotonic() + LIMIT
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/", timeout=LIMIT) as answer:
                    return answer.read().decode()
            except OSError:
                assert time.monotonic() < deadline, self.run("logs")
                time.sleep(0.02)  # it is being started again

    def kill(self, *names):
        """Kill services, and return the PIDs of all when those are ready again."""
        before = self.rows()
        for name in names:
            with suppress(ProcessLookupError):  # the web server may have ended of its database's death already
                os.kill(before[name]["pid"], signal.SIGKILL)
        deadline = time.monotonic() + LIMIT
        while True:
            rows = self.rows()
            if all(
                rows[name]["ready"] and rows[name]["pid"] not in (None, before[name]["pid"]) for name in ("web", *names)
            ):
                return rows
            assert time.monotonic() < deadline, self.run("logs")
            time.sleep(0.02)


@pytest.mark.skipif(shutil.which("redis-server") is None, reason="redis-server is not installed")
def test_a_real_stack_stays_up_whatever_is_killed_and_ends_without_a_trace(monkeypatch):
    with tempfile.TemporaryDirectory(prefix="tp") as name:  # the path of a unix socket has at most 107 bytes
        monkeypatch.setenv("XDG_STATE_HOME", name)
        stack = Stack(Path(name))
        stack.run("up", "-d", "--wait", "--timeout", "60")
        try:
            first = stack.rows()
            assert {name: row["state"] for name, row in first.items()} == {
                "redis": "ready", "migrate": "completed", "web": "ready"
            }  # fmt: skip
            assert [stack.visit(), stack.visit()] == ["visitor 1", "visitor 2"]
            second = stack.kill("web")
            assert second["redis"]["pid"] == first["redis"]["pid"]
            assert stack.visit() == "visitor 3"
            third = stack.kill("redis")  # its data is lost, so the others are restarted, in order
            assert third["migrate"]["generation"] == 2
            assert stack.visit() == "visitor 1"
            fourth = stack.kill("redis", "web")
            assert stack.visit() == "visitor 1"
            with stack.file.open("a") as file:
                file.write('env = { GREETING = "guest" }\n')
            assert stack.run("reload") == "changed web (env)\n"
            assert stack.visit() == "guest 2"
            fifth = stack.rows()
            assert fifth["redis"]["pid"] == fourth["redis"]["pid"]
        finally:
            stack.run("down")
        trio.run(
            wait_gone,
            *{row["pid"] for rows in (first, second, third, fourth, fifth) for row in rows.values() if row["pid"]},
        )
