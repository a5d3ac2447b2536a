"""Define the routes in one table, which serves the server, the documentation, `openapi.json` and the guard."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

from ..._core import checks
from ..gate import Access, Need
from ..live import MAX_LINES, Plane, serve_events, serve_hold
from ..message import Answer, Request, encode
from ..page import index, page_file
from . import daemons, pipelines, processes, root, services
from .bodies import COMMAND, PIPELINE
from .openapi import document
from .routes import BASE, Route
from .schema import FLAG, NAME, SECONDS, Schema, record, whole

READ: Final = Need(Access.READ)
CONTROL: Final = Need(Access.CONTROL, changes=True)
RUN: Final = Need(Access.RUN, changes=True)
OPEN: Final = Need(None)
LOGIN: Final = Need(None, changes=True)

_OBJECT: Final[Schema] = {"type": "object"}
_ROWS: Final[Schema] = {"type": "array", "items": _OBJECT}
_TEXT: Final[Schema] = {"type": "string"}
_WAIT: Final[dict[str, Schema]] = {
    "wait": {
        "type": "number",
        "minimum": 0,
        "maximum": 300,
        "description": "Seconds that the answer may wait for the end.",
    }
}
_NAMES: Final[Schema] = {"type": "string", "description": "Names, comma-separated; none for all."}
_CURSOR: Final[Schema] = whole(0, 2**53)
_LOGS: Final[dict[str, Schema]] = {
    "after": {**_CURSOR, "description": "Lines after this cursor, the oldest first."},
    "before": {**_CURSOR, "description": "Lines before this cursor, the newest of them."},
    "limit": {
        "type": "integer",
        "minimum": 1,
        "maximum": 5000,
        "description": "How many lines at most; 500 if not given.",
    },
    "grep": {
        "type": "string",
        "description": "A text that each line must contain, escape sequences left out; no pattern.",
    },
    "ignoreCase": {**FLAG, "description": "Whether upper and lower case are the same in `grep`."},
}


def _done(word: str) -> Schema:
    return {"type": "object", "properties": {word: {"const": True}}, "required": [word]}


def _route(method: str, path: str, need: Need, summary: str, handler: Any, **more: Any) -> Route:
    return Route(method=method, path=BASE + path, need=need, summary=summary, handler=handler, **more)


def _daemons() -> list[Route]:
    one = "/daemons/{code}/{daemon}"
    each: dict[str, Any] = {"tag": "daemons", "statuses": (404, 503)}
    return [
        _route("GET", "/daemons", READ, "List the running daemons.", daemons.list_daemons, result=_ROWS, tag="daemons", statuses=(503,)),
        _route("GET", one, READ, "Show a daemon.", daemons.get_daemon, result=_OBJECT, **each),
        _route("GET", f"{one}/health", READ, "Ask a daemon's health server; 503, with `data`, if it isn't healthy.",
               daemons.health_of_daemon, result={"type": "object", "required": ["healthy", "address"]}, data_with=(503,), **each),
        _route("POST", f"{one}/stop", CONTROL, "Send a daemon SIGTERM.", daemons.stop_daemon,
               query=_WAIT, result=_done("stopped"), waits=True, tag="daemons", statuses=(202, 404, 409, 503)),
    ]  # fmt: skip


def _processes() -> list[Route]:
    one = "/processes/{id}"
    known: dict[str, Any] = {"tag": "processes", "statuses": (404, 503)}
    alive: dict[str, Any] = {"tag": "processes", "statuses": (404, 409, 503)}
    api = processes
    return [
        _route("GET", "/processes", READ, "List the processes.", api.list_processes, query={"runningOnly": FLAG},
               result=_ROWS, tag="processes", statuses=(503,)),
        _route("GET", one, READ, "Show a process.", api.get_process, result=_OBJECT, **known),
        _route("GET", f"{one}/output", READ, "Show the kept output of a process.",
               api.output_of_process, result=_TEXT, **known),
        _route("POST", f"{one}/wait", CONTROL, "Wait for the end of a process.", api.wait_for_process, query=_WAIT,
               result=_OBJECT, waits=True, tag="processes", statuses=(202, 404, 503)),
        _route("POST", f"{one}/input", CONTROL, "Write to the stdin of a process.", api.write_to_process,
               body=record({"input": {"type": "string"}}, "input"), result=_done("written"), waits=True, **alive),
        _route("POST", f"{one}/close-stdin", CONTROL, "Close the stdin of a process.", api.close_stdin_of_process,
               result=_done("closed"), **alive),
        _route("POST", f"{one}/kill", CONTROL, "Send a process SIGKILL.", api.kill_process, result=_done("killed"), **known),
        _route("POST", f"{one}/signal", CONTROL, "Send a process a signal.", api.signal_process,
               body=record({"signal": {"type": ["string", "integer"]}}, "signal"), result=_done("signalled"), **alive),
        _route("POST", f"{one}/stop", CONTROL, "Stop a process: its stop signal, a grace period, SIGKILL.", api.stop_process,
               query=_WAIT, body=record({"gracePeriod": SECONDS}), result=_done("stopped"), waits=True,
               tag="processes", statuses=(202, 404, 503)),
        _route("POST", "/processes", RUN, "Start a command.", api.start_process, body=COMMAND, result=_OBJECT,
               tag="processes", statuses=(409, 503)),
        _route("POST", "/processes/run", RUN, "Run a command to its end, and return its output.", api.run_process,
               body=COMMAND, result=_TEXT, waits=True, tag="processes", statuses=(409, 503)),
    ]  # fmt: skip


def _services() -> list[Route]:
    one = "/services/{name}"
    action: dict[str, Any] = {"query": _WAIT, "waits": True, "tag": "services", "statuses": (202, 404, 409, 503)}
    page: dict[str, Any] = {
        "result": {"type": "object", "required": ["lines", "first", "last", "more"]},
        "waits": True,
        "tag": "logs",
    }
    api = services
    replicas = record({"replicas": whole(0, checks.MOST)}, "replicas")
    return [
        _route("GET", "/services", READ, "List the services, each replica separately.", api.list_services, result=_ROWS,
               tag="services", statuses=(503,)),
        _route("GET", one, READ, "Show a service.", api.get_service, result=_OBJECT, tag="services", statuses=(404, 503)),
        _route("POST", f"{one}/start", CONTROL, "Start a service and its dependencies.", api.start_service,
               result=_done("started"), **action),
        _route("POST", f"{one}/stop", CONTROL, "Stop a service, and first its dependents.", api.stop_service,
               result=_done("stopped"), **action),
        _route("POST", f"{one}/restart", CONTROL, "Restart a service.", api.restart_service, result=_done("restarted"), **action),
        _route("PUT", f"{one}/replicas", CONTROL, "Scale a service.", api.scale_service, body=replicas,
               result=_done("scaled"), **action),
        _route("POST", f"{one}/hold", CONTROL, "Hold a service for as long as the response is read.", None,
               stream=serve_hold, tag="services", statuses=(404, 409, 503)),
        _route("GET", f"{one}/logs", READ, f"Read lines of a service; {MAX_LINES} are kept.", api.logs_of_service,
               query=_LOGS, statuses=(404, 503), **page),
        _route("GET", "/logs", READ, "Read lines of all services.", api.all_logs, query={**_LOGS, "service": _NAMES},
               statuses=(503,), **page),
        _route("GET", "/graph", READ, "Show the dependencies of the services.", api.graph,
               result={"type": "object", "required": ["nodes", "edges"]}, tag="services", statuses=(503,)),
        _route("POST", "/reload", CONTROL, "Read the file again, and apply its changes.", api.reload,
               query={"dryRun": FLAG}, result=_OBJECT, waits=True, tag="services", statuses=(409, 503)),
    ]  # fmt: skip


def _pipelines() -> list[Route]:
    api = pipelines
    return [
        _route("GET", "/pipelines", READ, "List the pipelines, the newest first.", api.list_pipelines, result=_ROWS, tag="pipelines"),
        _route("GET", "/pipelines/{id}", READ, "Show a pipeline with its tasks.", api.get_pipeline, result=_OBJECT,
               tag="pipelines", statuses=(404,)),
        _route("POST", "/pipelines/{id}/stop", CONTROL, "Stop a pipeline.", api.stop_pipeline, query=_WAIT,
               result=_done("stopped"), waits=True, tag="pipelines", statuses=(202, 404, 409, 503)),
        _route("POST", "/pipelines/run", RUN, "Run a pipeline to its end.", api.run_pipeline, body=PIPELINE,
               result=_OBJECT, waits=True, tag="pipelines", statuses=(503,)),
    ]  # fmt: skip


def _others() -> list[Route]:
    filters: dict[str, Schema] = {"channels": _NAMES, "service": _NAMES, "batch": FLAG}
    routes = [
        _route("POST", "/session", LOGIN, "Get a session cookie for the token.", root.session,
               body=record({"token": NAME}, "token"), result=_OBJECT, tag="session"),
        _route("GET", "/events", READ, "Follow the events, as Server-Sent Events or over a WebSocket.", None,
               stream=serve_events, query=filters, tag="events", statuses=(503,)),
    ]  # fmt: skip
    at_root = [
        ("/metrics", READ, "Read the metrics.", root.metrics, ()),
        ("/health", OPEN, "Ask whether the server answers.", root.health, ()),
        ("/ready", OPEN, "Ask whether all wanted services are ready.", root.ready, (503,)),
        ("/openapi.json", READ, "Read this description.", _openapi, ()),
    ]
    return routes + [
        Route(method="GET", path=path, need=need, summary=summary, handler=handler, statuses=statuses, tag="root")
        for path, need, summary, handler, statuses in at_root
    ]


async def _openapi(plane: Plane, request: Request) -> Answer:  # noqa: ARG001 - as all handlers
    """Answer ``GET /openapi.json``."""
    return Answer(200, _description())


@cache
def _description() -> bytes:
    return encode(document(api_routes()))


def api_routes() -> list[Route]:
    """Return the routes of the API, in the order of the documentation."""
    return [*_daemons(), *_processes(), *_services(), *_pipelines(), *_others()]


def page_routes() -> list[Route]:
    """Return the routes of the page."""
    return [
        Route(method="GET", path="/", need=OPEN, summary="Show the page.", handler=index, tag="page"),
        Route(
            method="GET",
            path="/page/{file}",
            need=OPEN,
            summary="Read a file of the page.",
            handler=page_file,
            tag="page",
            statuses=(404,),
        ),
    ]
