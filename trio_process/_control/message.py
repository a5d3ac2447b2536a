"""Represent requests, as seen by handlers, and responses."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple, NoReturn, final
from urllib.parse import parse_qsl

import attrs

from .problem import Problem, invalid

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

MAX_BODY: Final = 2**20
"""The maximum size of a request's body, in bytes."""

LONGEST_WAIT: Final = 300.0
"""The maximum of ``?wait=``, in seconds."""

_JSON: Final = b"application/json"
_SECONDS: Final = r"-?[0-9]{1,100}(\.[0-9]{0,100})?([eE][-+]?[0-9]{1,4})?"  # float() takes much else
_LONGEST_WHOLE: Final = 100  # digits; Python itself converts no more than 4300


class Answer(NamedTuple):
    """One response."""

    status: int
    body: bytes
    content_type: bytes = _JSON
    headers: tuple[tuple[bytes, bytes], ...] = ()


def encode(value: Any) -> bytes:
    """Return `value` as JSON in ASCII; infinite numbers, which JSON can't represent, become null."""
    try:
        return json.dumps(value, separators=(",", ":"), allow_nan=False).encode("ascii")
    except ValueError:
        return json.dumps(_finite(value), separators=(",", ":"), allow_nan=False).encode("ascii")


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    return [_finite(each) for each in value] if isinstance(value, (list, tuple)) else value


def success(data: Any, status: int = 200) -> Answer:
    """Return the answer ``{"success": true, "data": …}``."""
    return Answer(status, encode({"success": True, "data": data}))


def failure(problem: Problem) -> Answer:
    """Return the answer ``{"success": false, "error": …}``."""
    return Answer(problem.status, encode(problem.envelope()), headers=problem.headers)


@final
@attrs.frozen(kw_only=True)
class Request:
    """One request that has passed the guard.

    Attributes:
        method: ``"GET"``, …
        path: The values of the route's ``{…}`` segments, decoded.
        query: The parameters of the query; of a repeated one, the last value.
        headers: The headers, by lower-case name.
        body: The JSON object in the body; empty if there was none.
    """

    method: str
    path: Mapping[str, str]
    query: Mapping[str, str]
    headers: Mapping[bytes, bytes]
    body: Mapping[str, Any]

    def flag(self, name: str) -> bool:
        """Return a boolean parameter."""
        text = self.query.get(name, "false").lower()
        if text not in ("true", "false", "1", "0", ""):
            raise invalid(name, f"{name} must be true or false, got {text!r}")
        return text in ("true", "1", "")

    def whole(self, name: str, default: int | None = None, *, least: int = 0, most: int = 2**53) -> int | None:
        """Return an integer parameter."""
        text = self.query.get(name)
        if text is None:
            return default
        if not (text.isascii() and text.isdigit() and len(text) <= 16 and least <= int(text) <= most):
            raise invalid(name, f"{name} must be a whole number from {least} to {most}, got {text!r}")
        return int(text)

    def names(self, name: str) -> frozenset[str]:
        """Return a parameter with a comma-separated list of names; empty for all."""
        return frozenset(part for part in self.query.get(name, "").split(",") if part)

    @property
    def wait(self) -> float:
        """How long the response may wait until the request is done, in seconds."""
        return parse_wait(self.query)


def parse_wait(query: Mapping[str, str]) -> float:
    """Return how long the response to a query may wait, in seconds.

    Raises:
        Problem: The value isn't a number from 0 to `LONGEST_WAIT`.
    """
    text = query.get("wait", "0")
    seconds = float(text) if re.fullmatch(_SECONDS, text) else math.nan
    if not 0 <= seconds <= LONGEST_WAIT:
        raise invalid("wait", f"wait must be 0 to {LONGEST_WAIT:g} seconds, got {text!r}")
    return seconds


def parse_query(raw: bytes) -> dict[str, str]:
    """Return the parameters of a query string.

    Raises:
        Problem: The query isn't UTF-8, or has too many parameters.
    """
    try:
        pairs = parse_qsl(raw.decode("ascii"), keep_blank_values=True, max_num_fields=50, errors="surrogateescape")
    except ValueError:  # including UnicodeDecodeError
        raise Problem("invalid_request", "the query must be percent-encoded, with at most 50 parameters") from None
    for name, value in pairs:
        if not (is_unicode(name) and is_unicode(value)):
            field = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
            raise invalid(field, f"{field} must be UTF-8, percent-encoded")
    return dict(pairs)


def is_unicode(text: str) -> bool:
    """Return whether a text has no lone surrogates, which JSON can have and UTF-8 can't."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def fields(headers: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Return headers by name, the values of a repeated one joined (RFC 9110, 5.3)."""
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        found[name] = found[name] + b", " + value if name in found else value
    return found


async def read_body(headers: Mapping[bytes, bytes], receive: Receive) -> dict[str, Any]:
    """Return the JSON object in the body of a request, empty if there is no body.

    Raises:
        Problem: The body is too large, is compressed, isn't JSON, or isn't an object.
    """
    length = headers.get(b"content-length", b"0")
    if length.isdigit() and int(length[:20]) > MAX_BODY:
        raise _too_large()
    data = bytearray()
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Problem("invalid_request", "the client left before its request was complete")
        data += message.get("body", b"")
        more = message.get("more_body", False)
        if len(data) > MAX_BODY:
            raise _too_large()
    if not data:
        return {}
    kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if kind != _JSON:
        raise Problem("unsupported_media_type", f"the body must be application/json, got {kind.decode('latin-1')!r}")
    coding = headers.get(b"content-encoding", b"identity").strip().lower()
    if coding != b"identity":
        got = coding.decode("latin-1")
        raise Problem("unsupported_media_type", f"the body must not be compressed, got Content-Encoding: {got!r}")
    return _parse(bytes(data))


def _parse(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data.decode("utf-8-sig"), parse_float=_number, parse_int=_whole, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise Problem("invalid_request", "the body is not valid JSON") from None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Problem("invalid_request", "the body must be a JSON object")
    return value


def _number(text: str) -> float:
    value = float(text)
    return int(value) if value.is_integer() and abs(value) < 2**53 else value  # JSON has only one number type


def _whole(text: str) -> int | float:
    return int(text) if len(text) < _LONGEST_WHOLE else float(text)  # which is then refused as not whole


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _too_large() -> Problem:
    return Problem("too_large", f"the body is larger than {MAX_BODY} bytes", headers=((b"connection", b"close"),))


def head_of(answer: Answer) -> Message:
    """Return the ASGI message that starts an answer."""
    headers = [(b"content-type", answer.content_type), (b"content-length", b"%d" % len(answer.body)), *answer.headers]
    if not any(name == b"cache-control" for name, _ in answer.headers):
        headers.append((b"cache-control", b"no-store"))
    return {"type": "http.response.start", "status": answer.status, "headers": headers}
