"""The sweep at the end of a process: its descendants get the rest of its grace period, then SIGKILL, and are waited for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, final

import trio

from .. import backend
from ..backend import Survivor
from ..reactor import Reactor
from . import descendants
from .descendants import Lineage, Target

_FIRST_LOOK: Final = 0.001
_LAST_LOOK: Final = 0.05
_UNSURE: Final = 2.0
"""Seconds in which a process has completed an exec even on a busy machine; without our marker then, it isn't a descendant."""


@final
class Sweep:
    """The sweep for one process: when its descendants are killed, and the callback for the end."""

    __slots__ = ("asked", "callback", "give_up_at", "kill_from", "killed", "sure_from", "target")

    def __init__(self, target: Target, kill_from: float, callback: Callable[[list[Survivor], bool], None]) -> None:
        self.target = target
        self.kill_from = kill_from
        self.sure_from = trio.current_time() + _UNSURE
        self.callback = callback
        self.asked = False
        self.killed = False
        self.give_up_at = 0.0


@final
class Sweeper:
    """Sweeps for all processes of a service: one scan of ``/proc`` serves all that end at the same time."""

    def __init__(self, reactor: Reactor, lineage: Lineage, kill_group: Callable[[int], None]) -> None:
        self._reactor = reactor
        self._lineage = lineage
        self._kill_group = kill_group
        self._sweeps: list[Sweep] = []
        self._next_look: float | None = None
        self._pause = _FIRST_LOOK

    def begin(self, target: Target, kill_from: float, callback: Callable[[list[Survivor], bool], None]) -> Sweep:
        """Search for descendants of a process, kill them from `kill_from` on, and call ``callback(still_alive, killed)``."""
        sweep = Sweep(target, kill_from, callback)
        self._sweeps.append(sweep)
        self._pause = _FIRST_LOOK
        self._look_at(trio.current_time())
        return sweep

    def kill_now(self, sweep: Sweep) -> None:
        """Kill the descendants now."""
        sweep.kill_from = trio.current_time()
        self._look_at(sweep.kill_from)

    def _look_at(self, deadline: float) -> None:
        if self._next_look is None or deadline < self._next_look:
            self._next_look = deadline
            self._reactor.call_at(deadline, self._look)

    def _look(self) -> None:
        now = trio.current_time()
        if self._next_look is None or now < self._next_look:
            return  # an earlier look has done the work
        self._next_look = None
        with self._lineage.provided():
            ended = self._pass(now)
        waiting = self._sweeps
        if waiting:
            self._look_at(min([now + self._pause, *[sweep.kill_from for sweep in waiting if sweep.kill_from > now]]))
            self._pause = min(2 * self._pause, _LAST_LOOK)
        for sweep, survivors in ended:
            sweep.callback(survivors, sweep.killed)

    def _pass(self, now: float) -> list[tuple[Sweep, list[Survivor]]]:
        """Scan once and kill descendants that are due; return the sweeps that have ended, each with its survivors."""
        if not self._lineage.sees_escapees:
            return self._kill_groups_unseen()
        found, sure = self._lineage.find([sweep.target for sweep in self._sweeps])
        waiting = []
        ended = []
        for sweep in self._sweeps:
            survivors = found.get(sweep.target.pid, [])
            is_clean = not survivors and (sure or now >= sweep.sure_from)
            if is_clean or (sweep.killed and now >= sweep.give_up_at):
                ended.append((sweep, survivors))
                continue
            waiting.append(sweep)
            if survivors and now >= sweep.kill_from:
                self._kill(sweep, survivors, now)
            elif survivors and sure and not sweep.asked:
                self._ask(sweep, survivors)
        self._sweeps = waiting
        return ended

    def _kill_groups_unseen(self) -> list[tuple[Sweep, list[Survivor]]]:
        """Kill the groups at once: without a ``/proc`` it can't be known whether they still have members."""
        ended, self._sweeps = self._sweeps, []
        for sweep in ended:
            self._kill_group(sweep.target.pid)
        return [(sweep, []) for sweep in ended]

    def _ask(self, sweep: Sweep, survivors: list[Survivor]) -> None:
        """Pass the stop on to escapees: otherwise they would run until the end of the grace period, and delay the stop.

        Only once: processes that they start from then on are their clean-up.
        """
        sweep.asked = True
        for survivor in survivors:
            descendants.ask_to_end(survivor, sweep.target)

    def _kill(self, sweep: Sweep, survivors: list[Survivor], now: float) -> None:
        if not sweep.killed:
            sweep.killed = True
            sweep.give_up_at = now + backend.STUCK_AFTER
        sweep.target.containment.kill()
        self._kill_group(sweep.target.pid)
        for survivor in survivors:
            descendants.kill(survivor, sweep.target)
