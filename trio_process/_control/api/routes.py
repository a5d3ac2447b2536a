"""The table of routes, and how a path finds its route.

Routes go by the raw path: it is cut at ``/`` first and decoded then, so that a name with a ``/`` in it is one segment (``%2F``).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple, final
from urllib.parse import unquote_to_bytes

import attrs

from ..._core import nearest
from ..gate import Need
from ..message import Answer, Receive, Request, Send
from ..problem import invalid
from .schema import Schema

if TYPE_CHECKING:
    from ..live import Plane

BASE: Final = "/api/process"

Handler = Callable[["Plane", Request], Awaitable[Answer]]
StreamHandler = Callable[["Plane", Request, Receive, Send], Awaitable[None]]


@final
@attrs.frozen(kw_only=True)
class Route:
    """One route.

    Attributes:
        method: ``"GET"``, ``"POST"`` or ``"PUT"``.
        path: The whole path, with ``{name}`` for a segment that is a value.
        handler: Answers; for a stream None.
        stream: Answers in pieces, for as long as the client reads.
        need: What the guard asks for.
        summary: One sentence.
        query: The parameters of the query, by name.
        body: The schema of the body, None if there is none.
        result: What `data` is, as a schema.
        statuses: What else may come than 200 and the guard's refusals.
        data_with: Which of these may carry `data` in place of an error.
        waits: Whether the answer may take long, so that it is given up when the client leaves.
        tag: The chapter of the documentation.
    """

    method: str
    path: str
    need: Need
    summary: str
    handler: Handler | None = None
    stream: StreamHandler | None = None
    query: Mapping[str, Schema] = attrs.field(factory=dict)
    body: Schema | None = None
    result: Schema = attrs.field(factory=dict)
    statuses: tuple[int, ...] = ()
    data_with: tuple[int, ...] = ()
    waits: bool = False
    tag: str = ""

    @property
    def operation(self) -> str:
        """The name of the operation, as clients that are generated call it."""
        words = [part.strip("{}") for part in self.path.removeprefix(BASE).split("/") if part]
        joined = "".join(word[:1].upper() + word[1:] for part in words for word in part.replace(".", "-").split("-"))
        return self.method.lower() + (joined or "Page")


class Match(NamedTuple):
    """The route of a request, and the values of its segments; without a route: the methods that the path has."""

    route: Route | None
    values: Mapping[str, str]
    methods: tuple[str, ...]


class _Node:
    __slots__ = ("children", "routes", "value")

    def __init__(self) -> None:
        self.children: dict[str, _Node] = {}
        self.value: _Node | None = None
        self.routes: dict[str, Route] = {}


@final
class Router:
    """Finds the route of a path.

    Args:
        routes: The table.
    """

    __slots__ = ("_root", "routes")

    def __init__(self, routes: Iterable[Route]) -> None:
        self.routes = tuple(routes)
        self._root = _Node()
        for route in self.routes:
            node = self._root
            for segment in route.path.split("/")[1:]:
                if segment.startswith("{"):
                    node.value = node = node.value or _Node()
                else:
                    node = node.children.setdefault(segment, _Node())
            node.routes[route.method] = route

    def match(self, method: str, raw_path: bytes) -> Match:
        """Return the route of a request; a path of ours with another method has none, but methods."""
        values: list[str] = []
        node: _Node | None = self._root
        for raw in raw_path.split(b"/")[1:]:
            assert node is not None, "left when there is none"
            try:
                segment = unquote_to_bytes(raw).decode()
            except UnicodeDecodeError:
                return Match(None, {}, ())
            child = node.children.get(segment)
            if child is None and segment and node.value is not None:
                child = node.value
                values.append(segment)
            node = child
            if node is None:
                return Match(None, {}, ())
        if node is None or not node.routes:
            return Match(None, {}, ())
        route = node.routes.get("GET" if method == "HEAD" else method)
        if route is None:
            return Match(None, {}, tuple(node.routes))
        names = [segment[1:-1] for segment in route.path.split("/") if segment.startswith("{")]
        return Match(route, dict(zip(names, values, strict=True)), tuple(node.routes))


def check_query(route: Route, query: Mapping[str, str]) -> None:
    """Check that a route of the API knows all parameters: one with a slip in its name must not be ignored.

    Raises:
        Problem: It doesn't know one.
    """
    if route.path.startswith(BASE):
        for name in query:
            if name not in route.query:
                raise invalid(name, f"this path has no parameter {name!r}{nearest(name, route.query)}")
