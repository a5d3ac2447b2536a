"""The services that tasks use: those of a running instance of the file, else of a supervisor of our own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import final

import attrs

from ..._control import ControlClient, ControlError
from ..._core import DaemonError, UnitFailedError
from ..._supervisor import Supervisor, UnitSpec
from ..instance import Instance, segment


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
        """Hold a service for the length of the block, which begins when it is ready.

        Raises:
            UnitFailedError: It can't become ready, ended for good meanwhile, or the instance has ended.
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
    instance: Instance | None, units: Sequence[UnitSpec]
) -> AsyncIterator[Supervisor | RunningServices]:
    """Open the services that tasks may use for the length of the block; none starts until a task uses it.

    Args:
        instance: The instance of the file, None if it can't have one (a pipe).
        units: The services of the file.
    """
    if instance is not None and instance.pid():
        try:
            await instance.wait_until_it_answers(lambda: not instance.pid())
        except DaemonError:
            pass  # it has ended before it answered
        else:
            yield RunningServices(instance.client())
            return
    async with Supervisor([attrs.evolve(unit, enabled=False) for unit in units]) as supervisor:
        yield supervisor
