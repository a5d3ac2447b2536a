"""`Keeper`: the task of one replica of a unit, and the only one that changes its state.

    while not dismissed:
        event = decide(state, situation)
        if event is not None: change the state, and do what the new one asks for
        elif there is a deadline: sleep until then, or until the bell rings
        else: end; when the bell rings, another task continues

* Other tasks set wishes, change which units are wanted, and ring the bell; they never pass an event. So a request is
  never lost, doubled or late, whatever the state.
* Starting and stopping are done here, inline. Requests that arrive meanwhile are considered afterwards, when `decide`
  is called again.
* An idle unit has no task, which would be a third of its memory. There is never more than one.
* All of it runs in a shield. A cancellation from outside must not end this task, which is needed for the ordered stop.
  It reaches a unit as the supervisor's stop, which makes all units unwanted and waits until each task has ended by
  itself.
* The state is changed and published first; the actions of the new state follow. So an observer never sees a process
  that belongs to no run.
"""

from __future__ import annotations

import math
import random
from datetime import timedelta
from typing import final

import trio

from ..._core import CommandFailedError, ProcessError, in_seconds, logger
from ..._daemon import one_line, reason_of
from ..errors import NotReadyError
from ..rules import AT_REST, Situation, UnitEvent, UnitState, decide
from ..runs import CommandRun, MainRun, Run
from ..spec import UnitSpec
from .probing import Probing
from .replica import Replica


@final
class Keeper:
    """Keeps one replica in the wanted state."""

    __slots__ = ("_delay_until", "_probing", "_replica", "_spec", "_team")

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._team = replica.team
        self._spec = replica.spec
        self._delay_until = math.inf
        self._probing: Probing | None = None
        replica.bell.answerer = self

    def begin(self) -> None:
        """Start the task."""
        self._team.tasks.begin(self.keep, f"keeper of {self._replica.name}")

    @trio.lowlevel.enable_ki_protection
    async def keep(self) -> None:
        """Keep the replica until there is nothing to do before the bell rings again."""
        replica = self._replica
        is_idle = False
        with trio.CancelScope(shield=True):
            try:
                while not is_idle:
                    replica.bell.hush()
                    if replica.spec is not self._spec and not replica.is_to_stop:  # else the run keeps its own probes
                        self._use_spec(replica.spec)
                    now = trio.current_time()
                    situation = self._situation(now)
                    event = decide(replica.state, situation)
                    if event is not None:
                        await self._handle(event)
                    elif replica.state in AT_REST and self._team.may_be_dismissed(replica):
                        break
                    else:
                        alarm = self._alarm(situation, now)
                        is_idle = alarm == math.inf and replica.bell.leave()
                        if not is_idle:
                            await replica.bell.wait(alarm)
            finally:
                if not is_idle:
                    replica.gone = True
                    replica.watchers.dismiss()
                    self._team.dismissed(replica)

    def _situation(self, now: float) -> Situation:
        """Return the input of the state machine."""
        replica, team = self._replica, self._team
        run, wishes = replica.run, replica.wishes
        if run is None:
            return Situation(
                wanted=replica.is_wanted,
                start_requested=wishes.start,
                restart_requested=wishes.restart,
                grouped=wishes.grouped or wishes.outdated,
                may_start=team.may_start(replica),
                outlook=team.outlook(replica),
                delay_over=now >= self._delay_until,
                stuck=replica.survivor is not None,
            )
        return Situation(
            wanted=replica.is_wanted,
            start_requested=wishes.start,
            restart_requested=wishes.restart,
            grouped=wishes.grouped,
            may_stop=team.may_stop(replica),
            ended=run.ended,
            failed=run.failed is not None,
            ready=self._is_ready(run, now),
            alive=run.alive,
            overdue=now >= run.launched_at + self._spec.start_timeout,
            stuck=run.stuck is not None,
        )

    def _is_ready(self, run: Run, now: float) -> bool:
        if not run.has_said_ready:
            return False
        if self._probing is not None and self._probing.asks_for_readiness:
            return run.ready
        if self._spec._takes_task_status or run.ready_since is not None:
            return True
        return run.started_at is not None and now >= run.started_at + self._spec.settle

    def _alarm(self, situation: Situation, now: float) -> float:
        """Return when to look again even if the bell doesn't ring; `now` is when the situation was looked at."""
        state, run = self._replica.state, self._replica.run
        if state is UnitState.BACKOFF:
            return self._delay_until
        if run is None:
            return math.inf
        alarm = math.inf if situation.may_stop else self._team.deadline.at
        if state is UnitState.STARTING:
            alarm = min(alarm, run.launched_at + self._spec.start_timeout)
            settled = math.inf if run.started_at is None else run.started_at + self._spec.settle
            if settled > now:  # not the time by now: one that was reached only since then has not been seen
                alarm = min(alarm, settled)
        return alarm

    async def _handle(self, event: UnitEvent) -> None:
        replica = self._replica
        run = replica.run
        if run is not None and event is UnitEvent.ENDED:
            self._stop_probing()
            await run.collect()
            if decide(replica.state, self._situation(trio.current_time())) is not event:
                return  # another unit's restart or a stop has been requested since: then this end doesn't count as a failure
            event, reason = self._judge(run)
        else:
            if run is not None:
                self._note_failure(event, run)
            reason = self._reason(event)
        replica.apply(event, reason)
        match replica.state:
            case UnitState.STARTING:
                await self._start()
            case UnitState.STOPPING:
                await self._stop()
            case UnitState.READY:
                self._became_ready()
            case UnitState.BACKOFF:
                replica.next_start = replica.since + timedelta(seconds=self._delay_until - trio.current_time())

    def _note_failure(self, event: UnitEvent, run: Run) -> None:
        """Remember why a run is stopped, if the reason is a failure."""
        match event:
            case UnitEvent.START_TIMEOUT:
                limit = in_seconds(self._spec.start_timeout)
                last = f"; the last answer: {run.reason}" if run.reason else ""
                run.failed = NotReadyError(f"not ready within {limit} (start_timeout){last}")
            case UnitEvent.LIVENESS_LOST:
                run.failed = ProcessError(f"not alive any more: {run.reason}")
            case UnitEvent.STUCK:
                self._replica.error = run.stuck
                logger.error("unit %s: %s", self._replica.name, run.stuck)

    def _reason(self, event: UnitEvent) -> str:
        run = self._replica.run
        match event:
            case UnitEvent.CANT_COME:
                self._replica.error = error = self._team.unmet_error(self._replica)
                return str(error)
            case UnitEvent.START_TIMEOUT | UnitEvent.LIVENESS_LOST if run is not None:
                return str(run.failed)
            case UnitEvent.READINESS_LOST if run is not None:
                return f"readiness lost: {run.reason}"
            case UnitEvent.RESTART if self._replica.wishes.grouped:
                return "restarted together with another unit"
        return event.value.replace("`", "")

    def _judge(self, run: Run) -> tuple[UnitEvent, str]:
        """Return the event that follows the end of a run, and the reason; log a failure."""
        failure = run.failed or run.failure
        now = trio.current_time()
        verdict = self._replica.machine.judge(
            failure,
            ran=run.lasted,
            now=now,
            chance=random.random(),  # noqa: S311 - jitter
        )
        how = "ended well" if failure is None else _account(failure)
        replica = self._replica
        replica.error = verdict.error
        if verdict.event is UnitEvent.RETRY:
            self._delay_until = now + verdict.delay
            logger.warning("unit %s: %s; restarting in %s", replica.name, how, in_seconds(verdict.delay))
        elif verdict.event is UnitEvent.GIVE_UP:
            assert verdict.error is not None, "a run that ended well is not given up"
            how = _account(verdict.error)
            logger.error("unit %s failed: %s", replica.name, how)
            if not isinstance(verdict.error, Exception):
                self._team.end_with(verdict.error)
        return verdict.event, how

    async def _start(self) -> None:
        replica, team = self._replica, self._team
        replica.run = run = self._make_run()
        await run.begin()
        if run.process is not None:
            replica.watchers.run_started(run.process)
            team.note_process(replica, run.process)
        if run.ended:
            return
        team.replica_started(replica)
        self._probe(run)

    def _make_run(self) -> Run:
        replica, team, spec = self._replica, self._team, self._spec
        ring = replica.bell.ring
        if spec.main is not None:
            takes_status = spec._takes_task_status
            return MainRun(ring, replica.name, spec.main, team.nursery, takes_task_status=takes_status)
        options = spec._options_of(replica.number, replica.name)
        return CommandRun(ring, team.service, options, team.exits, reads_output=spec._waits_for_line)

    def _probe(self, run: Run) -> None:
        """Start the probes of the spec."""
        spec, replica = self._spec, self._replica
        if spec.ready is None and spec.live is None:
            return
        if self._probing is None:
            self._probing = Probing(spec, replica.number, replica.name, self._team.service, self._team.nursery)
        self._probing.begin(run)

    def _became_ready(self) -> None:
        run = self._replica.run
        assert run is not None, "what is ready runs"
        if run.ready_since is None:
            run.ready_since = trio.current_time()
            if self._probing is not None:
                self._probing.became_ready(run)

    async def _stop(self) -> None:
        run = self._replica.run
        assert run is not None, "what is stopped runs"
        self._stop_probing()
        await run.stop()
        if isinstance(run.failure, Exception):
            logger.warning("unit %s, while it was stopped: %s", self._replica.name, _account(run.failure))
        elif run.failure is not None:
            self._team.end_with(run.failure)

    def _stop_probing(self) -> None:
        if self._probing is not None:
            self._probing.end()

    def _use_spec(self, spec: UnitSpec) -> None:
        """Switch to another spec, and apply its probes even to the current run."""
        old, self._spec = self._spec, spec
        if (spec.ready, spec.live) == (old.ready, old.live):
            return
        self._stop_probing()
        self._probing = None
        run = self._replica.run
        if run is None or run.started_at is None or run.ended:
            return
        run.ready = run.ready_since is not None
        run.alive = True
        self._probe(run)
        if self._probing is not None and run.ready_since is not None:
            self._probing.became_ready(run)


def _account(failure: BaseException) -> str:
    """Return how a run ended in one line, without a command's last lines of output, which are in its error."""
    if isinstance(failure, CommandFailedError):
        return one_line(f"{type(failure).__name__}: {str(failure).splitlines()[0]}")
    return reason_of(failure)
