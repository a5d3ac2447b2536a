"""Provide the services that tasks use: from a running instance of the file, else from our own supervisor."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Final, final

import attrs
import trio

from ..._control import ControlClient, ControlError
from ..._core import AlreadyRunningError, DaemonError, UnitFailedError, open_scope
from ..._daemon import PIDFile
from ..._supervisor import Supervisor, UnitSpec, held, wait_unheld
from ..instance import Instance, NotRunningError, announce, segment, server_of
from ..output import print_error
from ..views import View

_RETRY: Final = 0.02  # seconds


@final
class RunningServices:
    """The services of a running instance, held for tasks that use them.

    Args:
        client: A client of the instance.
    """

    def __init__(self, client: ControlClient) -> None:
        self._client = client

    @asynccontextmanager
    async def hold(self, name: str) -> AsyncIterator[None]:
        """Hold a service for the length of the block, which starts when the service is ready.

        Raises:
            UnitFailedError: The service can't become ready or has ended for good, or the instance has ended.
        """
        try:
            async with self._client.held(f"/services/{segment(name)}/hold"):
                yield
        except ControlError as error:
            if error.code == "not_found":
                raise UnitFailedError(
                    None,
                    f"{name}: the running instance does not have this service; trio-process reload makes it read the file",
                ) from error
            raise UnitFailedError(None, f"{name}: {error}") from error
        except OSError as error:
            raise UnitFailedError(None, f"{name}: the instance that ran it has ended: {error}") from error


@asynccontextmanager
async def services_of(
    instance: Instance | None, units: Sequence[UnitSpec], stopping: trio.Event, view: View
) -> AsyncIterator[Supervisor | RunningServices]:
    """Open the services that tasks may use for the length of the block; none starts until a task uses it.

    Without a running instance, this process becomes the instance, so that no other process starts a second copy:
    another `run` uses its services, and an `up` waits for its end.

    Args:
        instance: The instance of the file; None if it can't have one, such as a pipe.
        units: The services of the file.
        stopping: Set when the run has to end early, without waiting for other runs that use the services.
        view: Leaves the terminal for a line about that wait.
    """
    claim = None if instance is None else await _claim(instance)
    if instance is not None and isinstance(claim, ControlClient):
        yield RunningServices(claim)
        return
    supervisor = Supervisor([attrs.evolve(unit, enabled=False) for unit in units])
    async with AsyncExitStack() as stack:
        if instance is not None and isinstance(claim, PIDFile):
            stack.callback(claim.release)
            stack.enter_context(instance.findable())
            await stack.enter_async_context(_shared(instance, supervisor))
        await stack.enter_async_context(supervisor)
        yield supervisor
        await _let_others_end(supervisor, stopping, view)


async def _claim(instance: Instance) -> ControlClient | PIDFile | None:
    """Return a client of the running instance, else the lock that makes us the instance; None if there can't be one."""
    while True:
        if instance.pid():
            with suppress(NotRunningError):  # it ended before it responded
                return await instance.reach()
        try:
            _ = instance.address
            return await trio.to_thread.run_sync(instance.claim)
        except AlreadyRunningError:
            await trio.sleep(_RETRY)  # another process was faster
        except DaemonError:  # no process can start an instance there
            return None


@asynccontextmanager
async def _shared(instance: Instance, supervisor: Supervisor) -> AsyncIterator[None]:
    """Serve the address of the instance during the block, so that `ps`, `logs` and other runs find the services."""
    async with server_of(instance, supervisor) as server:
        announce(server, "run")
        yield


async def _let_others_end(supervisor: Supervisor, stopping: trio.Event, view: View) -> None:
    """Wait until no other run holds a service, unless this run has to end early."""
    if not held(supervisor):
        return
    with view.suspended():
        print_error("trio-process: another run uses the services; waiting until it has ended")
    async with open_scope() as nursery:
        nursery.start_soon(_cancel_at, stopping, nursery.cancel_scope)
        await wait_unheld(supervisor)
        nursery.cancel_scope.cancel()


async def _cancel_at(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()
