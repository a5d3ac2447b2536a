"""Writes the tables of `docs/reference/control.md` from the server's own: `python docs/make_control_tables.py`."""

import re
from pathlib import Path

from trio_process._control.api.metrics import FAMILIES
from trio_process._control.api.routes import BASE
from trio_process._control.api.table import api_routes
from trio_process._control.problem import STATUS_OF

PAGE = Path(__file__).parent / "reference" / "control.md"

ACCESS = {None: "none"}

EVENTS = {
    "process.started": "A process has been started: `id`, `name`, `command`, `args`, `dir`, `pid`, `service`, `replica`",
    "process.output": "A line: `line` (with `?batch=true` `lines`), `stream`, `cursor`, `id`, `service`, `replica`",
    "process.exited": "A process has ended: `exitCode`, `duration`, `error`, `reason`",
    "process.killed": "A process died of a signal: `signal`",
    "process.daemon.started": "A daemon has appeared in the registry: its entry",
    "process.daemon.stopped": "A daemon has disappeared from the registry: `code`, `daemon`, `pid`",
    "process.daemon.health": "The health of a daemon has changed: `healthy`, `reason`",
    "service.changed": "A service went from `old` to `new`: `name`, `reason`, `generation`, and `unit`, the row of `/services`",
    "pipeline.update": "A pipeline or one of its tasks has changed: the row of `/pipelines`, and in `specs` the changed tasks",
    "sample": "Every two seconds: for each of `services` `cpu` (1.0 is one core), `memory` and `descriptors`; `loopLag`",
}


def routes() -> str:
    """Return the table of routes."""
    rows = ["| Route | Access | |", "| --- | --- | --- |"]
    for route in api_routes():
        path = route.path.removeprefix(BASE)
        query = ", ".join(f"`{name}`" for name in route.query)
        body = ", ".join(f"`{name}`" for name in (route.body or {}).get("properties", {}))
        said = route.summary + (f" Query: {query}." if query else "") + (f" Body: {body}." if body else "")
        where = f"{route.method} {path}" if route.path.startswith(BASE) else f"{route.method} (root) {path}"
        rows.append(f"| `{where}` | {ACCESS.get(route.need.access) or route.need.access} | {said} |")
    return "\n".join(rows)


def codes() -> str:
    """Return the table of error codes."""
    rows = ["| Status | Code |", "| --- | --- |"]
    return "\n".join([*rows, *(f"| {status} | `{code}` |" for code, status in STATUS_OF.items())])


def events() -> str:
    """Return the table of channels."""
    rows = ["| Channel | The event, and its `data` |", "| --- | --- |"]
    return "\n".join([*rows, *(f"| `{channel}` | {said} |" for channel, said in EVENTS.items())])


def metrics() -> str:
    """Return the table of metrics."""
    rows = ["| Metric | |", "| --- | --- |"]
    return "\n".join([*rows, *(f"| `trio_process_{name}` | {said} |" for name, said in FAMILIES.items())])


def written(text: str) -> str:
    """Return the page with new tables."""
    for name, make in (("routes", routes), ("codes", codes), ("events", events), ("metrics", metrics)):
        block = f"<!-- {name}: made by docs/make_control_tables.py -->\n{make()}\n<!-- end -->"
        pattern = rf"<!-- {name}: .*?<!-- end -->"
        text, count = re.subn(pattern, lambda _, block=block: block, text, flags=re.DOTALL)
        assert count == 1, name
    return text


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
