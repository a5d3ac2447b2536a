"""One entry into a supervisor's block: the service, the nursery of the units, and the exit."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import final

import trio

from .._core import ShutdownDeadline, current_deadline, enter_deadline, open_scope, raise_first
from .._process import Service
from .replicas import Replica
from .roster import Roster
from .rules import Strategy, UnitState
from .spec import UnitSpec


@final
class _Ending:
    """Why the body is cancelled before it has ended by itself.

    Attributes:
        scope: Around the body.
        error: The exception that the block ends with, None after an essential unit has completed.
        interrupt: An exception of a unit that is not an `Exception`.
    """

    def __init__(self) -> None:
        self.scope = trio.CancelScope()
        self.error: Exception | None = None
        self.interrupt: BaseException | None = None

    def __call__(self, what: Replica | BaseException) -> None:
        """End the body: an essential unit has ended, or a unit was interrupted."""
        if isinstance(what, BaseException):
            self.interrupt = self.interrupt or what
        elif what.state is not UnitState.COMPLETED and self.error is None:
            self.error = what.failure()
        self.scope.cancel()


@asynccontextmanager
async def open_roster(
    specs: dict[str, UnitSpec], service: Service, *, owned: bool, strategy: Strategy, shutdown_timeout: float
) -> AsyncIterator[Roster]:
    """Keep units running inside the block, and stop them all when it is left.

    Args:
        specs: The checked specs, by name.
        service: The service that starts processes.
        owned: Whether the service is entered here.
        strategy: Which units are restarted together.
        shutdown_timeout: Seconds that leaving may take before all grace periods end.
    """
    with _deadline_within(current_deadline()) as deadline:
        async with _served(service, deadline, owned=owned), open_scope() as nursery:
            ending = _Ending()
            roster = Roster(specs, service, strategy, deadline, nursery, ending)
            listening = trio.CancelScope(shield=True)  # ends of processes are of interest until the last one
            nursery.start_soon(_listen, roster, listening)
            for entry in roster.entries.values():
                roster.populate(entry)
            roster.refresh()
            body_error: BaseException | None = None
            failures: list[BaseException] = []
            try:
                with ending.scope:
                    yield roster
            except BaseException as error:  # noqa: BLE001 - raised again below, after the stop
                body_error = error
            try:
                await _stop_all(roster, trio.current_time() + shutdown_timeout)
            except BaseException as error:  # noqa: BLE001 - a second Ctrl-C: the tasks of the units go on with their stop
                failures.append(error)
            finally:
                listening.cancel()
            failures += [error for error in (ending.interrupt, ending.error) if error is not None]
            if not owned:  # one of our own says so itself
                failures += [survivor for replica in roster.replicas() if (survivor := replica.survivor) is not None]
            if body_error is None and ending.error is not None:
                body_error = ending.error
                failures.remove(body_error)
            raise_first(body_error, failures)


async def _stop_all(roster: Roster, deadline: float) -> None:
    """Make all units unwanted, and wait until their tasks have ended."""
    roster.deadline.advance(deadline)
    roster.close()
    with trio.CancelScope(shield=True):
        await roster.wait_gone()


async def _listen(roster: Roster, scope: trio.CancelScope) -> None:
    with scope:
        await roster.exits.run()


@contextmanager
def _deadline_within(outer: ShutdownDeadline) -> Iterator[ShutdownDeadline]:
    """Create a deadline that is never later than that of the enclosing daemon."""
    deadline = ShutdownDeadline()

    def follow() -> None:
        deadline.advance(outer.at)

    follow()
    outer.watch(follow)
    try:
        yield deadline
    finally:
        outer.unwatch(follow)


@asynccontextmanager
async def _served(service: Service, deadline: ShutdownDeadline, *, owned: bool) -> AsyncIterator[None]:
    """Enter the service, if it is our own; its grace periods end at our deadline."""
    if not owned:
        yield
        return
    async with AsyncExitStack() as stack:
        leave = enter_deadline(deadline)
        try:
            await stack.enter_async_context(service)
        finally:
            leave()  # tasks of the body don't belong to the supervisor
        yield
