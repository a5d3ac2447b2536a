"""`run_restartable`: a run whose specs begin anew when asked to, as ``trio-process run --watch`` does."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import trio

from .._core import PipelineError
from .memory import Memory
from .outbox import open_outbox
from .plan import find_faults, make_plan
from .result import RunUpdate
from .run_result import RunAllResult
from .runner import ON_FAILURE
from .scheduler import RunSettings, Scheduler
from .services import Supervisor
from .spec import Executor, RunSpec


async def run_restartable(
    executor: Executor,
    specs: Sequence[RunSpec],
    restarts: trio.MemoryReceiveChannel[Collection[str]],
    *,
    max_parallel: int | None = None,
    supervisor: Supervisor | None = None,
    memory: Memory | None = None,
    on_failure: str = "continue",
    timeout: float | None = None,  # noqa: ASYNC109 - it ends in results, not in an exception
    cleanup_timeout: float | None = 30.0,
    stopping: trio.Event | None = None,
    updates: trio.MemorySendChannel[RunUpdate] | None = None,
) -> RunAllResult:
    """Run specs as `Runner.run_all` does with ``schedule="eager"``, and again as asked.

    What runs of the specs that begin anew is stopped first; the others go on. The run ends once `restarts` is closed and
    every spec has a result, or by `timeout` or `stopping`. A halt by `on_failure` is lifted by the next restart.

    Args:
        executor: What runs an attempt.
        specs: The specs.
        restarts: Receives names of specs; these begin anew, with all that depend on them.
        max_parallel: As for `Runner`.
        supervisor: As for `Runner`; services are kept running until the end of the whole run.
        memory: As for `Runner`.
        on_failure: As for `Runner.run_all`.
        timeout: As for `Runner.run_all`.
        cleanup_timeout: As for `Runner.run_all`.
        stopping: As for `Runner.run_all`.
        updates: As for `Runner.run_all`; a spec that begins anew is reported as pending.

    Returns:
        The last result of every spec.

    Raises:
        PipelineError: Names or dependencies have faults; nothing was run.
    """
    async with open_outbox(updates) as report:
        faults = find_faults(specs)
        if faults:
            raise PipelineError(faults)

        def room() -> int | None:
            return min([limit for limit in (max_parallel, executor.slots) if limit is not None], default=None)

        settings = RunSettings(
            rule=(ON_FAILURE[on_failure], f"on_failure is {on_failure!r}"),
            room=room,
            eager=True,
            timeout=timeout,
            cleanup_timeout=cleanup_timeout,
            stopping=stopping,
            supervisor=supervisor,
            memory=memory,
            restarts=restarts,
            report=report,
        )
        await trio.lowlevel.checkpoint()
        return await Scheduler(executor, specs, make_plan(specs), settings).run()
