"""Send long-running requests to the running instance, and wait for them."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any, Final, final

import trio

from ..._control import ControlClient, ControlError
from ..._core import OptionError, in_seconds, open_scope
from ..instance import NotRunningError, segment
from ..output import print_error, report

_LONGEST_WAIT: Final = 300  # seconds of a single request
_LOOK: Final = 0.2  # seconds
_SETTLED: Final = {"ready": ("ready", "completed"), "stopped": ("stopped", "completed", "failed", "skipped")}
_OVER: Final = ("stopped", "failed", "skipped")


@final
class ServiceRequests:
    """Sender of requests that reports each result.

    Args:
        client: A client of the instance.
        timeout: Seconds to wait for each, None for no limit.
    """

    def __init__(self, client: ControlClient, timeout: float | None) -> None:
        self._client = client
        self._timeout = timeout

    async def each(self, word: str, names: Sequence[str], done: str) -> int:
        """Start, stop or restart services concurrently; return how many failed."""
        return await self._together(
            {name: partial(self._client.post, f"/services/{segment(name)}/{word}") for name in names}, word, done
        )

    async def scale(self, counts: Mapping[str, int]) -> int:
        """Scale services concurrently; return how many failed."""
        return await self._together(
            {
                name: partial(self._client.put, f"/services/{segment(name)}/replicas", {"replicas": count})
                for name, count in counts.items()
            },
            "scale",
            "ready",
        )

    async def _together(self, calls: Mapping[str, Callable[..., Any]], word: str, done: str) -> int:
        failures = 0

        async def one(name: str, call: Callable[..., Coroutine[Any, Any, Any]]) -> None:
            nonlocal failures
            if not await self._one(name, call, word, done):
                failures += 1

        async with open_scope(wait=True) as nursery:
            for name, call in calls.items():
                nursery.start_soon(one, name, call)
        return failures

    async def _one(self, name: str, call: Callable[..., Coroutine[Any, Any, Any]], word: str, done: str) -> bool:
        wait = _LONGEST_WAIT if self._timeout is None else min(self._timeout, _LONGEST_WAIT)
        limit = trio.CancelScope() if self._timeout is None else trio.move_on_after(self._timeout)
        try:
            with limit:
                row = await call(wait=wait)
                while row["state"] not in (*_SETTLED[done], *_OVER) and word != "scale":
                    await trio.sleep(_LOOK)  # a request waits for five minutes at most
                    row = await self._client.get(f"/services/{segment(name)}")
        except ControlError as error:
            if error.code == "not_found":
                raise OptionError(str(error)) from None
            print_error(f"trio-process: {name}: {error}")
            return False
        except OSError as error:
            raise NotRunningError(f"the instance has ended: {error}") from error
        if limit.cancelled_caught:
            assert self._timeout is not None
            print_error(f"trio-process: {name}: not {done} within {in_seconds(self._timeout)}")
            return False
        if word != "scale" and row["state"] not in _SETTLED[done]:
            why = row.get("error") or ""
            if row.get("replicas") == 0:
                why = f"it has no replicas; trio-process scale {name}=1 adds one"
            print_error(f"trio-process: {name}: {row['state']}{why and f': {why}'}")
            return False
        report(f"{name}: {row['state']}")
        return True
