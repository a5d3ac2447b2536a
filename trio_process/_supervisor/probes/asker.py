"""`Asker`: runs a probe, one run at a time, each within its timeout."""

from __future__ import annotations

from contextvars import copy_context
from typing import Final, final

import trio

from ..._core import ProcessError, end_if_forked, in_seconds
from ..._daemon import is_refused, one_line, reason_of
from .kinds import CallKind, Kind, Place

_LONGEST_TARGET: Final = 200  # of a reason's 500 characters


@final
class Asker:
    """Runs a probe of one unit repeatedly, never twice at a time.

    Args:
        kind: The kind of probe.
        timeout: Seconds that one run of the probe may take.

    It outlives the runs of the unit, so that a probe of a new run waits for the end of one of the old run.
    """

    __slots__ = ("_call", "_kind", "_limiter", "_lock", "_timeout")

    def __init__(self, kind: Kind, timeout: float) -> None:
        self._kind = kind
        self._timeout = timeout
        self._lock = trio.Lock()
        self._limiter = trio.CapacityLimiter(1)
        self._call: _Call | None = None

    async def ask(self, place: Place) -> tuple[bool, str]:
        """Run the probe once; a timeout is a failure, and so is an exception. The reason of a failure names the target."""
        async with self._lock:
            ok, reason = await self._ask(place)
        target = one_line(self._kind.describe(), _LONGEST_TARGET)
        return ok, reason if ok or target in reason else one_line(f"{target}: {reason}")

    async def _ask(self, place: Place) -> tuple[bool, str]:
        with trio.move_on_after(self._timeout):
            try:
                if isinstance(self._kind, CallKind):
                    return await self._call_it(self._kind)
                return await self._kind.ask(place._replace(limiter=self._limiter))
            except Exception as error:  # noqa: BLE001 - whatever goes wrong, the unit did not answer well
                return False, _reason(error)
        return False, f"no answer within {in_seconds(self._timeout)}"

    async def _call_it(self, kind: CallKind) -> tuple[bool, str]:
        """Call a function in a task that can be abandoned: one that shields itself would block everything else."""
        if self._call is not None and not self._call.done.is_set():
            return False, "its last call is still running"
        self._call = call = _Call(kind, Place(limiter=self._limiter))
        trio.lowlevel.spawn_system_task(call.run, name=f"probe {kind.describe()}", context=copy_context())
        try:
            await call.done.wait()
        finally:
            call.scope.cancel()
        return call.answer


class _Call:
    """One call of a function."""

    __slots__ = ("_kind", "_place", "answer", "done", "scope")

    def __init__(self, kind: CallKind, place: Place) -> None:
        self._kind = kind
        self._place = place
        self.done = trio.Event()
        self.scope = trio.CancelScope()
        self.answer = (False, "cancelled")

    async def run(self) -> None:
        """Call it, in a system task."""
        try:
            with self.scope:
                self.answer = await self._kind.ask(self._place)
        except BaseException as error:  # noqa: BLE001 - a system task must not raise, and no probe may end the supervisor
            end_if_forked(error)
            self.answer = (False, _reason(error))
        else:
            end_if_forked(None)
        finally:
            self.done.set()


def _reason(error: BaseException) -> str:
    if type(error) is ProcessError:
        return str(error)
    if is_refused(error) or is_refused(error.__cause__):
        return "connection refused"
    return reason_of(error)
