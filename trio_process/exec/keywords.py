"""The options of `with_options` as typed keywords, so that type checkers and editors know them; a test holds them to the class.

Only type checkers import this: nothing here is needed at run time.
"""

import os
from collections.abc import Iterable, Mapping
from typing import TypedDict


class CommandKeywords(TypedDict, total=False):
    """The keywords of `with_options`: the fields of `RunOptions`, but for those that have a method of their own."""

    name: str | None
    buffer_size: int | float | None
    encoding: str
    errors: str
    max_line: int
    idle_timeout: float | None
    stop_signal: int | str
    grace_period: float | None
    kill_group: bool
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
