"""`DaemonEntry`: the registry's record of one daemon, and how its file is written and read."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import MAXYEAR, MINYEAR, UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any, Final, NoReturn, final

import attrs

from ..._core import MAX_PID, ProcessIdentity, bad_option, checks, dumps, parse_start, refuse_unknown
from .naming import check_key

if TYPE_CHECKING:
    from json import JSONDecoder

MAX_SIZE: Final = 2**20
"""The largest entry file that is read, in bytes: go-process writes some hundred."""

_KEYS: Final = frozenset({"code", "daemon", "pid", "health", "project", "binary", "started"})
_HIDDEN: Final = "trio_process."
"""What the keys of our own begin with: strings at the top level, which every go-process reads over."""

_BOOT, _NAMESPACE, _START, _NESTED = (f"{_HIDDEN}{name}" for name in ("boot", "pid_namespace", "start", "nested"))


@final
@refuse_unknown()
@attrs.frozen
class DaemonEntry:
    """The registry's record of one daemon; `code` and `daemon` are its key.

    Args:
        code: The program it belongs to.
        daemon: The name of the daemon within its program.
        pid: The PID of its process; None for the process that registers it.
        health: The address of its health server, empty if it has none.
        project: The directory it works in.
        binary: The program file.
        started: When it was started, timezone-aware; None for the time of registration.
        extra: Further keys of its file, with values that JSON can express; returned unchanged.

    Raises:
        OptionError: A value is invalid; the message names it.

    >>> DaemonEntry("myapp", "server", pid=4711).to_dict()
    {'code': 'myapp', 'daemon': 'server', 'pid': 4711, 'started': None}
    """

    code: str
    daemon: str
    pid: int | None = attrs.field(default=None, kw_only=True)
    health: str = attrs.field(default="", kw_only=True)
    project: str = attrs.field(default="", kw_only=True)
    binary: str = attrs.field(default="", kw_only=True)
    started: datetime | None = attrs.field(default=None, kw_only=True)
    extra: Mapping[str, Any] = attrs.field(factory=dict, kw_only=True, hash=False)

    def __attrs_post_init__(self) -> None:
        # one flat list of rules instead of attrs validators: `list` makes ten thousand entries in 0.2 s
        object.__setattr__(self, "code", check_key("code", self.code))
        object.__setattr__(self, "daemon", check_key("daemon", self.daemon))
        if self.pid is not None:
            object.__setattr__(self, "pid", checks.whole("pid", self.pid, least=1, most=MAX_PID))
        for name in ("health", "project", "binary"):
            object.__setattr__(self, name, checks.text(name, getattr(self, name)))
        if self.started is not None:
            _check_started(self.started)
        if self.extra != {}:
            object.__setattr__(self, "extra", _check_extra(self.extra))

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON-ready fields of the entry; `health`, `project` and `binary` are left out if they are empty."""
        known = {
            "code": self.code,
            "daemon": self.daemon,
            "pid": self.pid,
            "health": self.health,
            "project": self.project,
            "binary": self.binary,
            "started": None if self.started is None else _rfc3339(self.started),
        }
        return {name: value for name, value in known.items() if value != ""} | dict(self.extra)


def encode(entry: DaemonEntry, identity: ProcessIdentity | None = None) -> bytes:
    """Return the content of an entry's file, as go-process writes it: two spaces, RFC 3339, UTF-8.

    Early versions of go-process understand only flat objects, and delete files that they can't read. So lists and objects
    in `extra` are written as a string of JSON, and a key of ours names them.

    Args:
        entry: The entry; its `pid` and `started` are set.
        identity: The identity of its process, None if it can't be known.
    """
    fields = entry.to_dict()
    nested = [name for name, value in fields.items() if isinstance(value, (dict, list, tuple))]
    for name in nested:
        fields[name] = dumps(fields[name], ensure_ascii=False, allow_nan=False)
    if nested:
        fields[_NESTED] = dumps(nested, ensure_ascii=False)
    if identity is not None:
        fields |= {_BOOT: identity.boot, _NAMESPACE: identity.namespace}
        if identity.start is not None:
            fields[_START] = str(identity.start)
    text = dumps(fields, indent=2, ensure_ascii=False, allow_nan=False)
    # a path's undecodable bytes are lone surrogates (PEP 383), which UTF-8 can't express: they alone become JSON's escapes
    data = text.encode("utf-8", "backslashreplace") + b"\n"
    if len(data) > MAX_SIZE:
        raise bad_option("extra", f"is too large: the entry would have {len(data)} bytes, and {MAX_SIZE} are read")
    return data


def identity_of(fields: Mapping[str, Any]) -> ProcessIdentity | None:
    """Return the identity in an entry's file, None if it has none: go-process wrote it."""
    boot, namespace, start = fields.get(_BOOT), fields.get(_NAMESPACE), fields.get(_START)
    if not isinstance(boot, str) or not isinstance(namespace, str):
        return None
    return ProcessIdentity(boot, namespace, parse_start(start) if isinstance(start, str) else None)


def decode(data: bytes) -> dict[str, Any]:
    """Return the fields of an entry's file, of this package or go-process; `pid` is always an int, 0 if it has none.

    Raises:
        ValueError: It isn't an entry: not JSON, not an object, or without a key.
    """
    try:
        # go-process reads bytes that are not UTF-8 as replacement characters, and so do we
        fields = _decoder().decode(data.decode(errors="replace"))
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(fields, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 - the caller knows one kind of fault
    pid = fields.setdefault("pid", 0)
    if type(pid) is not int or type(fields.get("code")) is not str or type(fields.get("daemon")) is not str:
        raise ValueError("code, daemon or pid is missing or of the wrong type")
    return fields


def from_fields(fields: Mapping[str, Any], written: float) -> DaemonEntry:
    """Return the entry that `decode` found.

    Args:
        fields: The file's keys and values.
        written: When the file was written, in seconds since the epoch; used if it has no start.

    Raises:
        ValueError: A value isn't valid in an entry.
    """
    started = fields.get("started")
    if started is None:
        began = datetime.fromtimestamp(written, UTC)
    elif isinstance(started, str):
        began = datetime.fromisoformat(started)  # cuts nanoseconds to microseconds
    else:
        raise ValueError("started is not a time")
    return DaemonEntry(
        fields["code"],
        fields["daemon"],
        pid=fields["pid"],
        health=fields.get("health") or "",
        project=fields.get("project") or "",
        binary=fields.get("binary") or "",
        started=began,
        extra=_extra_of(fields),
    )


def _extra_of(fields: Mapping[str, Any]) -> dict[str, Any]:
    extra = {name: value for name, value in fields.items() if name not in _KEYS and not name.startswith(_HIDDEN)}
    nested = fields.get(_NESTED)
    if isinstance(nested, str):
        with suppress(ValueError, RecursionError):  # another program changed it: then the strings are all there is
            names = _decoder().decode(nested)
            extra |= {name: _decoder().decode(extra[name]) for name in names if isinstance(extra.get(name), str)}
    return extra


def _check_started(value: object) -> None:
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise bad_option(
            "started", f"must be a timezone-aware datetime, got {checks.brief(value)}; write datetime.now(UTC)"
        )
    if MINYEAR < value.year < MAXYEAR:
        return  # an offset is less than a day
    try:
        value.astimezone(UTC)
    except OverflowError:
        raise bad_option("started", f"must lie in the years 1 to 9999 of UTC, got {checks.brief(value)}") from None


def _check_extra(value: object) -> dict[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise bad_option("extra", f"must map names to JSON values, got {checks.brief(value)}")
    taken = [name for name in value if name in _KEYS]
    if taken:
        raise bad_option("extra", f"must not have the key {taken[0]!r}: it is an argument of its own")
    reserved = [name for name in value if name.startswith(_HIDDEN)]
    if reserved:
        raise bad_option(
            "extra", f"must not have the key {reserved[0]!r}: names that begin with {_HIDDEN!r} are reserved"
        )
    try:
        dumps(dict(value), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise bad_option("extra", f"must be values that JSON can express: {error}") from error
    return dict(value)


def _rfc3339(moment: datetime) -> str:
    # in UTC, as an offset with seconds (local mean time) is not valid in RFC 3339, section 5.6
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


@cache
def _decoder() -> JSONDecoder:
    from json import JSONDecoder  # noqa: PLC0415 - kept out of the import time

    return JSONDecoder(parse_constant=_refuse)
