"""Use the memory in one run: queried before an attempt, updated at every end, from one thread at a time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, final

import trio

from .result import RunResult, SpecState
from .spec import RunSpec

if TYPE_CHECKING:
    from .memory import Fingerprint, Memory


@final
class RunMemory:
    """Check of which specs of a run are up to date.

    Args:
        memory: The memory, or None.
        specs: The specs of the run.
    """

    def __init__(self, memory: Memory | None, specs: Sequence[RunSpec]) -> None:
        self._memory = memory
        self._specs = {} if memory is None else {spec.name: spec for spec in specs}
        self._made_from: dict[str, Fingerprint] = {}
        self._limiter = trio.CapacityLimiter(1)  # the memory is not thread-safe

    def covers(self, spec: RunSpec) -> bool:
        """Return whether a spec can be up to date at all."""
        return self._memory is not None and self._memory.covers(spec)

    async def find_unchanged(self, order: Iterable[int]) -> set[str]:
        """Return the names of specs that are up to date together with all of their dependencies.

        Args:
            order: The indexes of the specs, each after its dependencies.
        """
        if self._memory is None or not any(map(self._memory.covers, self._specs.values())):
            return set()
        specs = list(self._specs.values())
        ordered = [specs[place] for place in order]
        return await trio.to_thread.run_sync(self._memory.find_unchanged, ordered, limiter=self._limiter)

    def note_unchanged(self, names: Iterable[str]) -> None:
        """Keep the ends of specs that `find_unchanged` has found, to be written later."""
        if self._memory is not None:
            self._memory.note_unchanged(names)

    async def is_up_to_date(self, spec: RunSpec) -> bool:
        """Return whether a spec is up to date; if not, keep its new fingerprint."""
        assert self._memory is not None, "asked only for specs that are covered"
        if spec.name in self._made_from:
            return False  # between two attempts
        needed = [self._specs[name] for name in spec.after if name in self._specs]
        await trio.lowlevel.checkpoint()
        found: Fingerprint | None = None
        is_quick = self._limiter.borrowed_tokens == 0 and self._memory.is_quick(spec, needed)
        if is_quick:
            try:
                found = self._memory.check(spec, needed, quickly=True)
            except BlockingIOError:
                is_quick = False  # there is a large file to hash
        if not is_quick:
            found = await trio.to_thread.run_sync(self._memory.check, spec, needed, limiter=self._limiter)
        if found is not None:
            self._made_from[spec.name] = found
        return found is None

    def forget(self, spec: RunSpec) -> None:
        """Forget what this run knows of a spec, because it is restarted."""
        self._made_from.pop(spec.name, None)
        if self._memory is not None:
            self._memory.release(spec.name)

    async def remember(self, result: RunResult | None) -> None:
        """Write how a spec ended, and its fingerprint if it passed."""
        if self._memory is None or result is None:
            return
        made_from = self._made_from.get(result.name)
        if made_from is not None and result.state is SpecState.PASSED:
            await trio.to_thread.run_sync(self._memory.passed, result.spec, made_from, limiter=self._limiter)
        if result.state is SpecState.UP_TO_DATE and self._limiter.borrowed_tokens == 0:
            self._memory.ended(result)  # not written immediately
        else:
            await trio.to_thread.run_sync(self._memory.ended, result, limiter=self._limiter)

    async def close(self) -> None:
        """Write what is pending, and index the specs."""
        if self._memory is not None:
            await trio.to_thread.run_sync(self._memory.close, list(self._specs.values()), limiter=self._limiter)
