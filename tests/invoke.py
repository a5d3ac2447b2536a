"""The command line in this process: what needs no process of its own takes a tenth of the time."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, NamedTuple
from unittest.mock import patch

from trio_process._cli.main import cli
from trio_process._process.reap import deferred, reap_deferred

# what decides about colours, folding marks and the live view
_DECIDING = ("CI", "GITHUB_ACTIONS", "GITLAB_CI", "TF_BUILD", "TEAMCITY_VERSION", "NO_COLOR", "FORCE_COLOR")


class Ended(NamedTuple):
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


def invoke(*words: str, cwd: Path | str = ".", env: Mapping[str, str | None] | None = None) -> Ended:
    """Run ``trio-process WORDS`` in a directory; an exception that it doesn't handle fails the test.

    Its streams are files, as a command may ask for their descriptors. Of `env`, None removes a variable; those that change
    how output looks are removed unless they are given. What it leaves in the background is a child of this process: see
    `reap_background`.
    """
    environment = {**dict.fromkeys(_DECIDING), **(env or {})}
    code: object = None
    with contextlib.chdir(cwd), _environment(environment), open(os.devnull) as null, _file() as out, _file() as err:
        with patch.multiple(sys, stdin=null, stdout=out, stderr=err):
            try:
                cli.main(words, prog_name="trio-process")
            except SystemExit as ended:
                code = ended.code
        if isinstance(code, str):
            err.write(f"{code}\n")  # as the interpreter does (sys.exit)
            code = 1
        assert code is None or isinstance(code, int)
        return Ended(code or 0, _content(out), _content(err))


def reap_background() -> None:
    """Wait until what commands have left in the background has ended, and reap it."""
    for pid in deferred():
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    reap_deferred()


@contextlib.contextmanager
def _environment(changes: Mapping[str, str | None]) -> Iterator[None]:
    with patch.dict(os.environ, {name: value for name, value in changes.items() if value is not None}):
        for name, value in changes.items():
            if value is None:
                os.environ.pop(name, None)
        yield


def _file() -> IO[str]:
    return tempfile.TemporaryFile("w+", encoding="utf-8", errors="backslashreplace")


def _content(file: IO[str]) -> str:
    file.flush()
    file.seek(0)
    return file.read()
