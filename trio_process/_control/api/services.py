"""Handle the routes of services: the units of a supervisor, their logs, and the graph."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import trio

from ..._core import OptionError, PipelineError, ProcessError
from ..._supervisor import reread
from ..live import Plane, Query, of_failure, row
from ..message import Answer, Request, success
from ..problem import Problem, invalid

_LIMIT = 500
_MOST = 5000


async def list_services(plane: Plane, request: Request) -> Answer:  # noqa: ARG001 - as all handlers
    """Answer ``GET /services``."""
    plane.services.need()
    return success(plane.services.rows())


async def get_service(plane: Plane, request: Request) -> Answer:
    """Answer ``GET /services/NAME``."""
    return success(_state(plane, request.path["name"]))


def _state(plane: Plane, name: str) -> dict[str, Any]:
    """Return one replica, or the first one together with the others."""
    found = plane.services.named(name)
    rows = [row(unit) for unit in found]
    return rows[0] if len(rows) == 1 else rows[0] | {"all": rows}


async def start_service(plane: Plane, request: Request) -> Answer:
    """Answer ``POST /services/NAME/start``."""
    return await _act(plane, request, plane.services.need().start, "started")


async def stop_service(plane: Plane, request: Request) -> Answer:
    """Answer ``POST /services/NAME/stop``."""
    return await _act(plane, request, plane.services.need().stop, "stopped")


async def restart_service(plane: Plane, request: Request) -> Answer:
    """Answer ``POST /services/NAME/restart``."""
    return await _act(plane, request, plane.services.need().restart, "restarted")


async def scale_service(plane: Plane, request: Request) -> Answer:
    """Answer ``PUT /services/NAME/replicas``."""
    supervisor = plane.services.need()
    replicas = request.body["replicas"]

    async def scale(name: str) -> None:
        await supervisor.scale(name, replicas)

    return await _act(plane, request, scale, "scaled")


async def _act(plane: Plane, request: Request, action: Callable[[str], Awaitable[Any]], word: str) -> Answer:
    """Start an operation, wait for it as long as the client requests, and answer with the state."""
    name = request.path["name"]
    plane.services.named(name)
    outcome = _Outcome(action, name)
    assert plane.nursery is not None, "requests come while the server serves"
    plane.nursery.start_soon(outcome.run)
    await trio.lowlevel.checkpoint()  # lets immediate failures be reported
    with plane.interruptible(request.wait):
        await outcome.over.wait()
    if outcome.error is not None:
        raise of_failure(outcome.error)
    try:
        state = _state(plane, name)
    except Problem:
        state = {"id": name, "name": name, "state": "stopped"}  # scaled to zero
    return success({word: True, **state}, 200 if outcome.over.is_set() else 202)


class _Outcome:
    """An operation that continues when the client has left."""

    def __init__(self, action: Callable[[str], Awaitable[Any]], name: str) -> None:
        self._action = action
        self._name = name
        self.over = trio.Event()
        self.error: ProcessError | None = None

    async def run(self) -> None:
        try:
            await self._action(self._name)
        except ProcessError as error:
            self.error = error  # reported if a client is waiting; the state shows it anyway
        finally:
            self.over.set()


async def logs_of_service(plane: Plane, request: Request) -> Answer:
    """Answer ``GET /services/NAME/logs``."""
    name = request.path["name"]
    units = plane.services.named(name)
    return success(await plane.read_logs({units[0].spec.name}, _query(request)))


async def all_logs(plane: Plane, request: Request) -> Answer:
    """Answer ``GET /logs``."""
    plane.need_service()
    return success(await plane.read_logs(request.names("service"), _query(request)))


def _query(request: Request) -> Query:
    limit = request.whole("limit", _LIMIT, least=1, most=_MOST)
    ignore_case = request.flag("ignoreCase")
    grep = request.query.get("grep", "")
    return Query(
        request.whole("after"),
        request.whole("before"),
        limit or _LIMIT,
        grep.lower() if ignore_case else grep,
        ignore_case,
    )


async def graph(plane: Plane, request: Request) -> Answer:  # noqa: ARG001 - as all handlers
    """Answer ``GET /graph``."""
    plane.services.need()
    return success(plane.services.graph())


async def reload(plane: Plane, request: Request) -> Answer:
    """Answer ``POST /reload``: read the file again and apply its changes; this continues when the client leaves."""
    supervisor = plane.services.need()
    path = supervisor.path
    if path is None:
        reason = "this supervisor was not made from a file (Supervisor.from_file), so there is none to read"
        raise Problem("conflict", reason)
    try:
        units = await trio.to_thread.run_sync(reread, supervisor)
        plan = supervisor.plan(units)
        if not request.flag("dryRun"):

            async def apply(_: str) -> None:
                nonlocal plan
                plan = await supervisor.reload(units)  # another reload may have been first

            outcome = _Outcome(apply, str(path))
            assert plane.nursery is not None, "requests come while the server serves"
            plane.nursery.start_soon(outcome.run)
            with plane.interruptible():
                await outcome.over.wait()
            if outcome.error is not None:
                raise outcome.error
    except PipelineError as error:
        raise Problem("invalid_request", str(error), {"field": "file", "faults": list(error.faults)}) from None
    except OptionError as error:
        raise invalid("file", str(error)) from None
    return success(plan.to_dict())
