"""Finish a run in which nothing has changed, without an event loop, as there is nothing to wait for."""

from __future__ import annotations

import time
from collections.abc import Sequence

from .memory import Memory
from .plan import make_plan
from .run_result import RunAllResult
from .spec import RunSpec
from .state_machine import StateMachine


def finish_unchanged(specs: Sequence[RunSpec], memory: Memory) -> RunAllResult | None:
    """Return the result that `Runner.run_all` would have if the index of the memory confirms every spec, else None.

    Args:
        specs: The specs, without faults.
        memory: The memory. Only `Memory.note_unchanged` records the result in it.
    """
    if not all([spec.inputs for spec in specs]):
        return None
    plan = make_plan(specs)
    machine = StateMachine(specs, plan, rule=(None, ""), clock=time.monotonic, report=None, end=lambda *_: None)
    order = [index for wave in plan.waves for index in wave]
    if len(order) < len(specs) or not memory.are_confirmed([specs[index] for index in order]):
        return None
    for index in order:
        machine.up_to_date(index)
    return machine.result()
