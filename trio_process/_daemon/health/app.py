"""The ASGI side of a health server: plain probes are answered at once, everything else by the user's Quart app."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import Any, Final

import trio
from quart import Response
from quart.globals import request_ctx
from quart.wrappers.response import DataBody, FileBody, IOBody
from quart_trio import QuartTrio
from quart_trio.asgi import TrioASGIHTTPConnection
from werkzeug.routing import RequestRedirect

from ..._core import logger
from .judge import one_line, reason_of
from .last_message import LastMessage
from .state import Answer, HealthState
from .streams import stream_place

_Message = dict[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]

PROBES: Final = frozenset({"/health", "/ready"})
_METHODS: Final = ("GET", "HEAD", "OPTIONS")
_ALLOW: Final = ", ".join(_METHODS)

_BODY_TIMEOUT: Final = 10  # seconds for a request's body; Quart's own 60 let a slow client hold its place
_BODY_HEADERS: Final = frozenset({b"content-length", b"transfer-encoding"})
_FULL: Final = b"too many streams\n"


class _HTTPConnection(TrioASGIHTTPConnection):
    """One request, protected from Ctrl-C, which is meant for the program and would only cause a response with status 500."""

    @trio.lowlevel.enable_ki_protection
    async def handle_messages(self, *args: Any) -> None:
        await super().handle_messages(*args)

    @trio.lowlevel.enable_ki_protection
    async def handle_request(self, *args: Any) -> None:
        await super().handle_request(*args)

    async def _send_response(self, send: Any, response: Any) -> None:
        """Send a response; a response of unknown length needs a free place among the streams, else 503 is sent."""
        if isinstance(getattr(response, "response", None), (DataBody, FileBody, IOBody, list, tuple)):
            await super()._send_response(send, response)
            return
        with stream_place() as granted:
            await super()._send_response(send, response if granted else Response(_FULL, 503))


class HealthApp(QuartTrio):
    """A Quart app that takes routes and hooks while it serves: the block that adds them is entered after the server.

    Args:
        state: The state that ``/health`` and ``/ready`` report.

    The two probes are not routes: a route of the user at one of the paths takes precedence, whatever its function is
    called, but a catch-all route doesn't. With hooks (such as `before_request`) all requests go through the app, including
    probes.
    """

    asgi_http_class = _HTTPConnection

    def __init__(self, state: HealthState) -> None:
        self._own_paths: set[str] = set()
        # without a root, Quart asks for the working directory, which may have been removed
        super().__init__("trio_process.health", static_folder=None, root_path=os.path.dirname(__file__))
        self._state = state
        self.config["BODY_TIMEOUT"] = _BODY_TIMEOUT
        self.config["BACKGROUND_TASK_SHUTDOWN_TIMEOUT"] = 1

    def add_url_rule(self, rule: str, *args: Any, **options: Any) -> None:
        """Add a route, and remember whether it takes a probe's path."""
        super().add_url_rule(rule, *args, **options)
        self._own_paths.add(rule.rstrip("/"))

    def is_ours(self, path: str) -> bool:
        """Whether `path` is that of a probe, and no route of the user has replaced it."""
        return path in PROBES and path not in self._own_paths

    def has_hooks(self) -> bool:
        """Whether the user has hooks, which must see every request: then the app must not be bypassed."""
        return bool(
            self.before_request_funcs.get(None)
            or self.after_request_funcs.get(None)
            or self.teardown_request_funcs.get(None)
            or self.url_value_preprocessors.get(None)
            or "asgi_app" in vars(self)  # wrapped in a middleware
        )

    async def dispatch_request(self, request_context: Any = None) -> Any:
        """Call the view of a request; answer a probe here if no view does."""
        request = (request_context or request_ctx).request
        if self.is_ours(request.path) and not isinstance(request.routing_exception, RequestRedirect):
            return _response(
                await answer_probe(
                    self._state, request.method, request.path, ",".join(request.headers.getlist("Accept"))
                )
            )
        return await super().dispatch_request(request_context)

    async def make_default_options_response(self) -> Any:
        """Answer OPTIONS where a view doesn't; at a probe's path it gets the answer to GET, with the methods in ``Allow``."""
        response = await super().make_default_options_response()
        rule, view_args = request_ctx.request.url_rule, request_ctx.request.view_args or {}
        if rule is None or rule.rule.rstrip("/") not in PROBES or "GET" not in (rule.methods or ()):
            return response
        view: Any = self.view_functions[rule.endpoint]
        if hasattr(view, "view_class"):  # it chooses its function by the method, and has none for OPTIONS
            return response
        answer = await self.make_response(await self.ensure_async(view)(**view_args))
        answer.headers["Allow"] = response.headers["Allow"]
        return answer

    def _check_setup_finished(self, f_name: str) -> None:
        # Quart refuses routes after the first request, so that in a Daemon a stray probe would decide whether
        # `daemon.health.app.route` works
        pass


async def answer_probe(state: HealthState, method: str, path: str, accept: str) -> Answer:
    """Return the answer to a request for ``/health`` or ``/ready``: the state, or 405 for another method.

    OPTIONS reports the state, too: load balancers probe with it, and a 200 in any case would keep a sick server in
    service.
    """
    if method not in _METHODS:
        return Answer(405, "text/plain; charset=utf-8", b"method not allowed\n", _ALLOW)
    answer = state.readiness(accept) if path == "/ready" else await state.health(accept)
    return answer._replace(allow=_ALLOW) if method == "OPTIONS" else answer


def _response(answer: Answer) -> Response:
    headers = {"Content-Type": answer.content_type, "Cache-Control": "no-store"}
    return Response(answer.body, answer.status, {**headers, "Allow": answer.allow} if answer.allow else headers)


class Frontend:
    """The application for hypercorn: answers plain probes itself, which saves the time of Quart.

    Args:
        app: The Quart app, for everything else.
        state: The state that probes report.
    """

    __slots__ = ("_app", "_state")

    def __init__(self, app: HealthApp, state: HealthState) -> None:
        self._app = app
        self._state = state

    async def __call__(
        self, scope: Any, receive: _Receive, send: _Send, _sync_spawn: object = None, _call_soon: object = None
    ) -> None:
        """Handle one request (the arguments are those of a hypercorn `AppWrapper`)."""
        try:
            if scope["type"] == "websocket":
                await self._websocket(scope, receive, send)
            elif self._is_plain(scope):
                await self._probe(scope, send)
            else:
                await self._request(scope, receive, send)
        except Exception as error:  # noqa: BLE001 - of a handler's stream: its response is broken off, and nothing else
            _log_broken(scope, error)
        except BaseExceptionGroup as group:
            # hypercorn logs a group and goes on: Ctrl-C in a handler would be lost in it
            raise_interrupt(group)
            cancelled, rest = group.split(trio.Cancelled)
            if rest is not None:
                _log_broken(scope, rest)
            if cancelled is not None:
                raise cancelled from None

    def _is_plain(self, scope: Any) -> bool:
        """Whether a request is a probe that can be answered here, because there is no route, no hook and no body."""
        if not self._app.is_ours(scope["path"]) or self._app.has_hooks():
            return False
        # the body would not be read here, and hypercorn waits until it is
        return not any(name in _BODY_HEADERS for name, _ in scope["headers"])

    async def _probe(self, scope: Any, send: _Send) -> None:
        accept = ",".join([value.decode("latin-1") for name, value in scope["headers"] if name == b"accept"])
        answer = await answer_probe(self._state, scope["method"], scope["path"], accept)
        headers = [
            (b"content-type", answer.content_type.encode()),
            (b"content-length", b"%d" % len(answer.body)),
            (b"cache-control", b"no-store"),
        ]
        if answer.allow:
            headers.append((b"allow", answer.allow.encode()))
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})

    async def _websocket(self, scope: Any, receive: _Receive, send: _Send) -> None:
        with stream_place() as granted:
            if granted:
                await self._app(scope, receive, send)  # type: ignore[arg-type] # ASGI's messages are dicts
                return
        await receive()  # websocket.connect
        headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(_FULL))]
        await send({"type": "websocket.http.response.start", "status": 503, "headers": headers})
        await send({"type": "websocket.http.response.body", "body": _FULL})

    async def _request(self, scope: Any, receive: _Receive, send: _Send) -> None:
        """Pass a request to Quart.

        A shield around `send` would do as well as a message held back, but could wait for ever for a request body that no
        task reads any more; that is why the rest of the body is read here.
        """
        last = LastMessage(send)
        await self._app(scope, receive, last.send)  # type: ignore[arg-type] # ASGI's messages are dicts
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_read_the_rest, receive)
            await last.release()
            nursery.cancel_scope.cancel()


async def _read_the_rest(receive: _Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _log_broken(scope: Any, error: BaseException) -> None:
    what = scope.get("method", "WebSocket"), one_line(scope["path"])  # decoded, it may contain anything
    logger.error("health server: the response to %s %s broke off: %s", *what, reason_of(error))


def raise_interrupt(group: BaseExceptionGroup[BaseException]) -> None:
    """Raise the KeyboardInterrupt that a group holds, bare; return if there is none."""
    found: BaseExceptionGroup[BaseException] | None = group.subgroup(KeyboardInterrupt)
    if found is not None:
        raise KeyboardInterrupt from group
