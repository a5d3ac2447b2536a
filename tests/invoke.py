"""The command line in this process: what needs no process of its own takes a tenth of the time."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from click.testing import CliRunner

from trio_process._cli.main import cli

# what decides about colours, folding marks and the live view
_DECIDING = ("CI", "GITHUB_ACTIONS", "GITLAB_CI", "TF_BUILD", "TEAMCITY_VERSION", "NO_COLOR", "FORCE_COLOR")


class Ended(NamedTuple):
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


def invoke(*words: str, cwd: Path | str = ".", env: Mapping[str, str | None] | None = None) -> Ended:
    """Run ``trio-process WORDS`` in a directory, with nothing in the environment that changes how output looks."""
    with contextlib.chdir(cwd):
        environment = {**dict.fromkeys(_DECIDING), **(env or {})}
        done = CliRunner().invoke(cli, words, prog_name="trio-process", env=environment)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return Ended(done.exit_code, done.stdout, done.stderr)
