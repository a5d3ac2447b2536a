"""The routes of processes."""

from __future__ import annotations

from typing import Any, Final

import trio

from ..._core import (
    CommandFailedError,
    OptionError,
    ProcessError,
    ProcessNotRunningError,
    ProcessStartError,
    StdinNotAvailableError,
    signal_number,
)
from ..._process import ManagedProcess
from ..live import Plane, masked
from ..message import Answer, Request, success
from ..problem import Problem, invalid
from .bodies import options_of

_INPUT_TIMEOUT: Final = 10.0  # seconds within which a process must read input that is written to it


async def list_processes(plane: Plane, request: Request) -> Answer:
    """Answer ``GET /processes``."""
    service = plane.need_service()
    processes = service.running() if request.flag("runningOnly") else service.list()
    return success([process.info().to_dict() for process in processes])


async def get_process(plane: Plane, request: Request) -> Answer:
    """Answer ``GET /processes/ID``."""
    return success(_process(plane, request).info().to_dict())


async def output_of_process(plane: Plane, request: Request) -> Answer:
    """Answer ``GET /processes/ID/output``."""
    process = _process(plane, request)
    mask = masked(process)
    try:
        output = process.output()
    except UnicodeError:  # "strict" in its options
        output = process.output_bytes().decode(errors="backslashreplace")
    return success(output if mask is None else mask(output))


async def wait_for_process(plane: Plane, request: Request) -> Answer:
    """Answer ``POST /processes/ID/wait``: 200 whatever the exit code."""
    process = _process(plane, request)
    limit = request.wait if "wait" in request.query else None
    with plane.interruptible(limit) as scope:
        await process.done.wait()
    return success(process.info().to_dict(), 202 if scope.cancelled_caught else 200)


async def write_to_process(plane: Plane, request: Request) -> Answer:
    """Answer ``POST /processes/ID/input``."""
    process = _process(plane, request)
    try:
        with plane.interruptible(_INPUT_TIMEOUT) as scope:
            await process.send_input(request.body["input"])
    except UnicodeError as error:
        raise invalid("input", f"input can't be encoded for this process: {error}") from None
    except (ProcessNotRunningError, StdinNotAvailableError) as error:
        raise Problem("conflict", str(error)) from None
    if scope.cancelled_caught:
        raise Problem("conflict", f"{process.command!r} did not read its stdin for {_INPUT_TIMEOUT:g} s")
    return success({"written": True})


async def close_stdin_of_process(plane: Plane, request: Request) -> Answer:
    """Answer ``POST /processes/ID/close-stdin``."""
    try:
        await _process(plane, request).close_stdin()
    except (ProcessNotRunningError, StdinNotAvailableError) as error:
        raise Problem("conflict", str(error)) from None
    return success({"closed": True})


async def kill_process(plane: Plane, request: Request) -> Answer:
    """Answer ``POST /processes/ID/kill``."""
    _process(plane, request).kill()
    return success({"killed": True})


async def signal_process(plane: Plane, request: Request) -> Answer:
    """Answer ``POST /processes/ID/signal``."""
    process = _process(plane, request)
    wanted: Any = request.body["signal"]
    if isinstance(wanted, str) and wanted.isascii() and wanted.isdigit():
        wanted = int(wanted[:9])
    try:
        number = signal_number(wanted, "signal")
    except OptionError as error:
        raise invalid("signal", str(error)) from None
    try:
        process.signal(number)
    except ProcessNotRunningError as error:
        raise Problem("conflict", str(error)) from None
    return success({"signalled": True})


async def stop_process(plane: Plane, request: Request) -> Answer:
    """Answer ``POST /processes/ID/stop``."""
    process = _process(plane, request)
    grace: float | None = request.body.get("gracePeriod")
    assert plane.nursery is not None, "requests come while the server serves"
    if process.is_running:
        plane.nursery.start_soon(_stop, process, grace)
    with plane.interruptible(request.wait):
        await process.done.wait()
    over = process.done.is_set()
    return success({"stopped": True, **process.info().to_dict()}, 200 if over else 202)


async def _stop(process: ManagedProcess, grace: float | None) -> None:
    try:
        with trio.CancelScope(shield=True):
            await process.stop(grace)
    except ProcessError:
        pass  # it can't be killed, which its state shows


async def start_process(plane: Plane, request: Request) -> Answer:
    """Answer ``POST /processes``."""
    try:
        process = await plane.need_service().start_with_options(options_of(request.body))
    except ProcessStartError as error:
        raise Problem("conflict", str(error)) from None
    return success(process.info().to_dict())


async def run_process(plane: Plane, request: Request) -> Answer:
    """Answer ``POST /processes/run`` with the output, or with 409 and the result."""
    options = options_of(request.body)
    try:
        with plane.interruptible():
            result = await plane.need_service().run_with_options(options)
    except ProcessStartError as error:
        raise Problem("run_failed", str(error)) from None
    except CommandFailedError as error:
        raise Problem("run_failed", str(error), error.result.to_dict()) from None
    return success(result.to_dict()["output"])


def _process(plane: Plane, request: Request) -> ManagedProcess:
    return plane.process(request.path["id"])
