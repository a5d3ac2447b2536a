"""A shell with a home of its own, for the tests of `trio-process daemon`."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import trio

from trio_process import Registry
from trio_process._cli.main import cli

PATIENCE = 60
SLEEP = (sys.executable, "-c", "import signal; signal.pause()")


class Ended(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


def well(ended: Ended) -> str:
    """Return what a command said that went well."""
    assert ended.returncode == 0, ended
    return ended.stdout


class Shell:
    """Runs `trio-process` with a home of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.registry = Registry(home / ".core" / "daemons")
        self.state = home / "state" / "trio-process"
        self.environment = {**os.environ, "HOME": str(home), "XDG_STATE_HOME": str(home / "state")}

    def run(self, *words: str, env: Mapping[str, str] | None = None) -> Ended:
        """Run it in a process of its own."""
        ended = subprocess.run(
            [sys.executable, "-m", "trio_process", *words],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            env={**self.environment, **(env or {})},
            check=False,
        )
        return Ended(ended.returncode, ended.stdout, ended.stderr)

    def here(self, *words: str, env: Mapping[str, str] | None = None) -> Ended:
        """Run what starts nothing in this process, as starting another takes longer; an exception fails the test."""
        out, err = io.StringIO(), io.StringIO()
        code: object = None
        with patch.dict(os.environ, {**self.environment, **(env or {})}), redirect_stdout(out), redirect_stderr(err):
            try:
                cli(words, prog_name="trio-process")
            except SystemExit as ended:
                code = ended.code
        if isinstance(code, str):
            err.write(f"{code}\n")  # as the interpreter does (sys.exit)
            code = 1
        assert code is None or isinstance(code, int)
        return Ended(code or 0, out.getvalue(), err.getvalue())

    def ok(self, *words: str) -> str:
        """Run what must go well: in this process what only looks or stops, in one of its own what starts something."""
        return well((self.run if words[1:2] in (("start",), ("restart",)) else self.here)(*words))

    def pid(self) -> int:
        entry = self.registry.get("my", "web")
        assert entry is not None
        assert entry.pid is not None
        return entry.pid


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
