"""Handle each request from hypercorn: first the guard, then the route."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, final

import trio

from .._core import ProcessError, logger, open_scope
from .._daemon import LastMessage, reason_of
from .api import Match, Route, Router, check, check_query, record
from .gate import Access, Guard, Need
from .live import Plane, refuse_websocket, serve_events, serve_websocket, watch_leaving
from .message import Answer, Message, Receive, Request, Send, failure, fields, head_of, parse_query, read_body
from .problem import Problem

if TYPE_CHECKING:
    from quart_trio import QuartTrio

SECURE: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
"""The headers of every answer."""

_BODY_TIMEOUT: Final = 10.0  # seconds for a request's body
_DRAIN_TIMEOUT: Final = 1.0  # seconds to read the rest of a refused client's body, so that it reads the answer
_NOTHING: Final = record({})
_INVALID: Final = {
    400: (
        "invalid_request",
        "this is not a valid HTTP request with one Host header, or not a valid WebSocket handshake",
    ),
    403: ("forbidden", "the WebSocket was refused"),
    431: ("headers_too_large", "the head of the request is larger than 16 KiB"),
    501: ("not_implemented", "this transfer encoding is not supported; chunked is"),
}
"""The reasons of the HTTP stack's own refusals: the request has not reached the guard."""
_KEY: Final = rb"[A-Za-z0-9+/]{22}=="  # RFC 6455, 4.2.1: one, of 16 bytes
_SAFE: Final = frozenset({"GET", "HEAD"})


@final
class Frontend:
    """Application that answers the requests of one server.

    Args:
        plane: State shared by the handlers.
        router: The routes.
        guard: Decides which requests are accepted.
        app: The user's own Quart app, for requests that match none of our routes; None if it was never used.
    """

    __slots__ = ("_app", "_guard", "_plane", "_router")

    def __init__(self, plane: Plane, router: Router, guard: Guard, app: QuartTrio) -> None:
        self._plane = plane
        self._router = router
        self._guard = guard
        self._app = app

    async def __call__(
        self, scope: Any, receive: Receive, send: Send, _sync_spawn: object = None, _call_soon: object = None
    ) -> None:
        """Handle one request (the arguments are those of a hypercorn `AppWrapper`)."""
        try:
            if scope["type"] == "http":
                await self._http(scope, receive, send)
            elif scope["type"] == "websocket":
                await self._websocket(scope, receive, send)
        except BaseExceptionGroup as group:
            interrupt: BaseExceptionGroup[BaseException] | None = group.subgroup(KeyboardInterrupt)
            if interrupt is not None:
                raise KeyboardInterrupt from group
            raise

    def refusal(self, status: int) -> tuple[Sequence[tuple[bytes, bytes]], bytes]:
        """Return the headers and the body of the answer to a request that isn't valid HTTP."""
        self._count("other", "other", status)
        code, message = _INVALID.get(status, ("internal", "see the log of the server"))
        answer = failure(Problem(code, message))
        headers = [(b"content-type", answer.content_type), (b"cache-control", b"no-store"), *SECURE]
        return headers, answer.body

    async def _http(self, scope: Any, receive: Receive, send: Send) -> None:
        method = scope["method"]
        receive = (body := _Body(receive)).receive
        match = self._router.match(method, scope["raw_path"])
        route = match.route
        name = "other" if route is None else route.path
        response = _Response(send, lambda status: self._count(method, name, status))
        send = response.send
        try:
            need = Need(Access.READ if method in _SAFE else Access.CONTROL) if route is None else route.need
            self._guard.check(scope, need)
            if route is None:
                await self._elsewhere(scope, receive, send, match)
                return
            request = await self._request(scope, receive, match)
            if route.stream is not None:
                await route.stream(self._plane, request, receive, send)
                return
            answer = await self._answer(route, request, receive)
        except Problem as problem:
            answer = failure(problem)
        except ProcessError as error:
            answer = failure(Problem("conflict", str(error)))
        except Exception as error:  # noqa: BLE001 - a bug of ours must not end the connection without an answer
            _log_fault(f"{method} {name}", error)
            answer = failure(Problem("internal", f"{type(error).__name__}: see the log of the server"))
        if answer is None or response.started:
            return  # the client left before the answer, or notices that a started answer is incomplete
        await _respond(scope, body, send, answer)

    def _count(self, method: str, name: str, status: int) -> None:
        known = method if method in ("GET", "HEAD", "POST", "PUT") else "other"
        self._plane.requests[known, name, status] += 1

    async def _request(self, scope: Any, receive: Receive, match: Match) -> Request:
        route = match.route
        assert route is not None, "asked for only with one"
        headers = fields(scope["headers"])
        body: Mapping[str, Any] = {}
        if b"content-length" in headers or b"transfer-encoding" in headers:
            with trio.move_on_after(_BODY_TIMEOUT) as limit:
                body = await read_body(headers, receive)
            if limit.cancelled_caught:
                raise Problem("request_timeout", f"the body did not come within {_BODY_TIMEOUT:g} s")
        if route.body is not None or body:
            check(route.body or _NOTHING, body)
        query = parse_query(scope["query_string"])
        check_query(route, query)
        return Request(method=scope["method"], path=match.values, query=query, headers=headers, body=body)

    async def _answer(self, route: Route, request: Request, receive: Receive) -> Answer | None:
        assert route.handler is not None, "it is a stream otherwise"
        if not route.waits:
            return await route.handler(self._plane, request)
        async with open_scope() as nursery:
            nursery.start_soon(watch_leaving, receive, "http.disconnect", nursery.cancel_scope)
            return await route.handler(self._plane, request)
        return None  # the client left

    async def _elsewhere(self, scope: Any, receive: Receive, send: Send, match: Match) -> None:
        """Answer a request that matches none of our routes, through the user's app if it has a route for it."""
        there = self._app.url_map.bind("localhost")
        if match.methods or not there.test(scope["path"], scope["method"]):
            methods = {*match.methods, *there.allowed_methods(scope["path"])}
            if not methods:
                raise Problem("not_found", f"there is nothing at {scope['path'][:200]!r}")
            allowed = ", ".join(sorted(methods))
            message = f"this path has the methods {allowed}"
            raise Problem("method_not_allowed", message, headers=((b"allow", allowed.encode()),))
        last = LastMessage(send)
        await self._app(scope, receive, last.send)  # type: ignore[arg-type] # ASGI's messages are dicts
        await last.release()

    async def _websocket(self, scope: Any, receive: Receive, send: Send) -> None:
        match = self._router.match("GET", scope["raw_path"])
        route = match.route
        name = "other" if route is None else route.path
        send = _Response(send, lambda status: self._count("GET", name, status)).send
        try:
            self._guard.check(scope, Need(Access.READ) if route is None else route.need)
            if route is None or route.stream is not serve_events:
                if route is None and self._app.url_map.bind("localhost", url_scheme="ws").test(scope["path"], "GET"):
                    await self._app(scope, receive, send)  # type: ignore[arg-type] # as above
                    return
                await self._refuse(Problem("not_found", "there is no WebSocket at this path"), send)
                return
            headers = fields(scope["headers"])
            _check_handshake(headers)
            query = parse_query(scope["query_string"])
            check_query(route, query)
            request = Request(method="GET", path=match.values, query=query, headers=headers, body={})
            await serve_websocket(self._plane, request, receive, send)
        except Problem as problem:
            await self._refuse(problem, send)
        except Exception as error:  # noqa: BLE001 - as above; hypercorn closes the connection with an internal error
            _log_fault(f"WebSocket {name}", error)

    async def _refuse(self, problem: Problem, send: Send) -> None:
        for message in refuse_websocket(problem):
            await send(message)


def _check_handshake(headers: Mapping[bytes, bytes]) -> None:
    """Check what hypercorn doesn't."""
    if not re.fullmatch(_KEY, headers.get(b"sec-websocket-key", b"")):
        raise Problem("invalid_request", _INVALID[400][1])


class _Response:
    """Wrapper of `send` that adds the headers of every answer.

    Args:
        send: Sends a message of the answer.
        note: Called with the status of the answer.

    Attributes:
        started: Whether the head of the answer has been sent.
    """

    __slots__ = ("_note", "_send", "started")

    def __init__(self, send: Send, note: Callable[[int], None]) -> None:
        self._send = send
        self._note = note
        self.started = False

    async def send(self, message: Message) -> None:
        if message["type"] in ("http.response.start", "websocket.http.response.start"):
            self.started = True
            self._note(message["status"])
            message = {**message, "headers": [*message["headers"], *SECURE]}
        elif message["type"] == "websocket.accept":
            self._note(101)
        await self._send(message)


class _Body:
    """Wrapper of `receive` that records whether the body of a request was read to its end.

    Attributes:
        unread: Whether more of it may still arrive.
    """

    __slots__ = ("_receive", "unread")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.unread = True

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] != "http.request" or not message.get("more_body", False):
            self.unread = False
        return message


async def _respond(scope: Any, request: _Body, send: Send, answer: Answer) -> None:
    """Send a response, after reading the rest of the request's body, so that the client reads the response."""
    body = b"" if scope["method"] == "HEAD" else answer.body
    has_body = any(name in (b"content-length", b"transfer-encoding") for name, _ in scope["headers"])
    await send(head_of(answer))
    if has_body and request.unread and answer.status >= 400:
        await send({"type": "http.response.body", "body": body, "more_body": True})
        body = b""
        with trio.move_on_after(_DRAIN_TIMEOUT):
            while request.unread:
                await request.receive()
    await send({"type": "http.response.body", "body": body})


def _log_fault(what: str, error: BaseException) -> None:
    exc_info = error if logger.isEnabledFor(logging.DEBUG) else None
    logger.error("control server: %s led to %s", what, reason_of(error), exc_info=exc_info)
