"""Generate `openapi.json` from the table of routes (OpenAPI 3.1)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

from ..gate import Access
from ..problem import STATUS_OF
from .routes import BASE, Route

_ERROR: Final = {
    "type": "object",
    "required": ["success", "error"],
    "properties": {
        "success": {"const": False},
        "error": {
            "type": "object",
            "required": ["code", "message"],
            "properties": {
                "code": {"type": "string", "enum": list(STATUS_OF)},
                "message": {"type": "string"},
                "details": {},
            },
        },
    },
}
_ERROR_REF: Final = {"$ref": "#/components/schemas/Error"}
_SAID: Final = {
    202: "It is in progress.",
    400: "A field was refused; `details.field` names it.",
    401: "A token is needed, or it is wrong.",
    403: "The access level doesn't suffice, or the request comes from a page of another site.",
    404: "Nothing has that name.",
    405: "The path has other methods.",
    409: "It can't be done in this state.",
    413: "The body is larger than 1 MiB.",
    415: "The body is not JSON.",
    421: "The `Host` is not a name of this server.",
    429: "Too many wrong tokens.",
    503: "A part that the request needs is missing or not ready.",
}


def document(routes: Iterable[Route]) -> dict[str, Any]:
    """Return the OpenAPI description of an API with these routes."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "trio-process control plane",
            "version": "1",
            "description": "See and steer what runs. Every answer under /api/process is an envelope.",
        },
        "servers": [{"url": "/"}],
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": {"Error": _ERROR},
        },
    }


def _operation(route: Route) -> dict[str, Any]:
    needed = route.need.access
    found: dict[str, Any] = {
        "operationId": route.operation,
        "summary": route.summary,
        "tags": [route.tag],
        "responses": _responses(route),
    }
    if needed is None:
        found["security"] = []
    else:
        found["x-access"] = needed.value
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in re.findall(r"{(\w+)}", route.path)
    ]
    parameters += [
        {"name": name, "in": "query", "schema": {key: value for key, value in schema.items() if key != "description"}}
        | ({"description": schema["description"]} if "description" in schema else {})
        for name, schema in route.query.items()
    ]
    if parameters:
        found["parameters"] = parameters
    if route.body is not None:
        required = "required" in route.body
        found["requestBody"] = {"required": required, "content": {"application/json": {"schema": route.body}}}
    return found


def _responses(route: Route) -> dict[str, Any]:
    statuses = {200: _good(route)}
    if 202 in route.statuses:
        statuses[202] = {**_good(route), "description": _SAID[202]}
    if route.need.access is not None or route.body is not None:
        statuses |= {status: _bad(status) for status in (401, 429)}
    refusals = {400, 403, 421, *route.statuses} - {202}
    if route.body is not None or route.need.access in (Access.CONTROL, Access.RUN):
        refusals |= {413, 415}
    plain = not route.path.startswith(BASE)
    for status in sorted(refusals):
        statuses[status] = _bad(status)
        if status in route.data_with:
            statuses[status]["content"]["application/json"]["schema"] = {"oneOf": [_envelope(route), _ERROR_REF]}
        if plain and status == 503:
            statuses[status] = {"description": _SAID[503], "content": {"text/plain": {"schema": {"type": "string"}}}}
    return {str(status): statuses[status] for status in sorted(statuses)}


def _good(route: Route) -> dict[str, Any]:
    if route.stream is not None:
        kind = "text/event-stream" if route.tag == "events" else "application/x-ndjson"
        return {"description": route.summary, "content": {kind: {"schema": {"type": "string"}}}}
    if not route.path.startswith(BASE):
        if route.path == "/openapi.json":
            return {"description": route.summary, "content": {"application/json": {"schema": {"type": "object"}}}}
        content = {"text/plain": {"schema": {"type": "string"}}}
        if route.path == "/metrics":
            content["application/openmetrics-text"] = {"schema": {"type": "string"}}
        return {"description": route.summary, "content": content}
    return {"description": route.summary, "content": {"application/json": {"schema": _envelope(route)}}}


def _envelope(route: Route) -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["success", "data"],
        "properties": {"success": {"const": True}, "data": dict(route.result)},
    }


def _bad(status: int) -> dict[str, Any]:
    return {"description": _SAID[status], "content": {"application/json": {"schema": _ERROR_REF}}}
