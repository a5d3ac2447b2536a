"""The routes of daemons."""

from __future__ import annotations

import os

import trio

from ..._core import DaemonError, OptionError, RegistryError, ask_to_end
from ..._daemon import DaemonEntry, Registry, open_daemon
from ..live import Plane, probe
from ..message import Answer, Request, success
from ..problem import Problem


def _registry(plane: Plane) -> Registry:
    if plane.registry is None:
        raise Problem("unavailable", "this server was given no registry")
    return plane.registry


async def list_daemons(plane: Plane, request: Request) -> Answer:  # noqa: ARG001 - as all handlers
    """Answer ``GET /daemons``."""
    _registry(plane)
    try:
        entries = await plane.daemons.look()
    except RegistryError as error:
        raise Problem("unavailable", str(error)) from None
    return success([entry.to_dict() for entry in entries])


async def _entry(plane: Plane, request: Request) -> DaemonEntry:
    registry = _registry(plane)
    code, daemon = request.path["code"], request.path["daemon"]
    try:
        found = await trio.to_thread.run_sync(registry.get, code, daemon)
    except OptionError:
        found = None  # not a valid name of a daemon
    except RegistryError as error:
        raise Problem("unavailable", str(error)) from None
    if found is None:
        raise Problem("not_found", f"the daemon {code}/{daemon} is not running")
    return found


async def get_daemon(plane: Plane, request: Request) -> Answer:
    """Answer ``GET /daemons/CODE/DAEMON``."""
    return success((await _entry(plane, request)).to_dict())


async def health_of_daemon(plane: Plane, request: Request) -> Answer:
    """Answer ``GET /daemons/CODE/DAEMON/health``: 503 if its server is unhealthy or unresponsive, 200 if it has no server."""
    entry = await _entry(plane, request)
    if not entry.health:
        return success({"healthy": False, "address": "", "reason": "no health endpoint configured"})
    with plane.interruptible():
        healthy, reason = await probe(entry)
    plane.daemons.note_health(entry, healthy, reason)
    found = {"healthy": healthy, "address": entry.health}
    return success(found) if healthy else success(found | {"reason": reason}, 503)


async def stop_daemon(plane: Plane, request: Request) -> Answer:
    """Answer ``POST /daemons/CODE/DAEMON/stop``: send SIGTERM to a process that provably belongs to the daemon."""
    entry = await _entry(plane, request)
    try:
        found = await trio.to_thread.run_sync(open_daemon, _registry(plane), entry.code, entry.daemon)
    except (DaemonError, RegistryError) as error:
        raise Problem("conflict", str(error)) from None
    if found is None:
        raise Problem("not_found", f"the daemon {entry.code}/{entry.daemon} is not running")
    pidfd = found.pidfd
    try:
        ask_to_end(pidfd)
        with plane.interruptible(request.wait) as scope:
            await trio.lowlevel.wait_readable(pidfd)
    except ProcessLookupError:
        return success({"stopped": True, **entry.to_dict()})
    except PermissionError:
        owner = f"{entry.code}/{entry.daemon} (PID {entry.pid}) belongs to another user"
        raise Problem("forbidden", f"{owner}: it can only be stopped by that one") from None
    finally:
        os.close(pidfd)
    return success({"stopped": True, **entry.to_dict()}, 202 if scope.cancelled_caught else 200)
