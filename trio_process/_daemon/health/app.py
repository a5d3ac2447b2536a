"""The ASGI side of a health server: the two answers at once, everything else through the user's Quart app."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import trio
from quart import Response, request
from quart_trio import QuartTrio
from quart_trio.asgi import TrioASGIHTTPConnection

from .state import Answer, HealthState

_Message = dict[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]

_BODY_TIMEOUT: Final = 10  # seconds for a request's body; Quart's own 60 lets a slow one hold its place
_BODY_HEADERS: Final = frozenset({b"content-length", b"transfer-encoding"})


class _HTTPConnection(TrioASGIHTTPConnection):
    """One request, protected from Ctrl-C: that is for the program, and would be lost in an answer of "500"."""

    @trio.lowlevel.enable_ki_protection
    async def handle_messages(self, *args: Any) -> None:
        await super().handle_messages(*args)

    @trio.lowlevel.enable_ki_protection
    async def handle_request(self, *args: Any) -> None:
        await super().handle_request(*args)


class _App(QuartTrio):
    """A Quart app that takes routes while it serves: the block that adds them is entered after the server."""

    asgi_http_class = _HTTPConnection

    def _check_setup_finished(self, f_name: str) -> None:
        # Quart refuses routes after the first request, so that in a Daemon a stray probe would decide whether
        # `daemon.health.app.route` works
        pass


def make_app(state: HealthState) -> QuartTrio:
    """Return an app with the routes `/health` and `/ready`."""
    app = _App("trio_process.health", static_folder=None)
    app.config["BODY_TIMEOUT"] = _BODY_TIMEOUT
    app.config["BACKGROUND_TASK_SHUTDOWN_TIMEOUT"] = 1

    async def health() -> Response:
        return _response(await state.health(request.headers.get("Accept", "")))

    async def ready() -> Response:
        return _response(state.readiness(request.headers.get("Accept", "")))

    app.add_url_rule("/health", view_func=health)
    app.add_url_rule("/ready", view_func=ready)
    return app


def _response(answer: Answer) -> Response:
    return Response(answer.body, answer.status, {"Content-Type": answer.content_type, "Cache-Control": "no-store"})


class Frontend:
    """What hypercorn calls: plain probes are answered here, which saves Quart's share of the time.

    Args:
        app: The Quart app, for everything else.
        state: What is answered.
    """

    __slots__ = ("_app", "_state")

    def __init__(self, app: QuartTrio, state: HealthState) -> None:
        self._app = app
        self._state = state

    async def __call__(
        self, scope: Any, receive: _Receive, send: _Send, _sync_spawn: object = None, _call_soon: object = None
    ) -> None:
        """Handle one request (the arguments are those of a hypercorn `AppWrapper`)."""
        try:
            if scope["type"] != "http":
                await self._app(scope, receive, send)  # type: ignore[arg-type] # ASGI's messages are dicts
            elif scope["method"] in ("GET", "HEAD") and scope["path"] in ("/health", "/ready"):
                await self._probe(scope, receive, send)
            else:
                await self._request(scope, receive, send)
        except BaseExceptionGroup as group:
            # hypercorn logs a group and goes on: Ctrl-C in a handler would be lost in it
            raise_interrupt(group)
            raise

    async def _probe(self, scope: Any, receive: _Receive, send: _Send) -> None:
        accept = ""
        for name, value in scope["headers"]:
            if name == b"accept":
                accept = value.decode("latin-1")
            elif name in _BODY_HEADERS:
                # nobody would read the body here, and hypercorn waits until somebody does
                await self._request(scope, receive, send)
                return
        if scope["path"] == "/ready":
            answer = self._state.readiness(accept)
        else:
            answer = await self._state.health(accept)
        headers = [
            (b"content-type", answer.content_type.encode()),
            (b"content-length", b"%d" % len(answer.body)),
            (b"cache-control", b"no-store"),
        ]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})

    async def _request(self, scope: Any, receive: _Receive, send: _Send) -> None:
        """Pass a request to Quart, but send its last message when Quart is through.

        quart-trio cancels the nursery in which its last `send` is finishing, so that hypercorn never gets to
        recycle the connection. A shield around `send` would do as well, if it could not wait for ever: for a body that
        nobody reads any more, which is why the rest is read here.
        """
        last: _Message | None = None

        async def send_but_last(message: _Message) -> None:
            nonlocal last
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                last = message
            else:
                await send(message)

        await self._app(scope, receive, send_but_last)  # type: ignore[arg-type] # ASGI's messages are dicts
        if last is not None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_read_the_rest, receive)
                await send(last)
                nursery.cancel_scope.cancel()


async def _read_the_rest(receive: _Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def raise_interrupt(group: BaseExceptionGroup[BaseException]) -> None:
    """Raise the KeyboardInterrupt that a group holds, bare; return if there is none."""
    found: BaseExceptionGroup[BaseException] | None = group.subgroup(KeyboardInterrupt)
    if found is not None:
        raise KeyboardInterrupt from group
