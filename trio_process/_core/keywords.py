"""The options of calls as typed keywords, so that type checkers and editors know them; held to `RunOptions` by a test.

The annotations are objects and not strings: of a typed dictionary, each string would be compiled when the package is
imported, at 20 µs a field. They say what may be given; `RunOptions` says what it becomes.
"""

import os
from collections.abc import Iterable, Mapping
from typing import IO, TypedDict

from .checks import Argument, EnvValue
from .enums import Stdio


class RunWithEnvKeywords(TypedDict, total=False):
    """The keywords of calls that have arguments for the directory and the environment."""

    name: str | None
    stdin: Stdio | str | bytes | bytearray | os.PathLike[str] | IO[bytes] | None
    stdout: Stdio | os.PathLike[str] | IO[bytes]
    stderr: Stdio | os.PathLike[str] | IO[bytes]
    disable_capture: bool
    buffer_size: int | float | None
    encoding: str
    errors: str
    max_line: int
    timeout: float | None
    idle_timeout: float | None
    stop_signal: int | str
    grace_period: float | None
    kill_group: bool
    detach: bool
    ok_exit_codes: Iterable[int]
    log_file: str | bytes | os.PathLike[str] | os.PathLike[bytes] | None
    log_max_bytes: int
    log_keep: int
    echo: bool
    redact: bool
    umask: int | None
    user: str | int | None
    nice: int | None
    limits: Mapping[str, int | float | tuple[int | float, int | float]]
    max_output: int | None
    resources: Mapping[str, int]


class RunInKeywords(RunWithEnvKeywords, total=False):
    """The keywords of calls that have an argument for the directory."""

    env: Mapping[str, EnvValue]


class RunKeywords(RunInKeywords, total=False):
    """The keywords of `Service.start`, `open` and `run`: the fields of `RunOptions` except `command` and `args`.

    A function that wraps one of them takes ``**options: Unpack[RunKeywords]``, and its callers get the same checks and
    completions.

    >>> from typing import Unpack
    >>> async def git(service: Service, *args: str, **options: Unpack[RunKeywords]) -> str:
    ...     return (await service.run("git", *args, **options)).stdout
    """

    cwd: str | bytes | os.PathLike[str] | os.PathLike[bytes] | None


class AdoptKeywords(RunKeywords, total=False):
    """The keywords of `Service.adopt`: those of `RunOptions` but `args`."""

    command: Argument
