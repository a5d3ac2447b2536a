"""`RunOptions` on the wire: only the options that the agent needs to start a process.

Timeouts, capture, logs, echo, redaction and labels are handled by the client. Secrets travel by value, only inside the
stream, and marked, so that the agent masks them in its own texts, too.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from .._core import OptionError, RunOptions, Secret, Stdio, Written
from .wire import WireError

_OUTPUTS = (Stdio.PIPE, Stdio.NULL)


def check_remote(options: RunOptions) -> None:
    """Refuse options that can't be applied on another machine.

    Raises:
        OptionError: One of the options only makes sense where the client is.
    """
    elsewhere = "the process runs on another machine"
    for option in ("stdin", "stdout", "stderr"):
        value = getattr(options, option)
        if value is Stdio.INHERIT:
            raise OptionError(f"{option}=Stdio.INHERIT can't be used on a cluster: {elsewhere}, without our terminal")
    for option in ("stdout", "stderr"):
        value = getattr(options, option)
        if not isinstance(value, Stdio):
            raise OptionError(
                f"{option}={value!r} can't be used on a cluster: {elsewhere}; use log_file, or read its output"
            )
    if options.detach:
        raise OptionError(f"detach can't be used on a cluster: {elsewhere}, and nothing there outlives its agent")
    if options.user is not None:
        raise OptionError("user can't be used on a cluster: a process runs as the user of its agent")


def pack_options(
    options: RunOptions, *, grace_period: float, extra_env: Mapping[str, str], stdin: bool
) -> dict[str, Any]:
    """Return the options of a run that the agent needs.

    Args:
        options: All of its options.
        grace_period: Seconds between the stop signal and SIGKILL if the agent leaves.
        extra_env: Variables added to its environment because of its placement.
        stdin: Whether input will be sent.
    """
    return {
        "command": os.fsdecode(options.command),  # type: ignore[arg-type]  # never a secret: RunOptions refuses that
        "args": [_packed(arg) for arg in options.args],
        "cwd": os.path.abspath(os.fsdecode(options.cwd)) if options.cwd is not None else _our_directory(),
        "env": {
            name: None if value is None else _packed(value) for name, value in {**options.env, **extra_env}.items()
        },
        "stdin": "pipe" if stdin else "null",
        "stdout": options.stdout.value if isinstance(options.stdout, Stdio) else "pipe",
        "stderr": options.stderr.value if isinstance(options.stderr, Stdio) else "pipe",
        "stop_signal": int(options.stop_signal),
        "grace_period": grace_period,
        "kill_group": options.kill_group,
        "umask": options.umask,
        "nice": options.nice,
        "limits": {name: list(value) if isinstance(value, tuple) else value for name, value in options.limits.items()},
    }


def unpack_options(packed: Mapping[str, Any], label: str) -> RunOptions:
    """Return the options with which the agent's own service starts the process.

    Args:
        packed: The result of `pack_options`.
        label: The name of the run in the agent's service.

    Raises:
        WireError: The value is malformed.
    """
    try:
        return RunOptions(
            command=packed["command"],
            args=tuple([_unpacked(arg) for arg in packed["args"]]),
            cwd=packed["cwd"],
            env={name: None if value is None else _unpacked(value) for name, value in packed["env"].items()},
            name=label,
            stdin=Stdio(packed["stdin"]),
            stdout=Stdio(packed["stdout"]),
            stderr=Stdio(packed["stderr"]),
            disable_capture=True,  # the client does the capture; one ring of a mebibyte per stream is enough
            stop_signal=packed["stop_signal"],
            grace_period=packed["grace_period"],
            kill_group=packed["kill_group"],
            umask=packed["umask"],
            nice=packed["nice"],
            limits=packed["limits"],
        )
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise WireError(f"the options of a process could not be understood: {error}") from None


def _our_directory() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:
        return os.environ.get("PWD", "/")


def _packed(value: Any) -> str | list[str]:
    """Return an argument or a value as text; a secret is a list of one, a text that is shown otherwise a list of two."""
    if isinstance(value, Secret):
        return [value.reveal()]
    if isinstance(value, Written):
        return [str(value), value.shown]
    return os.fsdecode(value)


def _unpacked(value: Any) -> str | Secret:
    if isinstance(value, list):
        return Secret(*value) if len(value) == 1 else Written(*value)
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not a text")
    return value
