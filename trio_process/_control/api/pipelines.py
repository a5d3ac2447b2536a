"""The routes of pipelines."""

from __future__ import annotations

from typing import Final

import trio

from ..._core import OptionError, PipelineError
from ..._pipeline import RunAllResult, Runner, find_faults
from ..live import Pipeline, Plane
from ..message import Answer, Request, success
from ..problem import Problem, invalid
from .bodies import specs_of

_OF_ALL: Final = frozenset({"schedule", "onFailure"})  # what neither a sequential nor a parallel run has


async def list_pipelines(plane: Plane, request: Request) -> Answer:  # noqa: ARG001 - as all handlers
    """Answer ``GET /pipelines``."""
    return success(plane.pipelines.rows())


async def get_pipeline(plane: Plane, request: Request) -> Answer:
    """Answer ``GET /pipelines/ID``."""
    return success(_pipeline(plane, request).to_dict())


async def stop_pipeline(plane: Plane, request: Request) -> Answer:
    """Answer ``POST /pipelines/ID/stop``."""
    pipeline = _pipeline(plane, request)
    if pipeline.ended is None:
        if pipeline.stopping is None:
            raise Problem(
                "conflict", "its program gave no event to stop it by: ControlServer.pipeline(..., stopping=event)"
            )
        pipeline.stopping.set()
    with plane.interruptible(request.wait):
        await pipeline.over.wait()
    return success({"stopped": True, **pipeline.row()}, 200 if pipeline.over.is_set() else 202)


def _pipeline(plane: Plane, request: Request) -> Pipeline:
    found = plane.pipelines.get(request.path["id"])
    if found is None:
        raise Problem("not_found", f"there is no pipeline with the id {request.path['id']!r}")
    return found


async def run_pipeline(plane: Plane, request: Request) -> Answer:
    """Answer ``POST /pipelines/run``: 200 whatever the result of the pipeline."""
    service = plane.need_service()
    mode: str = request.body.get("mode", "all")
    for name in _OF_ALL.intersection(request.body) if mode != "all" else ():
        raise invalid(name, f"{name} is for the mode 'all'; the mode {mode!r} has none")
    specs = specs_of(request.body)
    if faults := find_faults(specs):  # before it is listed
        raise _refused(PipelineError(faults))
    stopping = trio.Event()
    pipeline, updates, receive = plane.pipelines.add(request.body.get("name") or "pipeline", specs, stopping)
    assert plane.nursery is not None, "requests come while the server serves"
    plane.nursery.start_soon(plane.pipelines.follow, pipeline, receive)
    runner = Runner(service)
    timeout: float | None = request.body.get("timeout")
    try:
        with plane.interruptible():
            match mode:
                case "sequential":
                    result = await runner.run_sequential(specs, timeout=timeout, stopping=stopping, updates=updates)
                case "parallel":
                    result = await runner.run_parallel(specs, timeout=timeout, stopping=stopping, updates=updates)
                case _:
                    result = await runner.run_all(
                        specs,
                        schedule=request.body.get("schedule", "waves"),
                        on_failure=request.body.get("onFailure", "continue"),
                        timeout=timeout,
                        stopping=stopping,
                        updates=updates,
                    )
    except PipelineError as error:
        raise _refused(error) from None
    except OptionError as error:
        raise Problem("invalid_request", str(error)) from None
    return success(_shown(result, pipeline))


def _refused(error: PipelineError) -> Problem:
    return Problem("invalid_request", str(error), {"field": "specs", "faults": list(error.faults)})


def _shown(result: RunAllResult, pipeline: Pipeline) -> dict[str, object]:
    return result.to_dict() | {"id": pipeline.id}
