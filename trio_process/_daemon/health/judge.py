"""Whether the result of a check means healthy, and if not, why; for health checks and for probes."""

from __future__ import annotations

import inspect
from typing import Final

from ..._core import CommandResult, escape_controls

_LONGEST_REASON: Final = 500


def judge(found: object) -> str:
    """Return why the result of a check is unhealthy, "" if it is healthy."""
    match found:
        case None | True | "":
            return ""
        case False:
            why = "it returned False"
        case str():
            why = found
        case BaseException():
            why = reason_of(found)
        case (bool() as well, str() as reason) if isinstance(found, tuple):
            why = "" if well else reason or "it returned False"
        case CommandResult():
            why = "" if found.ok else found.describe()
        case _:
            if inspect.iscoroutine(found):
                found.close()  # it is named here; a warning that it was never awaited would say less
            why = f"it returned {_shown(found)}: return True, False or a text"
    return one_line(why) if why else ""


def _shown(value: object) -> str:
    try:
        return repr(value)
    except Exception:  # noqa: BLE001 - a foreign __repr__ may raise anything
        return f"a {type(value).__name__}"


def reason_of(error: BaseException) -> str:
    """Return an error in one line; for an exception group with a single exception, return that exception."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    try:
        text = str(error)
    except BaseException:  # noqa: BLE001 - a foreign __str__ may raise anything, and a system task must not raise
        text = ""
    return one_line(f"{type(error).__name__}: {text}" if text else type(error).__name__)


def one_line(text: str, longest: int = _LONGEST_REASON) -> str:
    """Return a text without line breaks and control characters, cut to a readable length."""
    text = escape_controls(" ".join(text.split())) or "unhealthy"
    return text if len(text) <= longest else text[:longest] + " […]"
