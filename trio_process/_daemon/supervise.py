"""Runs `main`, restarts it according to the policy, and ends it after a stop.

A stop has three steps, under one deadline (``_core/shutdown.py``) that was set when the stop was requested:

1. `stopping` is set. A `main` that watches it has `drain` seconds to end by itself.
2. `main` is cancelled. Its own clean-up, and the blocks that it has entered, have the rest of `shutdown_timeout`. A
   service in `main` shortens the grace periods of its processes to the same deadline, so they are killed and reaped by
   then. A second signal moves the deadline to now.
3. A `main` that is still running shields itself, or blocks. Trio can't abandon a task, so nothing more can be done: its
   tasks are named in a log record every 5 s, and a third signal exits.

Tasks
    `main` runs in the task that called `Daemon.run`: its exception is raised there unchanged, in no group, and it sees
    the context variables of the caller. `end_main` is the only other task. It waits for the stop, drains, and cancels.

Who stops
    A signal, `Daemon.stop`, or a cancellation from outside. The last one reaches `main` at once, without a drain. It
    reaches `end_main` as well, which then requests the stop, so that readiness becomes false and the deadline is set
    as for a signal.

Restarts
    `Restarts` decides after each end; time and chance are passed to it. Only an `Exception` is restarted from: a
    `KeyboardInterrupt` or a cancellation leaves. A stop during the delay before a restart ends that delay.

Invariants
    1. Once `stopping` is set, `main` is not called again. A failure of the last call is raised.
    2. `ended` is set whichever way `main` is left, so `end_main` never waits for a `main` that has ended.
    3. Every wait here ends at the deadline (`grace`), even if it began before the deadline was set.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Final

import trio

from .._core import (
    CommandFailedError,
    RestartPolicy,
    Restarts,
    ShutdownDeadline,
    end_if_forked,
    grace,
    in_seconds,
    logger,
    open_scope,
)

_KILLING: Final = 0.5  # seconds that tasks and processes killed at the deadline take to end
_WARN_EVERY: Final = 5.0  # seconds between two log records about tasks that have not ended
_MOST_NAMED: Final = 10
_TRIO: Final = str(Path(trio.__file__).parent)


async def run_until_stopped(
    main: Callable[[], Awaitable[object]],
    policy: RestartPolicy,
    *,
    stopping: trio.Event,
    stop: Callable[[], object],
    drain: float,
    deadline: ShutdownDeadline,
) -> None:
    """Run `main` and restart it according to the policy; after a stop, wait for `drain` seconds, then cancel it.

    Args:
        main: The async function, run in this task, so that its exception is raised here unchanged.
        policy: When it is restarted.
        stopping: Set when it should end.
        stop: Called when a surrounding scope is cancelled, to start the shutdown.
        drain: Seconds that it has to end by itself.
        deadline: The deadline of the shutdown; tasks still running after it are named in log records.
    """
    ended = trio.Event()
    async with open_scope() as nursery:
        with trio.CancelScope() as scope:
            task = trio.lowlevel.current_task()

            async def end_main() -> None:
                try:
                    await stopping.wait()
                    with grace(drain):
                        await ended.wait()
                    scope.cancel()
                finally:  # a cancellation from outside ends main as well, and it may hang as well
                    if not ended.is_set():
                        stop()
                        with trio.CancelScope(shield=True):
                            await _name_what_hangs(ended, deadline, task, nursery)

            nursery.start_soon(end_main)
            try:
                await _supervise(main, policy, stopping)
            finally:
                ended.set()


async def _supervise(main: Callable[[], Awaitable[object]], policy: RestartPolicy, stopping: trio.Event) -> None:
    restarts = Restarts(policy)
    while True:
        began = trio.current_time()
        failure: Exception | None = None
        try:
            await main()
        except Exception as error:  # noqa: BLE001 - raised again below, or restarted from
            failure = error
        end_if_forked(failure)  # else it would restart `main` of its parent
        try:
            now = trio.current_time()
            delay = None
            if not stopping.is_set():
                delay = restarts.ended(failure, ran=now - began, now=now, chance=random.random())  # noqa: S311 - jitter
            if delay is None:
                if failure is not None:
                    raise failure
                return
            _log_restart(failure, now - began, delay)
        finally:
            del failure  # its traceback holds this frame
        with trio.move_on_after(delay):
            await stopping.wait()
            return


def _log_restart(failure: Exception | None, ran: float, delay: float) -> None:
    if isinstance(failure, CommandFailedError):
        # the command, how it ended and when; a traceback of ours would say nothing about it
        logger.warning("%s; restarting in %s", str(failure).partition("\n")[0], in_seconds(delay))
        logger.debug("where main failed:", exc_info=failure)
        return
    how = "returned" if failure is None else f"failed ({type(failure).__name__}: {failure})"
    logger.warning("main %s after %s; restarting in %s", how, in_seconds(ran), in_seconds(delay), exc_info=failure)


async def _name_what_hangs(
    ended: trio.Event, deadline: ShutdownDeadline, task: trio.lowlevel.Task, nursery: trio.Nursery
) -> None:
    """Log the names of running tasks, every 5 s after the shutdown's deadline: a task that shields itself can't be abandoned."""
    began = trio.current_time()
    with grace(deadline.at - began):
        await ended.wait()
    with trio.move_on_after(_KILLING):
        await ended.wait()
    while not ended.is_set():
        named = list(_tasks_of_main(task, nursery))
        more = f" and {len(named) - _MOST_NAMED} more" if len(named) > _MOST_NAMED else ""
        logger.warning(
            "the shutdown's time is up, and main still runs, %s after it was cancelled: %s%s; a shield or a blocking "
            "call holds it (a third signal ends the process at once)",
            in_seconds(trio.current_time() - began),
            ", ".join(map(_place, named[:_MOST_NAMED])),
            more,
        )
        with trio.move_on_after(_WARN_EVERY):
            await ended.wait()


def _tasks_of_main(task: trio.lowlevel.Task, nursery: trio.Nursery) -> Iterator[trio.lowlevel.Task]:
    """Yield the task that runs `main`, and the tasks in nurseries that `main` has opened."""
    yield task
    nurseries = task.child_nurseries
    opened = nurseries[nurseries.index(nursery) + 1 :] if nursery in nurseries else []
    waiting = [child for inner in opened for child in inner.child_tasks]
    while waiting:
        child = waiting.pop()
        yield child
        waiting += [grandchild for inner in child.child_nurseries for grandchild in inner.child_tasks]


def _place(task: trio.lowlevel.Task) -> str:
    """Return a task's name and its innermost line outside of Trio."""
    place = ""
    frame: FrameType
    for frame, line in task.iter_await_frames():
        if not frame.f_code.co_filename.startswith(_TRIO):
            place = f" at {frame.f_code.co_filename}:{line} in {frame.f_code.co_name}"
    return f"{task.name}{place}"
