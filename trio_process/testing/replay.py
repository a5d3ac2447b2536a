"""Replay: checks the lines of a recording and converts them to strict rules."""

from __future__ import annotations

import base64
import errno
import json
import os
from pathlib import Path
from typing import Any, Final, NamedTuple, final

from .._core import MASK, OptionError, Secret, Stream, checks, signal_number
from .behaviour import Behaviour, CloseInput, Read, ReadBytes, Write
from .commands import Rule
from .recording import HEAD


def load_recording(path: str | os.PathLike[str]) -> list[Rule]:
    """Return a strict rule for each command of a recording.

    Raises:
        OptionError: The file is not a valid recording; the message names the line.
        OSError: The file can't be read.
    """
    behaviours: dict[tuple[str, ...], list[Behaviour]] = {}
    for command, happened in _runs(checks.file_path("path", path)):
        behaviours.setdefault(command, []).append(_behaviour(happened))
    return [
        Rule([_AnySecret() if word == MASK else word for word in command], found, strict=True)
        for command, found in behaviours.items()
    ]


@final
class _AnySecret:
    """Equals every secret, because a recording has only the mask."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) or other == MASK

    __hash__ = None  # type: ignore[assignment]  # it is compared, never looked up

    def __repr__(self) -> str:
        return MASK


class _Event(NamedTuple):
    """One line: an event and its time. The value is checked and converted."""

    at: float
    kind: str
    value: Any


_Runs = list[tuple[tuple[str, ...], list[_Event]]]


def _runs(path: Path) -> _Runs:
    """Return the commands of a file, each with its events."""
    runs: _Runs = []
    lines = path.read_text("utf-8").splitlines() or [""]
    for number, text in enumerate(lines, 1):
        try:
            _read(number, json.loads(text), runs)
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise OptionError(f"{path}, line {number}: this is not a valid recording: {error!r}") from error
    return runs


def _read(number: int, line: dict[str, Any], runs: _Runs) -> None:
    if number == 1:
        if line != HEAD:
            raise ValueError(f"the first line must be {json.dumps(HEAD)}")
    elif not isinstance(line, dict):
        raise TypeError("a line must be an object")
    elif "command" in line:
        runs.append(((line["command"], *checks.arguments("args", line["args"])), []))  # type: ignore[arg-type]  # JSON has only str
    else:
        runs[-1][1].append(_event(line))


_KINDS: Final = ("stdout", "stderr", "stdout_base64", "stderr_base64", "signal", "stdin", "exit", "error")


def _event(line: dict[str, Any]) -> _Event:
    kinds = [kind for kind in line if kind != "at"]
    if len(kinds) != 1 or kinds[0] not in _KINDS:
        raise ValueError(f"expected one of {', '.join(_KINDS)} beside at, got {', '.join(kinds) or 'nothing'}")
    kind, value = kinds[0], line[kinds[0]]
    if kind == "error":
        if value not in errno.errorcode.values():
            raise ValueError(f"error must be the name of an errno, such as ENOENT, got {value!r}")
        return _Event(0.0, kind, getattr(errno, value))
    at = checks.seconds("at", line.get("at"))
    match kind:
        case "signal":
            return _Event(at, kind, signal_number(value))
        case "stdin":
            return _Event(at, kind, _input(value))
        case "exit":
            Behaviour(exit_code=value)
            return _Event(at, kind, value)
        case _:
            encoded = kind.endswith("_base64")
            data = base64.b64decode(value, validate=True) if encoded else checks.text(kind, value).encode()
            return _Event(at, "output", Write(0.0, data, Stream(kind.removesuffix("_base64"))))


def _input(value: object) -> Read | CloseInput | ReadBytes:
    if value == "closed":
        return CloseInput()
    return Read.ALL if value == "end" else ReadBytes(int(checks.whole("stdin", value)))


_NEVER_IGNORED: Final = tuple(signal_number(name) for name in ("SIGSTOP", "SIGCONT", "SIGKILL"))


def _behaviour(happened: list[_Event]) -> Behaviour:
    """Return the behaviour of one recorded run; everything after a signal is its reaction to the signal."""
    reacts: dict[int, Behaviour] = {}
    ignores: set[int] = set()
    part, rest = _until_signal(happened)
    main = _part(part, 0.0)
    while rest:
        sent = rest[0]
        part, rest = _until_signal(rest[1:])
        reaction = _part(part, sent.at)
        if reaction["lines"] or reaction["exit_code"] not in (None, -sent.value):
            reacts.setdefault(sent.value, Behaviour(**reaction))
        elif reaction["exit_code"] is None and sent.value not in (*_NEVER_IGNORED, *reacts):
            ignores.add(sent.value)
    return Behaviour(**main, reacts=reacts, ignores=ignores)


def _until_signal(events: list[_Event]) -> tuple[list[_Event], list[_Event]]:
    for place, event in enumerate(events):
        if event.kind == "signal":
            return events[:place], events[place:]
    return events, []


def _part(events: list[_Event], since: float) -> dict[str, Any]:
    """Return the fields of the behaviour for these events, from `since` on."""
    steps: list[Any] = []
    now = since
    fields: dict[str, Any] = {"exit_code": None}
    for event in events:
        if isinstance(event.value, CloseInput):
            # when it was closed isn't known: at the earliest, as the write that failed came later
            steps.append(event.value)
            continue
        at = max(now, event.at)
        match event.kind:
            case "error":
                fields["error"] = OSError(event.value, os.strerror(event.value))
            case "exit":
                fields.update(exit_code=event.value, exit_after=at - now)
            case "stdin":
                steps.append(event.value)
            case _:
                steps.append(Write(at - now, event.value.data, event.value.stream))
        now = at
    return {**fields, "lines": steps}
