"""What the tests of the command line share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from daemon_shell import Shell
from forked import fork_residents
from invoke import reap_background


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    fork_residents(monkeypatch)
    shell = Shell(tmp_path)
    yield shell
    if shell.registry.list():
        shell.here("daemon", "stop", "my", "web")
    assert shell.registry.list() == []
    reap_background()
