"""Parse the bodies of requests that run commands, with go-process's keys: `dir`, `env` (or a list), `disableCapture`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ..._core import OptionError, RunOptions, bad_option, checks
from ..._pipeline import RunSpec
from ..problem import Problem, invalid
from .schema import ENVIRONMENT, FLAG, NAME, SECONDS, TEXT, TEXTS, Schema, record, whole

_WHOLE: Final[Schema] = whole(0, checks.LARGEST)
_SHARED: Final[Mapping[str, Schema]] = {
    "command": NAME,
    "args": TEXTS,
    "dir": TEXT,
    "env": ENVIRONMENT,
    "name": TEXT,
    "stdin": TEXT,
    "timeout": SECONDS,
    "idleTimeout": SECONDS,
    "gracePeriod": SECONDS,
    "okExitCodes": {"type": "array", "items": whole(0, 255)},
}
COMMAND: Final = record(
    {
        **_SHARED,
        "disableCapture": FLAG,
        "bufferSize": _WHOLE,
        "encoding": TEXT,
        "errors": TEXT,
        "maxLine": _WHOLE,
        "stopSignal": {"type": ["string", "integer"]},
        "killGroup": FLAG,
        "detach": FLAG,
        "logFile": NAME,
        "logMaxBytes": _WHOLE,
        "logKeep": _WHOLE,
        "redact": FLAG,
        "umask": whole(0, 0o777),
        "user": {"type": ["string", "integer"]},
        "nice": whole(-20, 19),
        "limits": {"type": "object", "additionalProperties": whole(-1, checks.LARGEST)},
    },
    "command",
)
SPEC: Final = record(
    {
        **_SHARED,
        "after": TEXTS,
        "allowFailure": FLAG,
        "retries": _WHOLE,
        "retryDelay": SECONDS,
        "weight": whole(1, checks.LARGEST),
    },
    "name",
    "command",
)
PIPELINE: Final = record(
    {
        "name": TEXT,
        "mode": {"type": "string", "enum": ["all", "sequential", "parallel"]},
        "specs": {"type": "array", "items": SPEC},
        "schedule": {"type": "string", "enum": ["waves", "eager"]},
        "onFailure": {"type": "string", "enum": ["continue", "no-new", "kill"]},
        "timeout": SECONDS,
    },
    "specs",
)


def _snake(name: str) -> str:
    return "".join(f"_{char.lower()}" if char.isupper() else char for char in name)


def _fields(body: Mapping[str, Any]) -> dict[str, Any]:
    found = {_snake(name): value for name, value in body.items()}
    if "dir" in found:
        found["cwd"] = found.pop("dir") or None
    if isinstance(found.get("env"), list):
        found["env"] = dict(each.partition("=")[::2] for each in found["env"])
    return found


def options_of(body: Mapping[str, Any]) -> RunOptions:
    """Return the `RunOptions` that a body describes.

    Raises:
        Problem: An option was refused; the text names it.
    """
    try:
        return _encodable(RunOptions(**_fields(body)))
    except OptionError as error:
        raise _refused(error, body) from None


def specs_of(body: Mapping[str, Any]) -> list[RunSpec]:
    """Return the specs of a pipeline.

    Raises:
        Problem: An option was refused; the text names it.
    """
    specs = []
    for place, each in enumerate(body["specs"]):
        try:
            specs.append(RunSpec(**_fields(each)))
            _encodable(specs[-1].options)
        except OptionError as error:
            raise _refused(error, each, f"specs[{place}].") from None
    return specs


def _encodable(options: RunOptions) -> RunOptions:
    if isinstance(options.stdin, str):
        try:
            options.stdin.encode(options.encoding)
        except UnicodeError as error:
            raise bad_option("stdin", f"can't be encoded: {error}") from None
    return options


def _refused(error: OptionError, body: Mapping[str, Any], prefix: str = "") -> Problem:
    """Return the problem of an option, named as the client has written it."""
    named = {("cwd" if name == "dir" else _snake(name)): name for name in body}
    option = error.option or ""
    field = prefix + named.get(option, "command")
    text = str(error)  # begins with the option, named as in Python
    return invalid(field, field + text.removeprefix(option) if option in named and text.startswith(option) else text)
