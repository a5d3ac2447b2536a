"""Match paths to a table of routes.

Routes match the raw path, which is split at ``/`` first and then decoded, so a name that contains ``/`` is one segment
(``%2F``).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple, final
from urllib.parse import unquote_to_bytes

import attrs

from ..._core import nearest
from ..gate import Need
from ..message import Answer, Receive, Request, Send, parse_wait
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
        path: The whole path, with ``{name}`` for a variable segment.
        handler: Returns the answer; None for a stream.
        stream: Sends the answer in pieces, for as long as the client reads.
        need: The requirements that the guard checks.
        summary: One sentence.
        query: The parameters of the query, by name.
        body: The schema of the body, None for no body.
        result: The schema of `data`.
        statuses: The possible statuses besides 200 and the guard's refusals.
        data_with: Those of them that may carry `data` in place of an error.
        waits: Whether the answer may take long, so that it is cancelled when the client leaves.
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
        """The name of the operation in generated clients."""
        words = [part.strip("{}") for part in self.path.removeprefix(BASE).split("/") if part]
        joined = "".join(word[:1].upper() + word[1:] for part in words for word in part.replace(".", "-").split("-"))
        return self.method.lower() + (joined or "Page")


class Match(NamedTuple):
    """The route of a request and the values of its segments; without a route, the methods allowed for the path."""

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
    """Router that finds the route of a path.

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
            if route.method == "GET" and route.stream is None:  # a stream's answer to HEAD would have no end
                node.routes["HEAD"] = route

    def match(self, method: str, raw_path: bytes) -> Match:
        """Return the route of a request; a known path with another method has no route, but methods."""
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
        route, methods = node.routes.get(method), tuple(node.routes)
        if route is None:
            return Match(None, {}, methods)
        names = [segment[1:-1] for segment in route.path.split("/") if segment.startswith("{")]
        return Match(route, dict(zip(names, values, strict=True)), methods)


def check_query(route: Route, query: Mapping[str, str]) -> None:
    """Check that a route of the API knows all parameters: a misspelled parameter must not be ignored.

    The wait is checked here too: a request that is refused for it must not have stopped anything yet.

    Raises:
        Problem: A parameter is unknown, or the wait isn't valid.
    """
    if route.path.startswith(BASE):
        for name in query:
            if name not in route.query:
                raise invalid(name, f"this path has no parameter {name!r}{nearest(name, route.query)}")
        parse_wait(query)
