"""Guard the server: decide by a request's head alone whether it may pass, before anything is routed.

The order of checks is `Host`, `Origin`, token, access, for HTTP requests and WebSockets alike. A browser attaches
cookies to any request that a foreign page makes it send, so a cookie alone permits no changes: they require the
`Origin` of our own page.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple, final

from ..._core import Secret
from ..problem import Problem
from .access import Access
from .hosts import Authority, Names, parse_authority

_WRONG_PER_SECOND: Final = 10
_SAFE: Final = frozenset({"GET", "HEAD"})


class Need(NamedTuple):
    """The requirements of a route.

    Attributes:
        access: The access level; None if no token is needed.
        changes: Whether the route changes something, regardless of its method.
    """

    access: Access | None
    changes: bool = False


class Head(NamedTuple):
    """The parts of a request that the guard examines."""

    host: Authority
    origin: str | None
    bearer: str | None
    cookies: tuple[str, ...]
    local: str


@final
class Guard:
    """Guard that checks the head of each request.

    Args:
        names: The names of the server.
        token: The token that clients must send; None on a unix socket, to which only its owner can connect.
        access: The access level of clients.
        cookie_name: The name of the session cookie.
        clock: Returns the time, in seconds.
    """

    __slots__ = ("_access", "_clock", "_names", "_session", "_token", "_wrong", "cookie_name")

    def __init__(
        self, names: Names, token: Secret | None, access: Access, *, cookie_name: str, clock: Callable[[], float]
    ) -> None:
        self._names = names
        self._token = None if token is None else token.reveal().encode()
        # not the token itself: browsers send a cookie of 127.0.0.1 to every port of it
        key = secrets.token_bytes(32)
        self._session = hmac.new(key, self._token or b"", hashlib.sha256).hexdigest()
        self._access = access
        self._clock = clock
        self._wrong: deque[float] = deque(maxlen=_WRONG_PER_SECOND)
        self.cookie_name = cookie_name

    def check(self, scope: Any, need: Need) -> None:
        """Accept a request, or raise.

        Args:
            scope: The ASGI scope.
            need: The requirements of its route.

        Raises:
            Problem: The request is refused.
        """
        head = self._head(scope)
        if not self._names.knows(head.host, head.local):
            raise Problem(
                "misdirected",
                f"this server is not called {head.host.host!r}; add the name to hosts=[…] if it should be",
            )
        if head.origin is not None and not self._names.is_own_origin(head.origin, head.host, head.local):
            raise Problem("forbidden", f"pages of {head.origin[:200]!r} may not talk to this server")
        if need.access is None:
            return
        by_cookie = self._authenticate(head)
        risky = need.changes or scope["type"] == "websocket" or scope["method"] not in _SAFE
        if by_cookie and risky and head.origin is None:
            raise Problem("forbidden", "with the session cookie alone an Origin header is needed")
        if not self._access.allows(need.access):
            raise _not_allowed(need.access, self._access)

    def _head(self, scope: Any) -> Head:
        values: dict[bytes, list[str]] = {b"host": [], b"origin": [], b"authorization": [], b"cookie": []}
        for name, value in scope["headers"]:
            if name in values:
                values[name].append(value.decode("latin-1"))
        hosts, origins = values[b"host"], values[b"origin"]
        host = parse_authority(hosts[0]) if len(hosts) == 1 else None
        if host is None:
            raise Problem("invalid_request", "a request needs one Host header: a name and, perhaps, a port")
        if len(origins) > 1 or len(values[b"authorization"]) > 1:
            raise Problem("invalid_request", "Origin and Authorization may each be given only once")
        scheme, _, bearer = values[b"authorization"][0].partition(" ") if values[b"authorization"] else ("", "", "")
        return Head(
            host,
            origins[0] if origins else None,
            bearer.strip() if scheme.lower() == "bearer" else ("" if scheme else None),
            tuple(_cookies("; ".join(values[b"cookie"]), self.cookie_name)),
            str((scope.get("server") or ("",))[0]),
        )

    def _authenticate(self, head: Head) -> bool:
        """Return whether the client is authenticated only by the cookie."""
        if self._token is None:
            return False
        if head.bearer is not None:
            self.check_token(head.bearer)
            return False
        if not head.cookies:
            raise Problem("unauthorized", "a token is needed: Authorization: Bearer …", headers=_CHALLENGE)
        # pages of other ports can set one of this name with a longer path, which browsers send first: it must not lock out
        given = [hmac.compare_digest(each.encode("latin-1"), self._session.encode()) for each in head.cookies]
        if not any(given):
            raise self._wrong_one("the session has ended; log in again")
        return True

    def check_token(self, given: str) -> None:
        """Accept a token, or raise.

        Raises:
            Problem: It is wrong, or there were too many wrong tokens.
        """
        if self._token is not None and not hmac.compare_digest(given.encode("utf-8", "replace"), self._token):
            raise self._wrong_one("the token is wrong")

    def _wrong_one(self, message: str) -> Problem:
        now = self._clock()
        if len(self._wrong) == _WRONG_PER_SECOND and now - self._wrong[0] < 1:
            return Problem(
                "too_many_requests", "too many wrong tokens; wait a second", headers=((b"retry-after", b"1"),)
            )
        self._wrong.append(now)
        return Problem("unauthorized", message, headers=_CHALLENGE)

    def session_cookie(self) -> bytes:
        """Return the ``Set-Cookie`` of a session, which ends with the browser or with this server."""
        return f"{self.cookie_name}={self._session}; HttpOnly; SameSite=Strict; Path=/".encode("ascii")


_CHALLENGE: Final = ((b"www-authenticate", b'Bearer realm="trio-process"'),)


def _cookies(header: str, name: str) -> Iterator[str]:
    for part in header.split(";"):
        key, equals, value = part.strip().partition("=")
        if equals and key == name:
            yield value


def _not_allowed(needed: Access, has: Access) -> Problem:
    if needed is Access.RUN:
        return Problem(
            "run_not_allowed",
            "this server starts no commands for its clients; to allow that, create it with access=Access.RUN",
        )
    return Problem(
        "forbidden", f"this server has access={has.value!r}; this request requires access=Access.{needed.name}"
    )
