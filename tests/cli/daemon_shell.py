"""A shell with a home of its own, for the tests of `trio-process daemon`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import forked
import trio
from invoke import Ended, invoke

from trio_process import Registry

PATIENCE = 60
SLEEP = ("sleep", "1000")


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
        ended = forked.run(words, timeout=PATIENCE, env={**self.environment, **(env or {})})
        return Ended(ended.returncode, ended.stdout, ended.stderr)

    def program(self, *words: str, env: Mapping[str, str] | None = None) -> Ended:
        """Run the program, as its user starts it."""
        ended = subprocess.run(
            [sys.executable, "-m", "trio_process", *words],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            env={**self.environment, **(env or {})},
            check=False,
        )
        return Ended(ended.returncode, ended.stdout, ended.stderr)

    def here(self, *words: str, cwd: Path | str = ".", env: Mapping[str, str | None] | None = None) -> Ended:
        """Run it in this process, as starting another takes longer."""
        return invoke(*words, cwd=cwd, env={**self.environment, **(env or {})})

    def ok(self, *words: str) -> str:
        """Run what must go well, in this process."""
        return well(self.here(*words))

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
