"""`RunOptions` on the wire: only the options that the agent needs to start a process.

Timeouts, capture, logs, echo, redaction and labels are handled by the client. Secrets travel by value, only inside the
stream, and marked, so that the agent masks them in its own texts, too.

A text stands for the bytes that it would be in a command run here: on the wire they are UTF-8, bytes that are not
UTF-8 as lone surrogates (PEP 383). The agent runs in UTF-8 mode, so the command gets the same bytes.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from operator import attrgetter
from typing import Any

import attrs

from .._core import OptionError, RunOptions, Secret, Stdio, Written, bad_option
from .._process import not_encodable
from .wire import WireError

_OUTPUTS = ("stdout", "stderr")
_SENT = (*_OUTPUTS, "stop_signal", "kill_group", "umask", "nice")
"""The options that are sent only if they differ from their defaults."""

_sent_of = attrgetter(*_SENT)
_USUAL = tuple([getattr(attrs.fields(RunOptions), name).default for name in _SENT])


def check_remote(options: RunOptions) -> None:
    """Refuse options that can't be applied on another machine.

    Raises:
        OptionError: One of the options only makes sense where the client is.
    """
    elsewhere = "the process runs on another machine"
    for option in ("stdin", "stdout", "stderr"):
        value = getattr(options, option)
        if value is Stdio.INHERIT:
            raise OptionError(
                f"{option}=Stdio.INHERIT can't be used on a cluster: {elsewhere}, without our terminal", option=option
            )
    for option in ("stdout", "stderr"):
        value = getattr(options, option)
        if not isinstance(value, Stdio):
            raise OptionError(
                f"{option}={value!r} can't be used on a cluster: {elsewhere}; use log_file, or read its output",
                option=option,
            )
    if options.detach:
        raise bad_option("detach", f"can't be used on a cluster: {elsewhere}, and nothing there outlives its agent")
    if options.user is not None:
        raise bad_option("user", "can't be used on a cluster: a process runs as the user of its agent")


def pack_options(options: RunOptions, *, grace_period: float, stdin: bool) -> dict[str, Any]:
    """Return the options of a run that the agent needs.

    Args:
        options: All of its options.
        grace_period: Seconds between the stop signal and SIGKILL if the agent leaves.
        stdin: Whether input will be sent.

    Raises:
        OptionError: A text can't be encoded in our locale.
    """
    try:
        packed: dict[str, Any] = {
            "command": _text(options.command),
            "args": [_packed(arg) for arg in options.args],
            "cwd": _text(_our_directory() if options.cwd is None else os.path.abspath(options.cwd)),
            "grace_period": grace_period,
        }
        if options.env:
            env = options.env.items()
            packed["env"] = {_text(name): None if value is None else _packed(value) for name, value in env}
    except UnicodeEncodeError as error:
        raise not_encodable(options, error) from None
    if stdin:
        packed["stdin"] = "pipe"
    if options.limits:
        limits = options.limits.items()
        packed["limits"] = {name: list(value) if isinstance(value, tuple) else value for name, value in limits}
    sent = _sent_of(options)
    if sent != _USUAL:
        packed |= {name: value for name, value, usual in zip(_SENT, sent, _USUAL, strict=True) if value != usual}
    return packed


def unpack_options(packed: Mapping[str, Any], label: str) -> RunOptions:
    """Return the options with which the agent's own service starts the process.

    Args:
        packed: The result of `pack_options`.
        label: The name of the run in the agent's service.

    Raises:
        WireError: The value is malformed.
    """
    try:
        given = {name: packed[name] for name in _SENT if name in packed}
        for name in _OUTPUTS:
            if name in given:
                given[name] = Stdio(given[name])
        if "env" in packed:
            env = packed["env"].items()
            given["env"] = {name: None if value is None else _unpacked(value) for name, value in env}
        if "limits" in packed:
            given["limits"] = packed["limits"]
        return RunOptions(
            command=packed["command"],
            args=tuple([_unpacked(arg) for arg in packed["args"]]),
            cwd=packed["cwd"],
            grace_period=packed["grace_period"],
            name=label,
            stdin=Stdio(packed["stdin"]) if "stdin" in packed else Stdio.NULL,
            disable_capture=True,  # the client does the capture; one ring of a mebibyte per stream is enough
            **given,
        )
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise WireError(f"the options of a process could not be understood: {error}") from None


def _our_directory() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:
        return os.environ.get("PWD", "/")


_is_utf8 = sys.getfilesystemencoding() == "utf-8"


def _text(value: Any) -> str:
    """Return the bytes that a text or path is in our locale, as text for the wire."""
    if not _is_utf8:
        return os.fsencode(value).decode("utf-8", "surrogateescape")
    text: str = value if type(value) is str else os.fsdecode(value)
    if not text.isascii():
        os.fsencode(text)  # fails here, and not only at the agent, if no bytes are meant
    return text


def local_text(text: str) -> str:
    """Return a text from the wire as we write its bytes here; one that stands for no bytes is returned as it is."""
    try:
        return text if _is_utf8 else os.fsdecode(text.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError:
        return text


def _packed(value: Any) -> str | list[str]:
    """Return an argument or a value as text; a secret is a list of one, a text that is shown otherwise a list of two."""
    if isinstance(value, Secret):
        return [_text(value.reveal())]
    if isinstance(value, Written):
        return [_text(str(value)), value.shown]
    return _text(value)


def _unpacked(value: Any) -> str | Secret:
    if isinstance(value, list):
        return Secret(*value) if len(value) == 1 else Written(*value)
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not a text")
    return value
