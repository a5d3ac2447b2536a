"""Serve the files of the page from the wheel."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Final

from ..live import Plane
from ..message import Answer, Request
from ..problem import Problem

CSP: Final = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Content-Security-Policy: no inline code, no other origins, no framing."""

_TYPES: Final = {
    "index.html": b"text/html; charset=utf-8",
    "page.js": b"text/javascript; charset=utf-8",
    "page.css": b"text/css; charset=utf-8",
    "icon.svg": b"image/svg+xml",
}


@cache
def _read(name: str) -> bytes:
    return (files(__package__) / name).read_bytes()


async def index(plane: Plane, request: Request) -> Answer:  # noqa: ARG001 - as all handlers
    """Answer ``GET /``."""
    return Answer(200, _read("index.html"), _TYPES["index.html"], ((b"content-security-policy", CSP),))


async def page_file(plane: Plane, request: Request) -> Answer:  # noqa: ARG001 - as all handlers
    """Answer ``GET /page/NAME``."""
    name = request.path["file"]
    if name not in _TYPES:
        raise Problem("not_found", f"the page has no file {name!r}")
    return Answer(200, _read(name), _TYPES[name], ((b"cache-control", b"no-cache"),))
