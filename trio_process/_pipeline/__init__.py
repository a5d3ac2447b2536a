"""Layer 3, orchestration: what depends on what, in which order it runs, and what is told of it."""

from .plan import Plan, find_faults, make_plan
from .report import to_dot, to_mermaid
from .result import RunAllResult, RunResult, RunUpdate, SpecState
from .runner import Runner
from .spec import Attempt, Executor, RunSpec

__all__ = [
    "Attempt",
    "Executor",
    "Plan",
    "RunAllResult",
    "RunResult",
    "RunSpec",
    "RunUpdate",
    "Runner",
    "SpecState",
    "find_faults",
    "make_plan",
    "to_dot",
    "to_mermaid",
]
