"""The routes at the root: metrics, probes, the session."""

from __future__ import annotations

from typing import Final

from ..._daemon import preferred
from ..live import Plane, refresh_samples
from ..message import Answer, Request, success
from .metrics import OPENMETRICS, PROMETHEUS, render

_TEXT: Final = b"text/plain; charset=utf-8"
_OPENMETRICS: Final = "application/openmetrics-text"


async def metrics(plane: Plane, request: Request) -> Answer:
    """Answer ``GET /metrics``."""
    kind = preferred(request.headers.get(b"accept", b"").decode("latin-1"), [_OPENMETRICS], "text/plain")
    openmetrics = kind == _OPENMETRICS
    await refresh_samples(plane)
    body = render(plane, openmetrics=openmetrics)
    return Answer(200, body, OPENMETRICS if openmetrics else PROMETHEUS)


async def health(plane: Plane, request: Request) -> Answer:  # noqa: ARG001 - as all handlers
    """Answer ``GET /health``: any answer proves that the event loop is running."""
    return Answer(200, b"ok\n", _TEXT)


async def ready(plane: Plane, request: Request) -> Answer:  # noqa: ARG001 - as all handlers
    """Answer ``GET /ready``: whether all wanted services are ready."""
    if plane.services.all_ready() and not plane.closing.is_set():
        return Answer(200, b"ready\n", _TEXT)
    return Answer(503, b"not ready\n", _TEXT)


async def session(plane: Plane, request: Request) -> Answer:
    """Answer ``POST /session``: exchange the token for a cookie."""
    assert plane.guard is not None, "requests come while the server serves"
    plane.guard.check_token(request.body["token"])
    answer = success({"access": plane.access.value})
    return answer._replace(headers=((b"set-cookie", plane.guard.session_cookie()),))
